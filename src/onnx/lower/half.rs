//! FP16: the graph computes in FP32, and has FP16 only where the values are inputs, outputs, constants, or are cast.
//!
//! A node with FP16 inputs is given FP32 tensors with the same values, and its FP32 outputs are rounded to numbers that FP16
//! has, as the standard says. A node after it takes these FP32 tensors. So no operator is computed with tract's slow code
//! for FP16, and no sum overflows.
//!
//! A number that is too large for FP16 stays as it is until it is an output, or is cast, instead of becoming infinite.
//! onnxruntime does not overflow there either: it computes several nodes in FP32 without rounding.
//!
//! Invariants: the types of the values that the file names are those of the standard. A `Cast` to FP16 is a rounding.

use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::operators::own::{Own, kinds_of};
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
    /// The same values, except that numbers that are too large for FP16 are not infinite.
    Computed(OutletId),
}

/// The change of the type of all elements.
#[derive(Debug)]
enum Change {
    /// From FP16 to FP32.
    Widen,
    /// From FP32 to FP16.
    Narrow,
    /// From FP32 to numbers in FP32 that FP16 has. Numbers that are too large for FP16 stay.
    Round,
}

/// Rounds to numbers that FP16 has. Numbers that are too large for FP16 stay.
fn rounded(numbers: &[f32]) -> Vec<f32> {
    const CHUNK: usize = 1024;
    let mut all = vec![0.0_f32; numbers.len()];
    let mut halves = [f16::ZERO; CHUNK];
    for (to, from) in all.chunks_mut(CHUNK).zip(numbers.chunks(CHUNK)) {
        let halves = &mut halves[..from.len()];
        halves.convert_from_f32_slice(from);
        halves.convert_to_f32_slice(to);
        for (to, from) in to.iter_mut().zip(from) {
            *to = if to.is_infinite() { *from } else { *to };
        }
    }
    all
}

impl Operator for Change {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let datum_type = match self {
            Change::Widen | Change::Round => DatumType::F32,
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
            Change::Round => Tensor::from_shape(input.shape(), &rounded(elements(input)?))?,
        }])
    }
}

impl Lowering<'_> {
    /// Puts a node into the graph with `serve`, which is given FP32 tensors instead of FP16 ones where that is
    /// right.
    pub(super) fn in_singles(
        &mut self,
        node: &NodeProto,
        inputs: &[OutletId],
        serve: impl FnOnce(&mut Self, &[OutletId]) -> TractResult<TVec<OutletId>>,
    ) -> TractResult<TVec<OutletId>> {
        if !self.is_widened(node, inputs)? {
            return serve(self, inputs);
        }
        let types = self.types(node, inputs);
        let wide: TVec<OutletId> =
            inputs.iter().map(|input| self.wide(*input)).collect::<TractResult<_>>()?;
        let outputs = serve(self, &wide)?;
        self.narrowed(node, outputs, types.as_deref())
    }

    /// The types of the outputs that a node names. `None`: they are not known before the node is put into the graph.
    fn types(&self, node: &NodeProto, inputs: &[OutletId]) -> Option<TVec<DatumType>> {
        if let Some(Ok(operator)) = self.source.operator(node) {
            let facts: Vec<&TypedFact> =
                inputs.iter().map(|outlet| self.fact(*outlet).ok()).collect::<Option<_>>()?;
            let own = Own::new(node, operator, &self.symbols);
            let kinds = kinds_of(&facts).and_then(|kinds| own.kinds(&kinds));
            return kinds.ok().map(|kinds| kinds.iter().map(|kind| kind.datum_type).collect());
        }
        self.engine_types(node, inputs).ok()
    }

    /// Whether a node with these inputs is computed in FP32 although it has FP16 inputs.
    fn is_widened(&mut self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<bool> {
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
        // Large numbers stay finite, and FP32 is there already.
        let wide = &self.frame().wide;
        Ok(halves.iter().any(|half| matches!(wide.get(half), Some(Wide::Computed(_)))))
    }

    /// The FP32 tensor that belongs to an FP16 tensor; any other tensor as it is.
    fn wide(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if self.fact(outlet)?.datum_type != DatumType::F16 {
            return Ok(outlet);
        }
        if let Some(Wide::Same(wide) | Wide::Computed(wide)) = self.frame().wide.get(&outlet) {
            return Ok(*wide);
        }
        let own = Own::of_one(Arc::new(Change::Widen), self.symbols());
        let wide = self.wire("widened", own, &[outlet])?[0];
        self.frame().wide.insert(outlet, Wide::Same(wide));
        Ok(wide)
    }

    /// The FP16 tensors of the outputs of a node that was computed in FP32. `types` are the types that the outputs have by
    /// the standard. If they are not known, all FP32 outputs are rounded.
    fn narrowed(
        &mut self,
        node: &NodeProto,
        outputs: TVec<OutletId>,
        types: Option<&[DatumType]>,
    ) -> TractResult<TVec<OutletId>> {
        let is_moved = MOVING.contains(&&*node.op_type);
        let mut narrowed = tvec![];
        for (at, wide) in outputs.into_iter().enumerate() {
            let is_half =
                types.and_then(|types| types.get(at)).is_none_or(|expected| *expected == DatumType::F16);
            if !is_half || self.fact(wide)?.datum_type != DatumType::F32 {
                narrowed.push(wide);
                continue;
            }
            let round = Own::of_one(Arc::new(Change::Round), self.symbols());
            let wide = if is_moved { wide } else { self.wire("rounded", round, &[wide])?[0] };
            let narrow = Own::of_one(Arc::new(Change::Narrow), self.symbols());
            let half = self.wire("narrowed", narrow, &[wide])?[0];
            self.frame().wide.insert(half, Wide::Computed(wide));
            narrowed.push(half);
        }
        Ok(narrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, node};
    use super::*;
    use crate::model::{self, Elements};

    fn run(nodes: Vec<NodeProto>, numbers: &[f32]) -> Vec<f32> {
        let halves: Vec<f16> = numbers.iter().map(|number| f16::from_f32(*number)).collect();
        let model = Model::new(&["x: half[N]"], nodes, &["y"]);
        let input = model::Tensor::new(vec![numbers.len()], Elements::Fp16(halves)).unwrap();
        let output = model.run(&[input]).unwrap().remove(0);
        let Elements::Fp16(halves) = output.elements() else { panic!("expected FP16") };
        halves.iter().map(|half| half.to_f32()).collect()
    }

    #[test]
    fn each_node_rounds() {
        let nodes = vec![node("Add", &["x", "x"], &["a"]), node("Sub", &["a", "x"], &["b"])];
        let nodes = [nodes, vec![node("Mul", &["b", "b"], &["y"])]].concat();
        // 1.001953125² = 1.0039101: the nearest numbers of FP16 are 1.00390625 and 1.0048828.
        assert_eq!(run(nodes, &[1.001_953_1, 3.0]), [1.003_906_3, 9.0]);
        let halves = [2048.6, 2051.0, -0.1, 1e-8, 65519.0];
        let expected = [2048.0, 2052.0, -0.099_975_586, 0.0, 65504.0];
        assert_eq!(rounded(&halves), expected);
    }

    #[test]
    fn numbers_that_are_too_large_stay_finite_between_nodes() {
        let nodes = vec![
            node("Mul", &["x", "x"], &["square"]),
            node("Identity", &["square"], &["moved"]),
            node("Sqrt", &["moved"], &["y"]),
        ];
        assert_eq!(run(nodes, &[300.0, -2.0]), [300.0, 2.0]);
        let nodes = vec![node("Mul", &["x", "x"], &["y"])];
        assert_eq!(run(nodes, &[300.0, -2.0]), [f32::INFINITY, 4.0], "an output has the range of FP16");
    }
}
