//! Operators with any number of operands that are broadcast: `Max`, `Min`, `Sum`, `Mean`; and `Clip`.
//!
//! A NaN in an operand makes the result NaN. A `Clip` whose limits cross gives the upper one.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, pairs};
use super::super::numbers::{Number, mapped, on_floats, on_numbers, widened};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, Elements, own_name};

/// An operator with any number of operands.
#[derive(Debug)]
struct Variadic {
    name: &'static str,
    takes: Elements,
    /// Joins two operands.
    join: fn(&Tensor, &Tensor) -> TractResult<Tensor>,
    last: Last,
}

/// What happens after all operands are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    /// The result is divided by the number of operands.
    Mean,
}

/// Builds a `Max`, `Min`, `Sum` or `Mean`.
pub fn variadic(attributes: &Attributes) -> Built {
    let name = own_name(attributes)?;
    let join: fn(&Tensor, &Tensor) -> TractResult<Tensor> = match name {
        "Max" => |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a.larger(*b))),
        "Min" => |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a.smaller(*b))),
        _ => |a, b| on_floats!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a + b)),
    };
    let takes = if matches!(name, "Max" | "Min") { Elements::Numbers } else { Elements::Floats };
    let last = if name == "Mean" { Last::Mean } else { Last::Nothing };
    Ok(Arc::new(Variadic { name, takes, join, last }))
}

impl Operator for Variadic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let all = inputs.each()?;
        let first = inputs.required(0, "data_0")?;
        self.takes.check(first.datum_type)?;
        if let Some(other) = all.iter().find(|other| other.datum_type != first.datum_type) {
            return Err(TractError::msg(format!(
                "its inputs are of types {:?} and {:?}: expected the same type",
                first.datum_type, other.datum_type
            )));
        }
        Ok(tvec![Kind::new(first.datum_type, broadcast::shape(&all)?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        widened(inputs, |inputs| {
            let all = inputs.each()?;
            let mut result = inputs.required(0, "data_0")?.clone();
            for other in &all[1..] {
                result = (self.join)(&result, other)?;
            }
            if self.last == Last::Mean {
                let count = all.len() as f32;
                result =
                    on_floats!(result.datum_type(), T => mapped::<T, T>(&result, |x| x / T::from(count)))?;
            }
            Ok(tvec![result])
        })
    }
}

/// `Clip`: elements limited to a range.
#[derive(Debug)]
struct Clip {
    /// The limits as attributes, before version 11.
    lower: Option<f32>,
    upper: Option<f32>,
}

/// Builds a `Clip`.
pub fn clip(attributes: &Attributes) -> Built {
    let limit = |name: &str| -> TractResult<Option<f32>> {
        if attributes.has(name) { Ok(Some(attributes.float(name, 0.0)?)) } else { Ok(None) }
    };
    Ok(Arc::new(Clip { lower: limit("min")?, upper: limit("max")? }))
}

impl Operator for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        Elements::Numbers.check(input.datum_type)?;
        for limit in [1, 2].into_iter().filter_map(|at| inputs.optional(at)) {
            if limit.datum_type != input.datum_type || limit.count().is_some_and(|count| count != 1) {
                return Err(TractError::msg(format!(
                    "a limit is of type {:?} and shape {:?}: expected one number of type {:?}",
                    limit.datum_type, limit.shape, input.datum_type
                )));
            }
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        widened(inputs, |inputs| {
            let input = inputs.required(0, "input")?;
            on_numbers!(input.datum_type(), T => {
                let lower = limit::<T>(inputs.optional(1), self.lower)?;
                let upper = limit::<T>(inputs.optional(2), self.upper)?;
                Ok(tvec![clipped(input, lower.unwrap_or(T::LEAST), upper.unwrap_or(T::GREATEST))?])
            })
        })
    }
}

/// A limit from an input, or from an attribute.
fn limit<T: Number>(input: Option<&Tensor>, attribute: Option<f32>) -> TractResult<Option<T>> {
    match input {
        Some(tensor) => match elements::<T>(tensor)? {
            [one] => Ok(Some(*one)),
            all => Err(TractError::msg(format!("a limit has {} numbers: expected 1", all.len()))),
        },
        None => Ok(attribute.map(|limit| T::of_f64(limit.into()))),
    }
}

/// The elements within the limits. A comparison with NaN is false, so a NaN stays.
fn clipped<T: Number>(input: &Tensor, lower: T, upper: T) -> TractResult<Tensor> {
    mapped::<T, T>(input, |x| {
        let raised = if *x < lower { lower } else { *x };
        if raised > upper { upper } else { raised }
    })
}
