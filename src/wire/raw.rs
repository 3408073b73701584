//! Reads a payload that is nothing but the value of one input: the bytes of a tensor, or one text.
//!
//! What belongs here: the shape that follows from the number of bytes, and what bytes are text. What does not: which
//! input a payload is for ([`decode`](super::decode)).

use crate::error::show_shape;
use crate::model::tensor::volume;
use crate::model::{Elements, Tensor, TensorMetadata};

/// Makes a tensor with one text. Its open dimensions have length 1.
pub(super) fn raw_text(payload: &[u8], input: &TensorMetadata) -> Result<Tensor, String> {
    let elements = Elements::Bytes(vec![payload.to_vec()]);
    check_texts(&elements)?;
    Tensor::new(input.shape_with_open(1), elements).map_err(|_| {
        format!("one text does not fill shape {}: send all of them in JSON", show_shape(&input.shape_i64()))
    })
}

/// Checks that the elements of a BYTES tensor are UTF-8, because ONNX's strings are. Numbers always pass.
pub(super) fn check_texts(elements: &Elements) -> Result<(), String> {
    let Elements::Bytes(texts) = elements else { return Ok(()) };
    let wrong = |(at, text): (usize, &Vec<u8>)| Some((at, std::str::from_utf8(text).err()?));
    match texts.iter().enumerate().find_map(wrong) {
        Some((at, error)) => Err(format!("element {at} is not UTF-8 text: {error}")),
        None => Ok(()),
    }
}

/// Reads a tensor from its bytes. At most one open dimension can be computed from their number, besides a batch axis.
pub(super) fn raw_tensor(payload: &[u8], input: &TensorMetadata) -> Result<Tensor, String> {
    let elements = Elements::from_le_bytes(input.datatype, payload)?;
    let open: Vec<usize> = (0..input.shape.len()).filter(|at| input.shape[*at].fixed().is_none()).collect();
    // If the batch axis and one other dimension are open, the payload is one row.
    let (solved, ones) = match open.as_slice() {
        [] => (None, None),
        [at] => (Some(*at), None),
        [0, at] => (Some(*at), Some(0)),
        _ => {
            return Err(format!(
                "bytes alone do not tell {} open dimensions of {}: send JSON, or connect with ?framing=v2",
                open.len(),
                show_shape(&input.shape_i64())
            ));
        }
    };
    let mut shape = input.shape_with_open(1);
    if let Some(at) = solved {
        let others = volume(&shape).filter(|others| *others > 0).ok_or("its shape holds no elements")?;
        if elements.is_empty() || elements.len() % others != 0 {
            return Err(format!(
                "{} elements do not fill shape {} ({} {} bytes each)",
                elements.len(),
                show_shape(&input.shape_i64()),
                input.datatype,
                input.datatype.size().unwrap_or(0),
            ));
        }
        shape[at] = elements.len() / others;
    }
    debug_assert!(ones.is_none_or(|at| shape[at] == 1));
    let expected = volume(&shape).and_then(|count| count.checked_mul(input.datatype.size()?));
    Tensor::new(shape, elements).map_err(|_| {
        format!(
            "expected {} bytes ({} {}), but {} came",
            expected.unwrap_or(0),
            input.datatype,
            show_shape(&input.shape_i64()),
            payload.len()
        )
    })
}
