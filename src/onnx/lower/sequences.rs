//! Sequences of tensors. Their lengths and positions are known when the graph is made, so a sequence is a list of values and
//! not a tensor of the typed graph.
//!
//! A length or a position that only a run determines is an error. [`unroll`](super::unroll) makes them known in the loops that
//! exporters write.

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::operators::name_of;
use super::parts::MOST_ELEMENTS;
use super::{Lowering, Value, parts};

/// Puts a node with a sequence into the graph.
pub(super) fn put(lowering: &mut Lowering, node: &NodeProto) -> TractResult<Value> {
    match node.op_type.as_str() {
        "SequenceEmpty" => Ok(Value::Sequence(Vec::new())),
        "SequenceConstruct" => {
            let all: Option<Vec<Value>> = lowering.inputs(node)?.into_iter().collect();
            Ok(Value::Sequence(all.ok_or_else(|| TractError::msg("an input is left out: expected all"))?))
        }
        "SequenceAt" => {
            let mut all = sequence(lowering, node, 0)?;
            let at = place(position(lowering, node, 1)?, all.len(), all.len())?;
            Ok(all.swap_remove(at))
        }
        "SequenceInsert" => {
            let mut all = sequence(lowering, node, 0)?;
            let value = Value::Tensor(lowering.required(node, 1, "tensor")?);
            let at = match lowering.inputs(node)?.get(2) {
                Some(Some(_)) => place(position(lowering, node, 2)?, all.len(), all.len() + 1)?,
                _ => all.len(),
            };
            all.insert(at, value);
            Ok(Value::Sequence(all))
        }
        "SequenceErase" => {
            let mut all = sequence(lowering, node, 0)?;
            let at = match lowering.inputs(node)?.get(1) {
                Some(Some(_)) => position(lowering, node, 1)?,
                _ => -1,
            };
            all.remove(place(at, all.len(), all.len())?);
            Ok(Value::Sequence(all))
        }
        "SequenceLength" => {
            let length = sequence(lowering, node, 0)?.len() as i64;
            let length = lowering.constant(name_of(node), tensor0(length).into_arc_tensor())?;
            Ok(Value::Tensor(length))
        }
        "SplitToSequence" => split(lowering, node),
        _ => concat(lowering, node),
    }
}

/// An input that must be a sequence.
fn sequence(lowering: &mut Lowering, node: &NodeProto, at: usize) -> TractResult<Vec<Value>> {
    match lowering.inputs(node)?.into_iter().nth(at).flatten() {
        Some(Value::Sequence(all)) => Ok(all),
        Some(_) => Err(TractError::msg(format!("its input {at} is a tensor: expected a sequence"))),
        None => Err(TractError::msg(format!("its input {at} (a sequence, counted from 0) is missing"))),
    }
}

/// An input that must be one integer that is known before the run.
fn position(lowering: &mut Lowering, node: &NodeProto, at: usize) -> TractResult<i64> {
    let outlet = lowering.required(node, at, "position")?;
    let known = lowering.fact(outlet)?.konst.clone().filter(|value| value.len() == 1);
    let known = known.and_then(|value| value.cast_to_scalar::<i64>().ok());
    known.ok_or_else(|| {
        TractError::msg(
            "its position is known only during a run: positions in a sequence must be constant. Put the tensors into one \
             tensor and use `Gather`",
        )
    })
}

/// The index of a position that may count from the end. There are `length` elements, and the index must be less than
/// `end`.
fn place(position: i64, length: usize, end: usize) -> TractResult<usize> {
    let counted = if position < 0 { position + length as i64 } else { position };
    usize::try_from(counted).ok().filter(|at| *at < end).ok_or_else(|| {
        TractError::msg(format!("its position is {position}, but the sequence has {length} elements"))
    })
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| TractError::msg(format!("its axis is {axis}, but there are {rank} axes")))
}

/// Cuts a tensor along an axis.
fn split(lowering: &mut Lowering, node: &NodeProto) -> TractResult<Value> {
    let input = lowering.required(node, 0, "input")?;
    let fact = lowering.fact(input)?.clone();
    let attributes = lowering.attributes(node);
    let (at, keeps) = (axis(attributes.int("axis", 0)?, fact.rank())?, attributes.flag("keepdims", true)?);
    let split = match lowering.inputs(node)?.get(1) {
        Some(Some(_)) => Some(lowering.required(node, 1, "split")?),
        _ => None,
    };
    let known = split.map(|split| lowering.fact(split).map(|fact| fact.konst.clone())).transpose()?;
    let sizes = match (fact.shape[at].to_usize(), known) {
        (Ok(length), None) => vec![1; length],
        (Ok(length), Some(Some(known))) => sizes(&known, length)?,
        _ => return parts::cut(lowering, node, input, split, at),
    };
    if sizes.len() > MOST_ELEMENTS {
        return Err(TractError::msg(format!(
            "it makes {} tensors: the limit is {MOST_ELEMENTS}",
            sizes.len()
        )));
    }
    let removes = !keeps && split.is_none();
    let is_half = fact.datum_type == DatumType::F16;
    let wide = lowering.wide(input)?;
    let mut start = 0;
    let mut all = Vec::with_capacity(sizes.len());
    for size in sizes {
        let slice = Slice { axis: at, start: start.to_dim(), end: (start + size).to_dim() };
        let mut part = lowering.wire(name_of(node), slice, &[wide])?[0];
        if removes {
            part = lowering.wire(name_of(node), AxisOp::Rm(at), &[part])?[0];
        }
        if is_half {
            part = lowering.narrowed(part)?;
        }
        all.push(Value::Tensor(part));
        start += size;
    }
    Ok(Value::Sequence(all))
}

/// The lengths of the parts of an axis with `length` elements. A single number is the length of all parts but the last.
fn sizes(split: &Tensor, length: usize) -> TractResult<Vec<usize>> {
    let wrong = |what: &str| TractError::msg(format!("its input `split` {what}"));
    let cast = split.cast_to::<i64>()?;
    let plain = cast.try_as_plain_ram()?;
    let numbers: Option<Vec<usize>> =
        plain.as_slice::<i64>()?.iter().map(|size| usize::try_from(*size).ok()).collect();
    let numbers = numbers.ok_or_else(|| wrong("has a negative length"))?;
    if split.rank() == 0 {
        let size = numbers[0];
        if size == 0 {
            return Err(wrong("is 0: expected at least 1"));
        }
        return Ok((0..length).step_by(size).map(|start| size.min(length - start)).collect());
    }
    let sum = numbers.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size));
    match sum {
        Some(sum) if sum == length => Ok(numbers),
        _ => Err(wrong(&format!("is {numbers:?}: expected lengths whose sum is {length}"))),
    }
}

/// Joins the tensors of a sequence.
fn concat(lowering: &mut Lowering, node: &NodeProto) -> TractResult<Value> {
    let all = sequence(lowering, node, 0)?;
    let attributes = lowering.attributes(node);
    if !attributes.has("axis") {
        return Err(TractError::msg("the attribute `axis` is missing"));
    }
    let (at, is_new) = (attributes.int("axis", 0)?, attributes.flag("new_axis", false)?);
    let tensors: Vec<OutletId> =
        all.iter().map(|value| lowering.tensor(value)).collect::<TractResult<_>>()?;
    let Some(first) = tensors.first() else {
        return Err(TractError::msg("its sequence has no elements: there is nothing to join"));
    };
    let rank = lowering.fact(*first)?.rank();
    let at = axis(at, rank + usize::from(is_new))?;
    join(lowering, name_of(node), &tensors, at, is_new).map(Value::Tensor)
}

/// Joins tensors along an axis, which may be a new one. There must be at least one.
pub(super) fn join(
    lowering: &mut Lowering,
    name: &str,
    tensors: &[OutletId],
    axis: usize,
    is_new: bool,
) -> TractResult<OutletId> {
    let tensors: TVec<OutletId> =
        tensors.iter().map(|tensor| lowering.without_symbols(*tensor)).collect::<TractResult<_>>()?;
    let rank = lowering.fact(tensors[0])?.rank();
    for tensor in &tensors {
        let (first, other) = (lowering.fact(tensors[0])?, lowering.fact(*tensor)?);
        if other.rank() != rank || other.datum_type != first.datum_type {
            return Err(TractError::msg(format!(
                "it joins a tensor of {:?} with {rank} axes and one of {:?} with {}: expected one type and equal numbers of axes",
                first.datum_type,
                other.datum_type,
                other.rank()
            )));
        }
    }
    let is_half = lowering.fact(tensors[0])?.datum_type == DatumType::F16;
    let mut parts: TVec<OutletId> = TVec::new();
    for tensor in tensors {
        let wide = lowering.wide(tensor)?;
        parts.push(if is_new { lowering.wire(name, AxisOp::Add(axis), &[wide])?[0] } else { wide });
    }
    let joined = lowering.wire(name, TypedConcat::new(axis), &parts)?[0];
    if is_half { lowering.narrowed(joined) } else { Ok(joined) }
}

/// Puts the body of a `SequenceMap` into the graph once for each element.
pub(super) fn map<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    let body = node.get_attr::<&GraphProto>("body")?;
    let length = sequence(lowering, node, 0)?.len();
    let inputs = lowering.inputs(node)?;
    if body.input.len() != inputs.len() {
        return Err(TractError::msg(format!(
            "it has {} inputs, but its body has {}",
            inputs.len(),
            body.input.len()
        )));
    }
    let mut outputs: Vec<Vec<Value>> = vec![Vec::with_capacity(length); body.output.len()];
    for at in 0..length {
        let given = inputs.iter().map(|input| match input {
            Some(Value::Sequence(all)) => {
                all.get(at).cloned().filter(|_| all.len() == length).ok_or_else(|| {
                    TractError::msg(format!(
                        "its sequences have {length} and {} elements: expected equal lengths",
                        all.len()
                    ))
                })
            }
            Some(value) => Ok(value.clone()),
            None => Ok(Value::Absent),
        });
        let given = given.collect::<TractResult<_>>()?;
        for (all, value) in outputs.iter_mut().zip(lowering.inline(body, given)?) {
            all.push(value);
        }
    }
    Ok(outputs.into_iter().map(Value::Sequence).collect())
}
