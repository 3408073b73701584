//! The forms in which tract serves operators on elements: conditions of the table's entries.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind};

type Condition = Result<(), String>;

fn holds(is_served: bool, otherwise: &str) -> Condition {
    if is_served { Ok(()) } else { Err(otherwise.into()) }
}

/// The constant floats of an input.
fn floats(kind: Option<&Kind>) -> Option<Vec<f32>> {
    let value = kind?.value.as_ref().filter(|value| value.datum_type() == DatumType::F32)?;
    Some(value.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
}

/// Both operands have the same type. tract would cast one of them.
pub fn same_types(_: &Attributes, inputs: &Inputs<Kind>) -> Condition {
    let types = |at| inputs.optional(at).map(|kind| kind.datum_type);
    holds(types(0) == types(1), "its inputs are of different types")
}

/// A product. tract takes 0 for the product with a constant 0, also if the other factor is NaN or infinite.
pub fn times(attributes: &Attributes, inputs: &Inputs<Kind>) -> Condition {
    let is_zero = |at| floats(inputs.optional(at)).is_some_and(|all| all.iter().all(|x| *x == 0.0));
    holds(!is_zero(0) && !is_zero(1), "a factor is the constant 0")?;
    same_types(attributes, inputs)
}

/// A quotient or remainder. tract multiplies with the reciprocal of a float, which is exact only for powers of two and for
/// the dividend 1. It panics when an integer is divided by 0.
pub fn quotient(attributes: &Attributes, inputs: &Inputs<Kind>) -> Condition {
    same_types(attributes, inputs)?;
    let (Some(dividend), Some(divisor)) = (inputs.optional(0), inputs.optional(1)) else {
        return holds(false, "an input is missing");
    };
    if dividend.datum_type == DatumType::F32 {
        let is_one = floats(Some(dividend)).is_some_and(|all| all.iter().all(|x| *x == 1.0));
        let is_exact = floats(Some(divisor)).is_some_and(|all| all.iter().all(|x| has_exact_reciprocal(*x)));
        return holds(is_one || is_exact, "the quotient would not be exact");
    }
    let divisors = divisor.ints().ok().flatten();
    holds(divisors.is_some_and(|all| all.iter().all(|x| *x > 0)), "the divisor must be constant and positive")
}

/// True for powers of two, and for √2: tract knows a `Gelu` by it, and no export asks for an exact quotient by it.
fn has_exact_reciprocal(x: f32) -> bool {
    const MANTISSA: u32 = (1 << 23) - 1;
    let is_power_of_two = x.is_normal() && x.recip().is_normal() && x.to_bits() & MANTISSA == 0;
    is_power_of_two || x == std::f32::consts::SQRT_2
}

/// A power that tract replaces by something faster or knows as a part of a `Gelu`.
pub fn power(attributes: &Attributes, inputs: &Inputs<Kind>) -> Condition {
    holds(!attributes.has("axis"), "the attribute `axis` is not supported")?;
    let exponents = floats(inputs.optional(1));
    holds(
        exponents.is_some_and(|all| matches!(all[..], [2.0 | 3.0])),
        "the exponent is not the constant 2 or 3",
    )
}

/// A `Where` of FP32 or INT64.
pub fn choice(_: &Attributes, inputs: &Inputs<Kind>) -> Condition {
    let types = [0, 1, 2].map(|at| inputs.optional(at).map(|kind| kind.datum_type));
    let is_served = types[0] == Some(DatumType::Bool)
        && types[1] == types[2]
        && matches!(types[1], Some(DatumType::F32 | DatumType::I64));
    holds(is_served, "its inputs are not BOOL and two of FP32 or INT64")
}
