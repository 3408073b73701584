//! Operators that move elements without computing: new shapes, parts, repetitions, other orders, indices; and those that
//! make tensors from lengths. `Resize` is here too, because of what it shares with them.
//!
//! They follow the ONNX standard in all its versions. Where it is silent they follow onnxruntime: a `OneHot` index out of
//! range gives a row without "on", and a gather or scatter index out of range is an error. tract serves forms with constant
//! parameters, which it optimises further; the conditions are next to our operators. Strings are moved like numbers.
//!
//! What belongs here: which element goes where. What does not: computing with elements.

mod axes;
mod choose;
mod col2im;
mod create;
mod gather;
mod join;
mod moves;
mod pad;
mod permute;
mod repeat;
mod reshape;
mod resize;
mod reverse;
mod scatter;
mod slice;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::entry::{Entry, Form};
use super::operator::{Inputs, Kind, Operator};

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("Reshape", &["shape", "allowzero", "consumed_inputs"])
        .engine(Form::ALL.attributes(&["allowzero"]).sizes(&[1]).when(zeros_copied))
        .own(reshape::reshape),
    Entry::onnx("Flatten", &["axis"]).engine(Form::ALL.when(has_elements)).own(reshape::flatten),
    Entry::onnx("Squeeze", &["axes"])
        .engine(Form::ALL.constants(&[1]).when(named_axes))
        .own(reshape::squeeze),
    Entry::onnx("Unsqueeze", &["axes"]).engine(Form::ALL.constants(&[1])).own(reshape::unsqueeze),
    Entry::onnx("Identity", &[]).engine(Form::ALL).own(reshape::identity),
    Entry::onnx("Expand", &[]).engine(Form::ALL.sizes(&[1]).when(has_elements)).own(repeat::expand),
    Entry::onnx("Tile", &[]).engine(Form::ALL.sizes(&[1]).when(repeated)).own(repeat::tile),
    Entry::onnx("Slice", &["starts", "ends", "axes"])
        .engine(Form::ALL.attributes(&[]).sizes(&[1, 2]).constants(&[3, 4]).when(slice::simple))
        .own(slice::slice),
    Entry::onnx("Concat", &["axis"]).engine(Form::ALL.when(joined)).own(join::concat),
    Entry::onnx("Split", &["axis", "split", "num_outputs"])
        .engine(Form::ALL.constants(&[1]).when(join::simple_split))
        .own(join::split),
    Entry::onnx("Transpose", &["perm"]).engine(Form::ALL).own(permute::transpose),
    Entry::onnx("DepthToSpace", &["blocksize", "mode"])
        .engine(Form::ALL.when(has_elements))
        .own(permute::depth_to_space),
    Entry::onnx("SpaceToDepth", &["blocksize", "mode"]).own(permute::space_to_depth),
    Entry::onnx("Pad", &["mode", "pads", "paddings", "value"])
        .engine(
            Form::ALL
                .attributes(&["mode", "pads", "value"])
                .types(&[DatumType::F16, DatumType::F32, DatumType::F64])
                .constants(&[1, 2, 3])
                .when(pad::constant),
        )
        .own(pad::pad),
    Entry::onnx("CenterCropPad", &["axes"]).own(pad::center_crop_pad),
    Entry::onnx("Gather", &["axis"]).engine(Form::ALL.when(gather::constant_indices)).own(gather::gather),
    Entry::onnx("GatherElements", &["axis"]).own(gather::gather_elements),
    Entry::onnx("GatherND", &["batch_dims"]).own(gather::gather_nd),
    Entry::onnx("Scatter", &["axis"]).own(scatter::scatter_elements),
    Entry::onnx("ScatterElements", &["axis", "reduction"]).own(scatter::scatter_elements),
    Entry::onnx("ScatterND", &["reduction"]).own(scatter::scatter_nd),
    Entry::onnx("TensorScatter", &["axis", "mode"]).own(scatter::tensor_scatter),
    Entry::onnx("Compress", &["axis"]).own(choose::compress),
    Entry::onnx("NonZero", &[]).own(choose::non_zero),
    Entry::onnx("Unique", &["axis", "sorted"]).own(choose::unique),
    Entry::onnx("ReverseSequence", &["batch_axis", "time_axis"]).own(reverse::reverse_sequence),
    Entry::onnx("Col2Im", &["dilations", "pads", "strides"]).own(col2im::col2im),
    Entry::onnx("Shape", &["start", "end"]).engine(Form::ALL.with_text()),
    Entry::onnx("Size", &[]).engine(Form::ALL.with_text()),
    Entry::onnx(
        "Constant",
        &["value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"],
    )
    .engine(Form::ALL),
    Entry::onnx("ConstantOfShape", &["value"])
        .engine(Form::ALL.sizes(&[0]).when(create::has_value))
        .own(create::constant_of_shape),
    Entry::onnx("Range", &["stash_type"])
        .engine(Form::ALL.attributes(&[]).when(create::symbolic_range))
        .own(create::range),
    Entry::onnx("EyeLike", &["dtype", "k"]).own(create::eye_like),
    Entry::onnx("OneHot", &["axis"]).own(create::one_hot),
    Entry::onnx("Trilu", &["upper"]).own(create::trilu),
    Entry::onnx("Resize", resize::ATTRIBUTES).own(resize::resize),
    Entry::onnx("Upsample", &["mode", "scales", "height_scale", "width_scale"]).own(resize::upsample),
];

/// The engine's rules for shapes need lengths above 0.
fn has_elements(_: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let is_zero = |length: &TDim| *length == TDim::Val(0);
    match inputs.optional(0).is_some_and(|input| input.shape.iter().any(is_zero)) {
        true => Err("the engine does not serve an input without elements".into()),
        false => Ok(()),
    }
}

/// A 0 in the new shape of the engine is the input's length.
fn zeros_copied(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    has_elements(attributes, inputs)?;
    match attributes.int("allowzero", 0) {
        Ok(0) => Ok(()),
        _ => Err("the engine makes no axes without elements".into()),
    }
}

/// Without axes, ours tells that an open length may be 1.
fn named_axes(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    has_elements(attributes, inputs)?;
    match inputs.optional(1).is_some() || attributes.has("axes") {
        true => Ok(()),
        false => Err("the engine needs the axes".into()),
    }
}

/// The engine repeats by numbers above 0.
fn repeated(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    has_elements(attributes, inputs)?;
    let repeats = inputs.optional(1).and_then(|repeats| repeats.sizes().ok().flatten());
    match repeats
        .is_some_and(|repeats| repeats.iter().all(|times| times.to_i64().map_or(true, |times| times > 0)))
    {
        true => Ok(()),
        false => Err("the engine repeats only by numbers above 0".into()),
    }
}

/// The engine joins along a named axis.
fn joined(attributes: &Attributes, _: &Inputs<Kind>) -> Result<(), String> {
    match attributes.has("axis") {
        true => Ok(()),
        false => Err("the engine needs the axis".into()),
    }
}
