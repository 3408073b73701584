//! Numbers and truth values as another datatype.
//!
//! The standard leaves open what becomes of a float that an integer type cannot hold. Here it is what onnxruntime and NumPy
//! give on x86: the least number of INT32 or INT64, of which a narrower type keeps the low bits.

use tract_onnx::prelude::*;

use super::super::numbers::{mapped, on_integers, unsupported};

/// A tensor of numbers or truth values with its elements as another of these types.
///
/// Errors: there is no conversion between the types.
pub fn number_as(input: &Tensor, to: DatumType) -> TractResult<Tensor> {
    match (input.datum_type(), to) {
        // tract converts these with instructions of the processor.
        (DatumType::F32, DatumType::F16) => Ok(input.cast_to::<f16>()?.into_owned()),
        (DatumType::F16, DatumType::F32) => Ok(input.cast_to::<f32>()?.into_owned()),
        (_, DatumType::Bool) => into::<bool>(input),
        (_, DatumType::F16) => into::<f16>(input),
        (_, DatumType::F32) => into::<f32>(input),
        (_, DatumType::F64) => into::<f64>(input),
        (_, other) => on_integers!(other, T => into::<T>(input)),
    }
}

/// A type that numbers become.
pub trait Target: Datum + Default + Clone {
    /// Of a float.
    fn of_real(x: f64) -> Self;
    /// Of a signed integer, or an unsigned one with at most 32 bits.
    fn of_signed(x: i64) -> Self;
    /// Of an unsigned integer.
    fn of_unsigned(x: u64) -> Self;
}

/// All elements of a tensor of numbers or truth values.
fn into<T: Target>(input: &Tensor) -> TractResult<Tensor> {
    match input.datum_type() {
        DatumType::Bool => mapped::<bool, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::F16 => mapped::<f16, T>(input, |x| T::of_real(x.to_f64())),
        DatumType::F32 => mapped::<f32, T>(input, |x| T::of_real(f64::from(*x))),
        DatumType::F64 => mapped::<f64, T>(input, |x| T::of_real(*x)),
        DatumType::U64 => mapped::<u64, T>(input, |x| T::of_unsigned(*x)),
        DatumType::U8 => mapped::<u8, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::U16 => mapped::<u16, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::U32 => mapped::<u32, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::I8 => mapped::<i8, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::I16 => mapped::<i16, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::I32 => mapped::<i32, T>(input, |x| T::of_signed(i64::from(*x))),
        DatumType::I64 => mapped::<i64, T>(input, |x| T::of_signed(*x)),
        other => Err(unsupported(other)),
    }
}

/// As x86 does it: a float that does not fit, or NaN, is the least number.
fn to_i32(x: f64) -> i32 {
    let whole = x.trunc();
    if (-2_147_483_648.0..=2_147_483_647.0).contains(&whole) { whole as i32 } else { i32::MIN }
}

fn to_i64(x: f64) -> i64 {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if (-BOUND..BOUND).contains(&x) { x as i64 } else { i64::MIN }
}

macro_rules! integers {
    ($($t:ty: $of_real:expr),*) => {
        $(impl Target for $t {
            fn of_real(x: f64) -> $t {
                $of_real(x)
            }
            fn of_signed(x: i64) -> $t {
                x as $t
            }
            fn of_unsigned(x: u64) -> $t {
                x as $t
            }
        })*
    };
}

integers!(
    i8: |x| to_i32(x) as i8,
    i16: |x| to_i32(x) as i16,
    i32: to_i32,
    i64: to_i64,
    u8: |x| to_i32(x) as u8,
    u16: |x| to_i32(x) as u16,
    // Numbers from half of the range on are converted without that half, which is added afterwards.
    u32: |x| if x >= 2_147_483_648.0 {
        to_i32(x - 2_147_483_648.0) as u32 ^ 0x8000_0000
    } else {
        to_i32(x) as u32
    },
    u64: |x| if x >= 9_223_372_036_854_775_808.0 {
        to_i64(x - 9_223_372_036_854_775_808.0) as u64 ^ 0x8000_0000_0000_0000
    } else {
        to_i64(x) as u64
    }
);

macro_rules! floats {
    ($($t:ty),*) => {
        $(impl Target for $t {
            fn of_real(x: f64) -> $t {
                x as $t
            }
            fn of_signed(x: i64) -> $t {
                x as $t
            }
            fn of_unsigned(x: u64) -> $t {
                x as $t
            }
        })*
    };
}

floats!(f32, f64);

impl Target for f16 {
    fn of_real(x: f64) -> f16 {
        f16::from_f64(x)
    }
    fn of_signed(x: i64) -> f16 {
        f16::from_f64(x as f64)
    }
    fn of_unsigned(x: u64) -> f16 {
        f16::from_f64(x as f64)
    }
}

impl Target for bool {
    fn of_real(x: f64) -> bool {
        x != 0.0
    }
    fn of_signed(x: i64) -> bool {
        x != 0
    }
    fn of_unsigned(x: u64) -> bool {
        x != 0
    }
}
