//! Recurrent operators: `LSTM`, `GRU` and `RNN` of the standard, and `DynamicQuantizeLSTM` of onnxruntime.
//!
//! All forms are ours: every activation with its parameters, clipping, all directions and layouts, lengths of sequences,
//! peepholes, open batch and time. tract ignores `direction`, `activations` and `clip`.
//!
//! `node` reads the attributes and the inputs, `cell` computes one step, `activation` has the functions and `product` the
//! matrix products. Invariant: a run starts from the initial state of its inputs; nothing is kept for the next run.

mod activation;
mod cell;
mod node;
mod product;

use tract_onnx::prelude::*;

use super::entry::Entry;
use super::operator::{Inputs, Kind};
use cell::Kind as Cell;
use node::recurrent;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx(
        "LSTM",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
            "layout",
        ],
    )
    .own(|node| recurrent(node, Cell::Lstm, false)),
    Entry::onnx(
        "GRU",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
            "linear_before_reset",
        ],
    )
    .own(|node| recurrent(node, Cell::Gru, false)),
    Entry::onnx(
        "RNN",
        &["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"],
    )
    .own(|node| recurrent(node, Cell::Rnn, false)),
    Entry::microsoft(
        "DynamicQuantizeLSTM",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
        ],
    )
    .own(|node| recurrent(node, Cell::Lstm, true)),
];

/// Checks that the inputs have the type of `X`, apart from the lengths of the sequences and from quantized weights.
fn expect_one_type(inputs: &Inputs<Kind>, is_quantized: bool) -> TractResult<()> {
    let names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"];
    let datum_type = inputs.required(0, "X")?.datum_type;
    for (at, name) in names.iter().enumerate() {
        let is_free = *name == "sequence_lens" || is_quantized && ["W", "R"].contains(name);
        if let Some(input) = inputs.optional(at).filter(|input| !is_free && input.datum_type != datum_type) {
            return Err(TractError::msg(format!(
                "its input `{name}` is of type {:?}, and `X` of type {datum_type:?}: expected the same",
                input.datum_type
            )));
        }
    }
    Ok(())
}
