//! FP16: the graph computes in FP32, and has FP16 only where a run takes or gives it.
//!
//! A node with FP16 inputs is given FP32 tensors, and the nodes after it are given its FP32 outputs as they are. So an FP16
//! model costs what it costs in FP32: constants are widened when the graph is made, and no tensor is rounded between two
//! nodes. onnxruntime does the same on a CPU: it puts casts around each node, and removes the pairs between two nodes.
//!
//! A value is rounded where that can be seen: at an output of the model, at a `Cast` of other values to FP16, and before a
//! node whose result jumps with its input, such as `Floor` or `Greater` ([`jumps`]). A `Cast` to FP32 gives the FP32 value
//! that there is, and a `Cast` back to FP16 takes it: converters put these casts around some nodes.
//!
//! Each FP16 value still has an FP16 tensor in the graph, so that the types are those of the standard. One that nobody reads
//! is not in the plan. Bodies (`If`, `Loop`, `Scan`) take and give FP32 in place of FP16.

use std::f32::consts::SQRT_2;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::TypedOp;

use super::super::operators::numbers::filled;
use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::operators::own::{Own, kinds_of};
use super::Lowering;

/// The operators that are given FP16, because their result depends on the type of their inputs.
const IN_HALF: &[&str] = &["Cast", "CastLike", "QuantizeLinear", "BitCast"];

/// The operators whose result can jump when an input changes by less than FP16 shows: whole numbers, truth values and places
/// come of it.
const JUMPING: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Bernoulli",
    "Ceil",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Mod",
    "Multinomial",
    "NonMaxSuppression",
    "NonZero",
    "OneHot",
    "Range",
    "Round",
    "Shrink",
    "Sign",
    "ThresholdedRelu",
    "TopK",
    "TreeEnsemble",
    "Unique",
];

/// The FP32 tensors that belong to an FP16 tensor, as far as they are in the graph.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wide {
    /// What the FP16 tensor was rounded from.
    computed: Option<OutletId>,
    /// The values of the FP16 tensor.
    exact: Option<OutletId>,
}

/// The change of the type of all elements.
#[derive(Debug)]
enum Change {
    /// From FP16 to FP32.
    Widen,
    /// From FP32 to FP16.
    Narrow,
    /// From FP32 to FP16 and back.
    Round,
}

/// Rounds to numbers that FP16 has.
fn round(from: &[f32], to: &mut [f32]) {
    const CHUNK: usize = 1024;
    let mut halves = [f16::ZERO; CHUNK];
    for (to, from) in to.chunks_mut(CHUNK).zip(from.chunks(CHUNK)) {
        let halves = &mut halves[..from.len()];
        halves.convert_from_f32_slice(from);
        halves.convert_to_f32_slice(to);
    }
}

/// Whether the result of a node can jump with its input number `at`, counted from 0 among those that are there.
fn jumps(node: &NodeProto, at: usize) -> bool {
    match &*node.op_type {
        // Its second output are places.
        "MaxPool" => node.output.len() > 1,
        // A number below 0 has only whole powers.
        "Pow" => at == 1,
        // A region in place of `X`: whole places come of it.
        "Resize" => at == 1,
        operator => JUMPING.contains(&operator),
    }
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
                let halves = elements::<f16>(input)?;
                filled(input.shape(), |wide| {
                    halves.convert_to_f32_slice(wide);
                    Ok(())
                })?
            }
            Change::Narrow => {
                let wide = elements::<f32>(input)?;
                filled(input.shape(), |halves: &mut [f16]| {
                    halves.convert_from_f32_slice(wide);
                    Ok(())
                })?
            }
            Change::Round => {
                let wide = elements::<f32>(input)?;
                filled(input.shape(), |rounded| {
                    round(wide, rounded);
                    Ok(())
                })?
            }
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
            let outputs = serve(self, inputs)?;
            if self.are_of_halves(inputs)? {
                self.frame().of_halves.extend(&outputs);
            }
            return Ok(outputs);
        }
        let types = self.types(node, inputs);
        let mut wide: TVec<OutletId> = TVec::new();
        for (at, input) in inputs.iter().enumerate() {
            wide.push(match (&*node.op_type, at) {
                ("Div", 1) => self.divisor(*input)?,
                _ if jumps(node, at) => self.exact(*input)?,
                _ => self.wide(*input)?,
            });
        }
        let outputs = serve(self, &wide)?;
        // If the types are not known, all FP32 outputs are FP16 in the file.
        let is_half = |at: usize| {
            types.as_ref().and_then(|types| types.get(at)).is_none_or(|of_file| *of_file == DatumType::F16)
        };
        let named = outputs.into_iter().enumerate();
        named.map(|(at, output)| if is_half(at) { self.narrowed(output) } else { Ok(output) }).collect()
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
    fn is_widened(&self, node: &NodeProto, inputs: &[OutletId]) -> TractResult<bool> {
        if IN_HALF.contains(&&*node.op_type) {
            return Ok(false);
        }
        // A constant table of which a few rows are taken stays small.
        if let ("Gather", Some(table)) = (&*node.op_type, inputs.first())
            && self.fact(*table)?.konst.is_some()
        {
            return Ok(false);
        }
        for input in inputs {
            if self.fact(*input)?.datum_type == DatumType::F16 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether all tensors that are not constant are FP32 tensors that are computed from FP16 values only.
    fn are_of_halves(&self, outlets: &[OutletId]) -> TractResult<bool> {
        let of_halves = &self.frames.last().expect("there is a frame while a graph is made").of_halves;
        for outlet in outlets.iter().filter(|outlet| !of_halves.contains(outlet)) {
            if self.fact(*outlet)?.konst.is_none() {
                return Ok(false);
            }
        }
        Ok(outlets.iter().any(|outlet| of_halves.contains(outlet)))
    }

    /// The divisor of a `Div`: √2 in FP32 if it is √2 in FP16. By this number tract and onnxruntime know that the operators
    /// around it are a Gelu.
    fn divisor(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        let constant = self.fact(outlet)?.konst.clone().filter(|constant| constant.len() == 1);
        let Some(constant) = constant.filter(|constant| constant.datum_type() == DatumType::F16) else {
            return self.wide(outlet);
        };
        if elements::<f16>(&constant)?[0] != f16::from_f32(SQRT_2) {
            return self.wide(outlet);
        }
        self.constant("root", Tensor::from_shape(constant.shape(), &[SQRT_2])?.into_arc_tensor())
    }

    /// Adds a change of the type of a tensor in a frame.
    fn changed(&mut self, frame: usize, change: Change, outlet: OutletId) -> TractResult<OutletId> {
        let name = match change {
            Change::Widen => "widened",
            Change::Narrow => "narrowed",
            Change::Round => "rounded",
        };
        let own = Own::of_one(Arc::new(change), self.symbols());
        Ok(self.wire_in(frame, name, own, &[outlet])?[0])
    }

    /// The FP32 tensor to compute with in place of an FP16 tensor; any other tensor as it is.
    pub(super) fn wide(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        self.wide_in(self.frames.len() - 1, outlet)
    }

    /// The same as [`wide`](Self::wide), for a tensor of a frame.
    pub(super) fn wide_in(&mut self, frame: usize, outlet: OutletId) -> TractResult<OutletId> {
        match self.frames[frame].wide.get(&outlet) {
            Some(Wide { computed: Some(wide), .. }) => Ok(*wide),
            _ => self.exact_in(frame, outlet),
        }
    }

    /// The FP32 tensor with the values of an FP16 tensor; any other tensor as it is.
    fn exact(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        self.exact_in(self.frames.len() - 1, outlet)
    }

    fn exact_in(&mut self, frame: usize, outlet: OutletId) -> TractResult<OutletId> {
        if self.frames[frame].graph.outlet_fact(outlet)?.datum_type != DatumType::F16 {
            return Ok(outlet);
        }
        let known = self.frames[frame].wide.get(&outlet).copied().unwrap_or_default();
        if let Some(exact) = known.exact {
            return Ok(exact);
        }
        let exact = match known.computed {
            Some(wide) => self.changed(frame, Change::Round, wide)?,
            None => self.changed(frame, Change::Widen, outlet)?,
        };
        self.frames[frame].wide.insert(outlet, Wide { exact: Some(exact), ..known });
        self.frames[frame].of_halves.insert(exact);
        Ok(exact)
    }

    /// The FP16 tensor that is rounded from an FP32 tensor; any other tensor as it is.
    pub(super) fn narrowed(&mut self, wide: OutletId) -> TractResult<OutletId> {
        self.narrowed_in(self.frames.len() - 1, wide)
    }

    /// The same as [`narrowed`](Self::narrowed), for a tensor of a frame.
    pub(super) fn narrowed_in(&mut self, frame: usize, wide: OutletId) -> TractResult<OutletId> {
        if self.frames[frame].graph.outlet_fact(wide)?.datum_type != DatumType::F32 {
            return Ok(wide);
        }
        let half = self.changed(frame, Change::Narrow, wide)?;
        self.frames[frame].wide.insert(half, Wide { computed: Some(wide), exact: None });
        self.frames[frame].of_halves.insert(wide);
        Ok(half)
    }

    /// A `Cast` from or to FP16 that is not needed, or that is done in FP32. `None` for every other one.
    pub(super) fn cast_in_singles(
        &mut self,
        input: OutletId,
        from: DatumType,
        to: DatumType,
    ) -> TractResult<Option<OutletId>> {
        if from == DatumType::F16 && to == DatumType::F32 {
            return self.wide(input).map(Some);
        }
        if to != DatumType::F16 || self.fact(input)?.datum_type != from {
            return Ok(None);
        }
        let single = match from {
            // A converter puts casts around an operator between two with FP16: it is like any other of them.
            DatumType::F32 if self.are_of_halves(&[input])? => return self.narrowed(input).map(Some),
            DatumType::F32 => input,
            // FP32 has all of these that are not infinite in FP16.
            _ if from.is_integer() || from == DatumType::Bool => {
                self.wire("single", cast(DatumType::F32), &[input])?[0]
            }
            _ => return Ok(None),
        };
        // The file asks for this rounding.
        let rounded = self.changed(self.frames.len() - 1, Change::Round, single)?;
        self.narrowed(rounded).map(Some)
    }

    /// Adds an input of a body. One of FP16 is an FP32 input, from which the FP16 tensor is rounded.
    pub(super) fn source(&mut self, name: &str, fact: &TypedFact) -> TractResult<OutletId> {
        self.source_in(self.frames.len() - 1, name, fact)
    }

    /// The same as [`source`](Self::source), for a frame.
    pub(super) fn source_in(&mut self, frame: usize, name: &str, fact: &TypedFact) -> TractResult<OutletId> {
        let name = self.unique_in(frame, name);
        let source = self.frames[frame].graph.add_source(name, in_single(fact))?;
        if fact.datum_type == DatumType::F16 { self.narrowed_in(frame, source) } else { Ok(source) }
    }

    /// Adds an operator that runs bodies. `make` makes it for outputs of these types and shapes; `facts` are those of the file.
    pub(super) fn wire_bodies<O: Into<Box<dyn TypedOp>>>(
        &mut self,
        name: &str,
        inputs: &[OutletId],
        facts: &[TypedFact],
        make: impl FnOnce(TVec<TypedFact>) -> O,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> =
            inputs.iter().map(|input| self.wide(*input)).collect::<TractResult<_>>()?;
        let outputs = self.wire(name, make(facts.iter().map(in_single).collect()), &inputs)?;
        let with_facts = outputs.into_iter().zip(facts);
        with_facts
            .map(
                |(output, fact)| {
                    if fact.datum_type == DatumType::F16 { self.narrowed(output) } else { Ok(output) }
                },
            )
            .collect()
    }
}

/// The same fact with FP32 in place of FP16.
fn in_single(fact: &TypedFact) -> TypedFact {
    match fact.datum_type {
        DatumType::F16 => TypedFact::dt_shape(DatumType::F32, fact.shape.clone()),
        _ => fact.clone(),
    }
}

#[cfg(test)]
mod tests;
