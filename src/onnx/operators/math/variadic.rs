//! Operators with any number of operands that are broadcast: `Max`, `Min`, `Sum`, `Mean`.
//!
//! A NaN in an operand makes the result NaN.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, pairs};
use super::super::numbers::{Number, mapped, on_floats, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
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
        let all = inputs.each()?;
        let mut result = inputs.required(0, "data_0")?.clone();
        for other in &all[1..] {
            result = (self.join)(&result, other)?;
        }
        if self.last == Last::Mean {
            let count = all.len() as f32;
            result = on_floats!(result.datum_type(), T => mapped::<T, T>(&result, |x| x / T::from(count)))?;
        }
        Ok(tvec![result])
    }
}
