//! Normalizations: elements are shifted and scaled so that a group of them has a mean of 0, a variance of 1 or a norm of 1.
//!
//! tract serves `BatchNormalization` with constant parameters, because it can join it with the convolution before. All
//! others are ours: one pass over the elements instead of several operators. Means and variances are computed in two passes,
//! with sums that are exact to FP64. FP16 is computed in FP32 and rounded once.

mod batch;
mod embed;
mod layer;
mod local;
mod lp;
mod plane;
mod skip;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::Entry;
use super::floats::expect_float;
use super::operator::{Kind, Operator};

/// Checks that a tensor has a floating-point number for each channel. `name` is its name in the standard.
fn expect_per_channel(parameter: &Kind, name: &str) -> TractResult<()> {
    expect_float(parameter, name)?;
    match parameter.rank() {
        1 => Ok(()),
        rank => {
            Err(TractError::msg(format!("its input `{name}` has {rank} axes: expected 1, for the channels")))
        }
    }
}

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx(
        "BatchNormalization",
        // `momentum` is only for training.
        &["consumed_inputs", "epsilon", "is_test", "momentum", "spatial", "training_mode"],
    )
    .own(batch::batch),
    Entry::onnx("GroupNormalization", &["epsilon", "num_groups", "stash_type"]).own(plane::group),
    Entry::onnx("InstanceNormalization", &["consumed_inputs", "epsilon"]).own(plane::instance),
    Entry::onnx("LRN", &["alpha", "beta", "bias", "size"]).own(local::lrn),
    Entry::onnx("LayerNormalization", &["axis", "epsilon", "stash_type"]).own(layer::layer),
    Entry::onnx("LpNormalization", &["axis", "p"]).own(lp::lp),
    Entry::onnx("MeanVarianceNormalization", &["axes"]).own(plane::mean_variance),
    Entry::onnx("RMSNormalization", &["axis", "epsilon", "stash_type"]).own(layer::rms),
    // onnxruntime has it in both domains.
    Entry::onnx("SimplifiedLayerNormalization", &["axis", "epsilon", "stash_type"]).own(layer::simplified),
    Entry::microsoft("SimplifiedLayerNormalization", &["axis", "epsilon", "stash_type"])
        .own(layer::simplified),
    Entry::microsoft("SkipLayerNormalization", &["epsilon"]).own(skip::layer),
    Entry::microsoft("SkipSimplifiedLayerNormalization", &["epsilon"]).own(skip::simplified),
    Entry::microsoft("EmbedLayerNormalization", &["epsilon", "mask_index_type"]).own(embed::embed),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}
