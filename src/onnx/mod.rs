//! ONNX files and the engine: the only module that imports tract. Other modules see a [`Graph`], a [`Session`] and a
//! [`Runner`], and tensors of [`model`].
//!
//! What belongs here: reading files, operators, plans for shapes, and everything that must be known of tract. What does
//! not: threads and queues ([`engine`](crate::engine)), files of images or text ([`processing`](crate::processing)).
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
//! What a run takes is known before it begins, and comes from the budget of all requests (`footprint`); where only the
//! run tells a size, before the operator allocates it (`late`).
//!
//! A plan is shared; its running state is a [`Runner`]'s own, one a worker. After a failed run that
//! state refuses good input, so a `Runner` is thrown away on any error. Recurrent operators keep
//! nothing in it: see `recurrence`.

mod batches;
mod convert;
pub mod external;
mod family;
mod footprint;
pub mod graph;
mod guard;
mod late;
mod layout;
mod operators;
mod plan;
pub mod planner;
mod recurrence;
mod runner;
pub mod threads;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceModel};
use tract_onnx::tract_hir::ops::konst::Const;

use crate::error::{Code, RequestError};
use crate::memory::{Budget, Share};
use crate::model::tensor::volume;
use crate::model::{self, Dim, Signature, TensorMetadata};
use crate::panics::panic_message;

use convert::{chain, to_tract};
use family::{Family, Singles, no_plan, single_plans};
use layout::{
    Layout, Place, batch_axes, check_states, declared, input_places, of_signature, open_where_unlike,
    output_places, variants, with_batch_axis,
};
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
    /// What the file promises and the engine does not hold, for the model's owner.
    notes: Vec<String>,
    has_listed_shapes: bool,
    max_tensor_bytes: usize,
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
        let (mut plans, mut notes) = (Vec::new(), Vec::new());
        for shapes in variants(&inputs, options) {
            let Singles { plans: made, note } = single_plans(&model, &shapes, &axes, options)?;
            plans.extend(made);
            notes.extend(note.filter(|note| !notes.contains(note)));
        }
        let widest = plans.last().expect("at least one plan was made");
        let outputs = widest.outputs(&graph.output_names)?;
        let output_places = output_places(&outputs, &options.states)?;
        check_states(&widest.inputs, &outputs, options)?;
        let mut signature = Signature {
            inputs: of_signature(&declared(&inputs, &plans, rows_apart.then_some(&axes)), &places),
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
        let all_have_rows = axes.iter().all(Option::is_some);
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
        let session = Session {
            signature,
            states,
            layout,
            families,
            threads: None,
            notes,
            has_listed_shapes: !options.variants.is_empty(),
            max_tensor_bytes: options.max_tensor_bytes,
        };
        Ok((session, planner))
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The signature, to be completed with what processing adds.
    pub fn signature_mut(&mut self) -> &mut Signature {
        &mut self.signature
    }

    /// What the file promises and the engine does not hold: which dimension, why, and what to write.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The shapes that are admitted, when model.json lists them.
    pub fn listed_shapes(&self) -> Option<Vec<String>> {
        let shapes = self.families.iter().map(|family| family.describe());
        self.has_listed_shapes.then(|| shapes.collect())
    }

    /// Zeros of a tensor's shape, open dimensions 1, when they are not more than a request may bring.
    pub fn zeros(&self, tensor: &TensorMetadata) -> Result<model::Tensor, String> {
        let shape = tensor.shape_with_open(1);
        let bytes = volume(&shape).and_then(|count| count.checked_mul(tensor.datatype.size().unwrap_or(1)));
        if bytes.is_none_or(|bytes| bytes > self.max_tensor_bytes) {
            return Err(format!(
                "`{}` has the shape {shape:?}, which takes more than the {} bytes of --max-tensor-bytes",
                tensor.name, self.max_tensor_bytes
            ));
        }
        model::Tensor::zeros(tensor.datatype, shape)
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

    /// How many rows a request's inputs have. A file or a text is a row.
    pub fn rows(&self, inputs: &[model::Input]) -> usize {
        self.layout.rows_of_inputs(inputs)
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
        let family = self.family_of(&item.tensors).map_err(|error| error.message)?;
        let time = |threads: Option<&Threads>| {
            let mut runner = Runner::new(self.layout.clone(), &self.families, threads.cloned());
            let budget = Budget::unbounded();
            let mut run = || runner.run(family, item, &mut Share::none(&budget)).is_ok();
            guarded("a trial", || Ok(trial::least_of_clock(&mut run)))
                .map_err(|error| error.cause)?
                .ok_or_else(|| "a trial run failed".to_owned())
        };
        let finding = ThreadFinding { threads: count, alone: time(None)?, together: time(Some(&pool))? };
        self.threads = finding.helps().then_some(pool);
        Ok(finding)
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
    let zero = |input: &TensorMetadata| session.zeros(input);
    // The smallest of several declared shapes is one that comes; ones may be none.
    let tensors = session.families[0].admitted.iter().map(zero).collect::<Result<_, _>>()?;
    Ok(Item { tensors, states: session.states.iter().map(zero).collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Elements;
    use std::path::Path;

    fn session(model: &str) -> Session {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("model.onnx");
        let options = Options { max_tensor_bytes: 1 << 20, ..Options::default() };
        Session::load(&Graph::read(&path).unwrap(), &options).unwrap().0
    }

    fn run<const N: usize>(
        model: &str,
        tensors: [model::Tensor; N],
    ) -> Result<Vec<model::Tensor>, RequestError> {
        let item = Item { tensors: tensors.to_vec(), states: vec![] };
        let session = session(model);
        let family = session.family_of(&item.tensors)?;
        let result = session.runner().run(family, &item, &mut Share::none(&Budget::unbounded()));
        result.map(|result| result.tensors)
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
