//! Operators with a result whose size is known only during the run ("late" operators). `Range` and `TopK` read the size
//! from a value, which a client may have sent. `NonZero` and `NonMaxSuppression` count elements. The operators after them
//! depend on that size. Ours say how large their results are ([`Own::bytes`]); tract's are asked for the shapes.
//!
//! [`Guard`](super::guard) cannot check such a size before the run. So each of these operators is wrapped in a [`Late`],
//! which computes the size when the inputs exist and the result does not. A size above the limit is an error, and the
//! memory is taken from the budget before the operator allocates it. A size that cannot be computed is also an error,
//! because a failed allocation would end the process.
//!
//! Text is late too, also where the number of texts is known. So the operators that make text are wrapped as well, and
//! the most bytes that their texts can have are taken from the budget.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{DynSlice, Range};
use tract_onnx::tract_core::ops::change_axes::{AxisOp, IntoShape};
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::{
    EvalContext, EvalOp, LaneId, Op, OpState, SessionId, StaticName, TypedOp, Validation,
};

use super::operators::operator::{longest_text, text_bytes};
use super::operators::own::Own;
use crate::error::{Code, RequestError};
use crate::memory::Share;

/// The share of memory of the current run. Operators find it in `EvalContext::shared`.
#[derive(Debug)]
pub(super) struct Meter(Mutex<Share>);

impl Meter {
    /// Takes the memory of the run from `share`.
    pub fn new(share: Share) -> Meter {
        Meter(Mutex::new(share))
    }

    /// Takes memory until the end of the run.
    pub fn take(&self, bytes: usize) -> Result<(), RequestError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)
    }

    /// Another, empty share for the same request, for memory that is returned before the end of the run.
    pub fn beside(&self) -> Share {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).beside()
    }
}

/// The symbols in the shapes of the inputs: their values are known when a run starts.
pub(super) fn known_symbols(model: &TypedModel) -> TractResult<HashSet<Symbol>> {
    let mut known = HashSet::new();
    for outlet in model.input_outlets()? {
        known.extend(model.outlet_fact(*outlet)?.shape.iter().flat_map(|dim| dim.symbols()));
    }
    Ok(known)
}

/// The operators that run bodies. They take the memory of their results themselves, while the bodies run.
const WITH_BODIES: &[&str] = &["If", "Loop", "Scan"];

/// True when the shape has a symbol that is not `known` when a run starts.
fn is_late(fact: &TypedFact, known: &HashSet<Symbol>) -> bool {
    fact.shape.iter().any(|dim| dim.symbols().iter().any(|symbol| !known.contains(symbol)))
}

/// Wraps the late operators of a graph. `most` is the limit for one tensor in bytes.
pub(super) fn watch(model: &mut TypedModel, known: &HashSet<Symbol>, most: usize) -> TractResult<()> {
    for node in model.nodes_mut() {
        // Operators with bodies count their memory themselves.
        let has_body = WITH_BODIES.contains(&&*node.op.name());
        let has_late_lengths = node.outputs.iter().any(|output| is_late(&output.fact, known));
        let texts = node.outputs.iter().filter(|output| output.fact.datum_type == DatumType::String);
        let texts: TVec<TypedFact> = texts.map(|output| output.fact.clone()).collect();
        let is_late = has_late_lengths || !texts.is_empty();
        if is_late && !node.inputs.is_empty() && !has_body && !node.op_is::<Late>() {
            let op = Late { inner: node.op.clone(), node: node.name.clone(), has_late_lengths, texts, most };
            node.op = Box::new(op);
        }
    }
    Ok(())
}

/// A late operator. The size of its result is computed and checked before the result is made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Late {
    inner: Box<dyn TypedOp>,
    /// The name of the node, for errors.
    node: String,
    /// False when the run has taken the memory of the elements before it began.
    has_late_lengths: bool,
    /// The outputs that hold text.
    texts: TVec<TypedFact>,
    /// The most bytes of one tensor.
    most: usize,
}

impl Late {
    /// Checks the size of the result, and takes its memory.
    fn admit(&self, context: &EvalContext, inputs: &[TValue]) -> TractResult<()> {
        let elements = if self.has_late_lengths { self.bytes(context, inputs)? } else { 0 };
        let bytes = elements.saturating_add(self.text(context, inputs, elements)?);
        if bytes > self.most as u128 {
            let message = format!(
                "node `{}` would make {bytes} bytes of these values: the limit is {}",
                self.node, self.most
            );
            return Err(RequestError::new(Code::TooLarge, message).into());
        }
        match context.shared.and_then(|shared| shared.get::<Meter>()) {
            Some(meter) => Ok(meter.take(bytes as usize)?),
            None => Ok(()),
        }
    }

    /// True for tract's operators that keep every element or leave it out.
    fn only_moves(&self) -> bool {
        self.inner.is::<DynSlice>() || self.inner.is::<AxisOp>() || self.inner.is::<IntoShape>()
    }

    /// The most bytes of text in the results. `elements` are the bytes of their elements, if a length is late.
    fn text(&self, context: &EvalContext, inputs: &[TValue], elements: u128) -> TractResult<u128> {
        let mut count = 0_u128;
        for fact in &self.texts {
            let volume = fact.shape.iter().try_fold(1_u128, |volume, length| {
                let length = length.eval(context.symbols).to_i64().ok()?;
                Some(volume.saturating_mul(u128::try_from(length).ok()?))
            });
            // No more texts fit into the bytes of all elements.
            let most = elements / size_of::<String>() as u128;
            count = count.saturating_add(volume.unwrap_or(most));
        }
        if count == 0 {
            return Ok(0);
        }
        if let Some(own) = self.inner.downcast_ref::<Own>() {
            return own.most_text(inputs, count);
        }
        Ok(match self.only_moves() {
            true => inputs.iter().map(|input| text_bytes(input) as u128).sum(),
            false => count.saturating_mul(inputs.iter().map(|input| longest_text(input) as u128).sum()),
        })
    }

    /// The most bytes that the elements of the results can use.
    fn bytes(&self, context: &EvalContext, inputs: &[TValue]) -> TractResult<u128> {
        let of = |input: &TValue| (input.len() * input.datum_type().size_of()) as u128;
        if self.inner.is::<Range>() {
            return Ok(range(context, inputs)? * inputs[0].datum_type().size_of() as u128);
        }
        if let Some(own) = self.inner.downcast_ref::<Own>() {
            return own.bytes(context.symbols, inputs);
        }
        // A new order or new axes: tract compares the late lengths with those of the input, and finds them unequal.
        if self.only_moves() {
            return Ok(of(&inputs[0]));
        }
        self.by_facts(context, inputs)
    }

    /// The size that the operator itself derives from the shapes of its inputs.
    fn by_facts(&self, context: &EvalContext, inputs: &[TValue]) -> TractResult<u128> {
        let fact = |input: &TValue| -> TractResult<TypedFact> {
            // Packed matrices have a form of their own.
            let exotic_fact = input.exotic_fact()?;
            Ok(TypedFact { exotic_fact, ..TypedFact::dt_shape(input.datum_type(), input.shape()) })
        };
        let facts: Vec<TypedFact> = inputs.iter().map(fact).collect::<TractResult<_>>()?;
        let outputs = self.inner.output_facts(&facts.iter().collect::<Vec<_>>())?;
        let mut bytes = 0_u128;
        for output in &outputs {
            let mut volume = output.datum_type.size_of() as u128;
            for dim in output.shape.iter() {
                let length = dim.eval(context.symbols).to_i64().map_err(|_| {
                    TractError::msg(format!(
                        "the size of the result of node `{}` cannot be computed before it is made",
                        self.node
                    ))
                })?;
                let length = u128::try_from(length).map_err(|_| {
                    let message = format!("node `{}` would make a shape with the length {length}", self.node);
                    TractError::from(RequestError::invalid(message))
                })?;
                volume = volume.saturating_mul(length);
            }
            bytes = bytes.saturating_add(volume);
        }
        Ok(bytes)
    }
}

/// The number of elements that a `Range` makes, or a few more.
fn range(context: &EvalContext, inputs: &[TValue]) -> TractResult<u128> {
    let number = |input: &TValue| -> TractResult<f64> {
        if input.datum_type() == TDim::datum_type() {
            let plain = input.try_as_plain_ram()?;
            return Ok(plain.to_scalar::<TDim>()?.eval(context.symbols).to_i64()? as f64);
        }
        input.cast_to_scalar::<f64>()
    };
    let (start, end, step) = (number(&inputs[0])?, number(&inputs[1])?, number(&inputs[2])?);
    let count = ((end - start) / step).ceil();
    if step == 0.0 || count.is_nan() {
        let message = format!("a Range from {start} to {end} in steps of {step} has no length");
        return Err(RequestError::invalid(message).into());
    }
    // A range in the wrong direction is empty. For sizes (`TDim`), however, tract uses the absolute distance.
    let is_size = inputs[0].datum_type() == TDim::datum_type();
    let count = if is_size { count.abs() } else { count.max(0.0) };
    // One more, because the division may have been rounded down.
    Ok(count as u128 + 1)
}

impl Op for Late {
    fn name(&self) -> StaticName {
        self.inner.name()
    }

    fn validation(&self) -> Validation {
        self.inner.validation()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.inner.mints_runtime_symbols()
    }

    fn required_bound_symbols(&self, inputs: &[&TypedFact]) -> TVec<Symbol> {
        self.inner.required_bound_symbols(inputs)
    }

    op_as_typed_op!();
}

impl EvalOp for Late {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.admit(context, &inputs)?;
        self.inner.eval(context, inputs)
    }

    fn forwards_input(&self) -> Option<usize> {
        self.inner.forwards_input()
    }

    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        let state = self.inner.state(context)?;
        Ok(state.map(|inner| Box::new(LateState { inner }) as Box<dyn OpState>))
    }

    fn drop_session(&self, session: SessionId, node: usize) {
        self.inner.drop_session(session, node);
    }
}

impl TypedOp for Late {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.inner.output_facts(inputs)
    }

    as_op!();
}

/// The state of a late operator that has one.
#[derive(Debug, Clone)]
struct LateState {
    inner: Box<dyn OpState>,
}

impl OpState for LateState {
    fn eval(
        &mut self,
        context: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let late = op
            .downcast_ref::<Late>()
            .ok_or_else(|| TractError::msg("the state belongs to another operator"))?;
        late.admit(context, &inputs)?;
        self.inner.eval(context, late.inner.as_op(), inputs)
    }

    fn reset_lanes(&mut self, lanes: &[LaneId]) -> TractResult<()> {
        self.inner.reset_lanes(lanes)
    }
}
