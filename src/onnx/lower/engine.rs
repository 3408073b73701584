//! Puts one node into the typed graph as tract's operator.
//!
//! tract's operators of ONNX belong to a graph whose types and shapes are still inferred. So each node gets such a graph of
//! its own, with the facts of its inputs, and is translated from there.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{
    EvalContext, InferenceFact, InferenceModel, InferenceModelExt, InferenceOp, InletId,
};

use super::super::operators::name_of;
use super::Lowering;
use crate::panics::panic_message;

impl Lowering<'_> {
    /// The same as [`engine`](Self::engine), but a panic of tract is an error.
    ///
    /// A panic can leave a part of the node in the graph. Nothing uses it, so it is not in a plan.
    pub(super) fn guarded_engine(
        &mut self,
        node: &NodeProto,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        catch_unwind(AssertUnwindSafe(|| self.engine(node, inputs))).unwrap_or_else(|panic| {
            Err(TractError::msg(format!("the engine panicked: {}", panic_message(panic.as_ref()))))
        })
    }

    /// Adds tract's operator for a node. `inputs` are those that the node names.
    pub(super) fn engine(&mut self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let build = self.context.framework.op_register.0.get(&node.op_type);
        let build = build.ok_or_else(|| TractError::msg("there is no operator with this name"))?;
        let (op, outer) = build(&self.context, node)?;
        let mut inputs: TVec<OutletId> = inputs.into();
        for name in outer {
            let value = self.value(&name)?;
            inputs.push(self.tensor(&value)?);
        }
        let name = self.unique(name_of(node));
        let outputs = node.output.iter().filter(|name| !name.is_empty()).count();
        let Alone { model, node, places } = self.alone(&name, op, &inputs, outputs)?;
        let node = model.node(node);
        let values: Option<Vec<_>> =
            node.outputs.iter().map(|output| output.fact.value.concretize()).collect();
        if let Some(values) = values
            && node.op.state(&EvalContext::out_of_plan())?.is_none()
        {
            let place = |(at, value)| match at {
                0 => self.frame().graph.add_const(name.clone(), value),
                at => self.constant(&format!("{name}.{at}"), value),
            };
            return values.into_iter().enumerate().map(place).collect();
        }
        node.op.to_typed(&model, node, &mut self.frame().graph, &places)
    }

    /// The types of the outputs that a node names, as tract infers them.
    pub(super) fn engine_types(&self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<TVec<DatumType>> {
        let build = self.context.framework.op_register.0.get(&node.op_type);
        let build = build.ok_or_else(|| TractError::msg("there is no operator with this name"))?;
        let outputs = node.output.iter().filter(|name| !name.is_empty()).count();
        let Alone { model, node, .. } =
            self.alone(name_of(node), build(&self.context, node)?.0, inputs, outputs)?;
        let types = model.node(node).outputs.iter().map(|output| output.fact.datum_type.concretize());
        let types: Option<TVec<DatumType>> = types.collect();
        types.ok_or_else(|| TractError::msg("the types of its outputs are not known"))
    }

    /// Makes a graph of one node, and infers the node's outputs.
    fn alone(
        &self,
        name: &str,
        op: Box<dyn InferenceOp>,
        inputs: &[OutletId],
        outputs: usize,
    ) -> TractResult<Alone> {
        let mut model = InferenceModel { symbols: self.symbols.clone(), ..InferenceModel::default() };
        let mut places = HashMap::new();
        let mut sources = Vec::new();
        for (at, outlet) in inputs.iter().enumerate() {
            let fact = self.fact(*outlet)?;
            let source = match &fact.konst {
                Some(konst) => model.add_const(format!("input.{at}"), konst.clone())?,
                None => model.add_source(format!("input.{at}"), InferenceFact::from(fact))?,
            };
            sources.push(source);
            places.insert(source, *outlet);
        }
        let facts = (0..outputs).map(|_| InferenceFact::default()).collect();
        let node = model.add_node(name, op, facts)?;
        for (at, source) in sources.iter().enumerate() {
            model.add_edge(*source, InletId::new(node, at))?;
        }
        let outlets: Vec<OutletId> = (0..outputs).map(|at| OutletId::new(node, at)).collect();
        model.select_output_outlets(&outlets)?;
        model.analyse(false)?;
        Ok(Alone { model, node, places })
    }
}

/// A node in a graph of its own.
struct Alone {
    model: InferenceModel,
    node: usize,
    /// Where the inputs of this graph are in the typed graph.
    places: HashMap<OutletId, OutletId>,
}
