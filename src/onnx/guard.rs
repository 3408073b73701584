//! What a plan with open dimensions is asked before each run: whether it may be run at all.
//!
//! **Dimensions that must agree though the graph does not say so.** With `a [N, K]` times `b [L, M]` tract takes K for the inner length and reads as much of `b`,
//! whatever L is: past its end, if it is shorter. So the pairs of dimensions that meet in a product
//! and are not known to be equal are found when a plan is made, and compared before each run.
//!
//! **Inputs that are too small.** A convolution over less than its kernel has an output of negative
//! length, which the engine takes for a huge one.
//!
//! **Tensors that would be too large.** An outer product makes ten billion numbers of two hundred
//! thousand. So the shapes in the graph that depend on the request are kept, and computed first.
//!
//! **What all of it takes together.** See `footprint`.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{SymbolValues, TDim, TypedSimplePlan};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_hir::tract_core::ops::scan::Scan;

use super::footprint::{Bytes, Footprint};
use crate::error::{Code, RequestError};
use crate::model;

/// The questions of one plan; none at all when its dimensions are concrete.
#[derive(Debug, Default)]
pub struct Guard {
    /// The inputs' dimensions that are symbols: input, axis, symbol.
    symbols: Vec<(usize, usize, Symbol)>,
    pairs: Vec<Pair>,
    /// Every different shape in the graph that holds a symbol, with a node's name and bytes an element.
    shapes: Vec<(String, Vec<TDim>, usize)>,
    max_tensor_bytes: usize,
    footprint: Footprint,
}

/// Two dimensions that a node takes for one.
#[derive(Debug)]
struct Pair {
    node: String,
    a: TDim,
    b: TDim,
    /// One of them may then be 1.
    is_kept: bool,
}

impl Guard {
    /// Looks through a typed graph.
    pub fn of(model: &TypedModel, max_tensor_bytes: usize) -> TractResult<Guard> {
        let mut guard = Guard { max_tensor_bytes, ..Guard::default() };
        guard.add_shapes(model);
        for node in model.nodes() {
            if let Some(product) = node.op_as::<EinSum>() {
                guard.add_pairs(&node.name, product, &model.node_input_facts(node.id)?);
            }
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

    /// With what a run of the finished plan takes.
    pub fn with_footprint(self, plan: &TypedSimplePlan) -> TractResult<Guard> {
        Ok(Guard { footprint: Footprint::of(plan)?, ..self })
    }

    /// Of a graph, and of the graphs inside it.
    fn add_shapes(&mut self, model: &TypedModel) {
        for node in model.nodes() {
            for output in &node.outputs {
                self.add_shape(&node.name, &output.fact);
            }
            if let Some(scan) = node.op_as::<Scan>() {
                self.add_shapes(&scan.body);
            } else if let Some(branches) = node.op_as::<IfThenElse>() {
                self.add_shapes(&branches.then_body);
                self.add_shapes(&branches.else_body);
            }
        }
    }

    fn add_shape(&mut self, node: &str, fact: &TypedFact) {
        let size = fact.datum_type.size_of();
        let shape: Vec<TDim> = fact.shape.iter().cloned().collect();
        let open = shape.iter().any(|dim| dim.to_i64().is_err());
        if open && !self.shapes.iter().any(|(_, other, bytes)| *other == shape && *bytes >= size) {
            self.shapes.push((node.to_owned(), shape, size));
        }
    }

    fn add_pairs(&mut self, node: &str, product: &EinSum, facts: &[&TypedFact]) {
        for axis in product.axes.iter_all_axes() {
            // Where an axis is kept, a length of 1 is stretched to the other's, which is sound; where it is
            // summed over, it is not.
            let is_kept = axis.outputs.iter().any(|places| !places.is_empty());
            let dims = axis.inputs.iter().zip(facts).flat_map(|(places, fact)| {
                places.iter().filter_map(|place| fact.shape.get(*place)).cloned().collect::<Vec<TDim>>()
            });
            let dims: Vec<TDim> = dims.filter(|dim| !is_kept || *dim != 1.into()).collect();
            let Some((first, others)) = dims.split_first() else { continue };
            for other in others.iter().filter(|other| *other != first) {
                let (node, a, b) = (node.to_owned(), first.clone(), other.clone());
                self.pairs.push(Pair { node, a, b, is_kept });
            }
        }
    }

    /// Asks all of it for the shapes that came; what the run takes.
    pub fn check(&self, inputs: &[&model::Tensor]) -> Result<Bytes, RequestError> {
        let mut values = SymbolValues::default();
        for (input, axis, symbol) in &self.symbols {
            values.set(symbol, inputs[*input].shape()[*axis] as i64);
        }
        for Pair { node, a, b, is_kept } in &self.pairs {
            let (length, other) = (a.eval(&values), b.eval(&values));
            let stretched = *is_kept && (length == 1.into() || other == 1.into());
            if length != other && !stretched {
                return Err(RequestError::invalid(format!(
                    "node `{node}` needs {a} and {b} to be equal, but they are {length} and {other}"
                )));
            }
        }
        for (node, shape, size) in &self.shapes {
            // A dimension that only the run will tell counts as one: see `late`.
            let lengths: Vec<i64> = shape.iter().map(|dim| dim.eval(&values).to_i64().unwrap_or(1)).collect();
            if lengths.iter().any(|length| *length < 0) {
                return Err(RequestError::invalid(format!(
                    "the input is too small: node `{node}` would make the shape {lengths:?} of it"
                )));
            }
            let bytes = lengths
                .iter()
                .fold(*size as u64, |bytes, length| bytes.saturating_mul(length.unsigned_abs()));
            if bytes > self.max_tensor_bytes as u64 {
                return Err(RequestError::new(
                    Code::TooLarge,
                    format!(
                        "node `{node}` would make {bytes} bytes of this input: the limit is {}",
                        self.max_tensor_bytes
                    ),
                ));
            }
        }
        Ok(self.footprint.bytes(&values))
    }
}
