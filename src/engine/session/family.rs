//! The plans for one set of shapes: the one for a single row, and those for several that pay.

use std::sync::{Arc, PoisonError, RwLock};

use tract_onnx::tract_hir::internal::InferenceModel;

use super::batches::{Cost, Schedule};
use super::layout::{Place, with_rows};
use super::plan::Plan;
use super::{LoadError, Options};
use crate::model::{self, Dim, TensorMetadata};
use crate::wire::RequestError;

/// The plans for one set of shapes.
#[derive(Debug)]
pub(super) struct Family {
    /// The shapes of the signature's inputs that it takes, in the signature's order.
    pub admitted: Vec<TensorMetadata>,
    /// For a single row, or for all that comes where rows are not told apart.
    pub single: Plan,
    pub batches: RwLock<Arc<Batches>>,
}

/// The plans for several rows that pay; replaced whole when there is one more.
#[derive(Debug)]
pub(super) struct Batches {
    pub plans: Vec<Plan>,
    /// Of the single row's plan, then of `plans`.
    pub costs: Vec<Cost>,
    pub schedule: Schedule,
}

impl Batches {
    pub(super) fn none() -> Batches {
        let costs = vec![Cost { rows: 1, run: 1.0 }];
        Batches { plans: Vec::new(), schedule: Schedule::new(&costs), costs }
    }

    /// Rows of a plan of the schedule's.
    pub(super) fn rows(&self, plan: usize) -> usize {
        self.costs[plan].rows
    }
}

impl Family {
    pub(super) fn new(single: Plan, layout: &[Place], rows_apart: Option<&[Option<usize>]>) -> Family {
        let mut admitted: Vec<(usize, TensorMetadata)> = Vec::new();
        for (at, (input, place)) in single.inputs.iter().zip(layout).enumerate() {
            let Place::Tensor(index) = place else { continue };
            let mut input = input.clone();
            if let Some(axis) = rows_apart.and_then(|axes| axes[at]) {
                input.shape[axis] = Dim::Open(None);
            }
            admitted.push((*index, input));
        }
        admitted.sort_by_key(|(index, _)| *index);
        let admitted = admitted.into_iter().map(|(_, input)| input).collect();
        Family { admitted, single, batches: RwLock::new(Arc::new(Batches::none())) }
    }

    pub(super) fn admits(&self, inputs: &[model::Tensor]) -> bool {
        self.admitted.iter().zip(inputs).all(|(declared, tensor)| declared.admits(tensor.shape()))
    }

    pub(super) fn batches(&self) -> Arc<Batches> {
        self.batches.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, plan: Plan, single: Cost, cost: Cost) {
        let old = self.batches();
        let plans: Vec<Plan> = old.plans.iter().cloned().chain([plan]).collect();
        let costs: Vec<Cost> =
            [single].into_iter().chain(old.costs[1..].iter().copied()).chain([cost]).collect();
        let batches = Batches { plans, schedule: Schedule::new(&costs), costs };
        *self.batches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(batches);
    }
}

pub(super) fn no_plan<'f>(
    inputs: &[model::Tensor],
    families: impl Iterator<Item = &'f Family>,
) -> RequestError {
    let came: Vec<&[usize]> = inputs.iter().map(model::Tensor::shape).collect();
    let known = families.map(|family| {
        let shapes: Vec<String> =
            family.admitted.iter().map(|input| format!("{:?}", input.shape_i64())).collect();
        shapes.join(" with ")
    });
    RequestError::invalid(format!(
        "the model has no plan for inputs of shapes {came:?}: expected {}",
        known.collect::<Vec<_>>().join(", or ")
    ))
}

/// The plans for one set of shapes before any batches: the most concrete first.
pub(super) fn single_plans(
    model: &InferenceModel,
    inputs: &[TensorMetadata],
    axes: &[Option<usize>],
    options: &Options,
) -> Result<Vec<Plan>, LoadError> {
    let plan = |inputs: &[TensorMetadata]| Plan::new(model, inputs, options.max_tensor_bytes);
    let is_concrete = |inputs: &[TensorMetadata]| {
        inputs.iter().flat_map(|input| &input.shape).all(|dim| dim.fixed().is_some())
    };
    if options.max_batch_size.is_some() {
        return Ok(vec![plan(&with_rows(inputs, axes, 1))?]);
    }
    let single = with_rows(inputs, &vec![Some(0); inputs.len()], 1);
    if single == inputs || !options.variants.is_empty() || !options.states.is_empty() {
        return Ok(vec![plan(&single)?]);
    }
    // Any length may come: the symbolic plan serves it, the single row keeps its own plan where that is
    // concrete, which is the fast one.
    match plan(inputs) {
        Ok(open) => {
            let single = is_concrete(&single).then(|| plan(&single).ok()).flatten();
            Ok(single.into_iter().chain([open]).collect())
        }
        Err(error) => {
            log::debug!("no plan for open dimensions: {error}");
            Ok(vec![plan(&single)?])
        }
    }
}
