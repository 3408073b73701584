//! Sizes: tract has a type of its own (`TDim`) for integers that may contain symbols, such as the shape of a tensor with
//! open dimensions. Constants of this type are what shapes are computed from, so they are kept. Everywhere else the
//! standard has INT64, and so has this graph.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator};
use super::super::operators::own::Own;
use super::Lowering;

/// The operators whose inputs have one type, so that a size among INT64 tensors becomes one of them.
const OF_ONE_TYPE: &[&str] = &[
    "Add",
    "Concat",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Pow",
    "Sub",
    "Sum",
    "Where",
];

/// The value of a size in this run, as INT64. [`Own`] has replaced the symbols.
#[derive(Debug)]
struct AsIntegers;

impl Operator for AsIntegers {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        Ok(tvec![Kind::new(i64::datum_type(), input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        Ok(tvec![inputs.single()?.clone()])
    }
}

impl Lowering<'_> {
    /// A size as INT64; another tensor as it is.
    pub(super) fn as_integers(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if self.fact(outlet)?.datum_type != TDim::datum_type() {
            return Ok(outlet);
        }
        let own = Own::of_one(Arc::new(AsIntegers), self.symbols());
        Ok(self.wire("size", own, &[outlet])?[0])
    }

    /// Makes the types of a node's inputs equal: sizes become INT64 beside an INT64 that only the run determines.
    pub(super) fn of_one_type(&mut self, operator: &str, inputs: &mut [OutletId]) -> TractResult<()> {
        let mut is_late = false;
        for outlet in inputs.iter() {
            let fact = self.fact(*outlet)?;
            is_late |= fact.datum_type == i64::datum_type() && fact.konst.is_none();
        }
        if is_late && OF_ONE_TYPE.contains(&operator) {
            for outlet in inputs {
                *outlet = self.as_integers(*outlet)?;
            }
        }
        Ok(())
    }

    /// Replaces outputs that are sizes without a constant value.
    pub(super) fn without_late_sizes(&mut self, outlets: TVec<OutletId>) -> TractResult<TVec<OutletId>> {
        let replaced = outlets.into_iter().map(|outlet| match self.fact(outlet)?.konst {
            Some(_) => Ok(outlet),
            None => self.as_integers(outlet),
        });
        replaced.collect()
    }
}
