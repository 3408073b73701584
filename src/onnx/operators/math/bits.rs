//! Operators on bits: `BitShift`, `BitwiseAnd`, `BitwiseOr`, `BitwiseXor`, `BitwiseNot`, `BitCast`.
//!
//! A shift by the width of the type or more, or by a negative number, leaves nothing but the sign: 0, or −1 for a
//! negative number that is shifted to the right.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::broadcast::pairs;
use super::super::numbers::{mapped, on_integers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::binary::{Binary, Outcome};
use super::cast::named_type;
use super::unary::Unary;
use super::{Built, Elements};

/// A shift that leaves nothing but the sign.
trait Shift: Copy {
    fn left(self, by: Self) -> Self;
    fn right(self, by: Self) -> Self;
}

macro_rules! shift {
    ($($t:ty: $beyond:expr),*) => {
        $(impl Shift for $t {
            fn left(self, by: $t) -> $t {
                u32::try_from(by).ok().and_then(|by| self.checked_shl(by)).unwrap_or(0)
            }
            fn right(self, by: $t) -> $t {
                u32::try_from(by).ok().and_then(|by| self.checked_shr(by)).unwrap_or($beyond(self))
            }
        })*
    };
}

shift!(u8: |_| 0, u16: |_| 0, u32: |_| 0, u64: |_| 0);
shift!(i8: |sign: i8| sign >> 7, i16: |sign: i16| sign >> 15, i32: |sign: i32| sign >> 31, i64: |sign: i64| sign >> 63);

/// Builds a `BitShift`.
pub fn shift(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor, &Tensor) -> TractResult<Tensor> = match attributes.string("direction", "")? {
        "LEFT" => {
            |a, b| on_integers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| Shift::left(*a, *b)))
        }
        "RIGHT" => {
            |a, b| on_integers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| Shift::right(*a, *b)))
        }
        other => return Err(attributes.wrong(format!("`direction` is `{other}`: expected LEFT or RIGHT"))),
    };
    Binary::built(attributes, Elements::Integers, Outcome::Same, compute)
}

/// Builds a `BitwiseAnd`, `BitwiseOr` or `BitwiseXor`.
pub fn bitwise(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor, &Tensor) -> TractResult<Tensor> = match &*attributes.node.op_type {
        "BitwiseAnd" => |a, b| on_integers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a & b)),
        "BitwiseOr" => |a, b| on_integers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a | b)),
        _ => |a, b| on_integers!(a.datum_type(), T => pairs::<T, T, T>(a, b, |a, b| a ^ b)),
    };
    Binary::built(attributes, Elements::Integers, Outcome::Same, compute)
}

/// Builds a `BitwiseNot`.
pub fn not(attributes: &Attributes) -> Built {
    let compute = |input: &Tensor| on_integers!(input.datum_type(), T => mapped::<T, T>(input, |bits| !bits));
    Unary::built(attributes, Elements::Integers, Outcome::Same, compute)
}

/// `BitCast`: the same bits with another datatype.
#[derive(Debug)]
struct BitCast {
    to: DatumType,
}

/// Builds a `BitCast`.
pub fn cast(attributes: &Attributes) -> Built {
    Ok(Arc::new(BitCast { to: named_type(attributes)? }))
}

impl BitCast {
    fn check(&self, from: DatumType) -> TractResult<()> {
        let is_text = from == DatumType::String || self.to == DatumType::String;
        if !is_text && from.size_of() == self.to.size_of() {
            return Ok(());
        }
        Err(TractError::msg(format!(
            "from {from:?} to {:?}: expected two types of the same width that are not text",
            self.to
        )))
    }
}

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        self.check(input.datum_type)?;
        Ok(tvec![Kind::new(self.to, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        self.check(input.datum_type())?;
        let mut output = Tensor::zero_dt(self.to, input.shape())?;
        if self.to == DatumType::Bool {
            // Only 0 and 1 are a `bool` in Rust.
            let bytes = input.as_bytes().iter();
            let mut plain = output.try_as_plain_ram_mut()?;
            plain.as_slice_mut::<bool>()?.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from != 0);
        } else {
            output.as_bytes_mut().copy_from_slice(input.as_bytes());
        }
        Ok(tvec![output])
    }
}
