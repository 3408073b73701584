//! Operators on elements, and softmax.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::ops::binary::{InferenceBinOp, wire_cast, wire_rank_broadcast};
use tract_onnx::tract_hir::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_hir::ops::{logic, math};
use tract_onnx::tract_hir::tract_core;
use tract_onnx::tract_hir::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_hir::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::tract_core::ops::element_wise::ElementWiseOp as Typed;
use tract_onnx::tract_hir::tract_core::ops::nn::Softmax;

use super::site::{Outlets, Site};

/// A function of each element.
pub fn unary(site: &mut Site, function: Typed) -> Outlets {
    site.expand(&ElementWiseOp(function.0))
}

/// A function of two tensors, with broadcasting.
pub fn binary(site: &mut Site, function: Box<dyn BinMiniOp>) -> Outlets {
    site.expand(&InferenceBinOp(function))
}

/// A function of two tensors over any number of them.
pub fn variadic(site: &mut Site, function: Box<dyn BinMiniOp>) -> Outlets {
    let types: Vec<DatumType> =
        site.inputs.iter().map(|input| Ok(site.fact(*input)?.datum_type)).collect::<TractResult<_>>()?;
    let common = DatumType::super_type_for(&types)
        .ok_or_else(|| TractError::msg(format!("{types:?} have no common type")))?;
    let common = function.operating_datum_type(common, common)?;
    let inputs = wire_cast(site.name, site.graph, site.inputs, common)?;
    let mut result = inputs[0];
    for (at, input) in inputs[1..].iter().enumerate() {
        let name = format!("{}.{at}", site.name);
        let both = wire_rank_broadcast(&name, site.graph, &[result, *input])?;
        result = site.graph.wire_node(name, TypedBinOp(function.clone(), None), &both)?[0];
    }
    Ok(tvec![result])
}

/// `Mod` by constants above 0. tract's remainder has the sign of the dividend; that of the standard, without `fmod`, has the
/// sign of the divisor.
pub fn modulo(site: &mut Site) -> Outlets {
    if site.attributes.int("fmod", 0)? == 1 {
        return binary(site, Box::new(math::Rem));
    }
    let types = [site.fact(site.inputs[0])?.datum_type, site.fact(site.inputs[1])?.datum_type];
    let common = types[0].common_super_type(types[1]);
    let common = common.ok_or_else(|| TractError::msg(format!("{types:?} have no common type")))?;
    let inputs = wire_rank_broadcast(site.name, site.graph, site.inputs)?;
    let inputs = wire_cast(site.name, site.graph, &inputs, common)?;
    // Sizes are never negative.
    if common == TDim::datum_type() {
        return Ok(tvec![site.on(math::rem(), &inputs)?]);
    }
    let remainder = site.part("rem", math::rem(), &inputs)?;
    let zero = Tensor::zero_scalar_dt(common)?.broadcast_into_rank(site.fact(remainder)?.rank())?;
    let zero = site.graph.add_const(format!("{}.zero", site.name), zero)?;
    let is_negative = site.part("is_negative", TypedBinOp(logic::comp_lt(), None), &[remainder, zero])?;
    let raised = site.part("raised", math::add(), &[remainder, inputs[1]])?;
    Ok(tvec![site.on(tract_core::ops::logic::Iff, &[is_negative, raised, remainder])?])
}

/// `Pow`. An integer to a power of another kind is computed as FP64.
pub fn power(site: &mut Site) -> Outlets {
    let types = [site.fact(site.inputs[0])?.datum_type, site.fact(site.inputs[1])?.datum_type];
    let inputs = wire_rank_broadcast(site.name, site.graph, site.inputs)?;
    if types[0].is_integer() != types[1].is_integer() {
        let wide = wire_cast(site.name, site.graph, &inputs, DatumType::F64)?;
        let result = site.part("pow", math::pow(), &wide)?;
        return Ok(tvec![site.on(cast(types[0]), &[result])?]);
    }
    let common = types[0].common_super_type(types[1]);
    let common = common.ok_or_else(|| TractError::msg(format!("{types:?} have no common type")))?;
    let inputs = wire_cast(site.name, site.graph, &inputs, common)?;
    Ok(tvec![site.on(math::pow(), &inputs)?])
}

/// `Softmax`: over one axis since version 13, before that over all axes from one on.
pub fn softmax(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    let is_over_one = site.attributes.context.onnx_operator_set_version >= 13;
    let axis = site.attributes.int("axis", if is_over_one { -1 } else { 1 })?;
    let axis = site.axis(axis, rank)?;
    let axes = if is_over_one { tvec![axis] } else { (axis..rank).collect() };
    site.all(Softmax { axes, ..Softmax::default() })
}
