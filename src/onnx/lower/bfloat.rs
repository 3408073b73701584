//! BFLOAT16: the graph computes it in FP32, and a `Cast` to BFLOAT16 rounds the numbers. See `narrow` for the weights.

use std::sync::Arc;

use half::bf16;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::narrow::BFLOAT16;
use super::super::operators::attributes::Attributes;
use super::super::operators::name_of;
use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::operators::own::Own;
use super::Lowering;

/// Whether a node is a `Cast` to BFLOAT16.
pub(super) fn is_cast(attributes: &Attributes) -> TractResult<bool> {
    Ok(attributes.node.op_type == "Cast" && attributes.int("to", 0)? == i64::from(BFLOAT16))
}

/// Rounds FP32 to numbers that BFLOAT16 has.
#[derive(Debug)]
struct Round;

impl Operator for Round {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        Ok(tvec![Kind::new(DatumType::F32, inputs.single()?.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let rounded = elements::<f32>(input)?.iter().map(|number| bf16::from_f32(*number).to_f32());
        Ok(tvec![Tensor::from_shape(input.shape(), &rounded.collect::<Vec<f32>>())?])
    }
}

impl Lowering<'_> {
    /// Adds a `Cast` to BFLOAT16.
    pub(super) fn round_to_bfloat(
        &mut self,
        node: &NodeProto,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let [input] = *inputs else {
            return Err(TractError::msg(format!("it has {} inputs: expected 1", inputs.len())));
        };
        if !self.fact(input)?.datum_type.is_number() {
            return Err(TractError::msg("only numbers can be cast to BFLOAT16"));
        }
        let single = tract_onnx::tract_core::ops::cast::cast(DatumType::F32);
        let single = self.wire(name_of(node), single, &[input])?;
        let round = Own::of_one(Arc::new(Round), self.symbols());
        self.wire(name_of(node), round, &single)
    }
}
