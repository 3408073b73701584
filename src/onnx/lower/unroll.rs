//! Puts every iteration of a `Loop` into the graph, so that all its shapes are known.
//!
//! This serves what [`repeat`](super::repeat) cannot: carried sequences, and carried values that get another number of axes. It
//! needs a number of iterations, or conditions, that are known before the run.

use tract_onnx::prelude::*;

use super::super::external::graphs;
use super::super::operators::name_of;
use super::repeat::Loop;
use super::sequences::join;
use super::{Lowering, Value};

/// The most iterations.
const MOST_ITERATIONS: usize = 1000;
/// The most nodes in all iterations together.
const MOST_NODES: usize = 10_000;

/// Whether a loop is so small that it can be unrolled. If only its conditions end it, their values decide that later.
pub(super) fn is_small(lowering: &Lowering, it: &Loop) -> TractResult<bool> {
    Ok(match (it.trips, it.known_trips(lowering)?) {
        (_, Some(trips)) => trips <= most(it),
        (Some(_), None) => false,
        (None, None) => true,
    })
}

/// The most iterations of this loop.
fn most(it: &Loop) -> usize {
    let nodes: usize = graphs(Some(it.body)).iter().map(|graph| graph.node.len()).sum();
    (MOST_NODES / nodes.max(1)).min(MOST_ITERATIONS)
}

/// The error for a loop that carries a sequence and cannot be unrolled.
pub(super) fn too_large(lowering: &Lowering, it: &Loop) -> TractResult<TractError> {
    let reason = match it.known_trips(lowering)? {
        Some(trips) => format!("it has {trips} iterations: the limit for it is {}", most(it)),
        None => "its number of iterations is known only during a run: make it constant".into(),
    };
    Ok(TractError::msg(format!(
        "it carries a sequence or an optional from iteration to iteration, and {reason}"
    )))
}

/// Puts all iterations into the graph, and returns the outputs of the loop.
///
/// Errors: a condition is not known before the run, or there are too many iterations.
pub(super) fn put<'a>(lowering: &mut Lowering<'a>, it: &Loop<'a>) -> TractResult<Vec<Value>> {
    let unknown =
        || TractError::msg("a condition of it is known only during a run, so it cannot be unrolled");
    let trips = it.known_trips(lowering)?;
    let mut goes_on = it.known_condition(lowering)?.ok_or_else(unknown)?;
    let mut carried = it.carried.clone();
    let mut joined: Vec<Vec<OutletId>> = vec![Vec::new(); it.body.output.len() - 1 - carried.len()];
    let mut at = 0;
    while goes_on && trips.is_none_or(|trips| at < trips) {
        if at == most(it) {
            return Err(TractError::msg(format!("it has more than {at} iterations: it cannot be unrolled")));
        }
        let number = lowering.constant("iteration", tensor0(at as i64).into_arc_tensor())?;
        let condition = lowering.constant("condition", tensor0(true).into_arc_tensor())?;
        let mut given = vec![Value::Tensor(number), Value::Tensor(condition)];
        given.append(&mut carried);
        let mut outputs = lowering.inline(it.body, given)?.into_iter();
        let condition = outputs.next().ok_or_else(unknown)?;
        let condition = lowering.tensor(&condition)?;
        let known = lowering.fact(condition)?.konst.as_ref().filter(|condition| condition.len() == 1);
        goes_on = known.ok_or_else(unknown)?.cast_to_scalar::<bool>()?;
        carried = outputs.by_ref().take(it.carried.len()).collect();
        for (all, output) in joined.iter_mut().zip(outputs) {
            all.push(lowering.tensor(&output)?);
        }
        at += 1;
    }
    for all in joined {
        if all.is_empty() {
            return Err(TractError::msg(
                "it has no iteration, so the shapes of its scan outputs are not known",
            ));
        }
        carried.push(Value::Tensor(join(lowering, name_of(it.node), &all, 0, true)?));
    }
    Ok(carried)
}
