//! The plans for one set of shapes: the one for a single row, and those for several that pay.

use std::sync::{Arc, PoisonError, RwLock};

use tract_onnx::tract_hir::internal::InferenceModel;

use super::batches::{Cost, Schedule};
use super::layout::{Place, with_rows};
use super::plan::{Plan, PlanState};
use super::{LoadError, Options, guarded};
use crate::error::RequestError;
use crate::memory::{Budget, Share};
use crate::model::tensor::volume;
use crate::model::{self, Dim, TensorMetadata};

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

    /// The shapes that it admits, in words.
    pub(super) fn describe(&self) -> String {
        let shapes = self.admitted.iter().map(|input| format!("{} {:?}", input.name, input.shape_i64()));
        shapes.collect::<Vec<_>>().join(" with ")
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

/// The plans for one set of shapes before any batches, and what was given up for them.
pub(super) struct Singles {
    /// The most concrete first.
    pub plans: Vec<Plan>,
    pub note: Option<String>,
}

/// Makes the plans for one set of shapes.
pub(super) fn single_plans(
    model: &InferenceModel,
    inputs: &[TensorMetadata],
    axes: &[Option<usize>],
    options: &Options,
) -> Result<Singles, LoadError> {
    let plan = |inputs: &[TensorMetadata]| Plan::new(model, inputs, options.max_tensor_bytes);
    let is_concrete = |inputs: &[TensorMetadata]| {
        inputs.iter().flat_map(|input| &input.shape).all(|dim| dim.fixed().is_some())
    };
    let sure = |plan: Plan| Singles { plans: vec![plan], note: None };
    if options.max_batch_size.is_some() {
        return plan(&with_rows(inputs, axes, 1)).map(sure);
    }
    let single = with_rows(inputs, &vec![Some(0); inputs.len()], 1);
    if single == inputs || !options.states.is_empty() {
        return plan(&single).map(sure);
    }
    let given_up =
        |plan: Plan, why: &str| Singles { plans: vec![plan], note: Some(note(inputs, &single, why)) };
    if !options.variants.is_empty() {
        let why = "`shapes` gives every length but this one, and max_batch_size is not set";
        return plan(&single).map(|plan| given_up(plan, why));
    }
    // Any length may come: the symbolic plan serves it, the single row keeps its own plan where that is
    // concrete, which is the fast one.
    let open = plan(inputs).map_err(|error| error.cause);
    match open.and_then(|open| two_rows(&open).map(|()| open)) {
        Ok(open) => {
            let single = is_concrete(&single).then(|| plan(&single).ok()).flatten();
            Ok(Singles { plans: single.into_iter().chain([open]).collect(), note: None })
        }
        Err(cause) => Ok(given_up(plan(&single)?, &cause)),
    }
}

/// Which dimensions are 1 though the file leaves them open, why, and what to write.
fn note(open: &[TensorMetadata], single: &[TensorMetadata], why: &str) -> String {
    let mut places = Vec::new();
    for (open, single) in open.iter().zip(single) {
        for (axis, (was, is)) in open.shape.iter().zip(&single.shape).enumerate() {
            if let (Dim::Open(name), Dim::Fixed(_)) = (was, is) {
                let name = name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
                places.push(format!("dimension {axis}{name} of input `{}`", open.name));
            }
        }
    }
    format!(
        "{} is 1, though the file leaves it open: {why}. If each row's answer depends on that row alone, write \
         \"max_batch_size\": 8 (or another number) in model.json: then requests may bring so many rows",
        places.join(", ")
    )
}

/// Lengths that open dimensions are tried with: 1 is the least, and too little for some.
const TRIED: [usize; 3] = [1, 16, 128];

/// Tries a run of two rows. Metadata promise any number of them, and some graphs hold for one only, which nothing but a run
/// tells. Where no run of a single row succeeds either, nothing is said.
fn two_rows(open: &Plan) -> Result<(), String> {
    for length in TRIED {
        let run = |rows: usize, which: &dyn Fn(&Dim) -> bool| {
            guarded("a trial of rows", || {
                let inputs = open.inputs.iter().map(|input| trial_input(input, rows, which, length));
                let Some(inputs) = inputs.collect::<Option<Vec<model::Tensor>>>() else { return Ok(None) };
                let mut memory = Share::none(&Budget::unbounded());
                let inputs: Vec<_> = inputs.iter().collect();
                let result = PlanState::new(open).run(&inputs, &mut memory);
                Ok(Some(result.map(|_| ()).map_err(|error| error.message)))
            })
            .unwrap_or_else(|error| Some(Err(error.cause)))
        };
        let all = |_: &Dim| true;
        let (Some(Ok(())), Some(two)) = (run(1, &all), run(2, &all)) else { continue };
        // The first dimensions of several inputs need not be the same one.
        let firsts: Vec<&Dim> = open.inputs.iter().filter_map(|input| input.shape.first()).collect();
        let one_alone = || firsts.iter().any(|first| run(2, &|dim| dim == *first) == Some(Ok(())));
        return match two {
            Err(error) if !one_alone() => Err(format!("a run of two rows fails: {error}")),
            _ => Ok(()),
        };
    }
    Ok(())
}

/// Zeros with so many rows where those are meant, and all other open dimensions of one length; nothing when they would take too much memory.
fn trial_input(
    input: &TensorMetadata,
    rows: usize,
    has_rows: &dyn Fn(&Dim) -> bool,
    length: usize,
) -> Option<model::Tensor> {
    const MOST_BYTES: usize = 64 << 20;
    let mut shape = input.shape_with_open(length);
    if let Some(first @ Dim::Open(_)) = input.shape.first() {
        shape[0] = if has_rows(first) { rows } else { 1 };
    }
    let bytes = volume(&shape)?.checked_mul(input.datatype.size()?)?;
    (bytes <= MOST_BYTES).then(|| model::Tensor::zeros(input.datatype, shape).ok()).flatten()
}
