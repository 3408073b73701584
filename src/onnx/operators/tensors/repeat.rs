//! Operators that repeat elements: `Expand` and `Tile`.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::Built;
use super::axes::{Ints, invalid, lengths_of, strides};
use super::moves::{Axis, Places, along, mapped};

/// Repeats axes of length 1, and adds axes in front.
#[derive(Debug)]
struct Expand {
    shape: Ints,
}

/// Builds an `Expand` from its node.
pub fn expand(_: &Attributes) -> Built {
    Ok(Arc::new(Expand { shape: Ints::input("shape", 1) }))
}

/// The length of an axis from that of the input and that of the other shape.
fn broadcast(input: &TDim, other: &TDim) -> TractResult<TDim> {
    match (input.to_i64(), other.to_i64()) {
        (_, Ok(1)) => Ok(input.clone()),
        (Ok(1), _) => Ok(other.clone()),
        (Ok(a), Ok(b)) if a != b => Err(invalid(format!(
            "an axis of the length {a} cannot be repeated to {b}: expected the same length, or 1"
        ))),
        _ => input.clone().broadcast(other.clone()),
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        let count = self.shape.count(inputs)?.ok_or_else(|| TractError::msg("`shape` is missing"))?;
        let rank = count.max(input.rank());
        let known = self.shape.sizes(inputs)?;
        let length = |at: usize| -> TractResult<TDim> {
            let own = (at + input.rank()).checked_sub(rank).map_or(1.to_dim(), |at| input.shape[at].clone());
            let Some(other) = (at + count).checked_sub(rank) else { return Ok(own) };
            match &known {
                Some(known) => broadcast(&own, &known[other]),
                // The other length can only be the same or 1.
                None if own.to_i64().is_ok_and(|length| length != 1) => Ok(own),
                None => Ok(late.length(at)),
            }
        };
        let shape: TVec<TDim> = (0..rank).map(length).collect::<TractResult<_>>()?;
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let other = lengths_of("shape", &self.shape.required(inputs)?)?;
        let rank = other.len().max(input.rank());
        let at = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
        let own_strides = strides(input.shape());
        let (mut shape, mut axes) = (TVec::new(), Vec::new());
        for axis in 0..rank {
            let (own, other) = (at(input.shape(), axis), at(&other, axis));
            let length = broadcast(&own.to_dim(), &other.to_dim())?.to_usize()?;
            shape.push(length);
            axes.push(Axis {
                stride: if own == 1 { 0 } else { own_strides[axis + input.rank() - rank] },
                places: Places::all(length),
            });
        }
        Ok(tvec![mapped(&shape, input, axes, None)?])
    }
}

/// Repeats the whole tensor along its axes.
#[derive(Debug)]
struct Tile {
    repeats: Ints,
}

/// Builds a `Tile` from its node.
pub fn tile(attributes: &Attributes) -> Built {
    if attributes.version() < 6 {
        return Err(
            attributes.wrong("the form before opset 6 is not supported: convert the model to a later opset")
        );
    }
    Ok(Arc::new(Tile { repeats: Ints::input("repeats", 1) }))
}

impl Operator for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        let Some(repeats) = self.repeats.sizes(inputs)? else {
            let shape = input.shape.iter().enumerate().map(|(at, _)| late.length(at));
            return Ok(tvec![Kind::new(input.datum_type, shape)]);
        };
        check(input.rank(), repeats.len())?;
        let shape = input.shape.iter().zip(&repeats).map(|(length, repeats)| length.clone() * repeats);
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let repeats = lengths_of("repeats", &self.repeats.required(inputs)?)?;
        check(input.rank(), repeats.len())?;
        let length = |(length, times): (&usize, &usize)| {
            length.checked_mul(*times).ok_or_else(|| invalid(format!("`repeats` is too large: {repeats:?}")))
        };
        let shape: TVec<usize> =
            input.shape().iter().zip(&repeats).map(length).collect::<TractResult<_>>()?;
        if shape.contains(&0) {
            return Ok(tvec![Tensor::zero_dt(input.datum_type(), &shape)?]);
        }
        let places = input.shape().iter().zip(&shape).map(|(length, total)| match length == total {
            true => Places::all(*length),
            false => Places::List((0..*total).map(|at| at % length).collect()),
        });
        Ok(tvec![mapped(&shape, input, along(input.shape(), places), None)?])
    }
}

fn check(rank: usize, repeats: usize) -> TractResult<()> {
    match rank == repeats {
        true => Ok(()),
        false => Err(TractError::msg(format!(
            "`repeats` has {repeats} elements for an input of {rank} axes: expected one for each axis"
        ))),
    }
}
