//! tract's operators by their names in `ai.onnx`.
//!
//! Invariant: each entry of the families' tables that names a form for tract has a row here. The conditions of the
//! entries say in which forms a row is used.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::ops::{array, logic, math};

use super::site::{Outlets, Site};
use super::{convolution, elements, products, tensors};

/// Puts a node into the typed graph.
type Wire = fn(&mut Site) -> Outlets;

/// A name, the fewest and the most inputs, and what puts a node into the graph.
type Row = (&'static str, usize, usize, Wire);

/// Any number of inputs.
const ANY: usize = usize::MAX;

const TABLE: &[Row] = &[
    ("Abs", 1, 1, |site| elements::unary(site, math::abs())),
    ("Acos", 1, 1, |site| elements::unary(site, math::acos())),
    ("Acosh", 1, 1, |site| elements::unary(site, math::acosh())),
    ("Add", 2, 2, |site| elements::binary(site, Box::new(math::Add))),
    ("Asin", 1, 1, |site| elements::unary(site, math::asin())),
    ("Asinh", 1, 1, |site| elements::unary(site, math::asinh())),
    ("Atan", 1, 1, |site| elements::unary(site, math::atan())),
    ("Atanh", 1, 1, |site| elements::unary(site, math::atanh())),
    ("Ceil", 1, 1, |site| elements::unary(site, math::ceil())),
    ("Concat", 1, ANY, tensors::concat),
    ("Constant", 0, 0, tensors::constant),
    ("ConstantOfShape", 1, 1, tensors::constant_of_shape),
    ("Conv", 2, 3, convolution::conv),
    ("ConvTranspose", 2, 3, convolution::transpose),
    ("Cos", 1, 1, |site| elements::unary(site, math::cos())),
    ("Cosh", 1, 1, |site| elements::unary(site, math::cosh())),
    ("DepthToSpace", 1, 1, tensors::depth_to_space),
    ("Div", 2, 2, |site| elements::binary(site, Box::new(math::Div))),
    ("Dropout", 1, 1, tensors::identity),
    ("Einsum", 2, 2, products::einsum),
    ("Equal", 2, 2, |site| elements::binary(site, Box::new(logic::CompEq))),
    ("Erf", 1, 1, |site| elements::unary(site, math::erf())),
    ("Exp", 1, 1, |site| elements::unary(site, math::exp())),
    ("Expand", 2, 2, |site| site.expand(&array::MultiBroadcastTo)),
    ("Flatten", 1, 1, tensors::flatten),
    ("Floor", 1, 1, |site| elements::unary(site, math::floor())),
    ("Gather", 2, 2, tensors::gather),
    ("Gemm", 2, 3, products::gemm),
    ("Greater", 2, 2, |site| elements::binary(site, Box::new(logic::CompGT))),
    ("GreaterOrEqual", 2, 2, |site| elements::binary(site, Box::new(logic::CompGTE))),
    ("Identity", 1, 1, tensors::identity),
    ("Less", 2, 2, |site| elements::binary(site, Box::new(logic::CompLT))),
    ("LessOrEqual", 2, 2, |site| elements::binary(site, Box::new(logic::CompLTE))),
    ("Log", 1, 1, |site| elements::unary(site, math::ln())),
    ("MatMul", 2, 2, products::matmul),
    ("Max", 1, ANY, |site| elements::variadic(site, Box::new(math::Max))),
    ("Min", 1, ANY, |site| elements::variadic(site, Box::new(math::Min))),
    ("Mod", 2, 2, elements::modulo),
    ("Mul", 2, 2, |site| elements::binary(site, Box::new(math::Mul))),
    ("Neg", 1, 1, |site| elements::unary(site, math::neg())),
    ("Pad", 1, 4, tensors::pad),
    ("Pow", 2, 2, elements::power),
    ("Range", 3, 3, |site| site.expand(&array::Range)),
    ("Reciprocal", 1, 1, |site| elements::unary(site, math::recip())),
    ("Reshape", 2, 2, |site| site.expand(&array::Reshape::new(false))),
    ("Round", 1, 1, |site| elements::unary(site, math::round_half_to_even())),
    ("Shape", 1, 1, tensors::shape),
    ("Sign", 1, 1, |site| elements::unary(site, math::sign())),
    ("Sin", 1, 1, |site| elements::unary(site, math::sin())),
    ("Sinh", 1, 1, |site| elements::unary(site, math::sinh())),
    ("Size", 1, 1, |site| site.expand(&array::Size::new(TDim::datum_type()))),
    ("Slice", 3, 5, tensors::slice),
    ("Softmax", 1, 1, elements::softmax),
    ("Split", 1, 2, tensors::split),
    ("Sqrt", 1, 1, |site| elements::unary(site, math::sqrt())),
    ("Squeeze", 1, 2, tensors::squeeze),
    ("Sub", 2, 2, |site| elements::binary(site, Box::new(math::Sub))),
    ("Sum", 1, ANY, |site| elements::variadic(site, Box::new(math::Add))),
    ("Tan", 1, 1, |site| elements::unary(site, math::tan())),
    ("Tile", 2, 2, tensors::tile),
    ("Transpose", 1, 1, tensors::transpose),
    ("Unsqueeze", 1, 2, tensors::unsqueeze),
    ("Where", 3, 3, |site| site.expand(&logic::Iff)),
];

/// Adds tract's operator for a node.
///
/// Errors: tract has none with this name, the number of inputs or outputs is wrong, or tract does not serve this form.
pub fn wire(site: &mut Site) -> Outlets {
    let node = site.attributes.node;
    let row = TABLE.iter().find(|row| row.0 == node.op_type);
    let (_, fewest, most, wire) =
        row.ok_or_else(|| TractError::msg("there is no operator with this name"))?;
    let count = site.inputs.len();
    if !(*fewest..=*most).contains(&count) {
        return Err(site.attributes.wrong(format!("it has {count} inputs: expected at least {fewest}")));
    }
    let outlets = wire(site)?;
    let named = node.output.iter().filter(|name| !name.is_empty()).count();
    match outlets.len() == named {
        true => Ok(outlets),
        false => Err(site.attributes.wrong(format!("it has {named} outputs: expected {}", outlets.len()))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::super::operators::table;
    use super::*;

    #[test]
    fn each_operator_that_tract_serves_has_a_row_and_no_other_has() {
        let served: BTreeSet<&str> =
            table::all().filter(|entry| entry.engine.is_some()).map(|entry| entry.name).collect();
        let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
        assert_eq!(rows, served);
        assert_eq!(rows.len(), TABLE.len(), "no name is there twice");
    }
}
