//! Converts between our types and tract's: dimensions, datatypes, tensors, errors.
//!
//! What belongs here: conversions without decisions. What does not: checks of shapes. Invariant: a conversion keeps
//! shape, order and values.

use tract_onnx::prelude::*;

use super::operators::operator::{text_bytes, text_tensor};
use crate::error::RequestError;
use crate::model::tensor::ELEMENT_BYTES;
use crate::model::{self, Datatype, Dim, Elements};

/// Converts a dimension. A symbol becomes an open dimension.
pub(super) fn dim_of(dim: &TDim) -> Dim {
    match dim.to_i64() {
        Ok(length) if length >= 0 => Dim::Fixed(length as usize),
        _ => {
            let name = dim.to_string();
            // tract makes these names for dimensions that have no name in the file.
            let named = !name.starts_with("unk__") && !name.starts_with("open");
            Dim::Open(named.then_some(name))
        }
    }
}

/// Converts a datatype. Returns `None` for a type that the protocol does not have.
pub(super) fn datatype_of(datum_type: DatumType) -> Option<Datatype> {
    Some(match datum_type {
        DatumType::Bool => Datatype::Bool,
        DatumType::U8 => Datatype::Uint8,
        DatumType::U16 => Datatype::Uint16,
        DatumType::U32 => Datatype::Uint32,
        DatumType::U64 => Datatype::Uint64,
        DatumType::I8 => Datatype::Int8,
        DatumType::I16 => Datatype::Int16,
        DatumType::I32 => Datatype::Int32,
        // Sizes, and the labels of scikit-learn, have tract's type for symbolic integers.
        DatumType::I64 | DatumType::TDim => Datatype::Int64,
        DatumType::F16 => Datatype::Fp16,
        DatumType::F32 => Datatype::Fp32,
        DatumType::F64 => Datatype::Fp64,
        DatumType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// Converts a tensor for tract.
pub(super) fn to_tract(tensor: &model::Tensor) -> TractResult<TValue> {
    let shape = tensor.shape();
    let tensor = match tensor.elements() {
        Elements::Bool(v) => Tensor::from_shape(shape, v),
        Elements::Uint8(v) => Tensor::from_shape(shape, v),
        Elements::Uint16(v) => Tensor::from_shape(shape, v),
        Elements::Uint32(v) => Tensor::from_shape(shape, v),
        Elements::Uint64(v) => Tensor::from_shape(shape, v),
        Elements::Int8(v) => Tensor::from_shape(shape, v),
        Elements::Int16(v) => Tensor::from_shape(shape, v),
        Elements::Int32(v) => Tensor::from_shape(shape, v),
        Elements::Int64(v) => Tensor::from_shape(shape, v),
        Elements::Fp16(v) => Tensor::from_shape(shape, v),
        Elements::Fp32(v) => Tensor::from_shape(shape, v),
        Elements::Fp64(v) => Tensor::from_shape(shape, v),
        Elements::Bytes(v) => text_tensor(shape, texts(v)?),
    };
    tensor.map(IntoTValue::into_tvalue)
}

/// ONNX's strings are UTF-8. Requests are checked when they are read; files of a `model.json` only here.
fn texts(elements: &[Vec<u8>]) -> TractResult<Vec<String>> {
    let text = |(at, bytes): (usize, &Vec<u8>)| {
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|error| RequestError::invalid(format!("element {at} is not UTF-8 text: {error}")).into())
    };
    elements.iter().enumerate().map(text).collect()
}

/// The bytes of a tensor in our form. Text takes memory beside the elements.
pub(super) fn memory_of(tensor: &Tensor) -> usize {
    match tensor.datum_type() {
        DatumType::String => ELEMENT_BYTES * tensor.len() + text_bytes(tensor),
        other => tensor.len() * other.size_of(),
    }
}

/// Converts a tensor from tract.
///
/// Errors: the protocol has no datatype for its elements.
pub(super) fn from_tract(tensor: &Tensor) -> Result<model::Tensor, String> {
    fn elements(tensor: &Tensor) -> TractResult<Elements> {
        macro_rules! plain {
            ($variant:ident, $t:ty) => {
                Elements::$variant(tensor.try_as_plain_ram()?.as_slice::<$t>()?.to_vec())
            };
        }
        Ok(match tensor.datum_type() {
            DatumType::Bool => plain!(Bool, bool),
            DatumType::U8 => plain!(Uint8, u8),
            DatumType::U16 => plain!(Uint16, u16),
            DatumType::U32 => plain!(Uint32, u32),
            DatumType::U64 => plain!(Uint64, u64),
            DatumType::I8 => plain!(Int8, i8),
            DatumType::I16 => plain!(Int16, i16),
            DatumType::I32 => plain!(Int32, i32),
            DatumType::I64 => plain!(Int64, i64),
            DatumType::TDim => {
                let cast = tensor.cast_to::<i64>()?;
                Elements::Int64(cast.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
            }
            DatumType::F16 => plain!(Fp16, f16),
            DatumType::F32 => plain!(Fp32, f32),
            DatumType::F64 => plain!(Fp64, f64),
            DatumType::String => {
                let strings = tensor.try_as_plain_ram()?.as_slice::<String>()?;
                Elements::Bytes(strings.iter().map(|string| string.clone().into_bytes()).collect())
            }
            other => return Err(TractError::msg(format!("an output is of type {other:?}"))),
        })
    }
    let elements = elements(tensor).map_err(|error| chain(&error))?;
    model::Tensor::new(tensor.shape().to_vec(), elements)
}

/// Returns an error and its causes in one line, the outermost first.
pub(super) fn chain(error: &TractError) -> String {
    let mut text: Vec<String> = error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect();
    text.dedup();
    text.join(": ")
}
