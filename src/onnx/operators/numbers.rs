//! The datatypes of elements as Rust types: dispatch over them, their arithmetic, and tensors of computed elements.
//!
//! What belongs here: what several families of operators need for every datatype. What does not: shapes (`axes`,
//! `broadcast`) and operators.
//!
//! Invariants: arithmetic of integers wraps and never panics. FP16 has no arithmetic here: operators are given FP32 in its place
//! (see `lower::half`).

use tract_onnx::prelude::*;

/// Evaluates `$body` with `$t` as the Rust type of a datatype: all integers, FP32 and FP64. Other datatypes give an error.
macro_rules! on_numbers {
    ($datum_type:expr, $t:ident => $body:expr) => {
        match $datum_type {
            DatumType::F32 => { type $t = f32; $body }
            DatumType::F64 => { type $t = f64; $body }
            other => $crate::onnx::operators::numbers::on_integers!(other, $t => $body),
        }
    };
}

/// Like `on_numbers`, but only for integers.
macro_rules! on_integers {
    ($datum_type:expr, $t:ident => $body:expr) => {
        match $datum_type {
            DatumType::I8 => {
                type $t = i8;
                $body
            }
            DatumType::I16 => {
                type $t = i16;
                $body
            }
            DatumType::I32 => {
                type $t = i32;
                $body
            }
            DatumType::I64 => {
                type $t = i64;
                $body
            }
            DatumType::U8 => {
                type $t = u8;
                $body
            }
            DatumType::U16 => {
                type $t = u16;
                $body
            }
            DatumType::U32 => {
                type $t = u32;
                $body
            }
            DatumType::U64 => {
                type $t = u64;
                $body
            }
            other => Err($crate::onnx::operators::numbers::unsupported(other)),
        }
    };
}

/// Like `on_numbers`, but only for FP32 and FP64.
macro_rules! on_floats {
    ($datum_type:expr, $t:ident => $body:expr) => {
        match $datum_type {
            DatumType::F32 => {
                type $t = f32;
                $body
            }
            DatumType::F64 => {
                type $t = f64;
                $body
            }
            other => Err($crate::onnx::operators::numbers::unsupported(other)),
        }
    };
}

pub(in crate::onnx) use {on_floats, on_integers, on_numbers};

/// The error for a datatype that an operator does not take.
pub fn unsupported(datum_type: DatumType) -> TractError {
    TractError::msg(format!("an input is of type {datum_type:?}: this operator does not take it"))
}

/// An element with arithmetic. Integers wrap. A quotient of integers by 0 is 0 here; operators refuse it.
pub trait Number: Datum + Copy + PartialOrd + Default {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The least value: −∞ for floats.
    const LEAST: Self;
    /// The greatest value: +∞ for floats.
    const GREATEST: Self;
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The difference.
    fn minus(self, other: Self) -> Self;
    /// The product.
    fn times(self, other: Self) -> Self;
    /// The quotient. Of integers: rounded toward 0.
    fn over(self, other: Self) -> Self;
    /// The remainder with the sign of `self`, as C's `fmod` and `%`.
    fn remainder(self, other: Self) -> Self;
    /// The distance from 0.
    fn magnitude(self) -> Self;
    /// True for NaN.
    fn is_nan(self) -> bool;
    /// The nearest value of FP64.
    fn to_f64(self) -> f64;
    /// The nearest value, for integers rounded toward 0 and limited to the range of the type.
    fn of_f64(value: f64) -> Self;

    /// The larger of both; NaN if one is NaN.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if other > self || other.is_nan() { other } else { self }
    }

    /// The smaller of both; NaN if one is NaN.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if other < self || other.is_nan() { other } else { self }
    }
}

macro_rules! float {
    ($t:ty) => {
        impl Number for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            const LEAST: $t = <$t>::NEG_INFINITY;
            const GREATEST: $t = <$t>::INFINITY;
            #[inline(always)]
            fn plus(self, other: $t) -> $t {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: $t) -> $t {
                self - other
            }
            #[inline(always)]
            fn times(self, other: $t) -> $t {
                self * other
            }
            #[inline(always)]
            fn over(self, other: $t) -> $t {
                self / other
            }
            #[inline(always)]
            fn remainder(self, other: $t) -> $t {
                self % other
            }
            #[inline(always)]
            fn magnitude(self) -> $t {
                self.abs()
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self != self
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn of_f64(value: f64) -> $t {
                value as $t
            }
        }
    };
}

macro_rules! integer {
    ($t:ty, $magnitude:expr) => {
        impl Number for $t {
            const ZERO: $t = 0;
            const ONE: $t = 1;
            const LEAST: $t = <$t>::MIN;
            const GREATEST: $t = <$t>::MAX;
            #[inline(always)]
            fn plus(self, other: $t) -> $t {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: $t) -> $t {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn times(self, other: $t) -> $t {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn over(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn remainder(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn magnitude(self) -> $t {
                $magnitude(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn of_f64(value: f64) -> $t {
                value as $t
            }
        }
    };
}

float!(f32);
float!(f64);
integer!(i8, i8::wrapping_abs);
integer!(i16, i16::wrapping_abs);
integer!(i32, i32::wrapping_abs);
integer!(i64, i64::wrapping_abs);
integer!(u8, std::convert::identity);
integer!(u16, std::convert::identity);
integer!(u32, std::convert::identity);
integer!(u64, std::convert::identity);

/// A tensor of this shape whose elements `fill` writes. They are the type's default before.
pub fn filled<T: Datum + Default + Clone>(
    shape: &[usize],
    fill: impl FnOnce(&mut [T]) -> TractResult<()>,
) -> TractResult<Tensor> {
    if T::datum_type() == DatumType::String {
        // tract makes no tensor of empty texts.
        let mut texts = vec![T::default(); shape.iter().product()];
        fill(&mut texts)?;
        return Ok(tract_ndarray::ArrayD::from_shape_vec(shape, texts)?.into());
    }
    let mut tensor = Tensor::zero_dt(T::datum_type(), shape)?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?)?;
    Ok(tensor)
}

/// A tensor of the same shape with `change` of each element.
pub fn mapped<T: Datum, U: Datum + Default + Clone>(
    input: &Tensor,
    change: impl Fn(&T) -> U,
) -> TractResult<Tensor> {
    let from = input.try_as_plain_ram()?;
    let from = from.as_slice::<T>()?;
    filled::<U>(input.shape(), |to| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = change(from));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_and_never_panic() {
        assert_eq!(i8::MIN.over(-1), i8::MIN);
        assert_eq!(5_i32.over(0), 0);
        assert_eq!(5_u64.remainder(0), 0);
        assert_eq!(i64::MIN.remainder(-1), 0);
        assert_eq!(i64::MIN.magnitude(), i64::MIN);
        assert_eq!(250_u8.plus(10), 4);
    }

    #[test]
    fn nan_is_kept() {
        assert!(f32::NAN.larger(1.0).is_nan() && 1_f32.larger(f32::NAN).is_nan());
        assert!(f64::NAN.smaller(1.0).is_nan() && 1_f64.smaller(f64::NAN).is_nan());
    }
}
