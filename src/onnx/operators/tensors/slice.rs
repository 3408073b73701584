//! `Slice`: a part of each axis, in steps that can be negative.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, kept_text};
use super::Built;
use super::axes::{Ints, axes_of, invalid};
use super::moves::{Places, along, mapped};

#[derive(Debug)]
struct Slice {
    starts: Ints,
    ends: Ints,
    axes: Ints,
    steps: Ints,
}

/// Builds a `Slice` from its node.
pub fn slice(attributes: &Attributes) -> Built {
    Ok(Arc::new(Slice::read(attributes)?))
}

impl Slice {
    fn read(attributes: &Attributes) -> TractResult<Slice> {
        Ok(Slice {
            starts: Ints::read(attributes, "starts", 1)?,
            ends: Ints::read(attributes, "ends", 2)?,
            axes: Ints::read(attributes, "axes", 3)?,
            steps: Ints::read(attributes, "steps", 4)?,
        })
    }
}

/// The part of one axis.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: i64,
    end: i64,
    step: i64,
}

/// The ranges of some axes of a tensor, from flat lists.
fn ranges(
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
    rank: usize,
) -> TractResult<Vec<(usize, Range)>> {
    let count = starts.len();
    let axes = axes.map_or_else(|| (0..count as i64).collect(), <[i64]>::to_vec);
    let steps = steps.map_or_else(|| vec![1; count], <[i64]>::to_vec);
    if [ends.len(), axes.len(), steps.len()] != [count; 3] {
        return Err(TractError::msg(format!(
            "it has {count} starts, {} ends, {} axes and {} steps: expected the same number of each",
            ends.len(),
            axes.len(),
            steps.len()
        )));
    }
    if steps.contains(&0) {
        return Err(invalid("a step is 0: expected another number"));
    }
    let range = |at: usize| Range { start: starts[at], end: ends[at], step: steps[at] };
    Ok(axes_of(&axes, rank)?.into_iter().zip((0..count).map(range)).collect())
}

impl Range {
    /// The places on an axis of this length.
    fn places(self, length: usize) -> Places {
        let count = length as i128;
        let (start, end, step) = (i128::from(self.start), i128::from(self.end), i128::from(self.step));
        let from_front = |at: i128| if at < 0 { at + count } else { at };
        let (start, end, taken) = if step > 0 {
            let (start, end) = (from_front(start).clamp(0, count), from_front(end).clamp(0, count));
            (start, end, (end - start + step - 1) / step)
        } else {
            let (start, end) = (from_front(start).clamp(-1, count - 1), from_front(end).clamp(-1, count - 1));
            (start, end, (start - end - step - 1) / -step)
        };
        let is_empty = if step > 0 { end <= start } else { start <= end };
        match is_empty {
            true => Places::Run { start: 0, step: 1, length: 0 },
            // A step that is longer than the axis is never made.
            false => Places::Run {
                start: start as usize,
                step: if taken == 1 { 1 } else { step as isize },
                length: taken as usize,
            },
        }
    }

    /// The length of the part of an axis with an open length. `None` when there is no simple expression for it.
    fn open_length(self, length: &TDim) -> Option<TDim> {
        let zero = || 0.to_dim();
        let last = i64::from(i32::MAX);
        match self {
            Range { start: 0, end, step: 1 } if end >= last => Some(length.clone()),
            Range { start: 0, end, step: 1 } if end >= 0 => Some(length.clone().mini(end.to_dim())),
            Range { start: 0, end, step: 1 } => Some((length.clone() + end).maxi(zero())),
            Range { start, end, step: 1 } if start > 0 && end >= last => {
                Some((length.clone() - start).maxi(zero()))
            }
            Range { start, end, step: 1 } if start < 0 && end >= last => {
                Some(length.clone().mini((-start).to_dim()))
            }
            Range { start: -1, end, step: -1 } if end <= -last => Some(length.clone()),
            Range { start: 0, end, step } if step > 1 && end >= last => {
                Some((length.clone() + (step - 1)) / step)
            }
            _ => None,
        }
    }
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "data")?;
        let mut shape = input.shape.clone();
        let axes = self.axes.known(inputs)?;
        let (starts, ends, steps) =
            (self.starts.known(inputs)?, self.ends.known(inputs)?, self.steps.known(inputs)?);
        let are_known = |ints: &Ints, known: bool| known || !ints.is_given(inputs);
        let axes_known = are_known(&self.axes, axes.is_some());
        match (starts, ends) {
            (Some(starts), Some(ends)) if axes_known && are_known(&self.steps, steps.is_some()) => {
                for (axis, range) in ranges(&starts, &ends, axes.as_deref(), steps.as_deref(), input.rank())?
                {
                    let length = &shape[axis];
                    shape[axis] = match length.to_usize() {
                        Ok(length) => range.places(length).len().to_dim(),
                        Err(_) => range.open_length(length).unwrap_or_else(|| late.length(axis)),
                    };
                }
            }
            _ => {
                let count = self.starts.count(inputs)?.unwrap_or(input.rank());
                let sliced = match (&axes, axes_known) {
                    (Some(axes), _) => axes_of(axes, input.rank())?,
                    (None, true) => (0..count.min(input.rank())).collect(),
                    (None, false) => (0..input.rank()).collect(),
                };
                sliced.into_iter().for_each(|axis| shape[axis] = late.length(axis));
            }
        }
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "data")?;
        let (starts, ends) = (self.starts.required(inputs)?, self.ends.required(inputs)?);
        let (axes, steps) = (self.axes.now(inputs)?, self.steps.now(inputs)?);
        let mut places: Vec<Places> = input.shape().iter().map(|length| Places::all(*length)).collect();
        for (axis, range) in ranges(&starts, &ends, axes.as_deref(), steps.as_deref(), input.rank())? {
            places[axis] = range.places(input.shape()[axis]);
        }
        let shape: TVec<usize> = places.iter().map(Places::len).collect();
        Ok(tvec![mapped(&shape, input, along(input.shape(), places), None)?])
    }
}

/// The form that tract serves: steps of 1; parts that are not empty; from an axis with an open length, a part that begins or
/// ends at the end. Bounds that contain symbols are taken as bounds inside the axis, and another one is an error of the run.
pub fn simple(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let slice = Slice::read(attributes).map_err(|error| error.to_string())?;
    slice.check_simple(inputs).map_err(|error| error.to_string())
}

impl Slice {
    fn check_simple(&self, inputs: &Inputs<Kind>) -> TractResult<()> {
        let input = inputs.required(0, "data")?;
        let unknown = || TractError::msg("the engine needs constant starts and ends");
        let starts = self.starts.sizes(inputs)?.ok_or_else(unknown)?;
        let ends = self.ends.sizes(inputs)?.ok_or_else(unknown)?;
        // Symbols are replaced by bounds that are always inside.
        let number = |symbolic: i64| move |size: &TDim| size.to_i64().unwrap_or(symbolic);
        let (numbers, limits): (Vec<i64>, Vec<i64>) =
            (starts.iter().map(number(0)).collect(), ends.iter().map(number(i64::MAX)).collect());
        let (axes, steps) = (self.axes.known(inputs)?, self.steps.known(inputs)?);
        let ranges = ranges(&numbers, &limits, axes.as_deref(), steps.as_deref(), input.rank())?;
        for (at, (axis, range)) in ranges.into_iter().enumerate() {
            let has_symbols = starts[at].to_i64().is_err() || ends[at].to_i64().is_err();
            let is_simple = match input.shape[axis].to_usize() {
                Ok(length) => range.places(length).len() > 0,
                Err(_) if has_symbols => true,
                Err(_) => {
                    range.end >= i64::from(i32::MAX) && range.start != 0 || range.start == 0 && range.end < 0
                }
            };
            // tract takes only these large numbers as "the end".
            let is_end = [i64::from(i32::MAX), i64::MAX].contains(&range.end);
            let fits = range.end.unsigned_abs() < 1 << 30 && range.start.unsigned_abs() < 1 << 30;
            if range.step != 1 || !is_simple || !(fits || is_end && range.start.unsigned_abs() < 1 << 30) {
                return Err(TractError::msg("the engine does not serve these bounds"));
            }
        }
        Ok(())
    }
}
