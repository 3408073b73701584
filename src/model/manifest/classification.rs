//! The result kind "classification": scores along the last axis, and the best classes in place of them.

use serde::Deserialize;

use super::checks::within;

/// Classes in one answer.
const MOST_CLASSES: usize = 1 << 20;

/// The function that is applied along the last axis. `outputs[].activation` of `model.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Makes the values of a row probabilities of exclusive classes: their sum is 1.
    Softmax,
    /// Makes every value a probability of its own, from 0 to 1.
    Sigmoid,
}

/// Checks the number of classes that an output named `output` answers with.
pub(super) fn check(output: &str, classes: Option<usize>) -> Result<(), String> {
    let field = format!("outputs[`{output}`].classification");
    if classes == Some(0) {
        return Err(format!("{field} is 0: leave it out to answer with the tensor"));
    }
    within(&field, classes, 1, MOST_CLASSES)
}
