//! `If`. Only the branch that is taken must fit the shapes.
//!
//! Exporters write conditions whose value is known as soon as the shapes and parameters are known: "is the rank 3", "is
//! the sample rate 16000". tract always analyses both branches, and the branch that is not taken often does not fit the
//! shapes. Here, if the value of the condition is known, the node is replaced by the branch that is taken, and the other
//! branch is not analysed. If the value is known only during a run, the node becomes tract's own `If`.

use std::collections::HashMap;

use tract_onnx::model::{ParseResult, ParsingContext};
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::{as_op, not_a_typed_op, not_out_of_plan};
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{
    EvalOp, InferenceFact, InferenceModel, InferenceNode, InferenceOp, Op, StaticName,
};

use super::Built;

/// An `If` node with both branches.
#[derive(Debug, Clone)]
struct If {
    yes: Branch,
    no: Branch,
}

/// One of the two graphs.
#[derive(Debug, Clone)]
struct Branch {
    body: InferenceModel,
    /// For each input of the body: the index among the inputs of the node. The node's input 0 is the condition.
    inputs: Vec<usize>,
}

/// Builds an `If` from its node, for tract's register.
pub fn branch(context: &ParsingContext, node: &NodeProto) -> Built {
    let parse = |name| context.parse_graph(node.get_attr::<&GraphProto>(name)?);
    let (yes, no) = (parse("then_branch")?, parse("else_branch")?);
    let mut outer: Vec<String> = yes.unresolved_inputs.iter().chain(&no.unresolved_inputs).cloned().collect();
    outer.sort();
    outer.dedup();
    let branch = |parsed: ParseResult| {
        let place = |name| outer.iter().position(|other| other == name).map(|at| at + 1);
        let inputs = parsed.unresolved_inputs.iter().filter_map(place).collect();
        Branch { body: parsed.model, inputs }
    };
    let (yes, no) = (branch(yes), branch(no));
    if yes.body.outputs.len() != no.body.outputs.len() {
        return Err(super::wrong(node, "its branches have different numbers of outputs"));
    }
    Ok((Box::new(If { yes, no }), outer))
}

type Facts = TVec<InferenceFact>;

impl If {
    /// The value of the condition; `None` when only a run determines it.
    fn taken(&self, condition: &InferenceFact) -> TractResult<Option<bool>> {
        condition.value.concretize().map(|value| value.cast_to_scalar::<bool>()).transpose()
    }

    fn branch(&self, condition: bool) -> &Branch {
        if condition { &self.yes } else { &self.no }
    }
}

impl Branch {
    /// Exchanges what is known about types and shapes between the node and the body.
    fn infer(&mut self, inputs: &mut Facts, outputs: &mut Facts) -> TractResult<()> {
        for (at, outer) in self.inputs.iter().enumerate() {
            self.body.input_fact_mut(at)?.unify_with_mut(&mut inputs[*outer])?;
        }
        self.body.analyse(false)?;
        for (at, outer) in self.inputs.iter().enumerate() {
            self.body.input_fact_mut(at)?.unify_with_mut(&mut inputs[*outer])?;
        }
        for (at, output) in outputs.iter_mut().enumerate() {
            self.body.output_fact_mut(at)?.unify_with_mut(output)?;
        }
        Ok(())
    }

    /// What the outputs would be with this branch; `None` when the branch does not fit the inputs.
    fn guess(&self, inputs: &Facts, count: usize) -> Option<Facts> {
        let (mut inputs, mut outputs) = (inputs.clone(), vec![InferenceFact::default(); count].into());
        self.clone().infer(&mut inputs, &mut outputs).ok()?;
        Some(outputs)
    }
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        let owned = |facts: TVec<&InferenceFact>| facts.into_iter().cloned().collect::<Facts>();
        let (mut inputs, mut outputs, observed) = (owned(inputs), owned(outputs), owned(observed));
        match self.taken(&inputs[0])? {
            Some(true) => self.yes.infer(&mut inputs, &mut outputs)?,
            Some(false) => self.no.infer(&mut inputs, &mut outputs)?,
            None => {
                // The condition may become known later. Until then, only what both branches agree on is known.
                let count = outputs.len();
                if let (Some(yes), Some(no)) = (self.yes.guess(&inputs, count), self.no.guess(&inputs, count))
                {
                    for ((output, yes), no) in outputs.iter_mut().zip(yes).zip(no) {
                        if yes.datum_type == no.datum_type {
                            output.datum_type = output.datum_type.unify(&yes.datum_type)?;
                        }
                        if yes.shape == no.shape {
                            output.shape = output.shape.unify(&yes.shape)?;
                        }
                    }
                }
            }
        }
        Ok((inputs, outputs, observed))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.yes.body.outputs.len())
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        match self.taken(source.outlet_fact(node.inputs[0])?)? {
            Some(condition) => {
                let branch = self.branch(condition);
                let outer: TVec<OutletId> = branch.inputs.iter().map(|at| inputs[*at]).collect();
                put_in(target, &node.name, &branch.body.clone().into_typed()?, &outer)
            }
            None => {
                let (mut yes, mut no) = (self.yes.clone(), self.no.clone());
                let known = source.node_input_facts(node.id)?.into_iter().cloned().collect::<Facts>();
                let count = node.outputs.len();
                for branch in [&mut yes, &mut no] {
                    let (mut inputs, mut outputs) =
                        (known.clone(), vec![InferenceFact::default(); count].into());
                    branch.infer(&mut inputs, &mut outputs)?;
                }
                let op = IfThenElse {
                    then_body: yes.body.into_typed()?,
                    then_input_mapping: yes.inputs,
                    else_body: no.body.into_typed()?,
                    else_input_mapping: no.inputs,
                };
                target.wire_node(&node.name, op, &inputs)
            }
        }
    }

    as_op!();
}

/// Copies the nodes of `body` into `target`, with `inputs` as its inputs. Returns its outputs there.
fn put_in(
    target: &mut TypedModel,
    prefix: &str,
    body: &TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let mut places: HashMap<OutletId, OutletId> =
        body.input_outlets()?.iter().copied().zip(inputs.iter().copied()).collect();
    for id in body.eval_order()? {
        let node = body.node(id);
        if node.op_is::<TypedSource>() {
            continue;
        }
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| places[input]).collect();
        let outputs = target.wire_node(format!("{prefix}.{}", node.name), node.op.clone(), &inputs)?;
        for (slot, output) in outputs.iter().enumerate() {
            places.insert(OutletId::new(id, slot), *output);
        }
    }
    Ok(body.output_outlets()?.iter().map(|output| places[output]).collect())
}

impl PartialEq for If {
    fn eq(&self, _: &If) -> bool {
        false
    }
}

impl Eq for If {}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    not_out_of_plan!();
}
