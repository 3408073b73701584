//! The last steps for an output before it is sent: activation, then the k best classes with their labels.
//!
//! What belongs here: functions of one output. What does not: pooling (`embedding`), and JSON (`wire`). Source:
//! Triton's classification extension.

use std::cmp::Ordering;

use half::f16;

use crate::error::RequestError;
use crate::model::manifest::Activation;
use crate::model::{Elements, Tensor};

/// The steps for one output.
#[derive(Debug, Clone, Default)]
pub struct Postprocessor {
    /// The function that is applied to the scores first, along the last axis.
    pub activation: Option<Activation>,
    /// One label for each class, in the order of the last axis. It is empty when the model has no labels.
    pub labels: Vec<String>,
    /// The default number of best classes. `None` or 0 returns the tensor. A request can ask for another number.
    pub classification: Option<usize>,
}

impl Postprocessor {
    /// Applies the steps to an output. `classification` is the request's choice: `Some(0)` returns the tensor,
    /// `Some(k)` returns the k best classes, and `None` uses the model's default.
    ///
    /// Errors: as in [`activate`] and [`classify`].
    pub fn finish(&self, tensor: Tensor, classification: Option<usize>) -> Result<Tensor, RequestError> {
        let tensor = match self.activation {
            Some(activation) => activate(tensor, activation)?,
            None => tensor,
        };
        match classification.or(self.classification) {
            None | Some(0) => Ok(tensor),
            Some(k) => classify(&tensor, k, &self.labels),
        }
    }
}

/// Applies softmax or sigmoid along the last axis. The shape and the datatype stay the same.
///
/// Errors: the elements are not floats.
pub fn activate(tensor: Tensor, activation: Activation) -> Result<Tensor, RequestError> {
    let shape = tensor.shape().to_vec();
    let classes = shape.last().copied().unwrap_or(1).max(1);
    let elements = match tensor.into_elements() {
        Elements::Fp32(mut values) => {
            values.chunks_mut(classes).for_each(|row| apply_fp32(row, activation));
            Elements::Fp32(values)
        }
        Elements::Fp16(values) => {
            let mut wide: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
            wide.chunks_mut(classes).for_each(|row| apply_fp32(row, activation));
            Elements::Fp16(wide.into_iter().map(f16::from_f32).collect())
        }
        Elements::Fp64(mut values) => {
            values.chunks_mut(classes).for_each(|row| apply_fp64(row, activation));
            Elements::Fp64(values)
        }
        other => {
            return Err(RequestError::invalid(format!(
                "{activation:?} needs floats, but the output is {}",
                other.datatype()
            )));
        }
    };
    Ok(Tensor::new(shape, elements).expect("an activation keeps the number of elements"))
}

macro_rules! apply {
    ($name:ident, $float:ty) => {
        fn $name(row: &mut [$float], activation: Activation) {
            match activation {
                Activation::Sigmoid => {
                    row.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()))
                }
                Activation::Softmax => {
                    // The largest value is subtracted first, so that `exp` does not overflow.
                    let largest = row.iter().copied().fold(<$float>::NEG_INFINITY, <$float>::max);
                    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
                    let sum: $float = row.iter().sum();
                    row.iter_mut().for_each(|value| *value /= sum);
                }
            }
        }
    };
}
apply!(apply_fp32, f32);
apply!(apply_fp64, f64);

/// Returns the k best classes along the last axis, the best first (Triton's classification extension). The elements
/// are BYTES: `<score>:<index>:<label>`, or `<score>:<index>` without a label. The last axis of the shape becomes k,
/// or stays as it is when there are fewer than k classes. For equal scores, the lower index comes first. NaN comes
/// last.
///
/// Errors: the elements are not floats, or the tensor is a scalar.
pub fn classify(tensor: &Tensor, k: usize, labels: &[String]) -> Result<Tensor, RequestError> {
    let scores: Vec<f64> = match tensor.elements() {
        Elements::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Elements::Fp16(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Elements::Fp64(values) => values.clone(),
        other => {
            return Err(RequestError::invalid(format!(
                "classification needs scores in floats, but the output is {}",
                other.datatype()
            )));
        }
    };
    let mut shape = tensor.shape().to_vec();
    let Some(classes) = shape.last_mut() else {
        return Err(RequestError::invalid(
            "classification needs an axis of classes, but the output is a scalar",
        ));
    };
    let (all, k) = (*classes, k.min(*classes));
    *classes = k;
    let mut elements = Vec::with_capacity(scores.len() / all.max(1) * k);
    for row in scores.chunks(all.max(1)) {
        for index in best(row, k) {
            // An FP32 score is printed as FP32. Printed as FP64 it would have many meaningless digits.
            let score = match tensor.elements() {
                Elements::Fp64(_) => row[index].to_string(),
                _ => (row[index] as f32).to_string(),
            };
            let class = match labels.get(index) {
                Some(label) => format!("{score}:{index}:{label}"),
                None => format!("{score}:{index}"),
            };
            elements.push(class.into_bytes());
        }
    }
    Ok(Tensor::new(shape, Elements::Bytes(elements)).expect("k classes were made for each row"))
}

/// Returns the indices of the `k` largest scores, the largest first.
fn best(row: &[f64], k: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| {
        let (left, right) = (row[*a], row[*b]);
        let nan_last = left.is_nan().cmp(&right.is_nan());
        nan_last.then(right.partial_cmp(&left).unwrap_or(Ordering::Equal)).then(a.cmp(b))
    };
    let mut indices: Vec<usize> = (0..row.len()).collect();
    if k > 0 && k < indices.len() {
        indices.select_nth_unstable_by(k - 1, order);
    }
    indices.truncate(k);
    indices.sort_unstable_by(order);
    indices
}

/// Returns the lines of a labels file, one label for each line. Empty lines at the end are ignored.
pub fn parse_labels(text: &str) -> Vec<String> {
    text.trim_start_matches('\u{feff}').trim_end().lines().map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::new(shape.to_vec(), Elements::Fp32(values.to_vec())).unwrap()
    }

    #[test]
    fn softmax_sums_to_one_a_row_and_survives_large_logits() {
        let Elements::Fp32(values) =
            activate(scores(&[1000.0, 1000.0, 0.0, 0.0], &[2, 2]), Activation::Softmax)
                .unwrap()
                .into_elements()
        else {
            panic!()
        };
        assert_eq!(values, [0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn classes_come_best_first_with_score_index_and_label() {
        let labels = parse_labels("zero\r\none\ntwo\n");
        let classes = classify(&scores(&[0.1, 0.7, 0.2, 0.5, 0.5, f32::NAN], &[2, 3]), 2, &labels).unwrap();
        assert_eq!(classes.shape(), [2, 2]);
        let expected =
            ["0.7:1:one", "0.2:2:two", "0.5:0:zero", "0.5:1:one"].map(|class| class.as_bytes().to_vec());
        assert_eq!(classes.elements(), &Elements::Bytes(expected.to_vec()));
    }

    #[test]
    fn asking_for_more_classes_than_exist_returns_all() {
        assert_eq!(classify(&scores(&[1.0, 2.0], &[1, 2]), 9, &[]).unwrap().shape(), [1, 2]);
    }

    #[test]
    fn integers_are_refused_as_scores() {
        let tensor = Tensor::new(vec![1], Elements::Int64(vec![3])).unwrap();
        assert!(classify(&tensor, 1, &[]).unwrap_err().message.contains("INT64"));
    }
}
