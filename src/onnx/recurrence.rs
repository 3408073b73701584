//! Makes recurrent operators start each run from the initial state in the file.
//!
//! tract is also made for streams: by default an LSTM, GRU, RNN or Scan continues in the next run where the last run
//! stopped. ONNX has no such rule, and here the next run is another request, perhaps from another client. If a model
//! must remember something in a stream, that is an output of one request and an input of the next.
//!
//! The bodies of `Loop`, `Scan` and `If` are plans of their own, and this is called for each of them: see `bodies`.
//!
//! What does not belong here: states of sequences (`layout`, `runner`).

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::scan::Scan;

/// Makes every recurrent operator of a graph, and of the bodies of tract's `Scan`, start from its initial state in each run.
pub(super) fn begin_anew(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            begin_anew(&mut scan.body);
        } else if let Some(sequence) = node.op_as_mut::<GruSeq>() {
            sequence.reset_every_turn = true;
        }
    }
}
