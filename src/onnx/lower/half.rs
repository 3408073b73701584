//! FP16: the graph computes in FP32, and has FP16 only where the values are inputs, outputs, constants, or are cast.
//!
//! A node with FP16 inputs is given FP32 tensors with the same values, and its FP32 outputs are rounded to FP16. A node
//! after it takes the result before the rounding. So nothing overflows in the middle of a graph, and no operator is computed
//! with tract's slow code for FP16. onnxruntime does the same on a CPU: `x + 2048 − 2048` is `x` there, also with its
//! optimisations off. The ONNX reference rounds after each node.
//!
//! Invariants: the types of the values that the file names are those of the standard. A `Cast` to FP16 is a rounding.

use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::operators::own::Own;
use super::Lowering;

/// The operators whose result depends on the type of their inputs, or that are given FP16 for another reason.
const IN_HALF: &[&str] = &["Cast", "CastLike", "DequantizeLinear", "QuantizeLinear", "BitCast"];

/// The operators that only move elements. They are fast in FP16.
const MOVING: &[&str] = &[
    "Compress",
    "Concat",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "EyeLike",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "NonZero",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// The FP32 tensor that belongs to an FP16 tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wide {
    /// The values of the FP16 tensor.
    Same(OutletId),
    /// The values before they were rounded.
    Exact(OutletId),
}

/// The change of the type of all elements.
#[derive(Debug)]
enum Change {
    Widen,
    Narrow,
}

impl Operator for Change {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let datum_type = match self {
            Change::Widen => DatumType::F32,
            Change::Narrow => DatumType::F16,
        };
        Ok(tvec![Kind::new(datum_type, inputs.single()?.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        Ok(tvec![match self {
            Change::Widen => {
                let mut wide = vec![0.0_f32; input.len()];
                elements::<f16>(input)?.convert_to_f32_slice(&mut wide);
                Tensor::from_shape(input.shape(), &wide)?
            }
            Change::Narrow => {
                let mut half = vec![f16::ZERO; input.len()];
                half.convert_from_f32_slice(elements::<f32>(input)?);
                Tensor::from_shape(input.shape(), &half)?
            }
        }])
    }
}

impl Lowering<'_> {
    /// Whether a node with these inputs is computed in FP32 although it has FP16 inputs.
    pub(super) fn is_widened(&mut self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<bool> {
        if IN_HALF.contains(&&*node.op_type) {
            return Ok(false);
        }
        let mut halves = Vec::new();
        for input in inputs {
            if self.fact(*input)?.datum_type == DatumType::F16 {
                halves.push(*input);
            }
        }
        if !MOVING.contains(&&*node.op_type) {
            return Ok(!halves.is_empty());
        }
        // Moving exact values keeps them exact.
        let wide = &self.frame().wide;
        Ok(halves.iter().any(|half| matches!(wide.get(half), Some(Wide::Exact(_)))))
    }

    /// The FP32 tensor that belongs to an FP16 tensor; any other tensor as it is.
    pub(super) fn wide(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if self.fact(outlet)?.datum_type != DatumType::F16 {
            return Ok(outlet);
        }
        if let Some(Wide::Same(wide) | Wide::Exact(wide)) = self.frame().wide.get(&outlet) {
            return Ok(*wide);
        }
        let own = Own::of_one(Arc::new(Change::Widen), self.symbols());
        let wide = self.wire("widened", own, &[outlet])?[0];
        self.frame().wide.insert(outlet, Wide::Same(wide));
        Ok(wide)
    }

    /// The FP16 tensors of the outputs of a node that was computed in FP32. `types` are the types that the outputs have by
    /// the standard. If they are not known, all FP32 outputs are rounded.
    pub(super) fn narrowed(
        &mut self,
        outputs: TVec<OutletId>,
        types: Option<&[DatumType]>,
    ) -> TractResult<TVec<OutletId>> {
        let mut narrowed = tvec![];
        for (at, wide) in outputs.into_iter().enumerate() {
            let is_half =
                types.and_then(|types| types.get(at)).is_none_or(|expected| *expected == DatumType::F16);
            if !is_half || self.fact(wide)?.datum_type != DatumType::F32 {
                narrowed.push(wide);
                continue;
            }
            let own = Own::of_one(Arc::new(Change::Narrow), self.symbols());
            let half = self.wire("narrowed", own, &[wide])?[0];
            self.frame().wide.insert(half, Wide::Exact(wide));
            narrowed.push(half);
        }
        Ok(narrowed)
    }
}
