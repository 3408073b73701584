//! Recurrent operators start each run where the file says.
//!
//! tract is made for streams too: by its default an LSTM, GRU, RNN or Scan goes on in the next run where it
//! stopped in the last. ONNX knows no such thing, and here the next run is another request, of another
//! client perhaps. What a stream must remember is an output of the model and an input of the next request.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::Scan;

/// Makes every recurrent operator of a graph, and of the graphs inside it, begin anew in each run.
pub(super) fn begin_anew(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            begin_anew(&mut scan.body);
        } else if let Some(sequence) = node.op_as_mut::<GruSeq>() {
            sequence.reset_every_turn = true;
        } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
            begin_anew(&mut branches.then_body);
            begin_anew(&mut branches.else_body);
        }
    }
}
