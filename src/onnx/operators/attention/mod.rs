//! Attention, and the embedding of positions that goes with it. All operators are ours.
//!
//! They follow the ONNX standard, and those of `com.microsoft` follow onnxruntime. FP16 is computed in FP32 and rounded
//! once.

mod causal;
mod core;
pub mod flex;
mod linear;
mod microsoft;
mod rotary;
mod standard;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::Entry;
use super::operator::Operator;

pub use standard::scale;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx(
        "Attention",
        &[
            "is_causal",
            "kv_num_heads",
            "left_window_size",
            "q_num_heads",
            "qk_matmul_output_mode",
            "right_window_size",
            "scale",
            "softcap",
            "softmax_precision",
        ],
    )
    .own(standard::attention),
    Entry::onnx("CausalConvWithState", &["activation"]).own(causal::causal),
    Entry::preview("FlexAttention", &["prob_mod", "scale", "score_mod", "softmax_precision"]).rewritten(),
    Entry::onnx("LinearAttention", &["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"])
        .own(linear::linear),
    Entry::onnx("RotaryEmbedding", &["interleaved", "num_heads", "rotary_embedding_dim"]).own(rotary::rotary),
    Entry::microsoft(
        "Attention",
        &[
            "do_rotary",
            "mask_filter_value",
            "num_heads",
            "past_present_share_buffer",
            "qkv_hidden_sizes",
            "scale",
            "unidirectional",
        ],
    )
    .own(microsoft::attention),
    Entry::microsoft("MultiHeadAttention", &["mask_filter_value", "num_heads", "scale", "unidirectional"])
        .own(microsoft::multi_head),
    Entry::microsoft(
        "RotaryEmbedding",
        &["interleaved", "is_packed_batching", "num_heads", "rotary_embedding_dim", "scale"],
    )
    .own(rotary::microsoft),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}
