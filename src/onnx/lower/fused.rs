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
    let mut inputs = tvec![lowering.required(node, 0, "X")?, lowering.required(node, 1, "W")?];
    let (bias, added) = (values.get(2).cloned().flatten(), values.get(3).cloned().flatten());
    if let Some(bias) = &bias {
        inputs.push(lowering.tensor(bias)?);
    }
    let of_conv = inputs.len();
    if let Some(added) = &added {
        inputs.push(lowering.tensor(added)?);
    }
    let conv = NodeProto {
        domain: String::new(),
        op_type: "Conv".into(),
        input: node.input[..of_conv].to_vec(),
        attribute: node.attribute.iter().filter(|one| !one.name.starts_with("activation")).cloned().collect(),
        ..node.clone()
    };
    let outputs = lowering.in_singles(node, &inputs, |lowering, inputs| {
        let mut output = conv_node(lowering, &conv, &inputs[..of_conv])?;
        for added in &inputs[of_conv..] {
            if lowering.fact(*added)?.shape != lowering.fact(output)?.shape {
                return Err(wrong(node, "its input `Z` must have the shape of the result"));
            }
            output = lowering.wire(&format!("{}.add", name_of(node)), add(), &[output, *added])?[0];
        }
        if let Some(function) = function {
            let one = NodeProto { input: vec!["X".into()], ..conv };
            output = lowering.own(&one, operator(function), &[output])?[0];
        }
        Ok(tvec![output])
    })?;
    Ok(Value::Tensor(outputs[0]))
}

/// Adds a `Conv` that is not a node of the file.
fn conv_node(lowering: &mut Lowering, conv: &NodeProto, inputs: &[OutletId]) -> TractResult<OutletId> {
    let entry = table::find(Domain::Onnx, "Conv").ok_or_else(|| TractError::msg("there is no `Conv`"))?;
    let facts: Vec<&TypedFact> =
        inputs.iter().map(|outlet| lowering.fact(*outlet)).collect::<TractResult<_>>()?;
    let kinds = kinds_of(&facts)?;
    let attributes = lowering.attributes(conv);
    if entry.check_engine(&attributes, &Inputs::all(&kinds)).is_ok() {
        return Ok(lowering.engine(conv, inputs)?[0]);
    }
    let build = entry.own.ok_or_else(|| TractError::msg("this form of `Conv` is not supported"))?;
    let operator = build(&attributes)?;
    Ok(lowering.own(conv, operator, inputs)?[0])
}
