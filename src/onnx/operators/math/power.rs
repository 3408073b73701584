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

/// Exponents as INT64. A larger one is limited, which changes only powers that wrap to 0, 1 or −1 anyway.
fn wide(exponents: &Tensor) -> TractResult<Tensor> {
    on_integers!(exponents.datum_type(), T => {
        mapped::<T, i64>(exponents, |x| i64::try_from(*x).unwrap_or(i64::MAX))
    })
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
