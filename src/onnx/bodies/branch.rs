//! `If` with a condition that is known only during a run: the graphs of both branches, of which one is run.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::{EvalContext, EvalOp, Op, StaticName, TypedOp};

use super::{Body, keep};

/// A branch of `If`.
#[derive(Debug, Clone)]
pub struct Arm {
    /// What is run.
    pub body: Arc<Body>,
    /// For each input of the body: its index among the inputs of the node.
    pub places: TVec<usize>,
}

/// The operator. Its first input is the condition.
#[derive(Debug, Clone)]
pub struct Branch {
    /// What is run when the condition is true.
    pub yes: Arm,
    /// What is run when the condition is false.
    pub no: Arm,
    /// The types and shapes of the outputs. A length that differs between the branches is a symbol.
    pub facts: TVec<TypedFact>,
}

impl PartialEq for Branch {
    fn eq(&self, other: &Branch) -> bool {
        Arc::ptr_eq(&self.yes.body, &other.yes.body) && Arc::ptr_eq(&self.no.body, &other.no.body)
    }
}

impl Eq for Branch {}

impl Op for Branch {
    fn name(&self) -> StaticName {
        "If".into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.facts.iter().any(|fact| fact.shape.as_concrete().is_none())
    }

    fn required_bound_symbols(&self, _: &[&TypedFact]) -> TVec<Symbol> {
        self.yes.body.symbols.iter().chain(&self.no.body.symbols).cloned().collect()
    }

    op_as_typed_op!();
}

impl EvalOp for Branch {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        if inputs[0].len() != 1 {
            return Err(TractError::msg(format!(
                "the condition has the shape {:?}: expected one element",
                inputs[0].shape()
            )));
        }
        let arm = if inputs[0].cast_to_scalar::<bool>()? { &self.yes } else { &self.no };
        let inputs = arm.places.iter().map(|at| inputs[*at].clone()).collect();
        let outputs = arm.body.begin(context)?.run(inputs)?;
        keep(context, &self.facts, &outputs)?;
        Ok(outputs)
    }

    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }
}

impl TypedOp for Branch {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.clone())
    }

    as_op!();
}
