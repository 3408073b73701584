//! The nodes that do not become one operator of the typed graph.
//!
//! A new one is an entry with `rewritten()` in its family's table, and a line in [`put`].

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::control;
use super::{Lowering, Value};

/// Puts a node into the graph, and returns the outputs that it names.
pub fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    match (node.domain.as_str(), node.op_type.as_str()) {
        (_, "If") => control::branch(lowering, node),
        _ => Err(TractError::msg("nothing puts it into the graph")),
    }
}
