//! `FusedConv` of onnxruntime: a `Conv`, then the addition of a fourth input, then an activation.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::math::add;

use super::super::operators::entry::Domain;
use super::super::operators::fused::activation::{named, operator};
use super::super::operators::operator::Inputs;
use super::super::operators::own::kinds_of;
use super::super::operators::{name_of, table, wrong};
use super::{Lowering, Value};

/// Puts a `FusedConv` into the graph.
pub(super) fn convolution<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Value> {
    let attributes = lowering.attributes(node);
    let function = named(attributes.string("activation", "")?, attributes.floats("activation_params")?);
    let function = function.map_err(|cause| wrong(node, cause))?;
    let values = lowering.inputs(node)?;
    let mut present = tvec![lowering.required(node, 0, "X")?, lowering.required(node, 1, "W")?];
    if let Some(Some(bias)) = values.get(2) {
        present.push(lowering.tensor(bias)?);
    }
    let conv = NodeProto {
        domain: String::new(),
        op_type: "Conv".into(),
        input: node.input[..present.len()].to_vec(),
        attribute: node.attribute.iter().filter(|one| !one.name.starts_with("activation")).cloned().collect(),
        ..node.clone()
    };
    let mut output = conv_node(lowering, &conv, &present)?;
    if let Some(Some(added)) = values.get(3) {
        let added = lowering.tensor(added)?;
        if lowering.fact(added)?.shape != lowering.fact(output)?.shape {
            return Err(wrong(node, "its input `Z` must have the shape of the result"));
        }
        output = lowering.wire(&format!("{}.add", name_of(node)), add(), &[output, added])?[0];
    }
    if let Some(function) = function {
        let one = NodeProto { input: vec!["X".into()], ..conv };
        output = lowering.own(&one, operator(function), &[output])?[0];
    }
    Ok(Value::Tensor(output))
}

/// Adds a `Conv` that is not a node of the file.
fn conv_node(lowering: &mut Lowering, conv: &NodeProto, inputs: &[OutletId]) -> TractResult<OutletId> {
    let entry = table::find(Domain::Onnx, "Conv").ok_or_else(|| TractError::msg("there is no `Conv`"))?;
    let outputs = lowering.in_singles(conv, inputs, |lowering, inputs| {
        let facts: Vec<&TypedFact> =
            inputs.iter().map(|outlet| lowering.fact(*outlet)).collect::<TractResult<_>>()?;
        let kinds = kinds_of(&facts)?;
        let attributes = lowering.attributes(conv);
        if entry.check_engine(&attributes, &Inputs::all(&kinds)).is_ok() {
            return lowering.engine(conv, inputs);
        }
        let build = entry.own.ok_or_else(|| TractError::msg("this form of `Conv` is not supported"))?;
        lowering.own(conv, build(&attributes)?, inputs)
    })?;
    Ok(outputs[0])
}
