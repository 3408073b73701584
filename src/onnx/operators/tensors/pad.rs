//! Operators that add to the ends of axes or cut them: `Pad` and `CenterCropPad`.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::Built;
use super::axes::{Ints, axes_of, axis_of, invalid, lengths_of};
use super::moves::{FILL, Places, along, mapped};

#[derive(Debug)]
struct Pad {
    mode: Mode,
    pads: Ints,
    axes: Ints,
    /// The value of the new elements when it is an attribute.
    value: f32,
}

/// The most elements that are added to one end of an axis, so that sums do not overflow.
const MOST_PADS: u64 = 1 << 48;

/// What the new elements are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// One value.
    Constant,
    /// The last element, repeated.
    Edge,
    /// The elements before the last one, mirrored.
    Reflect,
    /// The elements from the other end.
    Wrap,
}

/// Builds a `Pad` from its node.
pub fn pad(attributes: &Attributes) -> Built {
    let mode = match attributes.string("mode", "constant")? {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        "wrap" => Mode::Wrap,
        other => {
            return Err(
                attributes.wrong(format!("`mode` is {other}: expected constant, edge, reflect or wrap"))
            );
        }
    };
    let pads = if attributes.has("paddings") { "paddings" } else { "pads" };
    Ok(Arc::new(Pad {
        mode,
        pads: Ints::read(attributes, pads, 1)?,
        axes: Ints::input("axes", 3),
        value: attributes.float("value", 0.0)?,
    }))
}

impl Pad {
    /// The new elements before and after each axis; a negative number removes elements.
    fn each(&self, pads: &[i64], axes: Option<Vec<i64>>, rank: usize) -> TractResult<Vec<(i64, i64)>> {
        let axes = axes.map_or_else(|| Ok((0..rank).collect()), |axes| axes_of(&axes, rank))?;
        if pads.len() != 2 * axes.len() {
            return Err(TractError::msg(format!(
                "`{}` has {} elements for {} axes: expected two for each axis",
                self.pads.name,
                pads.len(),
                axes.len()
            )));
        }
        if pads.iter().any(|pad| pad.unsigned_abs() > MOST_PADS) {
            return Err(invalid(format!("`{}` is {pads:?}: a number is too large", self.pads.name)));
        }
        let mut each = vec![(0, 0); rank];
        for (at, axis) in axes.iter().enumerate() {
            each[*axis] = (pads[at], pads[at + axes.len()]);
        }
        Ok(each)
    }

    /// The value of the new elements.
    fn value(&self, inputs: &Inputs<Tensor>) -> TractResult<Tensor> {
        let datum_type = inputs.required(0, "data")?.datum_type();
        match inputs.optional(2) {
            Some(value) if value.len() == 1 && value.datum_type() == datum_type => Ok(value.clone()),
            Some(value) => Err(TractError::msg(format!(
                "`constant_value` is {:?} {:?}: expected one {datum_type:?}",
                value.datum_type(),
                value.shape()
            ))),
            None if datum_type == DatumType::String => Ok(tensor0(String::new())),
            None if datum_type == DatumType::Bool => Ok(tensor0(self.value != 0.0)),
            None => Ok(tensor0(self.value).cast_to_dt(datum_type)?.into_owned()),
        }
    }
}

/// The input with new elements before and after each axis, or without some of its elements.
fn padded(input: &Tensor, mode: Mode, pads: &[(i64, i64)], value: Option<&Tensor>) -> TractResult<Tensor> {
    let length = |(length, (before, after)): (&usize, &(i64, i64))| {
        let new = i128::from(*before) + i128::from(*after) + *length as i128;
        usize::try_from(new).map_err(|_| {
            invalid(format!("an axis of the length {length} cannot be padded by {before} and {after}"))
        })
    };
    let shape: TVec<usize> = input.shape().iter().zip(pads).map(length).collect::<TractResult<_>>()?;
    if shape.contains(&0) {
        return Tensor::zero_dt(input.datum_type(), &shape);
    }
    let places = input.shape().iter().zip(pads).map(|(length, pads)| places(mode, *length, *pads));
    let places: Vec<Places> = places.collect::<TractResult<_>>()?;
    mapped(&shape, input, along(input.shape(), places), value)
}

/// The places of a padded axis.
fn places(mode: Mode, length: usize, (before, after): (i64, i64)) -> TractResult<Places> {
    if (before, after) == (0, 0) {
        return Ok(Places::all(length));
    }
    let too_small =
        || invalid(format!("an axis of the length {length} cannot be padded by {before} and {after}"));
    // The elements that are left after negative pads.
    let first = before.min(0).unsigned_abs() as usize;
    let last = length.checked_sub(after.min(0).unsigned_abs() as usize).ok_or_else(too_small)?;
    let kept = last.checked_sub(first).ok_or_else(too_small)? as i64;
    let (before, after) = (before.max(0), after.max(0));
    if kept == 0 && mode != Mode::Constant && before + after > 0 {
        return Err(too_small());
    }
    let place = |at: i64| match mode {
        _ if (0..kept).contains(&at) => first + at as usize,
        Mode::Constant => FILL,
        Mode::Edge => first + at.clamp(0, kept - 1) as usize,
        Mode::Wrap => first + at.rem_euclid(kept) as usize,
        Mode::Reflect => first + reflected(at, kept) as usize,
    };
    Ok(Places::List((-before..kept + after).map(place).collect()))
}

/// The place of an element in front of or behind `count` elements that are mirrored at their ends, again and again.
fn reflected(at: i64, count: i64) -> i64 {
    if count == 1 {
        return 0;
    }
    let period = 2 * (count - 1);
    let at = at.rem_euclid(period);
    if at < count { at } else { period - at }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "data")?;
        let axes = self.axes.known(inputs)?;
        let axes_known = axes.is_some() || !self.axes.is_given(inputs);
        let mut shape = input.shape.clone();
        match self.pads.known(inputs)? {
            Some(pads) if axes_known => {
                for (length, (before, after)) in shape.iter_mut().zip(self.each(&pads, axes, input.rank())?) {
                    *length = length.clone() + (before + after);
                }
            }
            _ => {
                let padded = match axes {
                    Some(axes) => axes_of(&axes, input.rank())?,
                    None => (0..input.rank()).collect(),
                };
                padded.into_iter().for_each(|axis| shape[axis] = late.length(axis));
            }
        }
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "data")?;
        let pads = self.each(&self.pads.required(inputs)?, self.axes.now(inputs)?, input.rank())?;
        Ok(tvec![padded(input, self.mode, &pads, Some(&self.value(inputs)?))?])
    }
}

/// The form of `Pad` that tract serves: a constant that is added around.
pub fn constant(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let pads = Ints::read(attributes, "pads", 1).and_then(|pads| pads.known(inputs));
    let pads = pads.map_err(|error| error.to_string())?;
    let are_small = pads.is_some_and(|pads| pads.iter().all(|pad| (0..1 << 20).contains(pad)));
    let same_type = match (inputs.optional(0), inputs.optional(2)) {
        (Some(input), Some(value)) => input.datum_type == value.datum_type && value.count() == Some(1),
        _ => true,
    };
    match attributes.string("mode", "constant") {
        Ok("constant") if are_small && same_type => Ok(()),
        _ => Err("the engine pads only with a constant".into()),
    }
}

/// Cuts or pads axes around their middle.
#[derive(Debug)]
struct Center {
    axes: Option<Vec<i64>>,
}

/// Builds a `CenterCropPad` from its node.
pub fn center_crop_pad(attributes: &Attributes) -> Built {
    let axes = attributes.has("axes").then(|| attributes.ints("axes")).transpose()?;
    Ok(Arc::new(Center { axes: axes.map(<[i64]>::to_vec) }))
}

impl Center {
    fn axes(&self, rank: usize, lengths: usize) -> TractResult<Vec<usize>> {
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|axis| axis_of(*axis, rank)).collect::<TractResult<_>>()?,
            None => (0..rank).collect::<Vec<usize>>(),
        };
        match axes.len() == lengths {
            true => Ok(axes),
            false => Err(TractError::msg(format!(
                "`shape` has {lengths} elements for {} axes: expected one for each",
                axes.len()
            ))),
        }
    }
}

impl Operator for Center {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, wanted) = (inputs.required(0, "input_data")?, inputs.required(1, "shape")?);
        let mut shape = input.shape.clone();
        let count = Ints::input("shape", 1).count(inputs)?.unwrap_or(0);
        let sizes = wanted.sizes()?;
        for (at, axis) in self.axes(input.rank(), count)?.into_iter().enumerate() {
            shape[axis] = sizes.as_ref().map_or_else(|| late.length(axis), |sizes| sizes[at].clone());
        }
        if let Some(negative) = shape.iter().find(|length| length.to_i64().is_ok_and(|length| length < 0)) {
            return Err(TractError::msg(format!("`shape` has the length {negative}: expected 0 or more")));
        }
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input_data")?;
        let wanted = lengths_of("shape", &Ints::input("shape", 1).required(inputs)?)?;
        let mut pads = vec![(0, 0); input.rank()];
        for (at, axis) in self.axes(input.rank(), wanted.len())?.into_iter().enumerate() {
            let (length, wanted) = (input.shape()[axis] as i64, wanted[at] as i64);
            // Of an odd number of elements, one more is added or removed at the end.
            let before = if wanted > length { (wanted - length) / 2 } else { -((length - wanted) / 2) };
            pads[axis] = (before, wanted - length - before);
        }
        Ok(tvec![padded(input, Mode::Constant, &pads, None)?])
    }
}
