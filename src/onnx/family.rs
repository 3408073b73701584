//! A family: the plans for one set of shapes. It has one plan for a single row, and plans for several rows where
//! these are faster.
//!
//! What belongs here: making the first plans, and choosing by shapes. What does not: measuring batches (`planner`)
//! and running (`runner`).
//!
//! Invariant: the plans for several rows are replaced as a whole, so a runner always sees a consistent set.

use std::sync::{Arc, PoisonError, RwLock};

use super::batches::{Cost, Schedule};
use super::layout::{Place, with_rows};
use super::plan::{Plan, PlanState, Template};
use super::{LoadError, Options, Session, guarded};
use crate::error::RequestError;
use crate::memory::{Budget, Share};
use crate::model::tensor::volume;
use crate::model::{self, Dim, TensorMetadata};

/// The plans for one set of shapes.
#[derive(Debug)]
pub(super) struct Family {
    /// The shapes of the signature's inputs that this family admits, in the signature's order.
    pub admitted: Vec<TensorMetadata>,
    /// The plan for a single row. If rows are not separate, it is the plan for every request of this family.
    pub single: Plan,
    /// The plans for several rows.
    pub batches: RwLock<Arc<Batches>>,
}

/// The plans for several rows that are worth using. The whole value is replaced when a plan is added.
#[derive(Debug)]
pub(super) struct Batches {
    /// The plans, each for a fixed number of rows.
    pub plans: Vec<Plan>,
    /// The cost of the plan for a single row, then the costs of `plans`.
    pub costs: Vec<Cost>,
    /// Which plans to run for a number of rows.
    pub schedule: Schedule,
}

impl Batches {
    /// No plans for several rows. The cost of a single row is not measured yet.
    pub(super) fn none() -> Batches {
        let costs = vec![Cost { rows: 1, run: 1.0 }];
        Batches { plans: Vec::new(), schedule: Schedule::new(&costs), costs }
    }

    /// Returns the number of rows of a plan. `plan` is its index in the schedule.
    pub(super) fn rows(&self, plan: usize) -> usize {
        self.costs[plan].rows
    }
}

impl Family {
    /// Makes a family with a plan for a single row and no others. `rows_apart` has the batch axis of each input, if
    /// rows are separate.
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

    /// Returns whether the shapes of `inputs` agree with this family.
    pub(super) fn admits(&self, inputs: &[model::Tensor]) -> bool {
        self.admitted.iter().zip(inputs).all(|(declared, tensor)| declared.admits(tensor.shape()))
    }

    /// Returns the admitted shapes as text.
    pub(super) fn describe(&self) -> String {
        let shapes = self.admitted.iter().map(|input| format!("{} {:?}", input.name, input.shape_i64()));
        shapes.collect::<Vec<_>>().join(" with ")
    }

    /// Returns the current plans for several rows.
    pub(super) fn batches(&self) -> Arc<Batches> {
        self.batches.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a plan for several rows, and makes a new schedule. `single` is the newly measured cost of a single row.
    pub(super) fn add(&self, plan: Plan, single: Cost, cost: Cost) {
        let old = self.batches();
        let plans: Vec<Plan> = old.plans.iter().cloned().chain([plan]).collect();
        let costs: Vec<Cost> =
            [single].into_iter().chain(old.costs[1..].iter().copied()).chain([cost]).collect();
        let batches = Batches { plans, schedule: Schedule::new(&costs), costs };
        *self.batches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(batches);
    }
}

impl Session {
    /// Returns the shapes that are admitted, if `model.json` lists them.
    pub fn listed_shapes(&self) -> Option<Vec<String>> {
        let shapes = self.families.iter().map(|family| family.describe());
        self.has_listed_shapes.then(|| shapes.collect())
    }

    /// Returns the input at this place of the signature, once for each entry of `shapes` in `model.json`. It is empty when
    /// there is no list.
    pub fn listed_for(&self, input: usize) -> Vec<TensorMetadata> {
        let families = self.families.iter().filter(|_| self.has_listed_shapes);
        families.map(|family| family.admitted[input].clone()).collect()
    }
}

/// Makes the error for inputs that no family admits. It lists the shapes that are admitted.
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

/// The plans for one set of shapes without plans for several rows, and a note if a dimension was fixed.
pub(super) struct Singles {
    /// The plan with the most fixed dimensions is first.
    pub plans: Vec<Plan>,
    /// The note for the owner of the model if a dimension was fixed to 1.
    pub note: Option<String>,
}

/// Makes the plans for one set of shapes.
pub(super) fn single_plans(
    template: &Template,
    inputs: &[TensorMetadata],
    axes: &[Option<usize>],
    options: &Options,
) -> Result<Singles, LoadError> {
    let plan = |inputs: &[TensorMetadata]| Plan::new(template, inputs, options.max_tensor_bytes);
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
    // Inputs of any length may arrive, and the symbolic plan serves them. A single row also gets its own plan if all
    // its dimensions are fixed, because that plan is faster.
    let open = plan(inputs).map_err(|error| error.cause);
    match open.and_then(|open| two_rows(&open).map(|()| open)) {
        Ok(open) => {
            let single = is_concrete(&single).then(|| plan(&single).ok()).flatten();
            Ok(Singles { plans: single.into_iter().chain([open]).collect(), note: None })
        }
        Err(cause) => Ok(given_up(plan(&single)?, &cause)),
    }
}

/// Makes the note for the owner: which dimensions are fixed to 1 although the file leaves them open, why, and what to
/// write in `model.json`.
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

/// The lengths that are tried for open dimensions. The shortest is 1, but it is too small for some models.
const TRIED: [usize; 3] = [1, 16, 128];

/// Tries a run of two rows. The file may allow any number of rows, but some graphs work only with one, and only a run
/// shows that. If no run of a single row succeeds either, the result is `Ok`, because nothing can be concluded.
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
        // The first dimensions of several inputs may be different dimensions.
        let firsts: Vec<&Dim> = open.inputs.iter().filter_map(|input| input.shape.first()).collect();
        let one_alone = || firsts.iter().any(|first| run(2, &|dim| dim == *first) == Some(Ok(())));
        return match two {
            Err(error) if !one_alone() => Err(format!("a run of two rows fails: {error}")),
            _ => Ok(()),
        };
    }
    Ok(())
}

/// Makes zeros for a trial. A first dimension that counts as rows has `rows` entries, and all other open dimensions
/// have `length`. Returns `None` if the tensor would take too much memory.
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
