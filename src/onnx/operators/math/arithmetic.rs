//! `Add`, `Sub`, `Mul`, `Div`, `Mod`.
//!
//! Integers wrap. A quotient of integers is rounded toward 0. A quotient or remainder of integers by 0 is an error, because
//! it has no value (the reference evaluator gives 0, and onnxruntime ends the process).

use onnxd_kernels::rows::divide;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::{joined, pairs};
use super::super::numbers::{Number, on_numbers};
use super::super::operator::elements;
use super::binary::{Binary, Outcome};
use super::{Built, Elements};

/// Builds `Add`, `Sub`, `Mul` or `Div`.
pub fn arithmetic(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor, &Tensor) -> TractResult<Tensor> = match &*attributes.node.op_type {
        "Add" => |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a.plus(*b))),
        "Sub" => |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a.minus(*b))),
        "Mul" => |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a.times(*b))),
        _ => |a, b| match a.datum_type() {
            DatumType::F32 => joined(a, b, divide),
            _ => on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, not_zero::<T>(b)?, |a, b| a.over(*b))),
        },
    };
    Binary::built(attributes, Elements::Numbers, Outcome::Same, compute)
}

/// Builds a `Mod`.
pub fn modulo(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor, &Tensor) -> TractResult<Tensor> = if attributes.flag("fmod", false)? {
        |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, not_zero::<T>(b)?, |a, b| a.remainder(*b)))
    } else {
        |a, b| on_numbers!(a.datum_type(), T => pairs::<T, T, T>(a, not_zero::<T>(b)?, |a, b| floored(*a, *b)))
    };
    Binary::built(attributes, Elements::Numbers, Outcome::Same, compute)
}

/// The divisor, if a division by it is possible.
///
/// Errors: it has integers, and one of them is 0.
fn not_zero<T: Number>(divisor: &Tensor) -> TractResult<&Tensor> {
    let is_float = divisor.datum_type().is_float();
    match elements::<T>(divisor)?.iter().position(|number| *number == T::ZERO).filter(|_| !is_float) {
        Some(at) => Err(TractError::msg(format!("cannot divide by zero: element {at} of the divisor is 0"))),
        None => Ok(divisor),
    }
}

/// The remainder with the sign of the divisor, as in Python.
fn floored<T: Number>(a: T, b: T) -> T {
    let rest = a.remainder(b);
    let has_other_sign = (rest < T::ZERO && b > T::ZERO) || (rest > T::ZERO && b < T::ZERO);
    if has_other_sign { rest.plus(b) } else { rest }
}
