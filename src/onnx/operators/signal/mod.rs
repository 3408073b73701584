//! Signal processing: Fourier transforms, windows and mel filters. All are ours.
//!
//! They follow the ONNX standard. Everything is computed in FP64 and rounded once, because results that are 0 in theory must
//! be near 0.

mod dft;
mod fourier;
mod mel;
mod stft;
mod window;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::attributes::{Attributes, type_numbered};
use super::entry::Entry;
use super::operator::{Kind, Operator, ints};

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("BlackmanWindow", &["output_datatype", "periodic"]).own(window::blackman),
    Entry::onnx("DFT", &["axis", "inverse", "onesided"]).own(dft::dft),
    Entry::onnx("HammingWindow", &["output_datatype", "periodic"]).own(window::hamming),
    Entry::onnx("HannWindow", &["output_datatype", "periodic"]).own(window::hann),
    Entry::onnx("MelWeightMatrix", &["output_datatype"]).own(mel::mel),
    Entry::onnx("STFT", &["onesided"]).own(stft::stft),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}

/// The one integer of an input, if its value is known. `None` also for an input that is left out.
fn known(kind: Option<&Kind>, name: &str) -> TractResult<Option<i64>> {
    let values = kind.map(Kind::ints).transpose()?.flatten();
    values.map(|values| only(&values, name)).transpose()
}

/// The one integer of an input.
fn single(tensor: Option<&Tensor>, name: &str) -> TractResult<Option<i64>> {
    tensor.map(|tensor| only(&ints(tensor)?, name)).transpose()
}

fn only(values: &[i64], name: &str) -> TractResult<i64> {
    match values {
        [value] => Ok(*value),
        _ => Err(TractError::msg(format!("its input `{name}` has {} elements: expected 1", values.len()))),
    }
}

/// A length that is 1 or more.
fn length(value: i64, name: &str) -> TractResult<usize> {
    let length = usize::try_from(value).ok().filter(|length| (1..=MOST).contains(length));
    length.ok_or_else(|| TractError::msg(format!("its input `{name}` is {value}: expected 1 to {MOST}")))
}

/// A number of elements, 0 or more.
fn number(value: i64, name: &str) -> TractResult<usize> {
    let number = usize::try_from(value).ok().filter(|number| *number <= MOST);
    number.ok_or_else(|| TractError::msg(format!("its input `{name}` is {value}: expected 0 to {MOST}")))
}

/// The most elements along an axis that one of these operators makes.
const MOST: usize = 1 << 31;

/// The datatype of `output_datatype`.
fn datatype(attributes: &Attributes) -> TractResult<DatumType> {
    let number = attributes.int("output_datatype", 1)?;
    let is_number = |found: &DatumType| !matches!(found, DatumType::Bool | DatumType::String);
    type_numbered(number).filter(is_number).ok_or_else(|| {
        attributes.wrong(format!(
            "`output_datatype` is {number}: expected 1 (FP32), 10 (FP16), 11 (FP64) or an integer type (2 to 7, 12, 13)"
        ))
    })
}
