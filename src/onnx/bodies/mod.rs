//! Operators that run a graph inside the graph ("body"): [`branch`] for `If`, [`repeat`] for `Loop` and `Scan`.
//!
//! What belongs here: running bodies. What does not: making their graphs ([`lower`](super::lower)).
//!
//! # Invariants
//! - A body is optimised once, when the model is loaded, and never during a run.
//! - Before each run of a body its shapes are checked and its memory is taken from the budget, exactly as for the graph
//!   around it. Late operators inside it are watched.
//! - Nothing is kept from one run of the model to the next.

pub mod branch;
pub mod repeat;
mod stack;

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{EvalContext, TypedSimplePlan, TypedSimpleState};

use branch::Branch;
use repeat::Repeat;

use super::guard::Guard;
use super::late::Meter;
use super::operators::operator::text_bytes;
use super::optimised::Optimised;
use crate::memory::{Budget, Share};

/// A body that can run.
#[derive(Debug)]
pub struct Body {
    plan: Arc<TypedSimplePlan>,
    guard: Guard,
    /// The bytes of its constants, and of those of the bodies inside it.
    weight_bytes: usize,
    /// The symbols in its shapes and constants. Those of the graph around it must have values before the body runs.
    symbols: TVec<Symbol>,
}

impl Body {
    /// Optimises a body. No tensor may have more than `max_tensor_bytes`.
    pub fn of(graph: TypedModel, max_tensor_bytes: usize) -> TractResult<Body> {
        let Optimised { runnable, guard, weight_bytes } = Optimised::of(graph, max_tensor_bytes)?;
        let symbols = symbols(runnable.model())?;
        let weight_bytes = weight_bytes + self::weight_bytes(runnable.model());
        Ok(Body { plan: runnable, guard, weight_bytes, symbols })
    }

    /// Prepares for one or more runs of this body, inside a run of the graph around it.
    pub fn begin<'a>(&'a self, context: &'a EvalContext<'a>) -> TractResult<Turns<'a>> {
        let state = self.plan.spawn()?;
        Ok(Turns { body: self, context, state, shapes: TVec::new(), peak: 0, memory: share(context) })
    }
}

/// The bytes of the constants in all bodies of a graph.
pub fn weight_bytes(graph: &TypedModel) -> usize {
    let bytes = |node: &TypedNode| match (node.op_as::<Repeat>(), node.op_as::<Branch>()) {
        (Some(repeat), _) => repeat.body.weight_bytes,
        (_, Some(branch)) => branch.yes.body.weight_bytes + branch.no.body.weight_bytes,
        _ => 0,
    };
    graph.nodes().iter().map(bytes).sum()
}

/// Whether a graph has bodies.
pub fn has_any(graph: &TypedModel) -> bool {
    graph.nodes().iter().any(|node| node.op_is::<Repeat>() || node.op_is::<Branch>())
}

/// The symbols in the shapes and constants of a graph, each once.
fn symbols(graph: &TypedModel) -> TractResult<TVec<Symbol>> {
    let mut all = Vec::new();
    for fact in graph.nodes().iter().flat_map(|node| &node.outputs).map(|output| &output.fact) {
        all.extend(fact.shape.iter().flat_map(|length| length.symbols()));
        if let Some(sizes) = fact.konst.as_ref().filter(|konst| konst.datum_type() == TDim::datum_type()) {
            let sizes = sizes.try_as_plain_ram()?;
            all.extend(sizes.as_slice::<TDim>()?.iter().flat_map(TDim::symbols));
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all.into())
}

/// An empty share of the current run's memory.
fn share(context: &EvalContext) -> Share {
    let meter = context.shared.and_then(|shared| shared.get::<Meter>());
    meter.map_or_else(|| Share::none(&Budget::unbounded()), Meter::beside)
}

/// Takes the memory of those outputs whose size was not known before the run, and of all texts. The run keeps it until
/// its end.
fn keep(context: &EvalContext, facts: &[TypedFact], outputs: &[TValue]) -> TractResult<()> {
    let Some(meter) = context.shared.and_then(|shared| shared.get::<Meter>()) else { return Ok(()) };
    let late = facts.iter().zip(outputs).filter(|(fact, _)| fact.shape.as_concrete().is_none());
    let elements: usize = late.map(|(_, output)| output.len() * output.datum_type().size_of()).sum();
    let texts: usize = outputs.iter().map(|output| text_bytes(output)).sum();
    Ok(meter.take(elements + texts)?)
}

/// The runs of a body inside one run of the graph around it.
pub struct Turns<'a> {
    body: &'a Body,
    context: &'a EvalContext<'a>,
    state: TypedSimpleState,
    /// The shapes of the last run's inputs.
    shapes: TVec<TVec<usize>>,
    /// The bytes of a run for these shapes, without texts.
    peak: usize,
    /// The memory of the last run.
    memory: Share,
}

impl Turns<'_> {
    /// Runs the body once. After an error it must not be run again.
    pub fn run(&mut self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        // The lengths of the body's own symbols may be others than in the last run.
        self.state.turn_state.resolved_symbols = self.context.symbols.clone();
        let is_new = self.shapes.len() != inputs.len()
            || self.shapes.iter().zip(&inputs).any(|(shape, input)| **shape != *input.shape());
        if is_new {
            self.shapes = inputs.iter().map(|input| input.shape().into()).collect();
        }
        let texts: usize = inputs.iter().map(|input| text_bytes(input)).sum();
        self.state.set_inputs(inputs)?;
        if is_new {
            self.peak = self.body.guard.check_symbols(&self.state.turn_state.resolved_symbols)?.peak;
        }
        self.memory.resize(self.peak + texts)?;
        // This returns the memory of the last run's late operators: what is left of their results is now counted as inputs.
        self.state.turn_state.shared.insert(Meter::new(self.memory.beside()));
        self.state.exec()?;
        let outputs = self.state.outputs()?;
        self.state.reset_turn()?;
        Ok(outputs)
    }
}
