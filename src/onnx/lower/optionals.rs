//! Optional values. Whether a value is there is known when the graph is made, so none of these nodes is in the typed graph.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::operators::name_of;
use super::{Lowering, Value};

/// Puts `Optional`, `OptionalHasElement` or `OptionalGetElement` into the graph.
pub(super) fn put(lowering: &mut Lowering, node: &NodeProto) -> TractResult<Value> {
    let value = lowering.inputs(node)?.into_iter().next().flatten();
    match node.op_type.as_str() {
        "Optional" => Ok(value.unwrap_or(Value::Absent)),
        "OptionalHasElement" => {
            let is_there = lowering.constant(name_of(node), tensor0(value.is_some()).into_arc_tensor())?;
            Ok(Value::Tensor(is_there))
        }
        _ => value.ok_or_else(|| {
            TractError::msg(
                "its input is an optional that is absent: it has no element. Ask with `OptionalHasElement` and `If` first",
            )
        }),
    }
}

/// The output of an `Identity` whose input is a sequence or an absent optional. `None` for every other node.
pub(super) fn passed_on(lowering: &mut Lowering, node: &NodeProto) -> TractResult<Option<Value>> {
    if node.op_type != "Identity" || !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Ok(None);
    }
    let Some(name) = node.input.first().filter(|name| !name.is_empty()) else { return Ok(None) };
    let value = lowering.value(name)?;
    Ok(Some(value).filter(|value| !matches!(value, Value::Tensor(_))))
}
