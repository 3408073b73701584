//! `If`.
//!
//! Exporters write conditions whose value is known as soon as the shapes and parameters are known: "is the rank 3", "is
//! the sample rate 16000". The branch that is not taken often does not fit the shapes. So if the value of the condition is
//! known, the branch that is taken replaces the node, and the other branch is not looked at. If the value is known only
//! during a run, the node becomes an operator that has the plans of both branches ([`Branch`]).

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;

use super::super::bodies::Body;
use super::super::bodies::branch::{Arm, Branch};
use super::super::operators::name_of;
use super::{BodyGraph, Lowering, Value};

/// Puts an `If` into the graph.
pub(super) fn branch<'a>(lowering: &mut Lowering<'a>, node: &'a NodeProto) -> TractResult<Vec<Value>> {
    let yes = node.get_attr::<&GraphProto>("then_branch")?;
    let no = node.get_attr::<&GraphProto>("else_branch")?;
    let condition = lowering.required(node, 0, "cond")?;
    if let Some(value) = &lowering.fact(condition)?.konst {
        if value.len() != 1 {
            return Err(TractError::msg(format!("its condition has {} elements: expected one", value.len())));
        }
        let is_yes = value.cast_to_scalar::<bool>()?;
        return lowering.inline(if is_yes { yes } else { no }, Vec::new());
    }
    let outer = lowering.outer_symbols();
    let in_branch = |name: &'static str| {
        move |error: TractError| {
            error.context(format!("its condition is known only during a run, and its {name} cannot be used"))
        }
    };
    let yes = lowering.body(yes, &[]).map_err(in_branch("then_branch"))?;
    let no = lowering.body(no, &[]).map_err(in_branch("else_branch"))?;
    let facts = common(lowering, &yes, &no, &outer)?;
    let mut inputs = tvec![condition];
    let yes = arm(yes, &mut inputs, lowering.max_tensor_bytes)?;
    let no = arm(no, &mut inputs, lowering.max_tensor_bytes)?;
    let outputs = lowering.wire_bodies(name_of(node), &inputs, &facts, |facts| Branch { yes, no, facts })?;
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

/// Makes the plan of a branch. Adds what it reads to the inputs of the node, each once.
fn arm(branch: BodyGraph, inputs: &mut TVec<OutletId>, max_tensor_bytes: usize) -> TractResult<Arm> {
    let place = |outer: &OutletId| {
        // The first input is the condition, even if the branch reads it too.
        inputs.iter().position(|input| input == outer).unwrap_or_else(|| {
            inputs.push(*outer);
            inputs.len() - 1
        })
    };
    let places = branch.captured.iter().map(place).collect();
    Ok(Arm { body: Arc::new(Body::of(branch.graph, max_tensor_bytes)?), places })
}

/// The types and shapes of the outputs, whichever branch is run.
fn common(
    lowering: &Lowering,
    yes: &BodyGraph,
    no: &BodyGraph,
    outer: &HashSet<Symbol>,
) -> TractResult<TVec<TypedFact>> {
    let counts = (yes.graph.outputs.len(), no.graph.outputs.len());
    if counts.0 != counts.1 {
        return Err(TractError::msg(format!(
            "its branches have {} and {} outputs: expected equal numbers",
            counts.0, counts.1
        )));
    }
    let fact = |at: usize| -> TractResult<TypedFact> {
        let (yes, no) = (yes.output_fact(at)?, no.output_fact(at)?);
        if yes.datum_type != no.datum_type {
            return Err(TractError::msg(format!(
                "its branches give output {at} the types {:?} and {:?}: expected one type",
                yes.datum_type, no.datum_type
            )));
        }
        if yes.rank() != no.rank() {
            return Err(TractError::msg(format!(
                "its branches give output {at} {} and {} axes, and the condition is known only during a run: expected equal \
                 numbers of axes. Make the condition constant, for example with `constant` in model.json",
                yes.rank(),
                no.rank()
            )));
        }
        let lengths = yes.shape.iter().zip(no.shape.iter());
        let shape: TVec<TDim> = lengths
            .map(|(yes, no)| {
                lowering
                    .outer_length(yes, outer)
                    .filter(|_| yes == no)
                    .unwrap_or_else(|| lowering.late_length())
            })
            .collect();
        Ok(TypedFact::dt_shape(yes.datum_type, shape))
    };
    (0..counts.0).map(fact).collect()
}

impl Lowering<'_> {
    /// The symbols that exist now. Those that a body makes later belong to that body.
    pub(super) fn outer_symbols(&self) -> HashSet<Symbol> {
        self.symbols.all_symbols().into_iter().collect()
    }

    /// A length in a body, if it has a meaning in the graph around it: if it has no symbol of the body.
    pub(super) fn outer_length(&self, length: &TDim, outer: &HashSet<Symbol>) -> Option<TDim> {
        length.symbols().iter().all(|symbol| outer.contains(symbol)).then(|| length.clone())
    }

    /// A new length that only the run determines.
    pub(super) fn late_length(&self) -> TDim {
        self.symbols.new_with_prefix("late").into()
    }
}
