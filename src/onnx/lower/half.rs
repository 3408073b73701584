//! FP16 nodes that tract's operator computes in FP32: the inputs are widened before, and the results are rounded after.
//!
//! tract's own products of FP16 are slow, and add up in FP16. Constant inputs are widened once, when the graph is made.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;

use super::super::operators::entry::Entry;
use super::super::operators::name_of;
use super::super::operators::operator::{Inputs, Kind};
use super::super::operators::own::kinds_of;
use super::{Lowering, Value};

/// Puts a node into the graph with FP32 instead of FP16, if tract serves it then. Other nodes are put there as always.
pub(super) fn widened<'a>(
    lowering: &mut Lowering<'a>,
    node: &'a NodeProto,
    entry: &Entry,
) -> TractResult<Vec<Value>> {
    let values = lowering.inputs(node)?;
    let inputs: Vec<Option<OutletId>> = values
        .iter()
        .map(|value| value.as_ref().map(|value| lowering.tensor(value)).transpose())
        .collect::<TractResult<_>>()?;
    let present: Vec<OutletId> = inputs.iter().copied().flatten().collect();
    let facts: Vec<&TypedFact> =
        present.iter().map(|outlet| lowering.fact(*outlet)).collect::<TractResult<_>>()?;
    let kinds = kinds_of(&facts)?;
    let is_half: Vec<bool> = kinds.iter().map(|kind| kind.datum_type == DatumType::F16).collect();
    let wide: Vec<Kind> = kinds
        .into_iter()
        .map(|kind| match kind.datum_type {
            DatumType::F16 => Kind::new(DatumType::F32, kind.shape),
            _ => kind,
        })
        .collect();
    let mut next = wide.iter();
    let places = inputs.iter().map(|input| input.and_then(|_| next.next()));
    let is_served = entry.check_engine(&lowering.attributes(node), &Inputs(places.collect())).is_ok();
    if !is_half.contains(&true) || !is_served {
        let outlets = lowering.operator(node, Some(entry))?;
        return Ok(outlets.into_iter().map(Value::Tensor).collect());
    }
    let mut widened = Vec::new();
    for (outlet, is_half) in present.into_iter().zip(is_half) {
        widened.push(if is_half {
            lowering.wire(name_of(node), cast(DatumType::F32), &[outlet])?[0]
        } else {
            outlet
        });
    }
    let mut outputs = Vec::new();
    for outlet in lowering.engine(node, &widened)? {
        let is_wide = lowering.fact(outlet)?.datum_type == DatumType::F32;
        let narrow =
            if is_wide { lowering.wire(name_of(node), cast(DatumType::F16), &[outlet])?[0] } else { outlet };
        outputs.push(Value::Tensor(narrow));
    }
    Ok(outputs)
}
