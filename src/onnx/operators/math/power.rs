//! `Pow`: a base and an exponent, which may be of different types. The result has the type of the base.
//!
//! Powers of integers with exponents that are integers wrap. For a negative exponent they are the exact power rounded
//! toward 0, and 0 for the base 0. Different types are computed in FP64.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, pairs};
use super::super::numbers::{Number, mapped, on_integers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::cast::converted;
use super::{Built, Elements};

/// `Pow`.
#[derive(Debug)]
struct Power;

/// Builds a `Pow`.
pub fn power(attributes: &Attributes) -> Built {
    if attributes.has("axis") {
        return Err(attributes.wrong("`axis` is not supported: export with version 7 or later of ai.onnx"));
    }
    Ok(Arc::new(Power))
}

impl Operator for Power {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (base, exponent) = (inputs.required(0, "X")?, inputs.required(1, "Y")?);
        Elements::Numbers.check(base.datum_type)?;
        Elements::Numbers.check(exponent.datum_type)?;
        Ok(tvec![Kind::new(base.datum_type, broadcast::shape(&[base, exponent])?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (base, exponent) = (inputs.required(0, "X")?, inputs.required(1, "Y")?);
        let output = match (base.datum_type(), exponent.datum_type()) {
            (DatumType::F32, DatumType::F32) => pairs::<f32, f32, f32>(base, exponent, |a, b| raised(*a, *b)),
            (DatumType::F16, DatumType::F16) => {
                let (base, exponent) = (base.cast_to::<f32>()?, exponent.cast_to::<f32>()?);
                pairs::<f32, f32, f16>(&base, &exponent, |a, b| f16::from_f32(raised(*a, *b)))
            }
            (a, b) if a.is_integer() && b.is_integer() => {
                let exponent = wide(exponent)?;
                on_integers!(a, T => pairs::<T, i64, T>(base, &exponent, |a, b| whole(*a, *b)))
            }
            (a, _) => {
                let (base, exponent) =
                    (converted(base, DatumType::F64)?, converted(exponent, DatumType::F64)?);
                converted(&pairs::<f64, f64, f64>(&base, &exponent, |a, b| a.powf(*b))?, a)
            }
        };
        Ok(tvec![output?])
    }
}

/// Exponents as INT64. Of one that is too large it takes one that gives the same: powers of odd numbers repeat after 2⁶²
/// steps, and powers of even numbers are 0 from the 64th on.
fn wide(exponents: &Tensor) -> TractResult<Tensor> {
    const PERIOD: u64 = 1 << 62;
    match exponents.datum_type() {
        DatumType::U64 => mapped::<u64, i64>(exponents, |x| {
            i64::try_from(*x).unwrap_or_else(|_| (x % PERIOD + PERIOD) as i64)
        }),
        _ => converted(exponents, DatumType::I64),
    }
}

/// A power in FP32. The square is frequent, and a product is faster than `powf`.
fn raised(base: f32, exponent: f32) -> f32 {
    if exponent == 2.0 { base * base } else { base.powf(exponent) }
}

/// A power of integers, by squaring.
fn whole<T: Number>(base: T, exponent: i64) -> T {
    if exponent < 0 {
        let is_odd = exponent % 2 != 0;
        return match base {
            one if one == T::ONE => one,
            minus_one if minus_one.plus(T::ONE) == T::ZERO && minus_one < T::ZERO => {
                if is_odd {
                    minus_one
                } else {
                    T::ONE
                }
            }
            _ => T::ZERO,
        };
    }
    let (mut result, mut square, mut left) = (T::ONE, base, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = result.times(square);
        }
        square = square.times(square);
        left /= 2;
    }
    result
}
