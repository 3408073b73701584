//! `FlexAttention`: scores, a graph of the model that changes them, their softmax, a graph that changes the probabilities, and
//! the means of the values.

use std::sync::Arc;

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;

use super::super::operators::attention::{flex::steps, scale};
use super::super::operators::operator::Operator;
use super::super::operators::wrong;
use super::{Lowering, Value};

/// Puts a `FlexAttention` into the graph.
pub(super) fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Value> {
    let [q, k, v] = [(0, "Q"), (1, "K"), (2, "V")].map(|(at, name)| lowering.required(node, at, name));
    let (q, k, v) = (q?, k?, v?);
    let precision = precision(lowering, node, q)?;
    let attributes = lowering.attributes(node);
    let [products, softmax, mix] = steps(scale(&attributes)?, precision);
    let scores = step(lowering, node, products, &[q, k])?;
    let scores = changed(lowering, node, "score_mod", scores)?;
    let probabilities = step(lowering, node, softmax, &[scores])?;
    let probabilities = changed(lowering, node, "prob_mod", probabilities)?;
    step(lowering, node, mix, &[probabilities, v]).map(Value::Tensor)
}

/// The type of scores and probabilities.
fn precision(lowering: &Lowering, node: &NodeProto, query: OutletId) -> TractResult<DatumType> {
    let is_double = lowering.fact(query)?.datum_type == f64::datum_type();
    match lowering.attributes(node).int("softmax_precision", if is_double { 11 } else { 1 })? {
        1 => Ok(DatumType::F32),
        10 => Ok(DatumType::F16),
        11 => Ok(DatumType::F64),
        other => Err(wrong(
            node,
            format!("`softmax_precision` is {other}: expected 1 (FP32), 10 (FP16) or 11 (FP64)"),
        )),
    }
}

/// Adds one of our operators.
fn step(
    lowering: &mut Lowering,
    node: &NodeProto,
    operator: Arc<dyn Operator>,
    inputs: &[OutletId],
) -> TractResult<OutletId> {
    let part = NodeProto {
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        input: (0..inputs.len()).map(|at| format!("input.{at}")).collect(),
        output: node.output.clone(),
        ..Default::default()
    };
    Ok(lowering.own(&part, operator, inputs)?[0])
}

/// The result of a graph of the node for a tensor. Without this graph, it is the tensor itself.
fn changed<'a>(
    lowering: &mut Lowering<'a>,
    node: &'a NodeProto,
    name: &str,
    tensor: OutletId,
) -> TractResult<OutletId> {
    let Some(graph) = node.get_attr_opt::<&GraphProto>(name)? else { return Ok(tensor) };
    let in_graph = |error: TractError| error.context(format!("in its graph `{name}`"));
    if graph.input.len() != 1 || graph.output.len() != 1 {
        return Err(wrong(node, format!("its graph `{name}` must have one input and one output")));
    }
    let outputs = lowering.inline(graph, vec![Value::Tensor(tensor)]).map_err(in_graph)?;
    let output = lowering.tensor(&outputs[0])?;
    let (before, after) = (lowering.fact(tensor)?, lowering.fact(output)?);
    match before.datum_type == after.datum_type && before.shape == after.shape {
        true => Ok(output),
        false => Err(wrong(
            node,
            format!("its graph `{name}` changes {before:?} to {after:?}: expected the same type and shape"),
        )),
    }
}
