//! The integers of quantized tensors: their ranges, how they are read, and how a number is rounded to one.
//!
//! Tensors of 2 and 4 bits are stored in tensors of 8 bits. Their range is that of their own type.
//!
//! Invariant: a number is rounded to the nearest integer, a half to the even one, before the zero point is added. NaN
//! becomes the smallest integer, as in onnxruntime.

use std::fmt::Display;

use onnxd_kernels::quantize as kernels;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::ToDim;

use super::super::operator::{Inputs, Kind, elements};

/// An integer type of quantized tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The type of the stored elements.
    pub datum_type: DatumType,
    /// The smallest integer.
    pub low: i32,
    /// The largest integer.
    pub high: i32,
}

impl Steps {
    const fn new(datum_type: DatumType, low: i32, high: i32) -> Steps {
        Steps { datum_type, low, high }
    }

    /// The range of a type.
    ///
    /// Errors: it is not an unsigned or signed integer of 8 or 16 bits.
    pub fn of(datum_type: DatumType) -> TractResult<Steps> {
        match datum_type {
            DatumType::U8 => Ok(Steps::new(datum_type, 0, 255)),
            DatumType::I8 => Ok(Steps::new(datum_type, -128, 127)),
            DatumType::U16 => Ok(Steps::new(datum_type, 0, 65535)),
            DatumType::I16 => Ok(Steps::new(datum_type, -32768, 32767)),
            other => Err(TractError::msg(format!("a zero point of {other:?}: expected U8, I8, U16 or I16"))),
        }
    }

    /// The type with this number in the enumeration `TensorProto.DataType`.
    ///
    /// Errors: no quantized tensor of this type is served.
    pub fn numbered(number: i64) -> TractResult<Steps> {
        Ok(match number {
            2 => Steps::new(DatumType::U8, 0, 255),
            3 => Steps::new(DatumType::I8, -128, 127),
            4 => Steps::new(DatumType::U16, 0, 65535),
            5 => Steps::new(DatumType::I16, -32768, 32767),
            21 => Steps::new(DatumType::U8, 0, 15),
            22 => Steps::new(DatumType::I8, -8, 7),
            25 => Steps::new(DatumType::U8, 0, 3),
            26 => Steps::new(DatumType::I8, -2, 1),
            other => {
                return Err(TractError::msg(format!(
                    "the quantized type number {other} is not supported; supported: UINT8, INT8, UINT16, INT16, UINT4, \
                     INT4, UINT2, INT2"
                )));
            }
        })
    }

    /// The smallest and the largest integer.
    pub fn range(self) -> (i32, i32) {
        (self.low, self.high)
    }

    /// Rounds a number that was divided by its scale, and adds the zero point.
    #[inline(always)]
    pub fn nearest(self, number: f32, zero: i32) -> i32 {
        kernels::nearest(number, zero, self.range())
    }
}

/// A type in which integers of quantized tensors are stored.
pub trait Stored: Datum + Copy {
    /// Converts an integer that is in the range of the type.
    fn stored(integer: i32) -> Self;
    /// The integer.
    fn integer(self) -> i32;

    /// Quantizes numbers that have one scale and zero point, or one each.
    fn quantize(steps: Steps, from: &[f32], to: &mut [Self], scales: &[f32], zeros: &[i32]) {
        let pick = |at: usize| if scales.len() == 1 { 0 } else { at };
        for (at, (to, number)) in to.iter_mut().zip(from).enumerate() {
            *to = Self::stored(steps.nearest(number / scales[pick(at)], zeros[pick(at)]));
        }
    }

    /// Dequantizes integers that have one scale and zero point, or one each.
    fn dequantize(from: &[Self], to: &mut [f32], scales: &[f32], zeros: &[i32]) {
        let pick = |at: usize| if scales.len() == 1 { 0 } else { at };
        for (at, (to, integer)) in to.iter_mut().zip(from).enumerate() {
            *to = integer.integer().wrapping_sub(zeros[pick(at)]) as f32 * scales[pick(at)];
        }
    }

    /// The distances of integers from a zero point.
    fn distances(from: &[Self], to: &mut [i16], zero: i32) {
        to.iter_mut().zip(from).for_each(|(to, integer)| *to = (integer.integer() - zero) as i16);
    }
}

macro_rules! stored {
    ($($t:ty),*) => {
        $(impl Stored for $t {
            fn stored(integer: i32) -> $t {
                integer as $t
            }

            fn integer(self) -> i32 {
                i32::from(self)
            }

            fn quantize(steps: Steps, from: &[f32], to: &mut [$t], scales: &[f32], zeros: &[i32]) {
                kernels::Stored::quantize(from, to, scales, zeros, steps.range());
            }

            fn dequantize(from: &[$t], to: &mut [f32], scales: &[f32], zeros: &[i32]) {
                kernels::Stored::dequantize(from, to, scales, zeros);
            }

            fn distances(from: &[$t], to: &mut [i16], zero: i32) {
                kernels::Stored::distances(from, to, zero);
            }
        })*
    };
}
stored!(u8, i8, u16, i16);

impl Stored for i32 {
    fn stored(integer: i32) -> i32 {
        integer
    }

    fn integer(self) -> i32 {
        self
    }
}

/// Evaluates an expression with a type name that stands for the stored type.
macro_rules! with_stored {
    ($datum_type:expr, $t:ident, $value:expr) => {
        match $datum_type {
            DatumType::I32 => {
                type $t = i32;
                $value
            }
            other => $crate::onnx::operators::quantized::steps::with_small!(other, $t, $value),
        }
    };
}

/// The same for integers of 8 and 16 bits.
macro_rules! with_small {
    ($datum_type:expr, $t:ident, $value:expr) => {
        match $datum_type {
            DatumType::U16 => {
                type $t = u16;
                $value
            }
            DatumType::I16 => {
                type $t = i16;
                $value
            }
            other => $crate::onnx::operators::quantized::steps::with_bytes!(other, $t, $value),
        }
    };
}

/// The same for integers of 8 bits.
macro_rules! with_bytes {
    ($datum_type:expr, $t:ident, $value:expr) => {
        match $datum_type {
            DatumType::U8 => {
                type $t = u8;
                $value
            }
            DatumType::I8 => {
                type $t = i8;
                $value
            }
            other => Err(TractError::msg(format!("a tensor of {other:?}: expected a quantized tensor"))),
        }
    };
}
pub(in crate::onnx) use {with_bytes, with_small, with_stored};

/// Checks that a tensor of this type can be quantized.
pub fn expect_stored(datum_type: DatumType) -> TractResult<()> {
    with_stored!(datum_type, T, {
        let _: Option<T> = None;
        Ok(())
    })
}

/// The elements of a quantized tensor or a zero point as integers.
pub fn integers(tensor: &Tensor) -> TractResult<TVec<i32>> {
    with_stored!(tensor.datum_type(), T, {
        Ok(elements::<T>(tensor)?.iter().map(|element| element.integer()).collect())
    })
}

/// Makes a tensor of integers in the range of the type.
pub fn tensor_of(steps: Steps, shape: &[usize], integers: &[i32]) -> TractResult<Tensor> {
    with_stored!(steps.datum_type, T, {
        let stored: Vec<T> = integers.iter().map(|integer| T::stored(*integer)).collect();
        Tensor::from_shape(shape, &stored)
    })
}

/// The elements of a tensor of floats.
///
/// Errors: it is not of FP32, FP16 or FP64.
pub fn floats(tensor: &Tensor) -> TractResult<TVec<f32>> {
    if !tensor.datum_type().is_float() {
        return Err(TractError::msg(format!("a tensor of {:?}: expected floats", tensor.datum_type())));
    }
    Ok(TVec::from_slice(elements::<f32>(&*tensor.cast_to::<f32>()?)?))
}

/// The only element of a scale.
///
/// Errors: `name` says which scale has not one element.
pub fn scale(tensor: &Tensor, name: impl Display) -> TractResult<f32> {
    match floats(tensor)?[..] {
        [scale] => Ok(scale),
        _ => Err(not_single(name, tensor)),
    }
}

/// The only element of a zero point; 0 when it is left out.
pub fn zero(tensor: Option<&Tensor>, name: impl Display) -> TractResult<i32> {
    let Some(tensor) = tensor else { return Ok(0) };
    match integers(tensor)?[..] {
        [zero] => Ok(zero),
        _ => Err(not_single(name, tensor)),
    }
}

fn not_single(name: impl Display, tensor: &Tensor) -> TractError {
    TractError::msg(format!("`{name}` has the shape {:?}: expected one element", tensor.shape()))
}

/// Checks that a scale (which must be there) and a zero point have one element each. `name` is that of the tensor.
pub fn expect_single(inputs: &Inputs<Kind>, scale: usize, zero: usize, name: &str) -> TractResult<()> {
    let scale = inputs.required(scale, &format!("{name}_scale"))?;
    for (given, what) in [(Some(scale), "scale"), (inputs.optional(zero), "zero_point")] {
        if let Some(given) = given
            && given.shape.iter().product::<TDim>() != 1.to_dim()
        {
            return Err(TractError::msg(format!(
                "`{name}_{what}` has the shape {:?}: expected one element",
                given.shape
            )));
        }
    }
    Ok(())
}

/// Checks that a tensor has integers of 8 bits.
pub fn expect_bytes(datum_type: DatumType, name: &str) -> TractResult<()> {
    match datum_type {
        DatumType::U8 | DatumType::I8 => Ok(()),
        other => Err(TractError::msg(format!("`{name}` is of type {other:?}: expected U8 or I8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_even_integer_and_limited() {
        let steps = Steps::of(DatumType::U8).unwrap();
        let cases = [(0.5, 0), (1.5, 2), (2.5, 2), (-3.0, 0), (254.5, 254), (255.5, 255), (1e30, 255)];
        for (number, expected) in cases {
            assert_eq!(steps.nearest(number, 0), expected, "{number}");
        }
        assert_eq!(steps.nearest(2.5, 3), 5, "the zero point is added after the rounding");
        assert_eq!(steps.nearest(f32::NAN, 7), 0);
        assert_eq!(steps.nearest(f32::NEG_INFINITY, 7), 0);
        let wide = Steps::of(DatumType::I16).unwrap();
        assert_eq!(wide.nearest(40_000.0, -32_768), 7232);
    }

    #[test]
    fn four_bits_have_their_own_range() {
        let steps = Steps::numbered(22).unwrap();
        assert_eq!((steps.nearest(99.0, 0), steps.nearest(-99.0, 0)), (7, -8));
        assert!(Steps::numbered(17).is_err(), "FLOAT8E4M3FN");
    }
}
