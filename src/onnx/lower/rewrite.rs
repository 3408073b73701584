//! The nodes that do not become one operator of the typed graph.
//!
//! A new one is an entry with `rewritten()` in its family's table, and a line in [`put`].

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::{Lowering, Value};
use super::{control, flex, fused, optionals, repeat, scan, sequences};

/// Puts a node into the graph, and returns its outputs in the standard's order. Those without a name are left out later.
pub fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    match (node.domain.as_str(), node.op_type.as_str()) {
        (_, "If") => control::branch(lowering, node),
        (_, "FlexAttention") => Ok(vec![flex::put(lowering, node)?]),
        (_, "FusedConv") => Ok(vec![fused::convolution(lowering, node)?]),
        (_, "Loop") => repeat::put(lowering, node),
        (_, "Scan") => scan::put(lowering, node),
        (_, "SequenceMap") => sequences::map(lowering, node),
        (_, "SequenceConstruct" | "SequenceEmpty" | "SequenceAt" | "SequenceInsert" | "SequenceErase")
        | (_, "SequenceLength" | "SplitToSequence" | "ConcatFromSequence") => {
            Ok(vec![sequences::put(lowering, node)?])
        }
        (_, "Optional" | "OptionalHasElement" | "OptionalGetElement") => {
            Ok(vec![optionals::put(lowering, node)?])
        }
        _ => Err(TractError::msg("nothing puts it into the graph")),
    }
}
