//! A body that runs several times: `Loop`, and `Scan`, which walks along an axis of its inputs.
//!
//! Each iteration gets the values that the one before it made ("carried" values). Their lengths may change from iteration to
//! iteration. Other outputs of the body are joined along a new axis.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::{DimLike, EvalContext, EvalOp, Op, StaticName, TypedOp};

use super::stack::Stack;
use super::{Body, Turns, keep, share};
use crate::error::{Code, RequestError};

/// The most iterations of one run of a node. A loop that a client's values make endless ends here.
pub const MOST_ITERATIONS: usize = 1_000_000;

/// The order in which the elements of an axis are read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Backward,
}

/// An axis along which there is one element per iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    /// The axis, counted from 0.
    pub axis: usize,
    /// The order of the iterations along it.
    pub order: Order,
}

/// What decides how many iterations there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// As in `Loop`. The first inputs of the node are the number of iterations and the first condition, as far as they are
    /// there. The body's first input is the number of the iteration.
    Loop {
        /// Whether the number of iterations is an input.
        has_trips: bool,
        /// Whether the condition before the first iteration is an input.
        has_condition: bool,
        /// Whether the body's first output is the condition for the next iteration.
        asks: bool,
    },
    /// As in `Scan`: one iteration per element of an axis. After the carried values come the inputs that are cut along these
    /// axes.
    Scan(TVec<Along>),
}

/// The operator. The inputs of the node are, in this order: what [`Course`] says, the carried values, the inputs that are cut
/// along an axis, and the values that the body reads from the graph around it. The inputs and outputs of the body have the same
/// order.
#[derive(Debug, Clone)]
pub struct Repeat {
    /// The name of the node, for errors.
    pub node: String,
    /// What is run in each iteration.
    pub body: Arc<Body>,
    /// What decides how many iterations there are.
    pub course: Course,
    /// The number of carried values.
    pub carried: usize,
    /// The outputs of the body that are joined.
    pub joined: TVec<Along>,
    /// The types and shapes of the outputs of the node: the last carried values, then the joined outputs.
    pub facts: TVec<TypedFact>,
    /// The most bytes of one tensor.
    pub max_tensor_bytes: usize,
}

impl Repeat {
    /// The number of iterations if nothing ends them earlier, and whether the first one is run.
    fn trips(&self, inputs: &mut impl Iterator<Item = TValue>) -> TractResult<(Option<usize>, bool)> {
        let Course::Loop { has_trips, has_condition, .. } = self.course else { return Ok((None, true)) };
        let mut next = |name: &str| -> TractResult<TValue> {
            let value = inputs.next().filter(|value| value.len() == 1);
            value.ok_or_else(|| TractError::msg(format!("`{name}` must have one element")))
        };
        let trips = if has_trips { Some(next("M")?.cast_to_scalar::<i64>()?) } else { None };
        let begins = !has_condition || is_true(Some(next("cond")?))?;
        Ok((trips.map(|trips| usize::try_from(trips).unwrap_or(0)), begins))
    }

    /// The number of iterations of a `Scan`.
    fn length(&self, cuts: &[Along], scanned: &[TValue]) -> TractResult<usize> {
        let lengths: Vec<usize> =
            cuts.iter().zip(scanned).map(|(along, input)| input.shape()[along.axis]).collect();
        match lengths.iter().find(|length| **length != lengths[0]) {
            Some(other) => Err(RequestError::invalid(format!(
                "node `{}` walks along inputs of {} and {other} elements: expected equal lengths",
                self.node, lengths[0]
            ))
            .into()),
            None => Ok(lengths.first().copied().unwrap_or(0)),
        }
    }

    fn too_many(&self) -> TractError {
        let message = format!(
            "node `{}` is not finished after {MOST_ITERATIONS} iterations, which is the limit",
            self.node
        );
        RequestError::new(Code::TooLarge, message).into()
    }
}

/// One run of the operator.
struct Run<'a> {
    op: &'a Repeat,
    turns: Turns<'a>,
    carried: TVec<TValue>,
    scanned: TVec<TValue>,
    captured: TVec<TValue>,
    stacks: TVec<Stack>,
}

impl Run<'_> {
    /// Runs the iteration number `at` of `count`. Returns whether another one may follow.
    fn step(&mut self, at: usize) -> TractResult<bool> {
        let mut inputs: TVec<TValue> = TVec::new();
        let asks = match &self.op.course {
            Course::Loop { asks, .. } => {
                inputs.push(tensor0(at as i64).into_tvalue());
                *asks
            }
            Course::Scan(_) => false,
        };
        inputs.extend(self.carried.drain(..));
        if let Course::Scan(cuts) = &self.op.course {
            for (along, input) in cuts.iter().zip(&self.scanned) {
                inputs.push(element(input, *along, at)?);
            }
        }
        inputs.extend(self.captured.iter().cloned());
        let mut outputs = self.turns.run(inputs)?.into_iter();
        let goes_on = !asks || is_true(outputs.next())?;
        self.carried.extend(outputs.by_ref().take(self.op.carried));
        for (stack, result) in self.stacks.iter_mut().zip(outputs) {
            stack.push(result, &self.op.node)?;
        }
        Ok(goes_on)
    }
}

/// The value of a condition.
fn is_true(condition: Option<TValue>) -> TractResult<bool> {
    let condition = condition.filter(|condition| condition.len() == 1);
    condition.ok_or_else(|| TractError::msg("the condition must have one element"))?.cast_to_scalar::<bool>()
}

/// One element of an axis, without that axis.
fn element(input: &Tensor, along: Along, at: usize) -> TractResult<TValue> {
    let at = match along.order {
        Order::Forward => at,
        Order::Backward => input.shape()[along.axis] - 1 - at,
    };
    let mut element = input.slice(along.axis, at, at + 1)?;
    element.remove_axis(along.axis)?;
    Ok(element.into_tvalue())
}

impl EvalOp for Repeat {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut inputs = inputs.into_iter();
        let (trips, begins) = self.trips(&mut inputs)?;
        let carried: TVec<TValue> = inputs.by_ref().take(self.carried).collect();
        let (scanned, expected) = match &self.course {
            Course::Loop { asks, .. } => (TVec::new(), trips.filter(|_| begins && !asks)),
            Course::Scan(cuts) => {
                let scanned: TVec<TValue> = inputs.by_ref().take(cuts.len()).collect();
                let length = self.length(cuts, &scanned)?;
                (scanned, Some(length))
            }
        };
        let count = if begins { expected.or(trips) } else { Some(0) };
        if expected.is_some_and(|count| count > MOST_ITERATIONS) {
            return Err(self.too_many());
        }
        let stack = |along: &Along| Stack::new(*along, expected, share(context), self.max_tensor_bytes);
        let stacks = self.joined.iter().map(stack).collect();
        let captured = inputs.collect();
        let mut run = Run { op: self, turns: self.body.begin(context)?, carried, scanned, captured, stacks };
        let mut at = 0;
        while count.is_none_or(|count| at < count) {
            if at == MOST_ITERATIONS {
                return Err(self.too_many());
            }
            let goes_on = run.step(at)?;
            at += 1;
            if !goes_on {
                break;
            }
        }
        let mut outputs = run.carried;
        for ((stack, along), fact) in
            run.stacks.into_iter().zip(&self.joined).zip(&self.facts[self.carried..])
        {
            // If there was no iteration, a length that only an iteration determines is 0.
            let lengths = fact.shape.iter().enumerate().filter(|(axis, _)| *axis != along.axis);
            let row: TVec<usize> =
                lengths.map(|(_, length)| length.eval(context.symbols).to_usize().unwrap_or(0)).collect();
            outputs.push(stack.finish(fact.datum_type, &row)?);
        }
        keep(context, &self.facts, &outputs)?;
        Ok(outputs)
    }

    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }
}

impl PartialEq for Repeat {
    fn eq(&self, other: &Repeat) -> bool {
        Arc::ptr_eq(&self.body, &other.body) && self.course == other.course && self.joined == other.joined
    }
}

impl Eq for Repeat {}

impl Op for Repeat {
    fn name(&self) -> StaticName {
        match self.course {
            Course::Loop { .. } => "Loop".into(),
            Course::Scan(_) => "Scan".into(),
        }
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.facts.iter().any(|fact| fact.shape.as_concrete().is_none())
    }

    fn required_bound_symbols(&self, _: &[&TypedFact]) -> TVec<Symbol> {
        self.body.symbols.clone()
    }

    op_as_typed_op!();
}

impl TypedOp for Repeat {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.clone())
    }

    as_op!();
}
