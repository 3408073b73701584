//! A node that becomes a part of the typed graph: its attributes, its inputs, and where its parts go.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{Expansion, TDim, TypedOp};

use super::super::super::operators::attributes::Attributes;

/// The outputs of a node in the typed graph.
pub type Outlets = TractResult<TVec<OutletId>>;

/// A node that is put into the typed graph.
pub struct Site<'a> {
    pub attributes: Attributes<'a>,
    pub graph: &'a mut TypedModel,
    /// The name of the node, which no other node of the graph has.
    pub name: &'a str,
    /// The inputs that the node names. Those that are left out are not among them.
    pub inputs: &'a [OutletId],
}

impl<'a> Site<'a> {
    /// What is known about a tensor.
    pub fn fact(&self, outlet: OutletId) -> TractResult<&TypedFact> {
        self.graph.outlet_fact(outlet)
    }

    /// The lengths of the axes of a tensor.
    pub fn shape(&self, outlet: OutletId) -> TractResult<TVec<TDim>> {
        Ok(self.fact(outlet)?.shape.to_tvec())
    }

    /// The input at a place in the standard's list. `None` when it is left out.
    pub fn optional(&self, place: usize) -> Option<OutletId> {
        let at = self.position(place)?;
        self.inputs.get(at).copied()
    }

    /// The position in `inputs` of the input at a place in the standard's list. `None` when it is left out.
    pub fn position(&self, place: usize) -> Option<usize> {
        let names = &self.attributes.node.input;
        names.get(place).filter(|name| !name.is_empty())?;
        Some(names[..place].iter().filter(|name| !name.is_empty()).count())
    }

    /// The integers of an input that must be constant.
    pub fn ints(&self, outlet: OutletId) -> TractResult<Vec<i64>> {
        let konst = self.fact(outlet)?.konst.as_ref();
        let konst = konst.ok_or_else(|| TractError::msg("an input is not constant"))?;
        let ints = konst.cast_to::<i64>()?;
        Ok(ints.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
    }

    /// A number along axes as the standard has it, where negative numbers count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> TractResult<usize> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        let counted = usize::try_from(counted).ok().filter(|counted| *counted < rank);
        counted.ok_or_else(|| self.attributes.wrong(format!("axis {axis} is not one of its {rank} axes")))
    }

    /// Adds the operator of the node, on all inputs.
    pub fn all(&mut self, op: impl Into<Box<dyn TypedOp>>) -> Outlets {
        self.graph.wire_node(self.name, op, self.inputs)
    }

    /// Adds the operator of the node, on some of its inputs or on parts of it.
    pub fn on(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        Ok(self.graph.wire_node(self.name, op, inputs)?[0])
    }

    /// Adds a part of the node.
    pub fn part(
        &mut self,
        part: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        Ok(self.graph.wire_node(format!("{}.{part}", self.name), op, inputs)?[0])
    }

    /// Adds the parts that an operator of tract's untyped graphs consists of, on all inputs.
    pub fn expand(&mut self, op: &impl Expansion) -> Outlets {
        op.wire(self.name, self.graph, self.inputs)
    }

    /// The same, on the first input.
    pub fn expand_first(&mut self, op: &impl Expansion) -> Outlets {
        op.wire(self.name, self.graph, &self.inputs[..1])
    }
}
