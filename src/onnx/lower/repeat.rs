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
use super::{BodyGraph, Given, Lowering, Value, unroll};

/// A `Loop` and its inputs.
pub(super) struct Loop<'a> {
    pub node: &'a NodeProto,
    pub body: &'a GraphProto,
    /// The number of iterations, if that is an input.
    pub trips: Option<OutletId>,
    /// The condition before the first iteration, if that is an input.
    pub condition: Option<OutletId>,
    /// The values before the first iteration.
    pub carried: Vec<Value>,
}

impl<'a> Loop<'a> {
    fn of(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Loop<'a>> {
        let body = node.get_attr::<&GraphProto>("body")?;
        let inputs = lowering.inputs(node)?;
        let carried = body
            .input
            .len()
            .checked_sub(2)
            .filter(|carried| inputs.len().saturating_sub(2) == *carried && body.output.len() > *carried);
        let Some(carried) = carried else {
            return Err(TractError::msg(format!(
                "it has {} inputs, and its body has {} inputs and {} outputs: expected as many inputs as the body, and at \
                 least one output less than inputs",
                inputs.len(),
                body.input.len(),
                body.output.len()
            )));
        };
        let tensor = |at: usize| match inputs.get(at) {
            Some(Some(value)) => lowering.tensor(value).map(Some),
            _ => Ok(None),
        };
        let (trips, condition) = (tensor(0)?, tensor(1)?);
        let value = |at: usize| inputs.get(2 + at).cloned().flatten().unwrap_or(Value::Absent);
        Ok(Loop { node, body, trips, condition, carried: (0..carried).map(value).collect() })
    }

    /// The number of iterations, if it is known.
    pub fn known_trips(&self, lowering: &Lowering) -> TractResult<Option<usize>> {
        let Some(trips) = self.trips else { return Ok(None) };
        let known = lowering.fact(trips)?.konst.as_ref().filter(|trips| trips.len() == 1);
        let known = known.and_then(|trips| trips.cast_to_scalar::<i64>().ok());
        Ok(known.map(|trips| usize::try_from(trips).unwrap_or(0)))
    }

    /// The condition before the first iteration, if it is known.
    pub fn known_condition(&self, lowering: &Lowering) -> TractResult<Option<bool>> {
        let Some(condition) = self.condition else { return Ok(Some(true)) };
        let known = lowering.fact(condition)?.konst.as_ref().filter(|condition| condition.len() == 1);
        known.map(|condition| condition.cast_to_scalar::<bool>()).transpose()
    }

    /// The number of iterations as a length. `None` if only the run determines it.
    fn length(&self, lowering: &Lowering, asks: bool) -> TractResult<Option<TDim>> {
        if self.known_condition(lowering)? == Some(false) {
            return Ok(Some(0.into()));
        }
        if asks || self.known_condition(lowering)?.is_none() {
            return Ok(None);
        }
        if let Some(trips) = self.known_trips(lowering)? {
            return Ok(Some(trips.into()));
        }
        let Some(trips) = self.trips else { return Ok(None) };
        let symbolic =
            lowering.fact(trips)?.konst.as_ref().filter(|trips| trips.datum_type() == TDim::datum_type());
        let Some(trips) = symbolic.filter(|trips| trips.len() == 1) else { return Ok(None) };
        let trips = trips.try_as_plain_ram()?.as_slice::<TDim>()?[0].clone();
        // A difference of lengths may be negative, and then there are no iterations. A length itself never is.
        Ok(matches!(trips, TDim::Sym(_)).then_some(trips))
    }
}

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

impl Loop<'_> {
    /// Whether everything that enters the loop is constant.
    fn is_constant(&self, lowering: &Lowering, carried: &[OutletId]) -> TractResult<bool> {
        for outlet in carried.iter().chain(&self.trips).chain(&self.condition) {
            if lowering.fact(*outlet)?.konst.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
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
            let made = graph.graph.output_fact(before + at)?;
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
            let fact = body.graph.output_fact(self.before + self.carried.len() + at)?;
            let mut shape: TVec<TDim> = fact.shape.iter().map(of_outer).collect();
            shape.insert(along.axis, self.length.clone());
            facts.push(TypedFact::dt_shape(fact.datum_type, shape));
        }
        let mut inputs = self.inputs;
        inputs.extend(body.captured);
        let op = Repeat {
            node: name_of(node).to_owned(),
            body: Arc::new(Body::of(body.graph, lowering.max_tensor_bytes)?),
            course: self.course,
            carried: self.carried.len(),
            joined: self.joined,
            facts,
            max_tensor_bytes: lowering.max_tensor_bytes,
        };
        lowering.wire(name_of(node), op, &inputs)
    }
}
