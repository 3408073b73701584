//! Puts one node into the typed graph as tract's operator.
//!
//! The types and shapes of a node's inputs are known, so the node becomes nodes of tract's typed graph at once ([`table`]).
//! tract's own reader of ONNX is not used: it infers types and shapes that are known here, and it brings all of its
//! operators into the program, most of which ours replace.

mod convolution;
mod elements;
mod products;
mod site;
mod table;
mod tensors;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::SimplePlan;

use super::super::operators::attributes::Attributes;
use super::super::operators::name_of;
use super::Lowering;
use crate::panics::panic_message;
use site::Site;

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

    /// Adds tract's operator for a node. `inputs` are those that the node names. If all of them are constant, so are the
    /// outputs.
    pub(super) fn engine(&mut self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let name = self.unique(name_of(node));
        if let Some(values) = self.engine_values(node, inputs) {
            let place = |(at, value): (usize, Arc<Tensor>)| match at {
                0 => self.frame().graph.add_const(name.clone(), value),
                at => self.constant(&format!("{name}.{at}"), value),
            };
            return values.into_iter().enumerate().map(place).collect();
        }
        let frame = self.frames.last_mut().expect("there is a frame while a graph is made");
        let attributes = Attributes { context: &self.context, node };
        table::wire(&mut Site { attributes, graph: &mut frame.graph, name: &name, inputs })
    }

    /// The outputs of a node whose inputs are all constant. `None` when an input is not, or when the values are not known
    /// before the run, because a length is not.
    fn engine_values(&self, node: &NodeProto, inputs: &[OutletId]) -> Option<TVec<Arc<Tensor>>> {
        let are_constant = |outlet: &OutletId| self.fact(*outlet).is_ok_and(|fact| fact.konst.is_some());
        if inputs.is_empty() || !inputs.iter().all(are_constant) {
            return None;
        }
        let (mut graph, outlets) = self.engine_alone(node, inputs).ok()?;
        graph.select_output_outlets(&outlets).ok()?;
        let outputs = SimplePlan::new(graph).ok()?.run(TVec::new()).ok()?;
        Some(outputs.into_iter().map(IntoArcTensor::into_arc_tensor).collect())
    }

    /// The types of the outputs that a node names.
    pub(super) fn engine_types(&self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<TVec<DatumType>> {
        let (graph, outlets) = self.engine_alone(node, inputs)?;
        outlets.into_iter().map(|outlet| Ok(graph.outlet_fact(outlet)?.datum_type)).collect()
    }

    /// A graph of one node, and its outputs.
    fn engine_alone(
        &self,
        node: &NodeProto,
        inputs: &[OutletId],
    ) -> TractResult<(TypedModel, TVec<OutletId>)> {
        let mut graph = TypedModel { symbols: self.symbols.clone(), ..TypedModel::default() };
        let mut sources: TVec<OutletId> = TVec::new();
        for (at, outlet) in inputs.iter().enumerate() {
            let fact = self.fact(*outlet)?;
            sources.push(match &fact.konst {
                Some(konst) => graph.add_const(format!("input.{at}"), konst.clone())?,
                None => graph.add_source(format!("input.{at}"), fact.clone())?,
            });
        }
        let attributes = Attributes { context: &self.context, node };
        let outlets =
            table::wire(&mut Site { attributes, graph: &mut graph, name: name_of(node), inputs: &sources })?;
        Ok((graph, outlets))
    }
}
