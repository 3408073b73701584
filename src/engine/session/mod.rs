//! The only room that imports tract: ONNX files in, tensors through, tensors out.
//!
//! # Plans
//! tract optimises a graph for shapes. With every dimension known a plan is up to eighteen times
//! faster than a symbolic one, and some models load no other way; so a [`Session`] is a short list of
//! families of plans, the most concrete first, and a run takes the first that admits its shapes. A client
//! never makes the server compile one.
//!
//! | the model's inputs | families |
//! |---|---|
//! | nothing open | one, concrete |
//! | a batch axis, declared by `max_batch_size` | one: a plan for a single row, later others for more rows ([`planner`]) |
//! | `shapes` are declared | one for each of them |
//! | open dimensions, nothing declared | one for a single row, and a symbolic one where that loads |
//!
//! # Operators
//! Some are our own, over tract's or where it has none: see `operators`.
//!
//! # States
//! Inputs and outputs that `sequence.states` ties together leave the signature: an [`Item`] carries them.
//!
//! # Running
//! A plan is shared; its running state is a [`Runner`]'s own, one a worker. After a failed run that
//! state refuses good input, so a `Runner` is thrown away on any error. Recurrent operators keep
//! nothing in it: see `recurrence`.

mod batches;
mod convert;
pub mod graph;
mod guard;
mod operators;
mod plan;
pub mod planner;
mod recurrence;
mod runner;
pub mod threads;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceModel};
use tract_onnx::tract_hir::ops::konst::Const;

use super::panic::panic_message;
use crate::model::tensor::volume;
use crate::model::{self, Dim, Signature, TensorMetadata};
use crate::wire::{Code, RequestError};

use batches::{Cost, Schedule};
use convert::{chain, to_tract};
use plan::Plan;
use threads::Threads;

pub use graph::{ClassLabels, Graph};
pub use planner::{Finding, Planner, Verdict};
pub use runner::{Item, Runner};
pub use threads::ThreadFinding;

/// Why a model does not load, and what its owner can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}{}", advice.as_ref().map(|advice| format!(" ({advice})")).unwrap_or_default())]
pub struct LoadError {
    /// The step that failed.
    pub what: &'static str,
    /// The engine's words, or ours; names the operator or the shape.
    pub cause: String,
    pub advice: Option<String>,
}

/// What is said about a model beyond its file.
#[derive(Debug, Default)]
pub struct Options {
    /// Narrowed shapes, by input name: as many dimensions as the file has, a fixed one where the
    /// owner fixed it.
    pub shapes: Vec<(String, Vec<Dim>)>,
    /// The shapes that come, when they are few and all known: each narrows the inputs further, and has a plan.
    pub variants: Vec<Vec<(String, Vec<Dim>)>>,
    /// Inputs that always get the same value and leave the signature.
    pub constants: Vec<(String, model::Tensor)>,
    /// Outputs that become inputs of the next run, and leave the signature.
    pub states: Vec<StateOption>,
    /// Declares the first open axis a batch of independent rows, at most so many a run.
    pub max_batch_size: Option<usize>,
    /// Sizes of batches that are used without being measured.
    pub preferred_batch_size: Option<Vec<usize>>,
    /// Bytes of weights that plans for several rows may pack, all together.
    pub max_plan_bytes: usize,
    /// The most bytes of a tensor that open dimensions may lead to.
    pub max_tensor_bytes: usize,
}

/// A state of a sequence.
#[derive(Debug, Clone)]
pub struct StateOption {
    pub input: String,
    pub output: String,
    /// The axis along which states of several sequences are put together, when they may be.
    pub batch_axis: Option<usize>,
}

/// The plans of a model for its shapes, and the signature that they serve.
#[derive(Debug)]
pub struct Session {
    signature: Signature,
    states: Vec<TensorMetadata>,
    layout: Arc<Layout>,
    families: Vec<Arc<Family>>,
    /// Of one run, where they help.
    threads: Option<Threads>,
}

/// Where the graph's inputs come from and its outputs go, and along which axes their rows lie.
#[derive(Debug)]
struct Layout {
    inputs: Vec<Place>,
    /// `None` for an input that is the same for all rows; all `None` when rows are not told apart.
    input_axes: Vec<Option<usize>>,
    outputs: Vec<Place>,
    output_axes: Vec<usize>,
    /// Rows of different requests may be run together.
    joins: bool,
}

/// In the signature, or among the states.
#[derive(Debug, Clone, Copy)]
enum Place {
    Tensor(usize),
    State(usize),
}

/// The plans for one set of shapes.
#[derive(Debug)]
struct Family {
    /// The shapes of the signature's inputs that it takes, in the signature's order.
    admitted: Vec<TensorMetadata>,
    /// For a single row, or for all that comes where rows are not told apart.
    single: Plan,
    batches: RwLock<Arc<Batches>>,
}

/// The plans for several rows that pay; replaced whole when there is one more.
#[derive(Debug)]
struct Batches {
    plans: Vec<Plan>,
    /// Of the single row's plan, then of `plans`.
    costs: Vec<Cost>,
    schedule: Schedule,
}

impl Batches {
    fn none() -> Batches {
        let costs = vec![Cost { rows: 1, run: 1.0 }];
        Batches { plans: Vec::new(), schedule: Schedule::new(&costs), costs }
    }

    /// Rows of a plan of the schedule's.
    fn rows(&self, plan: usize) -> usize {
        self.costs[plan].rows
    }
}

impl Family {
    fn new(single: Plan, layout: &[Place], rows_apart: Option<&[Option<usize>]>) -> Family {
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

    fn admits(&self, inputs: &[model::Tensor]) -> bool {
        self.admitted.iter().zip(inputs).all(|(declared, tensor)| declared.admits(tensor.shape()))
    }

    fn batches(&self) -> Arc<Batches> {
        self.batches.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, plan: Plan, single: Cost, cost: Cost) {
        let old = self.batches();
        let plans: Vec<Plan> = old.plans.iter().cloned().chain([plan]).collect();
        let costs: Vec<Cost> =
            [single].into_iter().chain(old.costs[1..].iter().copied()).chain([cost]).collect();
        let batches = Batches { plans, schedule: Schedule::new(&costs), costs };
        *self.batches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(batches);
    }
}

impl Session {
    /// Plans the graph for the shapes that `options` leave: ready to run when it returns. Where batches may pay
    /// there is a [`Planner`] beside it, to be run whenever there is time.
    pub fn load(graph: &Graph, options: &Options) -> Result<(Session, Option<Planner>), LoadError> {
        guarded("planning the model", || Session::try_load(graph, options))
    }

    fn try_load(graph: &Graph, options: &Options) -> Result<(Session, Option<Planner>), LoadError> {
        let (model, inputs) = narrow(graph, options)?;
        let places = input_places(&inputs, &options.states)?;
        let axes = batch_axes(&inputs, &places, options)?;
        let rows_apart = options.max_batch_size.is_some();
        let mut plans = Vec::new();
        for shapes in variants(&inputs, options)? {
            plans.extend(single_plans(&model, &shapes, &axes, options)?);
        }
        let widest = plans.last().expect("at least one plan was made");
        let outputs = widest.outputs(&graph.output_names)?;
        let output_places = output_places(&outputs, &options.states)?;
        check_states(&widest.inputs, &outputs, options)?;
        let mut signature = Signature {
            inputs: of_signature(
                if rows_apart || !options.variants.is_empty() { &inputs } else { &widest.inputs },
                &places,
            ),
            outputs: of_signature(&outputs, &output_places),
            max_batch_size: options.max_batch_size,
            has_state: !options.states.is_empty(),
        };
        if rows_apart {
            signature.outputs =
                signature.outputs.into_iter().map(with_batch_axis).collect::<Result<_, _>>()?;
        }
        if plans.len() > 1 {
            open_where_unlike(&mut signature.outputs, &plans, &graph.output_names, &output_places)?;
        }
        let has_states = !options.states.is_empty();
        if has_states && rows_apart {
            // A request is one step of one sequence.
            signature.max_batch_size = Some(1);
        }
        let all_have_rows = places.iter().zip(&axes).all(|(_, axis)| axis.is_some());
        let joins = options.max_batch_size.is_some_and(|most| most > 1) && all_have_rows;
        let states = options.states.iter().map(|state| {
            let at = widest.inputs.iter().position(|input| input.name == state.input);
            widest.inputs[at.expect("input_places() has found it")].clone()
        });
        let states = states.collect();
        let output_axes = output_places.iter().map(|place| match place {
            Place::Tensor(_) => 0,
            Place::State(at) => options.states[*at].batch_axis.unwrap_or(0),
        });
        let axes = if has_states && !joins { vec![None; axes.len()] } else { axes };
        let layout = Arc::new(Layout {
            output_axes: output_axes.collect(),
            outputs: output_places,
            inputs: places,
            input_axes: if rows_apart { axes } else { vec![None; inputs.len()] },
            joins,
        });
        let families: Vec<Arc<Family>> = plans
            .into_iter()
            .map(|plan| Arc::new(Family::new(plan, &layout.inputs, rows_apart.then_some(&layout.input_axes))))
            .collect();
        let wanted =
            options.max_batch_size.filter(|most| *most > 1 && layout.input_axes.iter().any(Option::is_some));
        let planner = wanted.map(|max_batch_size| Planner {
            model,
            layout: layout.clone(),
            families: families.iter().map(Arc::downgrade).collect(),
            max_batch_size,
            preferred: options.preferred_batch_size.clone(),
            max_plan_bytes: options.max_plan_bytes,
            max_tensor_bytes: options.max_tensor_bytes,
        });
        Ok((Session { signature, states, layout, families, threads: None }, planner))
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The signature, to be completed with what processing adds.
    pub fn signature_mut(&mut self) -> &mut Signature {
        &mut self.signature
    }

    /// What a sequence carries from step to step, in the order in which it was declared.
    pub fn states(&self) -> &[TensorMetadata] {
        &self.states
    }

    /// Which plans such inputs are run by; what has the same number may be run together.
    pub fn family_of(&self, inputs: &[model::Tensor]) -> Result<usize, RequestError> {
        let family = self.families.iter().position(|family| family.admits(inputs));
        family.ok_or_else(|| no_plan(inputs, self.families.iter().map(|family| &**family)))
    }

    /// How many rows of different requests are worth running together, as far as is known by now.
    pub fn largest_batch(&self) -> usize {
        if !self.layout.joins {
            return 1;
        }
        self.families.iter().map(|family| family.batches().schedule.largest()).max().unwrap_or(1)
    }

    /// How many rows a request's inputs bring, files counted as a row each.
    pub fn rows(&self, inputs: &[model::Tensor]) -> usize {
        self.layout.rows(inputs)
    }

    /// Bytes of weights that plans for several rows have packed.
    pub fn batch_plan_bytes(&self) -> usize {
        let bytes = |family: &Arc<Family>| -> usize {
            family.batches().plans.iter().map(|plan| plan.weight_bytes).sum()
        };
        self.families.iter().map(bytes).sum()
    }

    /// A running form for one thread.
    pub fn runner(&self) -> Runner {
        Runner::new(self.layout.clone(), &self.families, self.threads.clone())
    }

    /// Tries a run with so many threads, and keeps them when it is faster.
    pub fn try_threads(&mut self, count: usize, item: &Item) -> Result<ThreadFinding, String> {
        let pool = Threads::new(count).map_err(|error| error.to_string())?;
        let time = |threads: Option<&Threads>| {
            let mut runner = Runner::new(self.layout.clone(), &self.families, threads.cloned());
            guarded("a trial", || Ok(trial::least_of_clock(|| runner.run(item).is_ok())))
                .map_err(|error| error.cause)?
                .ok_or_else(|| "a trial run failed".to_owned())
        };
        let finding = ThreadFinding { threads: count, alone: time(None)?, together: time(Some(&pool))? };
        self.threads = finding.helps().then_some(pool);
        Ok(finding)
    }
}

fn no_plan<'f>(inputs: &[model::Tensor], families: impl Iterator<Item = &'f Family>) -> RequestError {
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

/// The graph's inputs, in the signature or among the states.
fn input_places(inputs: &[TensorMetadata], states: &[StateOption]) -> Result<Vec<Place>, LoadError> {
    places(inputs, states.iter().map(|state| state.input.as_str()), "an input")
}

fn output_places(outputs: &[TensorMetadata], states: &[StateOption]) -> Result<Vec<Place>, LoadError> {
    places(outputs, states.iter().map(|state| state.output.as_str()), "an output")
}

fn places<'s>(
    known: &[TensorMetadata],
    states: impl Iterator<Item = &'s str> + Clone,
    kind: &str,
) -> Result<Vec<Place>, LoadError> {
    if let Some(unknown) = states.clone().find(|name| known.iter().all(|tensor| tensor.name != *name)) {
        let names = model::signature::quoted(known.iter().map(|tensor| tensor.name.as_str()));
        return Err(sequence_error(format!("`{unknown}` is not {kind} of the model, which has {names}")));
    }
    let mut next = 0;
    let places = known.iter().map(|tensor| match states.clone().position(|name| name == tensor.name) {
        Some(state) => Place::State(state),
        None => {
            next += 1;
            Place::Tensor(next - 1)
        }
    });
    Ok(places.collect())
}

fn sequence_error(cause: String) -> LoadError {
    let advice = "each of sequence.states names an input and the output that becomes its next value";
    LoadError { what: "sequence.states", cause, advice: Some(advice.into()) }
}

/// A state's output must be what its input takes.
fn check_states(
    inputs: &[TensorMetadata],
    outputs: &[TensorMetadata],
    options: &Options,
) -> Result<(), LoadError> {
    let find =
        |known: &[TensorMetadata], name: &str| known.iter().find(|tensor| tensor.name == name).cloned();
    for state in &options.states {
        let (Some(input), Some(output)) = (find(inputs, &state.input), find(outputs, &state.output)) else {
            continue;
        };
        if input.shape.iter().any(|dim| dim.fixed().is_none()) {
            return Err(sequence_error(format!(
                "state `{}` has the shape {:?}: fix it with `inputs[].shape`",
                input.name,
                input.shape_i64()
            )));
        }
        if input.datatype != output.datatype || !input.admits(&output.shape_with_open(0)) {
            return Err(sequence_error(format!(
                "output `{}` is {} {:?}, but input `{}` is {} {:?}",
                output.name,
                output.datatype,
                output.shape_i64(),
                input.name,
                input.datatype,
                input.shape_i64()
            )));
        }
    }
    Ok(())
}

fn of_signature(tensors: &[TensorMetadata], places: &[Place]) -> Vec<TensorMetadata> {
    let pairs = tensors.iter().zip(places).filter(|(_, place)| matches!(place, Place::Tensor(_)));
    pairs.map(|(tensor, _)| tensor.clone()).collect()
}

/// Plans of several shapes make outputs of several: what is not the same in all of them is open.
fn open_where_unlike(
    outputs: &mut [TensorMetadata],
    plans: &[Plan],
    names: &[String],
    places: &[Place],
) -> Result<(), LoadError> {
    for plan in plans {
        for (output, other) in outputs.iter_mut().zip(of_signature(&plan.outputs(names)?, places)) {
            for (dim, other) in output.shape.iter_mut().zip(other.shape) {
                if dim.fixed().is_some() && *dim != other {
                    *dim = Dim::Open(None);
                }
            }
        }
    }
    Ok(())
}

/// The inputs' shapes, as declared or for each of the declared `shapes`.
fn variants(inputs: &[TensorMetadata], options: &Options) -> Result<Vec<Vec<TensorMetadata>>, LoadError> {
    if options.variants.is_empty() {
        return Ok(vec![inputs.to_vec()]);
    }
    let narrowed = options.variants.iter().map(|shapes| {
        let mut inputs = inputs.to_vec();
        for (name, shape) in shapes {
            if let Some(input) = inputs.iter_mut().find(|input| input.name == *name) {
                input.shape = shape.clone();
            }
        }
        Ok(inputs)
    });
    narrowed.collect()
}

/// The plans for one set of shapes before any batches: the most concrete first.
fn single_plans(
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

fn failed(message: String) -> RequestError {
    RequestError::new(Code::InferenceFailed, message)
}

/// Puts constants in and narrows shapes; what is left are the signature's inputs.
fn narrow(graph: &Graph, options: &Options) -> Result<(InferenceModel, Vec<TensorMetadata>), LoadError> {
    let failed =
        |error: TractError| LoadError { what: "preparing the inputs", cause: chain(&error), advice: None };
    let mut model = graph.model.clone();
    let outlets = model.input_outlets().map_err(failed)?.to_vec();
    let (mut kept, mut inputs) = (Vec::new(), Vec::new());
    for (outlet, input) in outlets.iter().zip(&graph.inputs) {
        if let Some((_, constant)) = options.constants.iter().find(|(name, _)| *name == input.name) {
            let value = to_tract(constant).map_err(failed)?.into_arc_tensor();
            let node = model.node_mut(outlet.node);
            node.op = Box::new(Const::new(value.clone()).map_err(failed)?);
            node.outputs[0].fact = InferenceFact::from(&TypedFact::try_from(value).map_err(failed)?);
            continue;
        }
        let mut input = input.clone();
        if let Some((_, shape)) = options.shapes.iter().find(|(name, _)| *name == input.name) {
            input.shape = shape.clone();
        }
        kept.push(*outlet);
        inputs.push(input);
    }
    model.set_input_outlets(&kept).map_err(failed)?;
    Ok((model, inputs))
}

/// The inputs with `rows` along their batch axes. A symbol that stands there is that number wherever it stands.
fn with_rows(inputs: &[TensorMetadata], axes: &[Option<usize>], rows: usize) -> Vec<TensorMetadata> {
    let symbols: Vec<String> = inputs
        .iter()
        .zip(axes)
        .filter_map(|(input, axis)| match axis.and_then(|axis| input.shape.get(axis)) {
            Some(Dim::Open(Some(symbol))) => Some(symbol.clone()),
            _ => None,
        })
        .collect();
    let mut made = inputs.to_vec();
    for (input, batch_axis) in made.iter_mut().zip(axes) {
        for (axis, dim) in input.shape.iter_mut().enumerate() {
            let is_batch = match dim {
                Dim::Open(Some(symbol)) => *batch_axis == Some(axis) || symbols.contains(symbol),
                Dim::Open(None) => *batch_axis == Some(axis),
                // A plan for one row, made into one for more.
                Dim::Fixed(length) => *length == 1 && rows > 1 && *batch_axis == Some(axis),
            };
            if is_batch {
                *dim = Dim::Fixed(rows);
            }
        }
    }
    made
}

/// Along which axes rows lie: the first of an input that leaves it open, the declared one of a state.
fn batch_axes(
    inputs: &[TensorMetadata],
    places: &[Place],
    options: &Options,
) -> Result<Vec<Option<usize>>, LoadError> {
    let axes: Vec<Option<usize>> = inputs
        .iter()
        .zip(places)
        .map(|(input, place)| match place {
            Place::Tensor(_) => matches!(input.shape.first(), Some(Dim::Open(_))).then_some(0),
            Place::State(at) => options.states[*at].batch_axis.filter(|axis| *axis < input.shape.len()),
        })
        .collect();
    if options.max_batch_size.is_some() {
        check_batch_axis(inputs, places, &axes, options)?;
    }
    Ok(axes)
}

fn check_batch_axis(
    inputs: &[TensorMetadata],
    places: &[Place],
    axes: &[Option<usize>],
    options: &Options,
) -> Result<(), LoadError> {
    let wrong = |cause: String, advice: &str| LoadError {
        what: "max_batch_size",
        cause,
        advice: Some(advice.into()),
    };
    let has_rows =
        |(place, axis): (&Place, &Option<usize>)| matches!(place, Place::Tensor(_)) && axis.is_some();
    if !places.iter().zip(axes).any(has_rows) {
        return Err(wrong(
            "no input leaves its first dimension open".into(),
            "leave it out, or give that dimension as -1",
        ));
    }
    let single = with_rows(inputs, axes, 1);
    let elsewhere = inputs.iter().zip(&single).zip(places).find(|((open, single), place)| {
        matches!(place, Place::Tensor(_)) && open.shape.get(1..) != single.shape.get(1..)
    });
    if let (Some(((input, _), _)), true) = (elsewhere, options.max_batch_size != Some(1)) {
        return Err(wrong(
            format!("the batch axis of input `{}` is not its first", input.name),
            "rows cannot be told apart there: set max_batch_size to 1",
        ));
    }
    Ok(())
}

/// An output of the single-row plan as the signature shows it: rows along the first axis.
fn with_batch_axis(mut output: TensorMetadata) -> Result<TensorMetadata, LoadError> {
    match output.shape.first_mut() {
        Some(first) if first.fixed() == Some(1) => {
            *first = Dim::Open(None);
            Ok(output)
        }
        _ => Err(LoadError {
            what: "max_batch_size",
            cause: format!(
                "output `{}` is {:?} for one row: it has no batch axis",
                output.name,
                output.shape_i64()
            ),
            advice: Some("leave max_batch_size out".into()),
        }),
    }
}

/// Wrong shapes can make tract panic while it plans; that is a load error like any other.
fn guarded<T>(what: &'static str, work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = format!("the engine panicked: {}", panic_message(panic.as_ref()));
        let advice = "shapes that do not go together cause this: look at `inputs[].shape` in model.json";
        Err(LoadError { what, cause, advice: Some(advice.into()) })
    })
}

/// Zeros for every input and state, open dimensions 1: what a warm-up runs.
pub fn zeros(session: &Session) -> Result<Item, String> {
    let zero = |input: &TensorMetadata| {
        let shape = input.shape_with_open(1);
        volume(&shape).ok_or("an input is larger than memory")?;
        model::Tensor::zeros(input.datatype, shape)
    };
    // The smallest of several declared shapes is one that comes; ones may be none.
    let tensors = session.families[0].admitted.iter().map(zero).collect::<Result<_, _>>()?;
    Ok(Item { tensors, states: session.states.iter().map(zero).collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Elements;
    use std::path::Path;

    fn runner(model: &str) -> Runner {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("model.onnx");
        let options = Options { max_tensor_bytes: 1 << 20, ..Options::default() };
        Session::load(&Graph::read(&path).unwrap(), &options).unwrap().0.runner()
    }

    fn run<const N: usize>(
        model: &str,
        tensors: [model::Tensor; N],
    ) -> Result<Vec<model::Tensor>, RequestError> {
        let item = Item { tensors: tensors.to_vec(), states: vec![] };
        runner(model).run(&item).map(|result| result.tensors)
    }

    fn ones(shape: [usize; 2]) -> model::Tensor {
        model::Tensor::new(shape.to_vec(), Elements::Fp32(vec![1.0; shape[0] * shape[1]])).unwrap()
    }

    #[test]
    fn a_product_of_unlike_lengths_is_an_error_and_reads_nothing_past_an_end() {
        let error = run("matmul", [ones([2, 2]), ones([3000, 2])]).unwrap_err();
        assert!(error.message.contains("to be equal, but they are 2 and 3000"), "{error}");
        assert_eq!(error.code, Code::InvalidRequest);
        assert!(run("matmul", [ones([2, 3000]), ones([2, 2])]).is_err());
        assert!(run("matmul", [ones([3, 1]), ones([4, 3])]).is_err(), "a summed axis is not stretched");
        assert_eq!(run("matmul", [ones([2, 4]), ones([4, 3])]).unwrap()[0].shape(), [2, 3]);
    }

    #[test]
    fn a_tensor_that_would_be_larger_than_the_limit_is_never_made() {
        let error = run("matmul", [ones([1000, 1]), ones([1, 1000])]).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        assert!(
            error.message.contains("would make 4000000 bytes of this input: the limit is 1048576"),
            "{error}"
        );
        assert_eq!(run("matmul", [ones([500, 1]), ones([1, 500])]).unwrap()[0].shape(), [500, 500]);
    }

    #[test]
    fn an_input_smaller_than_a_kernel_is_refused_before_it_is_run() {
        let image = |side: usize| {
            model::Tensor::new(vec![1, 1, side, side], Elements::Fp32(vec![1.0; side * side])).unwrap()
        };
        let error = run("conv", [image(1)]).unwrap_err();
        assert!(error.message.contains("the input is too small"), "{error}");
        assert_eq!(run("conv", [image(3)]).unwrap()[0].shape(), [1, 2, 1, 1]);
    }

    #[test]
    fn a_run_that_fails_is_an_error_and_a_new_runner_serves_the_next() {
        let error = run("pair", [ones([4, 2]), ones([3, 2])]).unwrap_err();
        assert_eq!(error.code, Code::InferenceFailed);
        assert_eq!(run("pair", [ones([3, 2]), ones([3, 2])]).unwrap().len(), 2);
    }
}
