//! Operators that contain graphs: `If`.
//!
//! Exporters write conditions whose value is known as soon as the shapes and parameters are known: "is the rank 3", "is
//! the sample rate 16000". The branch that is not taken often does not fit the shapes. So if the value of the condition is
//! known, the branch that is taken replaces the node, and the other branch is not looked at. If the value is known only
//! during a run, the node becomes tract's own `If`.

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::logic::IfThenElse;

use super::super::operators::{name_of, wrong};
use super::{Body, Lowering, Value};

/// Puts an `If` into the graph.
pub(super) fn branch<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    let yes = node.get_attr::<&GraphProto>("then_branch")?;
    let no = node.get_attr::<&GraphProto>("else_branch")?;
    let condition = lowering.required(node, 0, "cond")?;
    if let Some(value) = &lowering.fact(condition)?.konst {
        let is_yes = value.cast_to_scalar::<bool>()?;
        return lowering.inline(if is_yes { yes } else { no }, Vec::new());
    }
    let (yes, no) = (lowering.body(yes, &[])?, lowering.body(no, &[])?);
    if yes.graph.outputs.len() != no.graph.outputs.len() {
        return Err(wrong(node, "its branches have different numbers of outputs"));
    }
    let mut inputs = tvec![condition];
    // For each input of a body: its index among the inputs of the node.
    let mut places = |body: &Body| -> Vec<usize> {
        let place = |outer: &OutletId| {
            inputs.iter().skip(1).position(|input| input == outer).map_or_else(
                || {
                    inputs.push(*outer);
                    inputs.len() - 1
                },
                |at| at + 1,
            )
        };
        body.captured.iter().map(place).collect()
    };
    let (then_input_mapping, else_input_mapping) = (places(&yes), places(&no));
    let op = IfThenElse { then_body: yes.graph, then_input_mapping, else_body: no.graph, else_input_mapping };
    let outputs = lowering.wire(name_of(node), op, &inputs)?;
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}
