//! Matrix products and convolutions with what onnxruntime's optimizer joins to them: a factor, a transposition, an activation.
//!
//! They follow onnxruntime. `FusedConv` is put into the graph as a `Conv`, an addition and an activation
//! ([`lower`](super::super::lower)).

pub mod activation;
mod product;

use super::entry::Entry;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::microsoft(
        "FusedConv",
        &[
            "activation",
            "activation_params",
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ],
    )
    .rewritten(),
    Entry::microsoft(
        "FusedGemm",
        &[
            "activation",
            "activation_alpha",
            "activation_beta",
            "activation_gamma",
            "alpha",
            "beta",
            "transA",
            "transB",
        ],
    )
    .own(product::gemm),
    Entry::microsoft("FusedMatMul", &["alpha", "transA", "transB", "transBatchA", "transBatchB"])
        .own(product::matmul),
    Entry::microsoft("TransposeMatMul", &["alpha", "transA", "transB"]).own(product::matmul),
];
