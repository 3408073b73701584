//! Operators that keep the elements and their order: `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`, `Identity`.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, kept_text};
use super::Built;
use super::axes::{Ints, axes_of, dims, invalid, late, lengths};

/// One of these operators.
#[derive(Debug)]
struct Reshaped {
    name: &'static str,
    rule: Rule,
    /// The lengths or axes; nothing for `Flatten` and `Identity`.
    given: Ints,
}

/// How the shape of the output follows from that of the input.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Same,
    /// The lengths of the output. -1 is what remains.
    Lengths(Zero),
    /// Two axes: all before this axis, and all others.
    Split(i64),
    /// Without these axes, which have length 1; without them, all axes of length 1.
    Remove,
    /// With new axes of length 1 at these places of the output.
    Insert,
}

/// What a length of 0 in the input `shape` of `Reshape` means.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Zero {
    /// The length of the input's axis with the same number.
    Copy,
    /// An axis without elements.
    Length,
}

fn built(name: &'static str, rule: Rule, given: Ints) -> Built {
    Ok(Arc::new(Reshaped { name, rule, given }))
}

/// Builds a `Reshape` from its node.
pub fn reshape(attributes: &Attributes) -> Built {
    let zero = if attributes.flag("allowzero", false)? { Zero::Length } else { Zero::Copy };
    built("Reshape", Rule::Lengths(zero), Ints::read(attributes, "shape", 1)?)
}

/// Builds a `Flatten` from its node.
pub fn flatten(attributes: &Attributes) -> Built {
    built("Flatten", Rule::Split(attributes.int("axis", 1)?), Ints::input("axis", 1))
}

/// Builds a `Squeeze` from its node.
pub fn squeeze(attributes: &Attributes) -> Built {
    built("Squeeze", Rule::Remove, Ints::read(attributes, "axes", 1)?)
}

/// Builds an `Unsqueeze` from its node.
pub fn unsqueeze(attributes: &Attributes) -> Built {
    built("Unsqueeze", Rule::Insert, Ints::read(attributes, "axes", 1)?)
}

/// Builds an `Identity` from its node.
pub fn identity(_: &Attributes) -> Built {
    built("Identity", Rule::Same, Ints::input("none", 1))
}

impl Operator for Reshaped {
    fn name(&self) -> &'static str {
        self.name
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late_lengths: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "data")?;
        let is_given = self.given.is_given(inputs);
        let given = self.given.sizes(inputs)?;
        let shape = match (is_given, given) {
            (true, None) => self.unknown(inputs, late_lengths)?,
            (_, given) => {
                let shape = self.shape(&input.shape, given.as_deref())?;
                // The length that remains is known when the symbols cancel out.
                let known =
                    |(at, length): (usize, Option<TDim>)| length.unwrap_or_else(|| late_lengths.length(at));
                shape.into_iter().enumerate().map(known).collect()
            }
        };
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "data")?;
        let given = self.given.now(inputs)?;
        let given: Option<TVec<TDim>> = given.map(|ints| ints.iter().map(|int| int.to_dim()).collect());
        let shape = self.shape(&dims(input.shape()), given.as_deref())?;
        let shape: Option<TVec<TDim>> = shape.into_iter().collect();
        let shape = lengths(&shape.ok_or_else(|| TractError::msg("a length is not known"))?)?;
        let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        if count != Some(input.len()) {
            return Err(invalid(format!(
                "the shape {:?} has {} elements, but the new shape {shape:?} has another number",
                input.shape(),
                input.len()
            )));
        }
        Ok(tvec![input.clone().into_shape(&shape)?])
    }
}

impl Reshaped {
    /// The shape when the lengths or axes are an input that is not constant.
    fn unknown(&self, inputs: &Inputs<Kind>, late_lengths: &LateLengths) -> TractResult<TVec<TDim>> {
        let rank = inputs.required(0, "data")?.rank();
        let count = self.given.count(inputs)?.unwrap_or(0);
        let rank = match self.rule {
            Rule::Same => rank,
            Rule::Lengths(_) => count,
            Rule::Split(_) => 2,
            Rule::Insert => rank + count,
            Rule::Remove => rank
                .checked_sub(count)
                .ok_or_else(|| TractError::msg(format!("{count} axes of {rank} cannot be removed")))?,
        };
        Ok(late(late_lengths, 0, rank))
    }

    /// The shape of the output. `None` for a length that cannot be computed before the symbols have values.
    fn shape(&self, shape: &[TDim], given: Option<&[TDim]>) -> TractResult<Vec<Option<TDim>>> {
        let axes = || {
            given.map(|axes| axes.iter().map(|axis| Ok(axis.to_i64()?)).collect::<TractResult<Vec<i64>>>())
        };
        let axes = match self.rule {
            Rule::Remove | Rule::Insert => axes().transpose()?,
            _ => None,
        };
        let all: TVec<TDim> = match (self.rule, axes) {
            (Rule::Lengths(zero), _) => return of_lengths(shape, given.unwrap_or_default(), zero),
            (Rule::Same, _) => shape.into(),
            (Rule::Split(axis), _) => split(shape, axis)?,
            (Rule::Remove, Some(axes)) => without(shape, &axes_of(&axes, shape.len())?)?,
            (Rule::Remove, None) => without(shape, &of_length_one(shape)?)?,
            (Rule::Insert, Some(axes)) => with(shape, &axes_of(&axes, shape.len() + axes.len())?),
            (Rule::Insert, None) => return Err(TractError::msg("`axes` is missing")),
        };
        Ok(all.into_iter().map(Some).collect())
    }
}

/// The shape of `Flatten`.
fn split(shape: &[TDim], axis: i64) -> TractResult<TVec<TDim>> {
    let rank = shape.len() as i64;
    if axis < -rank || axis > rank {
        return Err(TractError::msg(format!("`axis` is {axis}: expected -{rank} to {rank}")));
    }
    let (before, after) = shape.split_at(if axis < 0 { axis + rank } else { axis } as usize);
    Ok(tvec![before.iter().product(), after.iter().product()])
}

/// The axes of length 1.
///
/// Errors: an open length may be 1, so the number of axes is not known.
fn of_length_one(shape: &[TDim]) -> TractResult<Vec<usize>> {
    if let Some(open) = shape.iter().find(|length| length.to_i64().is_err()) {
        return Err(TractError::msg(format!(
            "it has no `axes`, and the dimension {open} is open: it would be removed if it is 1, and the number of axes \
             must be known. Name the `axes` in the model, or fix the dimension with `inputs[].shape` in model.json"
        )));
    }
    Ok(shape.iter().enumerate().filter(|(_, length)| **length == 1.to_dim()).map(|(at, _)| at).collect())
}

fn without(shape: &[TDim], axes: &[usize]) -> TractResult<TVec<TDim>> {
    if let Some(axis) = axes.iter().find(|axis| shape[**axis].to_i64().is_ok_and(|length| length != 1)) {
        return Err(invalid(format!("axis {axis} has the length {}: expected 1", shape[*axis])));
    }
    let kept = shape.iter().enumerate().filter(|(at, _)| !axes.contains(at));
    Ok(kept.map(|(_, length)| length.clone()).collect())
}

fn with(shape: &[TDim], axes: &[usize]) -> TVec<TDim> {
    let mut old = shape.iter();
    let place = |at: usize| match axes.contains(&at) {
        true => 1.to_dim(),
        false => old.next().cloned().unwrap_or_else(|| 1.to_dim()),
    };
    (0..shape.len() + axes.len()).map(place).collect()
}

/// The shape of `Reshape`.
fn of_lengths(shape: &[TDim], given: &[TDim], zero: Zero) -> TractResult<Vec<Option<TDim>>> {
    let wrong = |cause: &str| invalid(format!("`shape` is {given:?} for an input of {shape:?}: {cause}"));
    let mut output: Vec<Option<TDim>> = Vec::new();
    for (at, length) in given.iter().enumerate() {
        output.push(match length.to_i64() {
            Ok(-1) => None,
            Ok(0) if zero == Zero::Copy => {
                Some(shape.get(at).cloned().ok_or_else(|| wrong("there is no length to copy for a 0"))?)
            }
            Ok(length) if length < 0 => return Err(wrong("expected -1, 0 or more")),
            _ => Some(length.clone()),
        });
    }
    let open: Vec<usize> = (0..output.len()).filter(|at| output[*at].is_none()).collect();
    match open[..] {
        [] => Ok(output),
        [at] => {
            let (all, others) = (shape.iter().product::<TDim>(), output.iter().flatten().product::<TDim>());
            output[at] = match (all.to_i64(), others.to_i64()) {
                (_, Ok(0)) => return Err(wrong("the length -1 beside a 0 has no meaning")),
                (Ok(all), Ok(others)) if all % others != 0 => {
                    return Err(wrong("the number of elements cannot be divided"));
                }
                _ => all.maybe_div(&others).ok().filter(|(_, rest)| *rest == 1).map(|(length, _)| length),
            };
            Ok(output)
        }
        _ => Err(wrong("expected one -1")),
    }
}
