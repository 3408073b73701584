//! `Concat` joins tensors along an axis, `Split` cuts one.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, kept_text};
use super::Built;
use super::axes::{Ints, axis_of, dims, invalid, late as late_lengths, lengths, lengths_of};
use super::moves::{Places, along, joined, mapped};

/// Joins tensors.
#[derive(Debug)]
struct Concat {
    axis: i64,
}

/// Builds a `Concat` from its node.
pub fn concat(attributes: &Attributes) -> Built {
    if !attributes.has("axis") && attributes.version() >= 4 {
        return Err(attributes.wrong("the attribute `axis` is missing"));
    }
    Ok(Arc::new(Concat { axis: attributes.int("axis", 1)? }))
}

/// The shape of tensors that are joined along an axis.
fn joined_shape(shapes: &[&[TDim]], axis: usize) -> TractResult<TVec<TDim>> {
    let mut output: TVec<TDim> = shapes[0].into();
    for shape in &shapes[1..] {
        let differs = |at: &usize| {
            let (a, b) = (output[*at].to_i64(), shape[*at].to_i64());
            *at != axis && matches!((a, b), (Ok(a), Ok(b)) if a != b)
        };
        if shape.len() != output.len() || (0..shape.len()).any(|at| differs(&at)) {
            return Err(TractError::msg(format!(
                "inputs of the shapes {:?} and {shape:?} are joined along axis {axis}: expected equal lengths of all \
                 other axes",
                shapes[0]
            )));
        }
        for (at, length) in shape.iter().enumerate() {
            if at == axis {
                output[at] = output[at].clone() + length;
            } else if output[at].to_i64().is_err() {
                // A known length says more than a symbol.
                output[at] = length.clone();
            }
        }
    }
    Ok(output)
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let inputs = inputs.each()?;
        let first = inputs.first().ok_or_else(|| TractError::msg("it has no inputs"))?;
        let axis = axis_of(self.axis, first.rank())?;
        let shapes: TVec<&[TDim]> = inputs.iter().map(|input| &*input.shape).collect();
        Ok(tvec![Kind::new(first.datum_type, joined_shape(&shapes, axis)?)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let inputs = inputs.each()?;
        let first = inputs.first().ok_or_else(|| TractError::msg("it has no inputs"))?;
        let axis = axis_of(self.axis, first.rank())?;
        let all: Vec<TVec<TDim>> = inputs.iter().map(|input| dims(input.shape())).collect();
        let shapes: TVec<&[TDim]> = all.iter().map(|shape| &**shape).collect();
        let shape = lengths(&joined_shape(&shapes, axis)?)?;
        // An open length may turn out to be another one.
        if inputs.iter().any(|input| (0..shape.len()).any(|at| at != axis && input.shape()[at] != shape[at]))
        {
            return Err(invalid("its inputs have different lengths beside the joined axis"));
        }
        Ok(tvec![joined(&shape, &inputs, axis)?])
    }
}

/// Cuts a tensor into parts.
#[derive(Debug)]
struct Split {
    axis: i64,
    /// The lengths of the parts. Without them, the parts are equal but for the last.
    split: Ints,
    parts: usize,
    uneven: Uneven,
}

/// Whether the last part may be shorter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Uneven {
    Allowed,
    Refused,
}

/// Builds a `Split` from its node.
pub fn split(attributes: &Attributes) -> Built {
    let parts = attributes.node.output.len();
    let named = attributes.int("num_outputs", parts as i64)?;
    if named != parts as i64 {
        return Err(attributes.wrong(format!("`num_outputs` is {named}, but the node has {parts} outputs")));
    }
    let uneven = if attributes.has("num_outputs") { Uneven::Allowed } else { Uneven::Refused };
    let split = Ints::read(attributes, "split", 1)?;
    Ok(Arc::new(Split { axis: attributes.int("axis", 0)?, split, parts, uneven }))
}

impl Split {
    /// The lengths of the parts of an axis.
    fn lengths(&self, length: usize, given: Option<Vec<i64>>) -> TractResult<TVec<usize>> {
        let Some(given) = given else {
            if self.parts == 0 || self.uneven == Uneven::Refused && !length.is_multiple_of(self.parts) {
                return Err(invalid(format!(
                    "an axis of the length {length} cannot be cut into {} equal parts",
                    self.parts
                )));
            }
            let most = length.div_ceil(self.parts);
            let part = |at: usize| length.saturating_sub(at * most).min(most);
            return Ok((0..self.parts).map(part).collect());
        };
        let parts = lengths_of("split", &given)?;
        let sum = parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(*part));
        if parts.len() != self.parts || sum != Some(length) {
            return Err(invalid(format!(
                "`split` is {given:?} for an axis of the length {length} and {} outputs: expected one length for each \
                 output, which add up to that of the axis",
                self.parts
            )));
        }
        Ok(parts)
    }

    /// The lengths of the parts of an axis with an open length, or of parts that are not known.
    fn open_lengths(&self, length: &TDim, given: Option<&[TDim]>, late: &LateLengths) -> TVec<TDim> {
        match given {
            Some(given) if given.len() == self.parts => given.into(),
            None if self.uneven == Uneven::Refused || self.parts == 1 => {
                let part = length.clone().maybe_div(&self.parts.to_dim());
                let part = part.ok().filter(|(_, rest)| *rest == 1).map(|(part, _)| part);
                let part = part.unwrap_or_else(|| length.clone() / self.parts);
                tvec![part; self.parts]
            }
            _ => late_lengths(late, 0, self.parts),
        }
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        let axis = axis_of(self.axis, input.rank())?;
        let (is_given, known) = (self.split.is_given(inputs), self.split.known(inputs)?);
        let parts: TVec<TDim> = match input.shape[axis].to_usize() {
            Ok(length) if !is_given || known.is_some() => dims(&self.lengths(length, known)?),
            _ if is_given => {
                let sizes = self.split.sizes(inputs)?;
                // Not an empty list of sizes: that would mean equal parts.
                self.open_lengths(&input.shape[axis], Some(sizes.as_deref().unwrap_or(&[])), late)
            }
            _ => self.open_lengths(&input.shape[axis], None, late),
        };
        let kind = |part: TDim| {
            let mut shape = input.shape.clone();
            shape[axis] = part;
            Kind::new(input.datum_type, shape)
        };
        Ok(parts.into_iter().map(kind).collect())
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let axis = axis_of(self.axis, input.rank())?;
        let parts = self.lengths(input.shape()[axis], self.split.now(inputs)?)?;
        let mut start = 0;
        let part = |length: usize| {
            let mut places: Vec<Places> = input.shape().iter().map(|length| Places::all(*length)).collect();
            places[axis] = Places::Run { start, step: 1, length };
            start += length;
            let mut shape: TVec<usize> = input.shape().into();
            shape[axis] = length;
            mapped(&shape, input, along(input.shape(), places), None)
        };
        parts.into_iter().map(part).collect()
    }
}

/// The form of `Split` that tract serves: an axis of a fixed length, and constant or equal parts that are not empty.
pub fn simple_split(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let check = || -> TractResult<bool> {
        let input = inputs.required(0, "input")?;
        let axis = axis_of(attributes.int("axis", 0)?, input.rank())?;
        let parts = attributes.node.output.len() as i64;
        let Ok(length) = input.shape[axis].to_i64() else { return Ok(false) };
        let split = Ints::read(attributes, "split", 1)?;
        let is_even = parts > 0 && length % parts == 0;
        let are_parts = match split.known(inputs)? {
            Some(split) => {
                split.iter().all(|part| *part > 0)
                    && split.iter().map(|part| i128::from(*part)).sum::<i128>() == i128::from(length)
                    && split.len() as i64 == parts
            }
            None => is_even,
        };
        let are_named = attributes.node.output.iter().all(|name| !name.is_empty());
        Ok(length > 0 && are_parts && are_named && attributes.int("num_outputs", parts)? == parts)
    };
    match check() {
        Ok(true) => Ok(()),
        Ok(false) => Err("the engine serves only parts of known lengths".into()),
        Err(error) => Err(error.to_string()),
    }
}
