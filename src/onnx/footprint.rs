//! How much memory a run of a plan takes at the most: all that lies between its operators at the same time.
//!
//! A plan runs its operators in a fixed order and drops each tensor behind the last operator that needs it. So what is
//! there at each step follows from the shapes, which are known before the run, but for those in [`late`](super::late).

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::{SymbolValues, TypedSimplePlan};

/// The tensors of a plan, from the step that makes each to the last that needs it.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Every different number of bytes.
    sizes: Vec<TDim>,
    steps: Vec<Step>,
    /// Of the plan's inputs and outputs, which are copied on their way in and out.
    outputs: Vec<usize>,
    /// The answer, where all sizes are known.
    fixed: Option<Bytes>,
}

/// Places in `sizes`.
#[derive(Debug, Default)]
struct Step {
    made: Vec<usize>,
    dropped: Vec<usize>,
}

/// What a run takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// At the most, outputs in both forms among it.
    pub peak: usize,
    /// Of the outputs, which are left.
    pub outputs: usize,
}

impl Footprint {
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
            // Inputs are there from the beginning.
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

    fn size(&mut self, fact: &TypedFact) -> usize {
        let size = fact.mem_size();
        self.sizes.iter().position(|other| *other == size).unwrap_or_else(|| {
            self.sizes.push(size);
            self.sizes.len() - 1
        })
    }

    /// For such dimensions. What only the run will tell counts as nothing.
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
        // Some operators make their result in one more tensor of its size.
        let largest = sizes.iter().copied().max().unwrap_or(0);
        Bytes { peak: peak + largest + outputs, outputs }
    }
}
