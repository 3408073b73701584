//! `Cast` and `CastLike`: every element as another datatype.
//!
//! The standard leaves open what becomes of a float that an integer type cannot hold. Here it is what onnxruntime and NumPy
//! give on x86: the least number of INT32 or INT64, of which a narrower type keeps the low bits.

use std::sync::Arc;

use half::bf16;
use tract_onnx::prelude::*;

use super::super::super::narrow::BFLOAT16;
use super::super::attributes::Attributes;
use super::super::numbers::{mapped, on_integers, unsupported};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::text::{number_of, text_of};
use super::{Built, Elements};

/// `Cast` or `CastLike`.
#[derive(Debug)]
struct Cast {
    /// The type of the result. `None`: that of the second input.
    to: Option<DatumType>,
    /// Whether the result is rounded to numbers that BFLOAT16 has. It is FP32 then (see `narrow`).
    is_bfloat: bool,
}

/// Builds a `Cast`.
pub fn cast(attributes: &Attributes) -> Built {
    Ok(Arc::new(Cast { to: Some(named_type(attributes)?), is_bfloat: is_bfloat(attributes) }))
}

/// Builds a `CastLike`.
pub fn cast_like(_: &Attributes) -> Built {
    Ok(Arc::new(Cast { to: None, is_bfloat: false }))
}

/// Whether a `Cast` is to BFLOAT16.
pub fn is_bfloat(attributes: &Attributes) -> bool {
    attributes.int("to", 0).is_ok_and(|number| number == i64::from(BFLOAT16))
}

/// The datatype in the attribute `to`: a number, or before version 6 a name. BFLOAT16 is computed in FP32.
pub fn named_type(attributes: &Attributes) -> TractResult<DatumType> {
    let named = attributes.string("to", "").ok().filter(|name| !name.is_empty());
    let number = match named {
        Some(name) => NAMES.iter().position(|known| *known == name).map(|at| at as i64),
        None => Some(attributes.int("to", 0)?),
    };
    let found = if is_bfloat(attributes) { Some(DatumType::F32) } else { number.and_then(type_numbered) };
    found.ok_or_else(|| {
        attributes.wrong(format!(
            "`to` is {}: expected the number of an integer type of 8 bits or more, BFLOAT16, FLOAT16, FLOAT, DOUBLE, BOOL \
             or STRING",
            named.map_or_else(|| number.unwrap_or_default().to_string(), str::to_owned)
        ))
    })
}

/// The names of the datatypes in ONNX, at the place of their number.
const NAMES: [&str; 14] = [
    "UNDEFINED",
    "FLOAT",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "BOOL",
    "FLOAT16",
    "DOUBLE",
    "UINT32",
    "UINT64",
];

/// The datatype with this number in ONNX. `None` for one that is not served.
pub fn type_numbered(number: i64) -> Option<DatumType> {
    Some(match number {
        1 => DatumType::F32,
        2 => DatumType::U8,
        3 => DatumType::I8,
        4 => DatumType::U16,
        5 => DatumType::I16,
        6 => DatumType::I32,
        7 => DatumType::I64,
        8 => DatumType::String,
        9 => DatumType::Bool,
        10 => DatumType::F16,
        11 => DatumType::F64,
        12 => DatumType::U32,
        13 => DatumType::U64,
        _ => return None,
    })
}

impl Cast {
    fn to(&self, like: Option<DatumType>) -> TractResult<DatumType> {
        self.to
            .or(like)
            .ok_or_else(|| TractError::msg("its input 1 (`target_type`, counted from 0) is missing"))
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        if self.to.is_some() { "Cast" } else { "CastLike" }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        let to = self.to(inputs.optional(1).map(|like| like.datum_type))?;
        Elements::Any.check(input.datum_type)?;
        Elements::Any.check(to)?;
        Ok(tvec![Kind::new(to, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let to = self.to(inputs.optional(1).map(Tensor::datum_type))?;
        let result = converted(input, to)?;
        Ok(tvec![match self.is_bfloat {
            true => mapped::<f32, f32>(&result, |number| bf16::from_f32(*number).to_f32())?,
            false => result,
        }])
    }
}

/// A tensor with its elements as another datatype.
///
/// Errors: a text is no number, or there is no conversion between the types.
pub fn converted(input: &Tensor, to: DatumType) -> TractResult<Tensor> {
    if input.datum_type() == to {
        return Ok(input.clone());
    }
    match (input.datum_type(), to) {
        // tract converts these with instructions of the processor.
        (DatumType::F32, DatumType::F16) => Ok(input.cast_to::<f16>()?.into_owned()),
        (DatumType::F16, DatumType::F32) => Ok(input.cast_to::<f32>()?.into_owned()),
        (DatumType::String, _) => number_of(input, to),
        (_, DatumType::String) => text_of(input),
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
