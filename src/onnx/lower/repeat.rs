//! `Loop`, and what `Loop` and `Scan` have in common.
//!
//! The body is made with the shapes that carried values have before the first iteration. Where the body gives a value another
//! length, that length changes from iteration to iteration: it becomes a symbol, and the body is made again, until its shapes
//! hold for every iteration. If they do not exist (an axis more in each iteration), or if a sequence is carried, the loop is
//! [unrolled](super::unroll).

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;

use super::super::bodies::Body;
use super::super::bodies::repeat::{Along, Course, Order, Repeat};
use super::super::operators::name_of;
use super::loops::Loop;
use super::{BodyGraph, Given, Lowering, Value, unroll};

/// Puts a `Loop` into the graph.
pub(super) fn put<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    let it = Loop::of(lowering, node)?;
    let can_unroll = unroll::is_small(lowering, &it)?;
    let tensors: Option<Vec<OutletId>> = it
        .carried
        .iter()
        .map(|value| if let Value::Tensor(outlet) = value { Some(*outlet) } else { None })
        .collect();
    let Some(carried) = tensors else {
        return if can_unroll { unroll::put(lowering, &it) } else { Err(unroll::too_large(lowering, &it)?) };
    };
    let mut first = Vec::new();
    for outlet in &carried {
        first.push(lowering.without_symbols(*outlet)?);
    }
    let outer = lowering.outer_symbols();
    let given = |carried: &[TypedFact]| {
        let mut given = vec![
            Given::Tensor(i64::scalar_fact()),
            // There is an iteration only if the condition is true.
            Given::Constant(tensor0(true).into_arc_tensor()),
        ];
        given.extend(carried.iter().cloned().map(Given::Tensor));
        given
    };
    let stable = match stable(lowering, it.body, &first, 1, given) {
        Ok(stable) => stable,
        Err(error) if can_unroll => {
            return unroll::put(lowering, &it)
                .map_err(|other| other.context(format!("it could only be unrolled, because: {error}")));
        }
        Err(error) => return Err(error),
    };
    let is_constant = stable.graph.captured.is_empty() && it.is_constant(lowering, &first)?;
    if can_unroll
        && (stable.has_late || is_constant)
        && let Ok(outputs) = unroll::put(lowering, &it)
    {
        return Ok(outputs);
    }
    let outputs = wire(lowering, &it, first, stable, &outer)?;
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

/// Adds the operator of a `Loop`. `first` are the values before the first iteration.
fn wire(
    lowering: &mut Lowering,
    it: &Loop,
    first: Vec<OutletId>,
    mut stable: Stable,
    outer: &HashSet<Symbol>,
) -> TractResult<TVec<OutletId>> {
    let condition = stable.graph.graph.output_fact(0)?;
    let always = condition.konst.as_ref().filter(|condition| condition.len() == 1);
    let asks = !always.is_some_and(|always| always.cast_to_scalar::<bool>().is_ok_and(|always| always));
    if !asks {
        stable.graph.graph.outputs.remove(0);
        stable.graph.halves.remove(0);
    }
    let length = it.length(lowering, asks)?.unwrap_or_else(|| lowering.late_length());
    let mut inputs: TVec<OutletId> = it.trips.iter().chain(&it.condition).copied().collect();
    for input in &mut inputs {
        *input = lowering.without_symbols(*input)?;
    }
    let carried = first.len();
    inputs.extend(first);
    let joined = it.body.output.len() - 1 - carried;
    let new = NewRepeat {
        course: Course::Loop { has_trips: it.trips.is_some(), has_condition: it.condition.is_some(), asks },
        before: usize::from(asks),
        inputs,
        carried: stable.carried,
        joined: tvec![Along { axis: 0, order: Order::Forward }; joined],
        length,
    };
    new.wire(lowering, it.node, stable.graph, outer)
}

/// A body whose shapes hold for every iteration.
pub(super) struct Stable {
    pub graph: BodyGraph,
    /// The types and shapes of the carried values at the beginning of every iteration.
    pub carried: Vec<TypedFact>,
    /// Whether a length changes from iteration to iteration.
    pub has_late: bool,
}

/// Makes a body with shapes that hold for every iteration. `first` are the values before the first one, `before` is the
/// number of the body's outputs before the carried ones, and `given` makes the body's inputs from the carried ones.
pub(super) fn stable<'a>(
    lowering: &mut Lowering<'a>,
    body: &'a GraphProto,
    first: &[OutletId],
    before: usize,
    given: impl Fn(&[TypedFact]) -> Vec<Given>,
) -> TractResult<Stable> {
    let mut carried = Vec::new();
    for outlet in first {
        let fact = lowering.fact(*outlet)?;
        carried.push(TypedFact::dt_shape(fact.datum_type, fact.shape.clone()));
    }
    let mut late: HashSet<TDim> = HashSet::new();
    loop {
        let graph = lowering.body(body, &given(&carried))?;
        let mut is_stable = true;
        for (at, fact) in carried.iter_mut().enumerate() {
            let made = graph.output_fact(before + at)?;
            if made.datum_type != fact.datum_type || made.rank() != fact.rank() {
                return Err(TractError::msg(format!(
                    "its body makes the value `{}` of {:?} with {} axes from one of {:?} with {}: expected the same type and \
                     number of axes in each iteration",
                    body.output[before + at].name,
                    made.datum_type,
                    made.rank(),
                    fact.datum_type,
                    fact.rank()
                )));
            }
            let mut shape: TVec<TDim> = fact.shape.iter().cloned().collect();
            for (length, made) in shape.iter_mut().zip(made.shape.iter()) {
                if length != made && !late.contains(length) {
                    *length = lowering.late_length();
                    late.insert(length.clone());
                    is_stable = false;
                }
            }
            *fact = TypedFact::dt_shape(fact.datum_type, shape);
        }
        if is_stable {
            return Ok(Stable { graph, carried, has_late: !late.is_empty() });
        }
    }
}

/// A [`Repeat`] that is not in the graph yet.
pub(super) struct NewRepeat {
    pub course: Course,
    /// The number of the body's outputs before the carried ones.
    pub before: usize,
    /// The inputs of the node before those that the body captures.
    pub inputs: TVec<OutletId>,
    /// The carried values at the beginning of every iteration.
    pub carried: Vec<TypedFact>,
    /// The axes of the joined outputs.
    pub joined: TVec<Along>,
    /// The number of iterations.
    pub length: TDim,
}

impl NewRepeat {
    /// Adds the operator to the graph.
    pub fn wire(
        self,
        lowering: &mut Lowering,
        node: &NodeProto,
        body: BodyGraph,
        outer: &HashSet<Symbol>,
    ) -> TractResult<TVec<OutletId>> {
        let of_outer =
            |length: &TDim| lowering.outer_length(length, outer).unwrap_or_else(|| lowering.late_length());
        let mut facts: TVec<TypedFact> = TVec::new();
        for fact in &self.carried {
            let shape: TVec<TDim> = fact.shape.iter().map(of_outer).collect();
            facts.push(TypedFact::dt_shape(fact.datum_type, shape));
        }
        for (at, along) in self.joined.iter().enumerate() {
            let fact = body.output_fact(self.before + self.carried.len() + at)?;
            let mut shape: TVec<TDim> = fact.shape.iter().map(of_outer).collect();
            shape.insert(along.axis, self.length.clone());
            facts.push(TypedFact::dt_shape(fact.datum_type, shape));
        }
        let mut inputs = self.inputs;
        inputs.extend(body.captured);
        let max_tensor_bytes = lowering.max_tensor_bytes;
        let body = Arc::new(Body::of(body.graph, max_tensor_bytes)?);
        lowering.wire_bodies(name_of(node), &inputs, &facts, |facts| Repeat {
            node: name_of(node).to_owned(),
            body,
            course: self.course,
            carried: self.carried.len(),
            joined: self.joined,
            facts,
            max_tensor_bytes,
        })
    }
}
