//! Floating-point numbers in our operators: FP32 and FP64 are computed as they are, and FP16 in FP32.
//!
//! What belongs here: the choice of the type that an operator computes in. What does not: the computation.

use std::borrow::Cow;
use std::iter::Sum;
use std::ops::{AddAssign, DivAssign, MulAssign};

use onnxd_kernels::functions::{self, Function};
use onnxd_kernels::reduce;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::num_traits::Float;

use super::operator::{Inputs, Kind};

/// A type that operators compute in.
pub trait Real: Datum + Float + Sum + AddAssign + MulAssign + DivAssign {
    /// The nearest number of this type.
    fn of(number: f64) -> Self;

    /// The numbers themselves, if they are FP32: then there is a kernel.
    fn singles(_numbers: &[Self]) -> Option<&[f32]> {
        None
    }

    /// The same, to be changed.
    fn singles_mut(_numbers: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    /// Replaces each number by its hyperbolic tangent.
    fn tanh_of_each(numbers: &mut [Self]) {
        numbers.iter_mut().for_each(|number| *number = number.tanh());
    }

    /// Replaces each number x by 1 ÷ (1 + e⁻ˣ).
    fn sigmoid_of_each(numbers: &mut [Self]) {
        numbers.iter_mut().for_each(|number| *number = (Self::one() + (-*number).exp()).recip());
    }
}

impl Real for f32 {
    fn of(number: f64) -> f32 {
        number as f32
    }

    fn singles(numbers: &[f32]) -> Option<&[f32]> {
        Some(numbers)
    }

    fn singles_mut(numbers: &mut [f32]) -> Option<&mut [f32]> {
        Some(numbers)
    }

    fn tanh_of_each(numbers: &mut [f32]) {
        functions::apply(Function::Tanh, numbers);
    }

    fn sigmoid_of_each(numbers: &mut [f32]) {
        functions::apply(Function::Sigmoid, numbers);
    }
}

impl Real for f64 {
    fn of(number: f64) -> f64 {
        number
    }
}

/// Checks that a tensor has floating-point numbers. `name` is its name in the standard.
pub fn expect_float(kind: &Kind, name: &str) -> TractResult<()> {
    match kind.datum_type {
        DatumType::F16 | DatumType::F32 | DatumType::F64 => Ok(()),
        other => Err(TractError::msg(format!(
            "its input `{name}` is of type {other:?}: expected FP16, FP32 or FP64"
        ))),
    }
}

/// Runs a computation in the type of the first input.
///
/// Errors: the first input is missing or has no floating-point numbers.
pub fn in_reals(
    inputs: &Inputs<Tensor>,
    single: impl FnOnce(&Inputs<Tensor>) -> TractResult<TVec<Tensor>>,
    double: impl FnOnce(&Inputs<Tensor>) -> TractResult<TVec<Tensor>>,
) -> TractResult<TVec<Tensor>> {
    let first = inputs.optional(0).ok_or_else(|| TractError::msg("its first input is missing"))?;
    match first.datum_type() {
        DatumType::F32 => single(inputs),
        DatumType::F64 => double(inputs),
        other => {
            Err(TractError::msg(format!("its first input is of type {other:?}: expected FP16, FP32 or FP64")))
        }
    }
}

/// The elements of a tensor in the type that an operator computes in.
pub fn wide<T: Real>(tensor: &Tensor) -> TractResult<Cow<'_, Tensor>> {
    tensor.cast_to::<T>()
}

/// A result in another type. It is rounded once.
pub fn rounded(result: Tensor, to: DatumType) -> TractResult<Tensor> {
    if result.datum_type() == to { Ok(result) } else { Ok(result.cast_to_dt(to)?.into_owned()) }
}

/// The largest of many numbers; NaN if one of them is NaN. `None` when there are none.
pub fn largest<T: Real>(numbers: &[T]) -> Option<T> {
    numbers.first()?;
    if let Some(singles) = T::singles(numbers) {
        return Some(T::of(reduce::largest(singles).into()));
    }
    let larger = |most: T, number: &T| if *number > most || number.is_nan() { *number } else { most };
    Some(numbers.iter().fold(T::neg_infinity(), larger))
}

/// How many numbers are added in FP32 at once.
const RUN: usize = 4096;

/// The sum of many numbers. Short runs are added in their own type, and the runs in FP64: the error does not grow with the
/// number of elements.
pub fn sum<T: Real>(numbers: &[T]) -> f64 {
    match T::singles(numbers) {
        Some(singles) => singles.chunks(RUN).map(|run| f64::from(reduce::sum(run))).sum(),
        None => numbers.iter().map(|number| number.to_f64().unwrap_or(f64::NAN)).sum(),
    }
}

/// The sum of the squares of many numbers; see [`sum`].
pub fn sum_of_squares<T: Real>(numbers: &[T]) -> f64 {
    match T::singles(numbers) {
        Some(singles) => singles.chunks(RUN).map(|run| f64::from(reduce::sum_of_squares(run))).sum(),
        None => {
            let square = |number: &T| (*number * *number).to_f64().unwrap_or(f64::NAN);
            numbers.iter().map(square).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_numbers_starts_at_minus_infinity_and_keeps_nan() {
        assert_eq!(largest::<f32>(&[]), None);
        assert_eq!(largest(&[f32::NEG_INFINITY; 40]), Some(f32::NEG_INFINITY));
        for at in [0, 5, 17, 39] {
            let mut numbers = [1.0_f32; 40];
            numbers[at] = 7.0;
            assert_eq!(largest(&numbers), Some(7.0));
            numbers[at] = f32::NAN;
            assert!(largest(&numbers).is_some_and(f32::is_nan), "NaN at {at}");
        }
    }

    #[test]
    fn a_long_sum_is_exact() {
        let numbers = vec![0.1_f32; 1_000_003];
        assert!((sum(&numbers) / 1_000_003.0 - f64::from(0.1_f32)).abs() < 1e-7);
    }
}
