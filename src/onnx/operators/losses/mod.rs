//! Losses: how far scores of classes are from the classes that are right. Evaluation models have them.
//!
//! They follow the ONNX standard. Sums are in FP64; FP16 is computed in FP32 and rounded once. Elements with `ignore_index`
//! count neither in the sum nor in the mean. Where nothing counts, the mean is NaN.

mod likelihood;

use super::entry::Entry;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("NegativeLogLikelihoodLoss", &["ignore_index", "reduction"]).own(likelihood::negative_log),
    Entry::onnx("SoftmaxCrossEntropyLoss", &["ignore_index", "reduction"]).own(likelihood::cross_entropy),
];
