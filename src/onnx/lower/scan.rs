//! `Scan`: a body that walks along axes of its inputs.
//!
//! Since version 9 of the operator set there is no batch axis. Version 8 has one, in front of all other axes: there each element
//! of the batch is a walk of its own.

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::bodies::repeat::{Along, Course, Order};
use super::repeat::{NewRepeat, Stable, stable};
use super::sequences::axis;
use super::{Given, Lowering, Value};

/// A `Scan` and what its attributes say.
struct Walk<'a> {
    node: &'a NodeProto,
    body: &'a GraphProto,
    /// The number of carried values.
    carried: usize,
    /// For each input that is cut: the axis as in the file, and the order.
    cuts: Vec<(i64, Order)>,
    /// The same for each output that is joined.
    joined: Vec<(i64, Order)>,
}

impl<'a> Walk<'a> {
    fn of(lowering: &Lowering, node: &'a NodeProto) -> TractResult<Walk<'a>> {
        let body = node.get_attr::<&GraphProto>("body")?;
        let attributes = lowering.attributes(node);
        let scanned = usize::try_from(attributes.int("num_scan_inputs", 0)?).unwrap_or(0);
        let carried = body.input.len().checked_sub(scanned).filter(|_| scanned > 0);
        let joined = carried.and_then(|carried| body.output.len().checked_sub(carried));
        let (Some(carried), Some(joined)) = (carried, joined) else {
            return Err(TractError::msg(format!(
                "its `num_scan_inputs` is {scanned}, and its body has {} inputs and {} outputs: they do not go together",
                body.input.len(),
                body.output.len()
            )));
        };
        let axes = |axes: &str, orders: &str, count: usize| -> TractResult<Vec<(i64, Order)>> {
            let numbers = |name: &str| -> TractResult<Vec<i64>> {
                let numbers = attributes.ints(name)?;
                match numbers.len() {
                    0 => Ok(vec![0; count]),
                    length if length == count => Ok(numbers.to_vec()),
                    length => {
                        Err(TractError::msg(format!("its `{name}` has {length} numbers: expected {count}")))
                    }
                }
            };
            let order = |number: i64| match number {
                0 => Ok(Order::Forward),
                1 => Ok(Order::Backward),
                other => Err(TractError::msg(format!("its `{orders}` has a {other}: expected 0 or 1"))),
            };
            let pairs = numbers(axes)?.into_iter().zip(numbers(orders)?);
            pairs.map(|(axis, number)| Ok((axis, order(number)?))).collect()
        };
        let input_orders = if attributes.has("directions") { "directions" } else { "scan_input_directions" };
        let cuts = axes("scan_input_axes", input_orders, scanned)?;
        let joined = axes("scan_output_axes", "scan_output_directions", joined)?;
        Ok(Walk { node, body, carried, cuts, joined })
    }
}

/// Puts a `Scan` into the graph.
pub(super) fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    let walk = Walk::of(lowering, node)?;
    let version = lowering.attributes(node).version();
    let mut inputs = lowering.inputs(node)?;
    if version < 9 {
        if inputs.first().is_some_and(Option::is_some) {
            return Err(TractError::msg(
                "its input `sequence_lens` is not supported: leave it out, so that all sequences are walked to their end",
            ));
        }
        inputs = inputs.into_iter().skip(1).collect();
    }
    if inputs.len() != walk.body.input.len() {
        return Err(TractError::msg(format!(
            "it has {} inputs, but its body has {}",
            inputs.len(),
            walk.body.input.len()
        )));
    }
    let mut tensors = Vec::new();
    for value in &inputs {
        let value = value.as_ref().ok_or_else(|| TractError::msg("an input is left out: expected all"))?;
        let outlet = lowering.tensor(value)?;
        tensors.push(lowering.without_symbols(outlet)?);
    }
    let outputs =
        if version < 9 { batch(lowering, &walk, tensors)? } else { wire(lowering, &walk, tensors)? };
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

/// Adds the walk of version 8: a walk along the batch, whose body is a walk along the sequences.
fn batch<'a>(
    lowering: &mut Lowering<'a>,
    walk: &Walk<'a>,
    inputs: Vec<OutletId>,
) -> TractResult<TVec<OutletId>> {
    let outer = lowering.outer_symbols();
    let cuts: TVec<Along> = tvec![Along { axis: 0, order: Order::Forward }; inputs.len()];
    let (rows, length) = rows(lowering, &inputs, &cuts)?;
    let graph = lowering.apart(|lowering| {
        let mut sources = Vec::new();
        for fact in rows {
            sources.push(lowering.source("row", &fact)?);
        }
        Ok(wire(lowering, walk, sources)?.to_vec())
    })?;
    let joined = tvec![Along { axis: 0, order: Order::Forward }; graph.graph.outputs.len()];
    let new = NewRepeat {
        course: Course::Scan(cuts),
        before: 0,
        inputs: inputs.into(),
        carried: vec![],
        joined,
        length,
    };
    new.wire(lowering, walk.node, graph, &outer)
}

/// The types and shapes of one element of each input, and the number of elements.
fn rows(lowering: &Lowering, inputs: &[OutletId], cuts: &[Along]) -> TractResult<(Vec<TypedFact>, TDim)> {
    let (mut rows, mut lengths) = (Vec::new(), Vec::new());
    for (outlet, along) in inputs.iter().zip(cuts) {
        let fact = lowering.fact(*outlet)?;
        if along.axis >= fact.rank() {
            return Err(TractError::msg(format!(
                "it walks along axis {} of an input with {} axes",
                along.axis,
                fact.rank()
            )));
        }
        let mut shape: TVec<TDim> = fact.shape.iter().cloned().collect();
        lengths.push(shape.remove(along.axis));
        rows.push(TypedFact::dt_shape(fact.datum_type, shape));
    }
    // Open lengths are compared in the run.
    let mut known = lengths.iter().filter(|length| length.to_usize().is_ok());
    let first = known.next().or(lengths.first()).cloned().unwrap_or_else(|| 0.into());
    match known.find(|length| **length != first) {
        Some(other) => Err(TractError::msg(format!(
            "it walks along inputs of {first} and {other} elements: expected equal lengths"
        ))),
        None => Ok((rows, first)),
    }
}

/// Adds the walk along the sequences. The first `inputs` are carried, the others are cut.
fn wire<'a>(
    lowering: &mut Lowering<'a>,
    walk: &Walk<'a>,
    inputs: Vec<OutletId>,
) -> TractResult<TVec<OutletId>> {
    let outer = lowering.outer_symbols();
    let (first, scanned) = inputs.split_at(walk.carried);
    let mut cuts: TVec<Along> = TVec::new();
    for ((at, order), outlet) in walk.cuts.iter().zip(scanned) {
        cuts.push(Along { axis: axis(*at, lowering.fact(*outlet)?.rank())?, order: *order });
    }
    let (elements, length) = rows(lowering, scanned, &cuts)?;
    let given = |carried: &[TypedFact]| carried.iter().chain(&elements).cloned().map(Given::Tensor).collect();
    let Stable { graph, carried, .. } = stable(lowering, walk.body, first, 0, given)?;
    let mut joined: TVec<Along> = TVec::new();
    for (number, (at, order)) in walk.joined.iter().enumerate() {
        let rank = graph.graph.output_fact(walk.carried + number)?.rank();
        joined.push(Along { axis: axis(*at, rank + 1)?, order: *order });
    }
    let course = Course::Scan(cuts);
    let new = NewRepeat { course, before: 0, inputs: inputs.into(), carried, joined, length };
    new.wire(lowering, walk.node, graph, &outer)
}
