//! A `Loop` node and what is known about it before the run: its inputs, the number of iterations, the condition.

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;

use super::{Lowering, Value};

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
    pub fn of(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Loop<'a>> {
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
    pub fn length(&self, lowering: &Lowering, asks: bool) -> TractResult<Option<TDim>> {
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

impl Loop<'_> {
    /// Whether everything that enters the loop is constant.
    pub fn is_constant(&self, lowering: &Lowering, carried: &[OutletId]) -> TractResult<bool> {
        for outlet in carried.iter().chain(&self.trips).chain(&self.condition) {
            if lowering.fact(*outlet)?.konst.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
