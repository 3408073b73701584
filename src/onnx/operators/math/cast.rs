//! `Cast` and `CastLike`: every element as another datatype.

use std::sync::Arc;

use half::bf16;
use tract_onnx::prelude::*;

use super::super::super::narrow::BFLOAT16;
use super::super::attributes::{Attributes, type_numbered};
use super::super::numbers::mapped;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step};
use super::conversion::number_as;
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

    fn longest_text(&self) -> usize {
        // The longest numbers are like -1.7976931348623157e+308.
        32
    }

    fn as_step(&self, inputs: &Inputs<Kind>) -> Option<Step> {
        let from = inputs.optional(0)?.datum_type;
        let is_step = from == DatumType::I32 && self.to == Some(DatumType::F32) && !self.is_bfloat;
        is_step.then_some(Step::Singles)
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
        (DatumType::String, _) => number_of(input, to),
        (_, DatumType::String) => text_of(input),
        _ => number_as(input, to),
    }
}
