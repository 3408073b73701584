//! The checks before each run of a plan with open dimensions: whether the shapes of this request can be run.
//!
//! **Dimensions that must be equal although the graph does not say so.** For the product of `a [N, K]` and `b [L, M]`
//! tract uses K as the inner length and reads K rows of `b`. If L is smaller, it reads past the end of `b`. So the pairs
//! of dimensions that meet in a product and are not known to be equal are collected when a plan is made, and compared
//! before each run.
//!
//! **Inputs that are too small.** A convolution over an input that is smaller than its kernel has an output of negative
//! length, which tract takes as a huge length.
//!
//! **Tensors that are too large.** The outer product of two vectors of 100,000 numbers has ten billion numbers. So the
//! shapes in the graph that depend on the request are collected, and computed before the run.
//!
//! **The memory of the whole run.** See `footprint`.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{SymbolValues, TDim, TypedSimplePlan};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use super::footprint::{Bytes, Footprint};
use crate::error::{Code, RequestError};
use crate::model;

/// The checks of one plan. There are none when all dimensions are fixed.
#[derive(Debug, Default)]
pub struct Guard {
    /// The open dimensions of the inputs: index of the input, axis, symbol.
    symbols: Vec<(usize, usize, Symbol)>,
    /// The dimensions that must be equal.
    pairs: Vec<Pair>,
    /// Every different shape in the graph that has a symbol: the name of a node that makes it, the shape, the bytes of
    /// an element.
    shapes: Vec<(String, Vec<TDim>, usize)>,
    /// The most bytes of one tensor.
    max_tensor_bytes: usize,
    footprint: Footprint,
}

/// Two dimensions that a node treats as equal.
#[derive(Debug)]
struct Pair {
    node: String,
    a: TDim,
    b: TDim,
    /// True when the output keeps this axis. Then one of the two can be 1.
    is_kept: bool,
}

impl Guard {
    /// Collects the checks of a typed graph. `max_tensor_bytes` is the limit for one tensor.
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

    /// Adds the memory that a run of the finished plan uses.
    pub fn with_footprint(self, plan: &TypedSimplePlan) -> TractResult<Guard> {
        Ok(Guard { footprint: Footprint::of(plan)?, ..self })
    }

    /// Adds the shapes of a graph. Bodies have a guard of their own: see [`bodies`](super::bodies).
    fn add_shapes(&mut self, model: &TypedModel) {
        for node in model.nodes() {
            for output in &node.outputs {
                self.add_shape(&node.name, &output.fact);
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
            // If the output keeps an axis, tract repeats a length of 1 correctly to the length of the other input. If
            // the axis is summed over, it does not.
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

    /// Checks the shapes of these inputs (those of the graph, in its order). Returns the memory that the run uses.
    pub fn check(&self, inputs: &[&model::Tensor]) -> Result<Bytes, RequestError> {
        let mut values = SymbolValues::default();
        for (input, axis, symbol) in &self.symbols {
            values.set(symbol, inputs[*input].shape()[*axis] as i64);
        }
        self.check_symbols(&values)
    }

    /// Checks the shapes for these values of the open dimensions. Returns the memory that the run uses.
    pub fn check_symbols(&self, values: &SymbolValues) -> Result<Bytes, RequestError> {
        for Pair { node, a, b, is_kept } in &self.pairs {
            let (length, other) = (a.eval(values), b.eval(values));
            let stretched = *is_kept && (length == 1.into() || other == 1.into());
            if length != other && !stretched {
                let is_known = |length: &TDim| length.to_i64().is_ok();
                let found = match is_known(&length) && is_known(&other) {
                    true => format!("but they are {length} and {other}"),
                    false => {
                        "which cannot be checked before the run: fix open dimensions of the inputs with \
                              `inputs[].shape` in model.json"
                            .to_owned()
                    }
                };
                let message = format!("node `{node}` needs {a} and {b} to be equal, {found}");
                return Err(RequestError::invalid(message));
            }
        }
        for (node, shape, size) in &self.shapes {
            // A dimension that only the run determines counts as 1: see `late`.
            let lengths: Vec<i64> = shape.iter().map(|dim| dim.eval(values).to_i64().unwrap_or(1)).collect();
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
        Ok(self.footprint.bytes(values))
    }
}
