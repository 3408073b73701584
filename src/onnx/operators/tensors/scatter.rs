//! Operators that write elements to the places in a tensor of indices: `Scatter`, `ScatterElements`, `ScatterND`,
//! `TensorScatter`. An index that is out of range is an error. Updates of the same place are applied in their order.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::numbers::{Number, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::Built;
use super::axes::{axis_of, invalid};
use super::gather::{Rows, places_of_elements};
use super::moves::replaced;

/// Writes to the places of indices.
#[derive(Debug)]
struct Scatter {
    name: &'static str,
    target: Target,
    reduction: Reduction,
}

/// What an index means.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// A place on this axis; the other places are those of the update.
    Axis(i64),
    /// A row of indices is the place of a block.
    Rows,
}

/// What happens to the old element.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Multiply,
    Least,
    Most,
}

fn reduction(attributes: &Attributes) -> TractResult<Reduction> {
    Ok(match attributes.string("reduction", "none")? {
        "none" => Reduction::Replace,
        "add" => Reduction::Add,
        "mul" => Reduction::Multiply,
        "min" => Reduction::Least,
        "max" => Reduction::Most,
        other => {
            return Err(
                attributes.wrong(format!("`reduction` is {other}: expected none, add, mul, min or max"))
            );
        }
    })
}

/// Builds a `Scatter` or `ScatterElements` from its node.
pub fn scatter_elements(attributes: &Attributes) -> Built {
    let target = Target::Axis(attributes.int("axis", 0)?);
    Ok(Arc::new(Scatter { name: "ScatterElements", target, reduction: reduction(attributes)? }))
}

/// Builds a `ScatterND` from its node.
pub fn scatter_nd(attributes: &Attributes) -> Built {
    Ok(Arc::new(Scatter { name: "ScatterND", target: Target::Rows, reduction: reduction(attributes)? }))
}

impl Operator for Scatter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let data = inputs.required(0, "data")?;
        inputs.required(1, "indices")?;
        let updates = inputs.required(2, "updates")?;
        if data.datum_type != updates.datum_type {
            return Err(TractError::msg(format!(
                "`data` is {:?} and `updates` is {:?}: expected the same type",
                data.datum_type, updates.datum_type
            )));
        }
        if data.datum_type == DatumType::String && self.reduction != Reduction::Replace {
            return Err(TractError::msg("strings can only be replaced: expected `reduction` none"));
        }
        Ok(tvec![Kind::new(data.datum_type, data.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let updates = inputs.required(2, "updates")?;
        let (places, block, expected) = match self.target {
            Target::Axis(axis) => {
                (places_of_elements(data.shape(), indices, axis)?, 1, indices.shape().into())
            }
            Target::Rows => {
                let Rows { places, block } = Rows::read(data.shape(), indices, 0)?;
                let width = indices.shape().last().copied().unwrap_or(0);
                let outer = &indices.shape()[..indices.rank() - 1];
                (places, block, outer.iter().chain(&data.shape()[width..]).copied().collect::<TVec<usize>>())
            }
        };
        if updates.shape() != &*expected {
            return Err(invalid(format!(
                "`updates` has the shape {:?}: expected {expected:?}",
                updates.shape()
            )));
        }
        Ok(tvec![match self.reduction {
            Reduction::Replace => replaced(data, updates, &places, block)?,
            _ => self.reduced(data, updates, &places, block)?,
        }])
    }
}

impl Scatter {
    fn reduced(
        &self,
        data: &Tensor,
        updates: &Tensor,
        places: &[usize],
        block: usize,
    ) -> TractResult<Tensor> {
        if data.datum_type() == DatumType::Bool {
            let reduce = match self.reduction {
                Reduction::Add | Reduction::Most => |old, new| old | new,
                _ => |old, new| old & new,
            };
            return reduced::<bool>(data, updates, places, block, reduce);
        }
        on_numbers!(data.datum_type(), T => {
            let reduce = match self.reduction {
                Reduction::Replace => |_, new| new,
                Reduction::Add => T::plus,
                Reduction::Multiply => T::times,
                Reduction::Least => T::smaller,
                Reduction::Most => T::larger,
            };
            reduced::<T>(data, updates, places, block, reduce)
        })
    }
}

/// A copy of `data` in which block number `places[i]` is combined with block number `i` of `updates`.
fn reduced<T: Datum + Copy>(
    data: &Tensor,
    updates: &Tensor,
    places: &[usize],
    block: usize,
    reduce: fn(T, T) -> T,
) -> TractResult<Tensor> {
    let mut output = data.clone();
    let mut plain = output.try_as_plain_ram_mut()?;
    let all = plain.as_slice_mut::<T>()?;
    if block > 0 {
        for (update, place) in elements::<T>(updates)?.chunks_exact(block).zip(places) {
            for (old, new) in all[place * block..][..block].iter_mut().zip(update) {
                *old = reduce(*old, *new);
            }
        }
    }
    Ok(output)
}

/// Writes new elements into a cache along an axis, from a start for each batch on.
#[derive(Debug)]
struct TensorScatter {
    axis: i64,
    end: End,
}

/// What happens at the end of the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// More elements are an error.
    Stop,
    /// More elements are written at the start.
    Wrap,
}

/// Builds a `TensorScatter` from its node.
pub fn tensor_scatter(attributes: &Attributes) -> Built {
    let end = match attributes.string("mode", "linear")? {
        "linear" => End::Stop,
        "circular" => End::Wrap,
        other => return Err(attributes.wrong(format!("`mode` is {other}: expected linear or circular"))),
    };
    Ok(Arc::new(TensorScatter { axis: attributes.int("axis", -2)?, end }))
}

impl Operator for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (cache, update) = (inputs.required(0, "past_cache")?, inputs.required(1, "update")?);
        if cache.datum_type != update.datum_type || cache.rank() != update.rank() {
            return Err(TractError::msg("`past_cache` and `update` differ in type or number of axes"));
        }
        if axis_of(self.axis, cache.rank())? == 0 {
            return Err(TractError::msg("`axis` is the axis of the batch: expected a later one"));
        }
        Ok(tvec![Kind::new(cache.datum_type, cache.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (cache, update) = (inputs.required(0, "past_cache")?, inputs.required(1, "update")?);
        let axis = axis_of(self.axis, cache.rank())?;
        let (shape, new) = (cache.shape(), update.shape());
        let starts = inputs.optional(2).map(ints).transpose()?.unwrap_or_else(|| vec![0; shape[0]]);
        if (0..shape.len()).any(|at| at != axis && shape[at] != new[at]) || starts.len() != shape[0] {
            return Err(invalid(format!(
                "a cache {shape:?}, an update {new:?} and {} write indices do not fit together",
                starts.len()
            )));
        }
        let middle: usize = shape[1..axis].iter().product();
        let block = shape[axis + 1..].iter().product();
        let mut places = Vec::with_capacity(shape[0] * middle * new[axis]);
        for (batch, start) in starts.iter().enumerate() {
            for outer in 0..middle {
                for at in 0..new[axis] {
                    places
                        .push((batch * middle + outer) * shape[axis] + self.place(*start, at, shape[axis])?);
                }
            }
        }
        Ok(tvec![replaced(cache, update, &places, block)?])
    }
}

impl TensorScatter {
    fn place(&self, start: i64, at: usize, length: usize) -> TractResult<usize> {
        let place = usize::try_from(start).ok().and_then(|start| start.checked_add(at));
        let place = match self.end {
            End::Wrap => place.filter(|_| length > 0).map(|place| place % length),
            End::Stop => place.filter(|place| *place < length),
        };
        place.ok_or_else(|| {
            invalid(format!("element {at} from write index {start} on is outside of a cache of {length}"))
        })
    }
}
