//! The most memory that a run of a plan uses: the largest total size of the tensors that exist at the same time.
//!
//! A plan runs its operators in a fixed order and drops each tensor after the last operator that needs it. So the sizes
//! at each step follow from the shapes, which are known before the run. Only the shapes of the operators in
//! [`late`](super::late) are not; `late` counts their memory during the run.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::{SymbolValues, TypedSimplePlan};

/// The tensors of a plan: the step that makes each, and the last step that needs it.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Every different size in bytes, as an expression of the open dimensions.
    sizes: Vec<TDim>,
    /// In the order of the run. The last one is after the run.
    steps: Vec<Step>,
    /// The sizes of the outputs, as indices into `sizes`. Each output is copied after the run.
    outputs: Vec<usize>,
    /// The result, when the plan has no open dimensions.
    fixed: Option<Bytes>,
}

/// The tensors that a step makes, and those that are dropped after it, as indices into `sizes`.
#[derive(Debug, Default)]
struct Step {
    made: Vec<usize>,
    dropped: Vec<usize>,
}

/// The memory that a run uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// The most bytes at the same time. It includes the outputs twice: tract's and their copies.
    pub peak: usize,
    /// The bytes of the outputs, which remain after the run.
    pub outputs: usize,
}

impl Footprint {
    /// Follows the tensors through the plan.
    pub fn of(plan: &TypedSimplePlan) -> TractResult<Footprint> {
        let model = plan.model();
        let order = plan.order_without_consts();
        let outputs = model.output_outlets()?;
        let mut last = vec![None; model.nodes().len()];
        for (step, id) in order.iter().enumerate() {
            last[*id] = Some(step);
            for input in &model.node(*id).inputs {
                last[input.node] = Some(step);
            }
        }
        for output in outputs {
            last[output.node] = Some(order.len());
        }
        let mut footprint = Footprint::default();
        footprint.steps.resize_with(order.len() + 1, Step::default);
        let inputs: Vec<usize> = model.input_outlets()?.iter().map(|input| input.node).collect();
        for (step, id) in order.iter().enumerate() {
            let node = model.node(*id);
            if node.op_is::<Const>() {
                continue;
            }
            // The inputs exist before the first step.
            let step = if inputs.contains(id) { 0 } else { step };
            for output in &node.outputs {
                let size = footprint.size(&output.fact);
                footprint.steps[step].made.push(size);
                footprint.steps[last[*id].unwrap_or(step)].dropped.push(size);
            }
        }
        for output in outputs {
            let size = footprint.size(model.outlet_fact(*output)?);
            footprint.outputs.push(size);
        }
        if footprint.sizes.iter().all(|size| size.to_i64().is_ok()) {
            footprint.fixed = Some(footprint.bytes(&SymbolValues::default()));
        }
        Ok(footprint)
    }

    /// The index in `sizes` of a tensor's size.
    fn size(&mut self, fact: &TypedFact) -> usize {
        let size = fact.mem_size();
        self.sizes.iter().position(|other| *other == size).unwrap_or_else(|| {
            self.sizes.push(size);
            self.sizes.len() - 1
        })
    }

    /// The memory for these values of the open dimensions. A size that only the run determines counts as 0.
    pub fn bytes(&self, values: &SymbolValues) -> Bytes {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let known = |size: &TDim| size.eval(values).to_i64().ok();
        let sizes: Vec<usize> = self
            .sizes
            .iter()
            .map(|size| known(size).and_then(|size| usize::try_from(size).ok()).unwrap_or(0))
            .collect();
        let (mut live, mut peak) = (0_usize, 0);
        for step in &self.steps {
            live += step.made.iter().map(|size| sizes[*size]).sum::<usize>();
            peak = peak.max(live);
            live -= step.dropped.iter().map(|size| sizes[*size]).sum::<usize>();
        }
        let outputs = self.outputs.iter().map(|size| sizes[*size]).sum();
        // Some operators use a temporary tensor as large as their result.
        let largest = sizes.iter().copied().max().unwrap_or(0);
        Bytes { peak: peak + largest + outputs, outputs }
    }
}
