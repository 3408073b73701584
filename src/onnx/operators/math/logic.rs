//! Comparisons and truth values: `Equal`, `Less`, `LessOrEqual`, `Greater`, `GreaterOrEqual`, `And`, `Or`, `Xor`, `Not`,
//! `IsNaN`, `IsInf`, `Where`.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, choose, pairs};
use super::super::numbers::{mapped, on_floats, on_numbers, unsupported};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::binary::{Binary, Outcome};
use super::unary::Unary;
use super::{Built, Elements};

/// Compares elements of any type.
macro_rules! compare {
    ($compare:expr) => {
        |a: &Tensor, b: &Tensor| match a.datum_type() {
            DatumType::Bool => pairs::<bool, bool, bool>(a, b, $compare),
            DatumType::String => pairs::<String, String, bool>(a, b, $compare),
            other => on_numbers!(other, T => pairs::<T, T, bool>(a, b, $compare)),
        }
    };
}

/// Builds a comparison.
pub fn comparison(attributes: &Attributes) -> Built {
    let (takes, compute): (_, fn(&Tensor, &Tensor) -> TractResult<Tensor>) = match &*attributes.node.op_type {
        "Equal" => (Elements::Any, compare!(|a, b| a == b)),
        "Less" => (Elements::Numbers, compare!(|a, b| a < b)),
        "LessOrEqual" => (Elements::Numbers, compare!(|a, b| a <= b)),
        "Greater" => (Elements::Numbers, compare!(|a, b| a > b)),
        _ => (Elements::Numbers, compare!(|a, b| a >= b)),
    };
    Binary::built(attributes, takes, Outcome::Truth, compute)
}

/// Builds an `And`, `Or` or `Xor`.
pub fn connection(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor, &Tensor) -> TractResult<Tensor> = match &*attributes.node.op_type {
        "And" => |a, b| pairs::<bool, bool, bool>(a, b, |a, b| a & b),
        "Or" => |a, b| pairs::<bool, bool, bool>(a, b, |a, b| a | b),
        _ => |a, b| pairs::<bool, bool, bool>(a, b, |a, b| a ^ b),
    };
    Binary::built(attributes, Elements::Truths, Outcome::Truth, compute)
}

/// Builds a `Not`.
pub fn not(attributes: &Attributes) -> Built {
    Unary::built(attributes, Elements::Truths, Outcome::Truth, |input| {
        mapped::<bool, bool>(input, |truth| !truth)
    })
}

/// Builds an `IsNaN`.
pub fn is_nan(attributes: &Attributes) -> Built {
    let compute =
        |input: &Tensor| on_floats!(input.datum_type(), T => mapped::<T, bool>(input, |x| x.is_nan()));
    Unary::built(attributes, Elements::Floats, Outcome::Truth, compute)
}

/// Builds an `IsInf`.
pub fn is_inf(attributes: &Attributes) -> Built {
    let counts = (attributes.flag("detect_negative", true)?, attributes.flag("detect_positive", true)?);
    let compute: fn(&Tensor) -> TractResult<Tensor> = match counts {
        (true, true) => {
            |input| on_floats!(input.datum_type(), T => mapped::<T, bool>(input, |x| x.is_infinite()))
        }
        (true, false) => {
            |input| on_floats!(input.datum_type(), T => mapped::<T, bool>(input, |x| *x == T::NEG_INFINITY))
        }
        (false, true) => {
            |input| on_floats!(input.datum_type(), T => mapped::<T, bool>(input, |x| *x == T::INFINITY))
        }
        (false, false) => |input| on_floats!(input.datum_type(), T => mapped::<T, bool>(input, |_| false)),
    };
    Unary::built(attributes, Elements::Floats, Outcome::Truth, compute)
}

/// `Where`: elements of one of two tensors.
#[derive(Debug)]
struct Where;

/// Builds a `Where`.
pub fn choice(_: &Attributes) -> Built {
    Ok(Arc::new(Where))
}

impl Operator for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let condition = inputs.required(0, "condition")?;
        let (yes, no) = (inputs.required(1, "X")?, inputs.required(2, "Y")?);
        if condition.datum_type != DatumType::Bool || yes.datum_type != no.datum_type {
            return Err(TractError::msg(format!(
                "its inputs are of types {:?}, {:?} and {:?}: expected BOOL and two of the same type",
                condition.datum_type, yes.datum_type, no.datum_type
            )));
        }
        Elements::Any.check(yes.datum_type)?;
        Ok(tvec![Kind::new(yes.datum_type, broadcast::shape(&[condition, yes, no])?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let condition = inputs.required(0, "condition")?;
        let (yes, no) = (inputs.required(1, "X")?, inputs.required(2, "Y")?);
        let output = match yes.datum_type() {
            DatumType::Bool => choose::<bool>(condition, yes, no),
            DatumType::String => choose::<String>(condition, yes, no),
            DatumType::F16 => choose::<f16>(condition, yes, no),
            other if other.is_number() => on_numbers!(other, T => choose::<T>(condition, yes, no)),
            other => Err(unsupported(other)),
        };
        Ok(tvec![output?])
    }
}
