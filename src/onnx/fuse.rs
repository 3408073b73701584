//! Rewrites a typed graph before tract optimises it: an operator also does what the operators after it would do with its
//! result, while it stores the result ([`Step`]).
//!
//! What belongs here: which nodes become one. What does not: which operators can do a step, and how (`operators`).
//!
//! Invariant: a node is only left out if nothing else reads its result.

use std::collections::HashSet;
use std::sync::Arc;

use onnxd_kernels::functions::Function;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Mul};
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_hir::internal::DimLike;

use super::operators::activation;
use super::operators::operator::{Quantization, Step, elements};
use super::operators::own::Own;

/// Makes one node of several, wherever that is possible.
pub(super) fn fuse(model: &mut TypedModel) -> TractResult<()> {
    // The constants of a step may be made by other nodes.
    Optimizer::prop_consts().optimize(model)?;
    // There, a last bit decides to which step a number is rounded: what differs from the definition by that is left out.
    let is_quantized = model.nodes().iter().any(|node| is_of_quantized_models(&node.op.name()));
    let mut fusing = Fusing { model, left_out: HashSet::new() };
    for id in 0..fusing.model.nodes().len() {
        fusing.gate(id)?;
        fusing.gelu(id)?;
        if !is_quantized {
            fusing.hard_swish(id)?;
        }
        fusing.rounding(id)?;
    }
    // A new node is the last one: it is looked at again.
    let mut id = 0;
    while id < fusing.model.nodes().len() {
        fusing.step(id)?;
        id += 1;
    }
    if !is_quantized {
        for node in model.nodes_mut() {
            if let Some(faster) = node.op_as::<Own>().and_then(Own::faster) {
                node.op = Box::new(faster);
            }
        }
    }
    Ok(())
}

/// Whether an operator rounds to steps or computes with the results.
fn is_of_quantized_models(operator: &str) -> bool {
    ["Quantize", "QLinear", "Integer"].iter().any(|part| operator.contains(part))
}

struct Fusing<'a> {
    model: &'a mut TypedModel,
    /// Nodes that are not part of the graph any more.
    left_out: HashSet<usize>,
}

impl Fusing<'_> {
    /// The nodes that read an output, with the number of their input.
    fn readers(&self, outlet: OutletId) -> TVec<(usize, usize)> {
        // A node that was replaced has no outputs any more.
        let output = self.model.node(outlet.node).outputs.get(outlet.slot);
        let all = output.into_iter().flat_map(|output| &output.successors);
        all.map(|inlet| (inlet.node, inlet.slot)).filter(|(node, _)| !self.left_out.contains(node)).collect()
    }

    /// The only node that reads a node's only output. `None`: there are several, or it is an output of the graph.
    fn reader(&self, id: usize) -> Option<(usize, usize)> {
        let is_output = self.model.outputs.iter().any(|output| output.node == id);
        let has_one_output = self.model.node(id).outputs.len() == 1;
        match self.readers(id.into())[..] {
            [reader] if has_one_output && !is_output => Some(reader),
            _ => None,
        }
    }

    /// The facts of a node's inputs.
    fn facts(&self, id: usize) -> TractResult<TVec<&TypedFact>> {
        self.model.node(id).inputs.iter().map(|input| self.model.outlet_fact(*input)).collect()
    }

    /// Puts one node in the place of others that have the same result. The nodes of `left_out` are left out.
    fn replace(
        &mut self,
        ids: &[usize],
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
        left_out: &[usize],
    ) -> TractResult<()> {
        let mut patch = TypedModelPatch::default();
        let inputs = patch.taps(self.model, inputs)?;
        let name = self.model.node(ids[0]).name.clone();
        let outputs = patch.wire_node(name, op, &inputs)?;
        for id in ids {
            patch.shunt_outside(self.model, (*id).into(), outputs[0])?;
        }
        patch.apply(self.model)?;
        self.left_out.extend(ids.iter().chain(left_out));
        Ok(())
    }

    /// x · sigmoid(x), as exporters write `Swish`, becomes one operator; so does x · hard_sigmoid(x).
    fn gate(&mut self, id: usize) -> TractResult<()> {
        let Some((reader, slot)) = self.reader(id) else { return Ok(()) };
        let Some(own) = self.model.node(id).op_as::<Own>() else { return Ok(()) };
        let Some(Step::Function(function)) = own.as_step(&self.facts(id)?) else { return Ok(()) };
        let (name, gated) = match function {
            Function::Sigmoid => ("Swish", activation::Function::Swish { alpha: 1.0 }),
            Function::HardSigmoid { alpha, beta } if (alpha, beta) == (1.0 / 6.0, 0.5) => {
                ("HardSwish", activation::Function::HardSwish)
            }
            _ => return Ok(()),
        };
        let input = self.model.node(id).inputs[0];
        let is_product = binary(self.model.node(reader)).is_some_and(|op| op.0.is::<Mul>());
        if !is_product || self.model.node(reader).inputs[1 - slot] != input {
            return Ok(());
        }
        let own = Own::of_one(activation::operator(name, gated)?, &self.model.symbols);
        self.replace(&[reader], own, &[input], &[id])
    }

    /// x · (1 + erf(x ÷ √2)) ÷ 2, as exporters write `Gelu`, becomes one operator.
    fn gelu(&mut self, erf: usize) -> TractResult<()> {
        if self.model.node(erf).op.name() != "Erf" || self.facts(erf)?[0].datum_type != DatumType::F32 {
            return Ok(());
        }
        let scaled = self.model.node(erf).inputs[0].node;
        let Some((x, factor)) = self.times(scaled)? else { return Ok(()) };
        let Some((sum, slot)) = self.reader(erf) else { return Ok(()) };
        let is_sum = binary(self.model.node(sum)).is_some_and(|op| op.0.is::<Add>());
        let is_one = is_sum && self.number(self.model.node(sum).inputs[1 - slot])? == Some(1.0);
        let Some((product, slot)) = self.reader(sum).filter(|_| is_one && self.reader(scaled).is_some())
        else {
            return Ok(());
        };
        if !is_close(factor, std::f32::consts::FRAC_1_SQRT_2)
            || !binary(self.model.node(product)).is_some_and(|op| op.0.is::<Mul>())
        {
            return Ok(());
        }
        let other = self.model.node(product).inputs[1 - slot];
        let halved =
            |node: usize, of: OutletId| -> TractResult<bool> { Ok(self.times(node)? == Some((of, 0.5))) };
        let (last, left_out) = if other == x {
            // The half comes last.
            match self.reader(product) {
                Some((last, _)) if halved(last, product.into())? => (last, tvec![scaled, erf, sum, product]),
                _ => return Ok(()),
            }
        } else if self.reader(other.node).is_some() && halved(other.node, x)? {
            (product, tvec![scaled, erf, sum, other.node])
        } else {
            return Ok(());
        };
        let own = Own::of_one(activation::operator("Gelu", activation::Function::Gelu)?, &self.model.symbols);
        self.replace(&[last], own, &[x], &left_out)
    }

    /// x · clip(x + 3, 0, 6) ÷ 6, as exporters write `HardSwish`, becomes one operator.
    fn hard_swish(&mut self, clip: usize) -> TractResult<()> {
        let Some(own) = self.model.node(clip).op_as::<Own>() else { return Ok(()) };
        let step = own.as_step(&self.facts(clip)?);
        if !matches!(step, Some(Step::Function(Function::Between { least: 0.0, most: 6.0 }))) {
            return Ok(());
        }
        let sum = self.model.node(clip).inputs[0].node;
        let Some((x, 3.0)) = self.plus(sum)? else { return Ok(()) };
        let (Some(_), Some((first, _))) = (self.reader(sum), self.reader(clip)) else { return Ok(()) };
        let Some((second, _)) = self.reader(first) else { return Ok(()) };
        let is_product = |id: usize, of: usize| {
            let node = self.model.node(id);
            binary(node).is_some_and(|op| op.0.is::<Mul>())
                && node.inputs[..].contains(&x)
                && node.inputs[..].contains(&of.into())
        };
        let is_sixth = |id: usize, of: usize| -> TractResult<bool> {
            Ok(self
                .times(id)?
                .is_some_and(|(input, factor)| input == of.into() && is_close(factor, 1.0 / 6.0)))
        };
        let fits = is_product(first, clip) && is_sixth(second, first)?
            || is_sixth(first, clip)? && is_product(second, first);
        if !fits {
            return Ok(());
        }
        let function = activation::operator("HardSwish", activation::Function::HardSwish)?;
        let own = Own::of_one(function, &self.model.symbols);
        self.replace(&[second], own, &[x], &[sum, clip, first])
    }

    /// The only number of a constant. `None`: it is no constant, or has more elements or another type.
    fn number(&self, outlet: OutletId) -> TractResult<Option<f32>> {
        let Some(value) = &self.model.outlet_fact(outlet)?.konst else { return Ok(None) };
        Ok(if value.len() == 1 { elements::<f32>(value).ok().map(|all| all[0]) } else { None })
    }

    /// The tensor operand of a node, the constant number that is the other one, and whether the number comes second. The
    /// result has the tensor's shape.
    fn with_number(&self, id: usize) -> TractResult<Option<(OutletId, f32, bool)>> {
        let node = self.model.node(id);
        let [a, b] = node.inputs[..] else { return Ok(None) };
        let (tensor, number, is_second) = match (self.number(a)?, self.number(b)?) {
            (None, Some(number)) => (a, number, true),
            (Some(number), None) => (b, number, false),
            _ => return Ok(None),
        };
        let keeps = self.model.outlet_fact(tensor)?.shape == node.outputs[0].fact.shape;
        Ok(keeps.then_some((tensor, number, is_second)))
    }

    /// The number that a node adds to a tensor, and the tensor.
    fn plus(&self, id: usize) -> TractResult<Option<(OutletId, f32)>> {
        let is_sum = binary(self.model.node(id)).is_some_and(|op| op.0.is::<Add>());
        Ok(self.with_number(id)?.filter(|_| is_sum).map(|(tensor, number, _)| (tensor, number)))
    }

    /// The factor of a node that multiplies a tensor by a constant number, or divides it by one, and the tensor.
    fn times(&self, id: usize) -> TractResult<Option<(OutletId, f32)>> {
        let node = self.model.node(id);
        // Most quotients are ours, because tract multiplies with the rounded reciprocal.
        let is_ours = node.op_is::<Own>() && node.op.name() == "Div";
        let is_quotient = is_ours || binary(node).is_some_and(|op| op.0.is::<Div>());
        let is_product = binary(node).is_some_and(|op| op.0.is::<Mul>());
        Ok(match self.with_number(id)? {
            Some((tensor, number, _)) if is_product => Some((tensor, number)),
            Some((tensor, number, true)) if is_quotient => Some((tensor, 1.0 / number)),
            _ => None,
        })
    }

    /// Numbers that become integers and then numbers again are rounded, without the integers.
    fn rounding(&mut self, id: usize) -> TractResult<()> {
        let quantization = |id: usize| -> TractResult<Option<Quantization>> {
            let own = self.model.node(id).op_as::<Own>();
            Ok(own.map(|own| Ok::<_, TractError>(own.quantization(&self.facts(id)?))).transpose()?.flatten())
        };
        let Some(Quantization { scale, zero, limits: Some((low, high)) }) = quantization(id)? else {
            return Ok(());
        };
        let readers = self.readers(id.into());
        let back = Quantization { scale, zero, limits: None };
        for (reader, slot) in &readers {
            if *slot != 0 || quantization(*reader)? != Some(back) {
                return Ok(());
            }
        }
        if readers.is_empty() || self.model.outputs.iter().any(|output| output.node == id) {
            return Ok(());
        }
        let (least, most) = ((low - zero) as f32, (high - zero) as f32);
        let stepped = activation::Function::Stepped { scale, least, most };
        let own = Own::of_one(activation::operator("QuantizeLinear", stepped)?, &self.model.symbols);
        let input = self.model.node(id).inputs[0];
        let readers: TVec<usize> = readers.iter().map(|(reader, _)| *reader).collect();
        self.replace(&readers, own, &[input], &[id])
    }

    /// Lets a node do what the node after it does.
    fn step(&mut self, id: usize) -> TractResult<()> {
        if self.left_out.contains(&id) {
            return Ok(());
        }
        let (Some(own), Some((reader, slot))) = (self.model.node(id).op_as::<Own>(), self.reader(id)) else {
            return Ok(());
        };
        let Some((step, more)) = self.as_step(reader, slot, own.channel_axis())? else { return Ok(()) };
        let Some(fused) = own.then(&step) else { return Ok(()) };
        let inputs: TVec<OutletId> = self.model.node(id).inputs.iter().copied().chain(more).collect();
        self.replace(&[reader], fused, &inputs, &[id])
    }

    /// What a node does with its input `slot`, whose channels are along `axis`, and the other input if it is needed.
    fn as_step(&self, id: usize, slot: usize, axis: usize) -> TractResult<Option<(Step, Option<OutletId>)>> {
        let node = self.model.node(id);
        if let Some(own) = node.op_as::<Own>() {
            let step = if slot == 0 { own.as_step(&self.facts(id)?) } else { None };
            return Ok(step.map(|step| (step, None)));
        }
        let (Some(op), [_, _]) = (binary(node), &node.inputs[..]) else { return Ok(None) };
        let other = node.inputs[1 - slot];
        let (fact, constant) = (self.model.outlet_fact(node.inputs[slot])?, self.model.outlet_fact(other)?);
        if fact.datum_type != DatumType::F32 || constant.datum_type != DatumType::F32 {
            return Ok(None);
        }
        let is_sum = op.0.is::<Add>();
        if let Some(value) = &constant.konst {
            let numbers = per_channel(fact, axis, value)?;
            let step = |numbers: Vec<f32>| match is_sum {
                true => {
                    Step::Scale { axis, factors: vec![1.0; numbers.len()].into(), offsets: numbers.into() }
                }
                false => {
                    Step::Scale { axis, offsets: vec![0.0; numbers.len()].into(), factors: numbers.into() }
                }
            };
            return Ok(numbers.filter(|_| is_sum || op.0.is::<Mul>()).map(|numbers| (step(numbers), None)));
        }
        if op.0.is::<Mul>()
            && constant.shape.volume() == TDim::from(1)
            && node.outputs[0].fact.shape == fact.shape
        {
            return Ok(Some((Step::Times, Some(other))));
        }
        let is_same = fact.shape == constant.shape;
        Ok((is_sum && is_same).then_some((Step::Add, Some(other))))
    }
}

/// Whether a constant of a model is this number, written with fewer digits.
fn is_close(constant: f32, number: f32) -> bool {
    (constant - number).abs() < 1e-6
}

/// A node's operator, if it has two operands and a result of their type.
fn binary(node: &TypedNode) -> Option<&TypedBinOp> {
    node.op_as::<TypedBinOp>().filter(|op| op.1.is_none())
}

/// A constant as one number for each channel of a tensor, along `axis`. `None`: it is not that.
fn per_channel(fact: &TypedFact, axis: usize, value: &Arc<Tensor>) -> TractResult<Option<Vec<f32>>> {
    let Some(Ok(channels)) = fact.shape.get(axis).map(DimLike::to_usize) else { return Ok(None) };
    if value.rank() > fact.rank() {
        return Ok(None);
    }
    let numbers = elements::<f32>(value)?;
    let from_end = fact.rank() - axis;
    let is_per_channel = value.rank() >= from_end
        && value.shape()[value.rank() - from_end] == channels
        && value.len() == channels;
    Ok(match numbers {
        [one] => Some(vec![*one; channels]),
        all if is_per_channel => Some(all.to_vec()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
