//! Dimensions that must agree though the graph does not say so.
//!
//! With `a [N, K]` times `b [L, M]` tract takes K for the inner length and reads as much of `b`,
//! whatever L is: past its end, if it is shorter. So the pairs of dimensions that meet in a product
//! and are not known to be equal are found when a plan is made, and compared before each run.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{SymbolValues, TDim};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use crate::model;

/// The comparisons of one plan; none at all when its dimensions are concrete.
#[derive(Debug, Default)]
pub struct Guard {
    /// The inputs' dimensions that are symbols: input, axis, symbol.
    symbols: Vec<(usize, usize, Symbol)>,
    /// The node's name, and two dimensions that it takes for one.
    pairs: Vec<(String, TDim, TDim)>,
}

impl Guard {
    /// Looks for products in a typed graph.
    pub fn of(model: &TypedModel) -> TractResult<Guard> {
        let mut guard = Guard::default();
        for node in model.nodes() {
            let Some(product) = node.op_as::<EinSum>() else { continue };
            let facts = model.node_input_facts(node.id)?;
            for axis in product.axes.iter_all_axes() {
                let dims = axis.inputs.iter().zip(&facts).flat_map(|(places, fact)| {
                    places.iter().filter_map(|place| fact.shape.get(*place)).cloned().collect::<Vec<TDim>>()
                });
                // A length of 1 is stretched to the other's, which is sound.
                let dims: Vec<TDim> = dims.filter(|dim| *dim != 1.into()).collect();
                let Some((first, others)) = dims.split_first() else { continue };
                for other in others.iter().filter(|other| *other != first) {
                    guard.pairs.push((node.name.clone(), first.clone(), other.clone()));
                }
            }
        }
        if guard.pairs.is_empty() {
            return Ok(guard);
        }
        for (input, outlet) in model.input_outlets()?.iter().enumerate() {
            for (axis, dim) in model.outlet_fact(*outlet)?.shape.iter().enumerate() {
                if let TDim::Sym(symbol) = dim {
                    guard.symbols.push((input, axis, symbol.clone()));
                }
            }
        }
        Ok(guard)
    }

    /// Compares the pairs for the shapes that came.
    pub fn check(&self, inputs: &[model::Tensor]) -> Result<(), String> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let mut values = SymbolValues::default();
        for (input, axis, symbol) in &self.symbols {
            values.set(symbol, inputs[*input].shape()[*axis] as i64);
        }
        for (node, a, b) in &self.pairs {
            let (length, other) = (a.eval(&values), b.eval(&values));
            if length != other && length != 1.into() && other != 1.into() {
                return Err(format!(
                    "node `{node}` needs {a} and {b} to be equal, but they are {length} and {other}"
                ));
            }
        }
        Ok(())
    }
}
