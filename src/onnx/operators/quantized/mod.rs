//! Operators of quantized models: what onnxruntime's quantizer writes, and the conversions to and from integers.
//!
//! The operators of ai.onnx follow the ONNX standard, those of com.microsoft follow onnxruntime. Sums of products are exact,
//! and a result in integers is rounded once, to the nearest, a half to the even one. Where onnxruntime computes with
//! approximations (its logistic function, the fixed-point division of its QLinearSoftmax), a result can differ by one step.
//!
//! A weight that is constant is converted once, when the model is loaded.

mod blocks;
mod conv;
mod copies;
mod dynamic;
mod gemm;
mod grid;
mod linear;
mod made;
mod matmul;
mod pointwise;
mod pool;
mod product;
mod right;
mod steps;
mod sums;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::Entry;
use super::operator::Operator;

const CONV: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("QuantizeLinear", &["axis", "block_size", "output_dtype", "precision", "saturate"])
        .own(linear::quantize),
    Entry::microsoft("QuantizeLinear", &["axis", "block_size"]).own(linear::quantize),
    Entry::onnx("DequantizeLinear", &["axis", "block_size", "output_dtype"]).own(linear::dequantize),
    Entry::microsoft("DequantizeLinear", &["axis", "block_size"]).own(linear::dequantize),
    Entry::onnx("DynamicQuantizeLinear", &[]).own(dynamic::dynamic),
    Entry::onnx("MatMulInteger", &[]).own(matmul::sums),
    Entry::onnx("QLinearMatMul", &[]).own(matmul::quantized),
    Entry::microsoft("MatMulIntegerToFloat", &[]).own(matmul::to_float),
    Entry::microsoft("DynamicQuantizeMatMul", &[]).own(matmul::dynamic),
    Entry::microsoft("QGemm", &["alpha", "transA", "transB"]).own(gemm::gemm),
    Entry::onnx("ConvInteger", CONV).own(conv::sums),
    Entry::onnx("QLinearConv", CONV).own(conv::quantized),
    Entry::microsoft("MatMulNBits", &["K", "N", "accuracy_level", "bits", "block_size", "weight_prepacked"])
        .own(blocks::matmul),
    Entry::microsoft("GatherBlockQuantized", &["bits", "block_size", "gather_axis", "quantize_axis"])
        .own(blocks::gather),
    Entry::microsoft("QLinearAdd", &[]).own(pointwise::add),
    Entry::microsoft("QLinearMul", &[]).own(pointwise::mul),
    Entry::microsoft("QLinearWhere", &[]).own(pointwise::choose),
    Entry::microsoft("QLinearSigmoid", &[]).own(pointwise::sigmoid),
    Entry::microsoft("QLinearLeakyRelu", &["alpha"]).own(pointwise::leaky_relu),
    Entry::microsoft("QLinearConcat", &["axis"]).own(pointwise::concat),
    Entry::microsoft(
        "QLinearAveragePool",
        &["auto_pad", "ceil_mode", "channels_last", "count_include_pad", "kernel_shape", "pads", "strides"],
    )
    .own(pool::average),
    Entry::microsoft("QLinearGlobalAveragePool", &["channels_last"]).own(pool::global),
    Entry::microsoft("QLinearSoftmax", &["axis", "opset"]).own(pool::softmax),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}
