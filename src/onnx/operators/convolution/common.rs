//! The forms of `Conv` and `ConvTranspose` that tract computes correctly.
//!
//! tract lets `pads` win over `auto_pad`, makes an empty result where a window is too long, and fails on lengths of a transposed
//! convolution that are not written. Such forms are left to our operators.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind};
use super::conv::group;
use super::window::{Padding, Window, kernel};
use super::{fast, spread};

/// Whether tract computes this `Conv` correctly: its attributes are sound, and each window fits into the padded input. False
/// for those that ours computes faster.
pub fn is_common(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    if fast::is_fast(attributes, inputs) {
        return Err("ours is faster".into());
    }
    let (window, kernel, lengths) = common(attributes, inputs)?;
    window.lengths(&kernel, &lengths).map(drop).map_err(|error| error.to_string())
}

/// Whether tract computes this `ConvTranspose` correctly: its padding is written, and cuts off less than a window.
pub fn is_common_transpose(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    if spread::is_spread(attributes, inputs) {
        return Err("ours is faster".into());
    }
    let (window, kernel, _) = common(attributes, inputs)?;
    let cuts = |(axis, kernel): (usize, &usize)| {
        let (before, after) = window.explicit(axis);
        before + after >= window.extent(*kernel, axis)
    };
    if matches!(window.padding, Padding::SameUpper | Padding::SameLower)
        || kernel.iter().enumerate().any(cuts)
    {
        return Err("its padding is not written, or larger than a window".into());
    }
    Ok(())
}

/// The window, the lengths of the filter and those of the input, for a form without empty tensors.
fn common(
    attributes: &Attributes,
    inputs: &Inputs<Kind>,
) -> Result<(Window, TVec<usize>, TVec<TDim>), String> {
    let text = |error: TractError| error.to_string();
    let window = Window::read(attributes).map_err(text)?;
    let is_automatic = !matches!(attributes.string("auto_pad", "NOTSET").map_err(text)?, "" | "NOTSET");
    if is_automatic && attributes.has("pads") {
        return Err("the engine takes `pads` and not `auto_pad`".into());
    }
    let group = group(attributes).map_err(text)?;
    let (Some(input), Some(weights)) = (inputs.optional(0), inputs.optional(1)) else {
        return Err("its input `X` or `W` is missing".into());
    };
    let is_empty = |length: &TDim| length.to_usize().is_ok_and(|length| length == 0);
    let is_open = |length: &TDim| length.to_usize().is_err();
    if input.rank() < 3 || weights.rank() != input.rank() || input.shape.iter().any(is_empty) {
        return Err("its input has less than 3 axes, or no elements".into());
    }
    if weights.shape.iter().any(|length| is_empty(length) || is_open(length)) || is_open(&input.shape[1]) {
        return Err("the number of its channels or the shape of its weights is not known".into());
    }
    if weights.shape[0].to_usize().is_ok_and(|channels| channels % group != 0) {
        return Err("the channels of its weights are no multiple of `group`".into());
    }
    let types = inputs.0.iter().flatten().any(|other| other.datum_type != input.datum_type);
    if types || inputs.optional(2).is_some_and(|bias| bias.rank() != 1) {
        return Err("its inputs differ in type, or `B` has more than one axis".into());
    }
    window.check_axes(input.rank() - 2).map_err(text)?;
    let kernel = kernel(&window, &weights.shape).map_err(text)?;
    Ok((window, kernel, input.shape[2..].iter().cloned().collect()))
}
