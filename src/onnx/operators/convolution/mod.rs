//! Convolutions and pools: operators whose results come from windows of their input.
//!
//! `Conv` in FP32 with constant weights is ours ([`fast`]), and so is a `ConvTranspose` whose windows do not overlap (`spread`). tract serves the other common forms of `Conv`, and those of
//! `ConvTranspose`. All pools are ours: they are as fast as tract's or faster, and tract's differ in details (NaN, −∞, sums
//! in FP16).
//!
//! The operators follow the ONNX standard, and onnxruntime where the standard leaves something open. Each file says where the
//! two differ.

mod common;
mod conv;
mod deform;
pub mod fast;
mod global;
mod max;
pub mod pool;
mod spread;
mod transposed;
mod unpool;
pub mod window;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::{Entry, Form};
use super::operator::Operator;

/// The types that tract computes.
const FLOATS: &[DatumType] = &[DatumType::F16, DatumType::F32, DatumType::F64];

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
        .engine(Form::ALL.types(FLOATS).when(common::is_common))
        .own(conv::conv),
    Entry::onnx(
        "ConvTranspose",
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
    )
    .engine(
        Form::ALL
            .attributes(&[
                "auto_pad",
                "dilations",
                "group",
                "kernel_shape",
                "output_padding",
                "pads",
                "strides",
            ])
            .types(FLOATS)
            .when(common::is_common_transpose),
    )
    .own(conv::transpose),
    Entry::onnx("DeformConv", &["dilations", "group", "kernel_shape", "offset_group", "pads", "strides"])
        .own(deform::deform),
    Entry::onnx(
        "MaxPool",
        &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
    )
    .own(max::max),
    Entry::onnx(
        "AveragePool",
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
    )
    .own(pool::average),
    Entry::onnx("LpPool", &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"])
        .own(pool::norm),
    Entry::onnx("GlobalAveragePool", &[]).own(global::average),
    Entry::onnx("GlobalMaxPool", &[]).own(global::max),
    Entry::onnx("GlobalLpPool", &["p"]).own(global::norm),
    Entry::onnx("MaxUnpool", &["kernel_shape", "pads", "strides"]).own(unpool::unpool),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}
