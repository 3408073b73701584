//! The nodes that do not become one operator of the typed graph.
//!
//! A new one is an entry with `rewritten()` in its family's table, and a line in [`put`].

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::operators::entry::Entry;
use super::super::operators::own::kinds_of;
use super::super::operators::{cast_type, is_bfloat};
use super::{Lowering, Value};
use super::{control, flex, fused, optionals, repeat, scan, sequences};

/// Puts a node into the graph, and returns its outputs in the standard's order. Those without a name are left out later.
pub fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto, entry: &Entry) -> TractResult<Vec<Value>> {
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
        (_, "Cast" | "CastLike") => cast(lowering, node, entry),
        _ => Err(TractError::msg("nothing puts it into the graph")),
    }
}

/// A `Cast` to the type that the tensor has is the tensor itself. So a size that is not known yet stays a size.
fn cast<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto, entry: &Entry) -> TractResult<Vec<Value>> {
    let input = lowering.required(node, 0, "input")?;
    let datum_type = |outlet| -> TractResult<DatumType> {
        Ok(kinds_of(&[lowering.fact(outlet)?])?.first().map_or(DatumType::F32, |kind| kind.datum_type))
    };
    let from = datum_type(input)?;
    let to = match &*node.op_type {
        "Cast" => cast_type(&lowering.attributes(node))?,
        _ => {
            let like = lowering.inputs(node)?;
            let Some(Some(like)) = like.get(1) else {
                return Err(TractError::msg("its input 1 (`target_type`, counted from 0) is missing"));
            };
            let like = lowering.tensor(like)?;
            kinds_of(&[lowering.fact(like)?])?.first().map_or(from, |kind| kind.datum_type)
        }
    };
    if from == to && !is_bfloat(&lowering.attributes(node)) {
        return Ok(vec![Value::Tensor(input)]);
    }
    if !is_bfloat(&lowering.attributes(node))
        && let Some(outlet) = lowering.cast_in_singles(input, from, to)?
    {
        return Ok(vec![Value::Tensor(outlet)]);
    }
    let outlets = lowering.operator(node, entry)?;
    Ok(outlets.into_iter().map(Value::Tensor).collect())
}
