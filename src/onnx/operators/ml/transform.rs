//! `post_transform` of ai.onnx.ml: the function from the scores of a row to the results.
//!
//! It is computed in single precision and in the order of onnxruntime. So the results are equal bit by bit where both use
//! the same `exp` and `log`, and differ by at most one unit in the last place elsewhere.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;

/// The function that is applied to the scores of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// No function.
    None,
    /// Probabilities of exclusive classes: their sum is 1.
    Softmax,
    /// Each score on its own: 1 ÷ (1 + exp(−score)).
    Logistic,
    /// Softmax, but a score of 0 stays 0.
    SoftmaxZero,
    /// Each score on its own: the inverse of the standard normal distribution.
    Probit,
}

impl Transform {
    /// Reads `post_transform` by the names of ai.onnx.ml 1 and 3.
    pub fn read(attributes: &Attributes) -> TractResult<Transform> {
        Ok(match attributes.string("post_transform", "NONE")? {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => {
                return Err(attributes.wrong(format!(
                    "`post_transform` is {other}: expected NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT"
                )));
            }
        })
    }

    /// Applies the function to the scores of a row.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Transform::None => {}
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Transform::Softmax => softmax(scores, |_| true),
            Transform::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
        }
    }
}

/// 1 ÷ (1 + exp(−score)).
pub fn logistic(score: f32) -> f32 {
    let value = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - value } else { value }
}

/// The inverse of the standard normal distribution, by Winitzki's approximation of the inverse error function.
fn probit(score: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * score - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f32::consts::PI * A) + 0.5 * log;
    let root = -v + (v * v - 1.0 / A * log).sqrt();
    std::f32::consts::SQRT_2 * (sign * root.sqrt())
}

/// A softmax of the scores for which `counts` is true.
fn softmax(scores: &mut [f32], counts: impl Fn(f32) -> bool) {
    // The largest score is subtracted from all, so that no `exp` overflows.
    let largest = scores.iter().copied().fold(f32::MIN, |a, b| if b > a { b } else { a });
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if counts(*score) {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= (-largest).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
