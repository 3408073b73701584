//! Support vector machines: `SVMClassifier` and `SVMRegressor`.
//!
//! Kernels are computed in single precision, as in onnxruntime; their weighted sums are computed in double precision.
//! Inputs of other numbers are rounded to FP32 first.
//!
//! # Where the standard leaves something open
//! This does what onnxruntime 1.31 does: the class with the most votes of the pairs is the answer, also when there are
//! probabilities. Without them the scores are those of the pairs of classes, and of two classes -s and s, where a
//! positive s is a vote for the first class.
//!
//! # What is refused
//! Forms for which onnxruntime and the standard's reference implementation give different results, and which no exporter
//! writes: a `post_transform` of a regressor, `SOFTMAX` and `PROBIT` for the single score of two classes, fewer than three
//! classes without support vectors, and a degree that is no integer.

mod classifier;
mod coupling;
mod kernel;
mod regressor;
#[cfg(test)]
mod tests;

pub use classifier::classifier;
pub use regressor::regressor;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::Kind;
use kernel::Kernel;

/// The support vectors of a machine and its kernel.
#[derive(Debug)]
struct Vectors {
    kernel: Kernel,
    /// `[vectors, width]`, row-major.
    vectors: Vec<f32>,
    /// The number of features of a row.
    width: usize,
}

impl Vectors {
    /// Reads `support_vectors`, of which there must be `count`.
    fn read(attributes: &Attributes, count: usize) -> TractResult<Vectors> {
        let vectors = attributes.floats("support_vectors")?.to_vec();
        let width = vectors.len().checked_div(count).unwrap_or(0);
        if width == 0 || width.checked_mul(count) != Some(vectors.len()) {
            return Err(attributes.wrong(format!(
                "it has {} numbers in `support_vectors`: expected the same number for each of {count} vectors",
                vectors.len()
            )));
        }
        Ok(Vectors { kernel: Kernel::read(attributes)?, vectors, width })
    }

    /// The kernel of a row with each support vector.
    fn kernels(&self, row: &[f32], kernels: &mut [f32]) {
        for (kernel, vector) in kernels.iter_mut().zip(self.vectors.chunks_exact(self.width)) {
            *kernel = self.kernel.of(row, vector);
        }
    }
}

/// Σ weight × value.
fn weighted(weights: &[f32], values: &[f32]) -> f64 {
    weights.iter().zip(values).map(|(weight, value)| f64::from(*weight) * f64::from(*value)).sum()
}

/// The number of rows of an input of `width` features: one row when it has a single dimension.
///
/// Errors: another number of dimensions or features, or no numbers.
fn rows_of(input: &Kind, width: usize) -> TractResult<TDim> {
    if !matches!(input.datum_type, DatumType::F32 | DatumType::F64 | DatumType::I32 | DatumType::I64) {
        return Err(TractError::msg(format!(
            "the input is of type {:?}: expected FP32, FP64, INT32 or INT64",
            input.datum_type
        )));
    }
    let (rows, features) = match &input.shape[..] {
        [features] => (TDim::from(1), features),
        [rows, features] => (rows.clone(), features),
        shape => {
            return Err(TractError::msg(format!(
                "the input has {} dimensions: expected 2, rows of features",
                shape.len()
            )));
        }
    };
    if features.to_i64().is_ok_and(|features| features != width as i64) {
        return Err(TractError::msg(format!("a row of the input has {features} features: expected {width}")));
    }
    Ok(rows)
}

/// The input in FP32, and its number of rows. A wrong width is an error of the request: what is known of it before the
/// run was checked before.
fn in_rows(input: &Tensor, width: usize) -> TractResult<(Vec<f32>, usize)> {
    if input.shape().last() != Some(&width) {
        return Err(invalid(format!(
            "a row of the input has {} features: expected {width}",
            input.shape().last().copied().unwrap_or_default()
        )));
    }
    let input = input.cast_to::<f32>()?;
    let input = input.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let rows = input.len() / width;
    Ok((input, rows))
}
