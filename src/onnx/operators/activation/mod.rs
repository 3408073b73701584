//! Activations: functions of one element, and the gates that multiply two of them.
//!
//! All are ours. Those of tract ignore attributes (`Swish`, `Celu` in FP16), turn NaN into a number (`Relu`, `Clip`) or
//! overflow (`Softplus`). Ours follow the ONNX standard; NaN stays NaN unless a file says otherwise. FP16 is computed in FP32
//! and rounded once.
//!
//! `consumed_inputs`, an attribute of the first versions, allowed an operator to overwrite its input. It does not change
//! the result.

mod clip;
mod dropout;
mod gate;
mod prelu;
mod unary;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::{Entry, Form};
use super::operator::Operator;
pub use unary::Function;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("Celu", &["alpha"]).own(unary::celu),
    Entry::onnx("Clip", &["consumed_inputs", "max", "min"]).own(clip::clip),
    Entry::onnx("Dropout", &["consumed_inputs", "is_test", "ratio", "seed"])
        .engine(Form::ALL.when(dropout::is_plain))
        .own(dropout::dropout),
    Entry::onnx("Elu", &["alpha", "consumed_inputs"]).own(unary::elu),
    Entry::onnx("Gelu", &["approximate"]).own(unary::gelu),
    Entry::onnx("HardSigmoid", &["alpha", "beta", "consumed_inputs"]).own(unary::hard_sigmoid),
    Entry::onnx("HardSwish", &[]).own(unary::hard_swish),
    Entry::onnx("LeakyRelu", &["alpha", "consumed_inputs"]).own(unary::leaky_relu),
    Entry::onnx("Mish", &[]).own(unary::mish),
    Entry::onnx("PRelu", &["consumed_inputs"]).own(prelu::prelu),
    Entry::onnx("Relu", &["consumed_inputs"]).own(clip::relu),
    Entry::onnx("Selu", &["alpha", "consumed_inputs", "gamma"]).own(unary::selu),
    Entry::onnx("Shrink", &["bias", "lambd"]).own(unary::shrink),
    Entry::onnx("Sigmoid", &["consumed_inputs"]).own(unary::sigmoid),
    Entry::onnx("Softplus", &[]).own(unary::softplus),
    Entry::onnx("Softsign", &[]).own(unary::softsign),
    Entry::onnx("SwiGLU", &["alpha"]).own(gate::swiglu),
    Entry::onnx("Swish", &["alpha"]).own(unary::swish),
    Entry::onnx("Tanh", &["consumed_inputs"]).own(unary::tanh),
    Entry::onnx("ThresholdedRelu", &["alpha"]).own(unary::thresholded_relu),
    Entry::microsoft("BiasGelu", &[]).own(unary::bias_gelu),
    Entry::microsoft("FastGelu", &[]).own(unary::fast_gelu),
    Entry::microsoft("Gelu", &[]).own(unary::gelu),
    Entry::microsoft("QuickGelu", &["alpha"]).own(unary::quick_gelu),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

/// The operator of a function that the file writes as several nodes.
pub fn operator(name: &'static str, function: Function) -> Built {
    unary::unary(name, function)
}

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}
