//! What serves a node: tract's operator or ours.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::operators::entry::Entry;
use super::super::operators::name_of;
use super::super::operators::operator::{Inputs, Operator};
use super::super::operators::own::{Own, kinds_of};
use super::{Lowering, fold};

impl<'a> Lowering<'a> {
    /// Puts a node into the graph as one operator: tract's or ours.
    pub(super) fn operator(&mut self, node: &'a NodeProto, entry: &Entry) -> TractResult<TVec<OutletId>> {
        let values = self.inputs(node)?;
        let inputs: TVec<Option<OutletId>> = values
            .iter()
            .map(|value| value.as_ref().map(|value| self.tensor(value)).transpose())
            .collect::<TractResult<_>>()?;
        let there: TVec<bool> = inputs.iter().map(Option::is_some).collect();
        let mut present: TVec<OutletId> = inputs.into_iter().flatten().collect();
        self.of_one_type(&node.op_type, &mut present)?;
        self.in_singles(node, &present, |lowering, inputs| lowering.serve(node, entry, &there, inputs))
    }

    /// Adds tract's operator or ours. `there` says which inputs in the standard's order `inputs` has.
    fn serve(
        &mut self,
        node: &'a NodeProto,
        entry: &Entry,
        there: &[bool],
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let facts: Vec<&TypedFact> =
            inputs.iter().map(|outlet| self.fact(*outlet)).collect::<TractResult<_>>()?;
        let kinds = kinds_of(&facts)?;
        let mut next = kinds.iter();
        let places = there.iter().map(|is_there| if *is_there { next.next() } else { None });
        match entry.check_engine(&self.attributes(node), &Inputs(places.collect())) {
            // tract may refuse a node only when it computes the shape of its output. It panics for some wrong attributes, such
            // as an axis that the input does not have; ours says what is wrong.
            Ok(()) => match (self.guarded_engine(node, inputs), self.source.operator(node)) {
                (Err(_), Some(operator)) => self.own(node, operator?, inputs),
                (outlets, _) => outlets,
            },
            Err(cause) => match self.source.operator(node) {
                Some(operator) => self.own(node, operator?, inputs),
                None => Err(TractError::msg(cause)),
            },
        }
    }

    /// Adds one of our operators for a node. `inputs` are those that the node names.
    pub fn own(
        &mut self,
        node: &NodeProto,
        operator: Arc<dyn Operator>,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let facts: Vec<&TypedFact> =
            inputs.iter().map(|outlet| self.fact(*outlet)).collect::<TractResult<_>>()?;
        let own = Own::new(node, operator, &self.symbols).prepared(&facts)?;
        let constants: Option<TVec<TValue>> =
            facts.iter().map(|fact| fact.konst.clone().map(IntoTValue::into_tvalue)).collect();
        if let Some(constants) = constants.filter(|constants| !constants.is_empty() && !own.is_random())
            && let Some(outputs) = fold::of_constants(&own, &kinds_of(&facts)?, constants)?
        {
            let name = name_of(node);
            return outputs.into_iter().map(|output| self.constant(name, output.into_arc_tensor())).collect();
        }
        let (own, read) = own.without_unread(inputs);
        self.wire(name_of(node), own, &read)
    }
}
