//! Reads ONNX files and runs them. This is the only module that imports tract. Other modules see a [`Graph`], a
//! [`Session`] and a [`Runner`], and the tensors of [`model`].
//!
//! What belongs here: reading ONNX files, operators, plans for shapes, and everything that depends on tract. What
//! does not: threads and queues ([`engine`](crate::engine)), image files and text
//! ([`processing`](crate::processing)).
//!
//! # Plans
//! tract optimises a graph for given shapes; the result is a plan. A plan with fixed dimensions is up to eighteen
//! times faster than a symbolic one, and some models load only with fixed dimensions. So a [`Session`] has a short
//! list of families of plans, the one with the most fixed dimensions first. A run uses the first family that admits
//! the shapes of its inputs. A request from a client never starts the making of a plan.
//!
//! | the model's inputs | families |
//! |---|---|
//! | no open dimension | one, with fixed dimensions |
//! | a batch axis, declared by `max_batch_size` | one: a plan for a single row, and later plans for more ([`planner`]) |
//! | `shapes` are declared | one for each of them |
//! | open dimensions, and nothing is declared | one for a single row, and a symbolic one if the model loads with it |
//!
//! # Operators
//! Some operators are our own. They replace tract's operator, or tract has none: see `operators`. Operators that run a graph
//! inside the graph (`If`, `Loop`, `Scan`) are in `bodies`.
//!
//! # States
//! `sequence.states` connects outputs to inputs of the next run. These inputs and outputs are not in the signature;
//! an [`Item`] carries them.
//!
//! # Memory
//! The memory of a run is computed before the run, and taken from the budget of all requests (`footprint`). If a size
//! is known only during the run, its memory is taken before the operator allocates it (`late`).
//!
//! # Invariants
//! - Plans are shared between workers. The state of a run belongs to a [`Runner`], and each worker has its own.
//! - After a failed run, tract's state may refuse good inputs. So a `Runner` is dropped after any error.
//! - Operators keep nothing in that state from one run to the next. tract's `Scan` and its recurrent operators would: no
//!   node becomes one of them.

mod batches;
mod bodies;
mod convert;
mod defaults;
pub mod external;
mod family;
mod footprint;
mod functions;
mod fuse;
pub mod graph;
mod guard;
mod late;
mod layout;
mod lower;
mod narrow;
mod operators;
mod optimised;
mod order;
mod plan;
pub mod planner;
mod runner;
mod sample;
mod source;
mod sparse;
mod tensors;
mod threads;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use tract_onnx::prelude::*;

use crate::error::{Code, RequestError};
use crate::memory::{Budget, Share};
use crate::model::tensor::{ELEMENT_BYTES, volume};
use crate::model::{self, Dim, Signature, TensorMetadata};
use crate::panics::panic_message;

use convert::{chain, to_tract};
use family::{Family, Singles, no_plan, single_plans};
use layout::{
    Layout, Place, batch_axes, check_states, declared, input_places, of_signature, open_where_unlike,
    output_places, variants, with_batch_axis,
};
use plan::{Plan, Template};

pub use graph::{ClassLabels, Graph};
pub use operators::document as operators_document;
pub use planner::{Finding, Planner, Verdict};
pub use runner::{Item, Runner};
pub use sample::Fill;
pub use threads::{Help, Shift, ThreadFinding};

/// The reason why a model does not load, and what its owner can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}{}", advice.as_ref().map(|advice| format!(" ({advice})")).unwrap_or_default())]
pub struct LoadError {
    /// The step that failed.
    pub what: &'static str,
    /// The reason, in tract's words or ours. It names the operator or the shape.
    pub cause: String,
    /// What the owner of the model can do.
    pub advice: Option<String>,
}

impl LoadError {
    /// The error for a file that is no ONNX file.
    fn unreadable(cause: String) -> LoadError {
        LoadError {
            what: "reading the model",
            cause,
            advice: Some(
                "expected an ONNX file; a truncated download or a Git LFS pointer gives this".into(),
            ),
        }
    }
}

/// The settings for a model that are not in its ONNX file. They come from `model.json` and the server's limits.
#[derive(Debug, Default)]
pub struct Options {
    /// Shapes by the name of the input. Each has as many dimensions as in the file. Some dimensions that are open in
    /// the file may be fixed here.
    pub shapes: Vec<(String, Vec<Dim>)>,
    /// All sets of shapes that requests may have, when `model.json` lists them. Each set narrows the inputs further
    /// and has its own plan.
    pub variants: Vec<Vec<(String, Vec<Dim>)>>,
    /// Inputs that always have the same value. They are not in the signature.
    pub constants: Vec<(String, model::Tensor)>,
    /// Outputs that become inputs of the next run. They are not in the signature.
    pub states: Vec<StateOption>,
    /// The largest number of rows in a run. When it is set, the first open axis is a batch of independent rows.
    pub max_batch_size: Option<usize>,
    /// The sizes of batches to use. When it is set, no batches are measured.
    pub preferred_batch_size: Option<Vec<usize>>,
    /// The largest number of bytes of packed weights in all plans for several rows together.
    pub max_plan_bytes: usize,
    /// The largest number of bytes of a tensor whose shape has open dimensions.
    pub max_tensor_bytes: usize,
}

/// One state of a sequence: an output of a run that is an input of the next run.
#[derive(Debug, Clone)]
pub struct StateOption {
    /// The name of the input that takes the state.
    pub input: String,
    /// The name of the output that gives the next state.
    pub output: String,
    /// The axis along which the states of several sequences are joined. `None` means that they are never joined.
    pub batch_axis: Option<usize>,
}

/// A loaded model: its signature, and the plans for its shapes.
#[derive(Debug)]
pub struct Session {
    signature: Signature,
    states: Vec<TensorMetadata>,
    layout: Arc<Layout>,
    families: Vec<Arc<Family>>,
    /// Whether several threads make one run faster. Empty until it is measured.
    threads: OnceLock<ThreadFinding>,
    /// Notes for the owner of the model about what the ONNX file allows but this session does not.
    notes: Vec<String>,
    has_listed_shapes: bool,
    max_tensor_bytes: usize,
}

impl Session {
    /// Makes the plans for the shapes that `options` allows. The session can run when this returns. If batches of
    /// several rows may be faster, a [`Planner`] is returned too; it makes the plans for batches and can run at any
    /// later time.
    ///
    /// Errors: a [`LoadError`] when the options do not agree with the graph, or tract makes no plan for the shapes.
    pub fn load(graph: &Graph, options: &Options) -> Result<(Session, Option<Planner>), LoadError> {
        guarded("planning the model", || Session::try_load(graph, options))
    }

    fn try_load(graph: &Graph, options: &Options) -> Result<(Session, Option<Planner>), LoadError> {
        let (template, inputs) = narrow(graph, options)?;
        let places = input_places(&inputs, &options.states)?;
        let axes = batch_axes(&inputs, &places, options)?;
        let (mut plans, mut notes) = (Vec::new(), Vec::new());
        for shapes in variants(&inputs, options) {
            let Singles { plans: made, note } = single_plans(&template, &shapes, &axes, options)?;
            plans.extend(made);
            notes.extend(note.filter(|note| !notes.contains(note)));
        }
        let widest = plans.last().expect("at least one plan was made");
        let outputs = widest.outputs(&graph.output_names)?;
        check_states(&widest.inputs, &outputs, options)?;
        let states = options.states.iter().map(|state| {
            let at = widest.inputs.iter().position(|input| input.name == state.input);
            widest.inputs[at.expect("input_places() has found it")].clone()
        });
        let states = states.collect();
        let layout = layout(options, places, output_places(&outputs, &options.states)?, axes.clone());
        let signature = signature(graph, options, &layout, &inputs, &axes, &plans)?;
        let layout = Arc::new(layout);
        let admits_rows = options.max_batch_size.map(|_| &*layout.input_axes);
        let families: Vec<Arc<Family>> =
            plans.into_iter().map(|plan| Arc::new(Family::new(plan, &layout.inputs, admits_rows))).collect();
        let wanted =
            options.max_batch_size.filter(|most| *most > 1 && layout.input_axes.iter().any(Option::is_some));
        let planner = wanted.map(|max_batch_size| Planner {
            template,
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
            threads: OnceLock::new(),
            notes,
            has_listed_shapes: !options.variants.is_empty(),
            max_tensor_bytes: options.max_tensor_bytes,
        };
        Ok((session, planner))
    }

    /// Returns the signature: names, datatypes and shapes of the inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Returns the signature, so that processing can add what inputs accept.
    pub fn signature_mut(&mut self) -> &mut Signature {
        &mut self.signature
    }

    /// Returns the notes for the owner of the model: which dimension is fixed although the file leaves it open, why,
    /// and what to write in `model.json`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns zeros with the shape of `tensor`; an open dimension becomes 1.
    ///
    /// Errors: the tensor would be larger than a request may bring.
    pub fn zeros(&self, tensor: &TensorMetadata) -> Result<model::Tensor, String> {
        self.zeros_of(tensor, 1)
    }

    fn zeros_of(&self, tensor: &TensorMetadata, open: usize) -> Result<model::Tensor, String> {
        let shape = tensor.shape_with_open(open);
        let bytes = volume(&shape)
            .and_then(|count| count.checked_mul(tensor.datatype.size().unwrap_or(ELEMENT_BYTES)));
        if bytes.is_none_or(|bytes| bytes > self.max_tensor_bytes) {
            return Err(format!(
                "`{}` has the shape {shape:?}, which takes more than the {} bytes of --max-tensor-bytes",
                tensor.name, self.max_tensor_bytes
            ));
        }
        model::Tensor::zeros(tensor.datatype, shape)
    }

    /// Returns the states that a sequence carries from step to step, in the order of their declaration.
    pub fn states(&self) -> &[TensorMetadata] {
        &self.states
    }

    /// Returns the number of the family of plans that runs these inputs. Inputs with the same number may be run
    /// together.
    ///
    /// Errors: no family admits the shapes of the inputs; the message lists the shapes that are admitted.
    pub fn family_of(&self, inputs: &[model::Tensor]) -> Result<usize, RequestError> {
        let family = self.families.iter().position(|family| family.admits(inputs));
        family.ok_or_else(|| no_plan(inputs, self.families.iter().map(|family| &**family)))
    }

    /// Returns whether every run with inputs of these shapes does the same work, so that the time of one run tells that of
    /// the next: they are a single row of `family`, whose plan has only fixed shapes and no graphs inside.
    pub fn does_equal_work(&self, family: usize, inputs: &[model::Tensor]) -> bool {
        let single = &self.families[family].single;
        let is_fixed = |(input, place): (&TensorMetadata, &Place)| match place {
            Place::Tensor(at) => {
                let admits = |given: &model::Tensor| input.admits(given.shape());
                input.shape.iter().all(|dim| dim.fixed().is_some()) && inputs.get(*at).is_some_and(admits)
            }
            Place::State(_) => false,
        };
        !single.has_bodies
            && self.threads() == 1
            && single.inputs.iter().zip(&self.layout.inputs).all(is_fixed)
    }

    /// Returns how many rows of different requests it is worth to run together. The number may grow while the
    /// [`Planner`] works.
    pub fn largest_batch(&self) -> usize {
        if !self.layout.joins {
            return 1;
        }
        self.families.iter().map(|family| family.batches().schedule.largest()).max().unwrap_or(1)
    }

    /// Returns the number of rows of a request's inputs. Each file and each text is one row.
    pub fn rows(&self, inputs: &[model::Input]) -> usize {
        self.layout.rows_of_inputs(inputs)
    }

    /// Returns the bytes of packed weights in the plans for several rows.
    pub fn batch_plan_bytes(&self) -> usize {
        let bytes = |family: &Arc<Family>| -> usize {
            family.batches().plans.iter().map(|plan| plan.weight_bytes).sum()
        };
        self.families.iter().map(bytes).sum()
    }

    /// Makes a runner for one thread.
    pub fn runner(&self) -> Runner {
        Runner::new(self.layout.clone(), &self.families)
    }

    /// Measures a run of `item` with `count` threads. From now on, [`Session::threads`] says what was found.
    ///
    /// Errors: a trial run fails.
    pub fn measure_threads(&self, count: usize, item: &Item) -> Result<ThreadFinding, String> {
        let family = self.family_of(&item.tensors).map_err(|error| error.message)?;
        let mut runner = self.runner();
        let budget = Budget::unbounded();
        let run = || runner.run(family, item, &mut Share::none(&budget)).is_ok();
        let finding = guarded("a trial", || Ok(threads::measure(count, run)))
            .map_err(|error| error.cause)?
            .ok_or_else(|| "a trial run failed".to_owned())?;
        Ok(self.threads.get_or_init(|| finding).clone())
    }

    /// Takes for granted that so many threads make a run faster.
    #[cfg(test)]
    pub fn assume_threads(&self, threads: usize) {
        let finding = ThreadFinding { threads, alone: 1.0, together: if threads > 1 { 0.5 } else { 1.0 } };
        self.threads.set(finding).expect("nothing was measured");
    }

    /// The number of threads that make a run faster; 1 when none do, or when it is not measured yet.
    pub fn threads(&self) -> usize {
        self.threads.get().filter(|finding| finding.helps()).map_or(1, |finding| finding.threads)
    }
}

fn failed(message: String) -> RequestError {
    RequestError::new(Code::InferenceFailed, message)
}

/// How rows and states lie in the tensors of a run. `axes` has the batch axis of each input.
fn layout(options: &Options, inputs: Vec<Place>, outputs: Vec<Place>, axes: Vec<Option<usize>>) -> Layout {
    let all_have_rows = axes.iter().all(Option::is_some);
    let joins = options.max_batch_size.is_some_and(|most| most > 1) && all_have_rows;
    let output_axes = outputs.iter().map(|place| match place {
        Place::Tensor(_) => 0,
        Place::State(at) => options.states[*at].batch_axis.unwrap_or(0),
    });
    let has_rows = options.max_batch_size.is_some() && (options.states.is_empty() || joins);
    Layout {
        output_axes: output_axes.collect(),
        input_axes: if has_rows { axes } else { vec![None; axes.len()] },
        inputs,
        outputs,
        joins,
    }
}

/// The signature: what requests bring, and what they get. `inputs` and `axes` are those of the graph.
fn signature(
    graph: &Graph,
    options: &Options,
    layout: &Layout,
    inputs: &[TensorMetadata],
    axes: &[Option<usize>],
    plans: &[Plan],
) -> Result<Signature, LoadError> {
    let widest = plans.last().expect("at least one plan was made");
    let (has_rows, has_state) = (options.max_batch_size.is_some(), !options.states.is_empty());
    let mut outputs = of_signature(&widest.outputs(&graph.output_names)?, &layout.outputs);
    if has_rows {
        outputs = outputs.into_iter().map(with_batch_axis).collect::<Result<_, _>>()?;
    }
    if plans.len() > 1 {
        open_where_unlike(&mut outputs, plans, &graph.output_names, &layout.outputs)?;
    }
    Ok(Signature {
        inputs: of_signature(&declared(inputs, plans, has_rows.then_some(axes)), &layout.inputs),
        outputs,
        // With states, a request is one step of one sequence, so it has one row.
        max_batch_size: options.max_batch_size.map(|most| if has_state { 1 } else { most }),
        has_state,
    })
}

/// Replaces inputs by their constants and narrows shapes. It returns the graph and the inputs that remain.
fn narrow(graph: &Graph, options: &Options) -> Result<(Template, Vec<TensorMetadata>), LoadError> {
    let failed =
        |error: TractError| LoadError { what: "preparing the inputs", cause: chain(&error), advice: None };
    let (mut constants, mut inputs) = (Vec::new(), Vec::new());
    for input in &graph.inputs {
        if let Some((_, constant)) = options.constants.iter().find(|(name, _)| *name == input.name) {
            let value = to_tract(constant).map_err(failed)?.into_arc_tensor();
            constants.push((input.name.clone(), value));
            continue;
        }
        let mut input = input.clone();
        if let Some((_, shape)) = options.shapes.iter().find(|(name, _)| *name == input.name) {
            input.shape = shape.clone();
        }
        inputs.push(input);
    }
    Ok((Template::new(&graph.source, constants), inputs))
}

/// Runs `work` and turns a panic into a load error. Shapes that do not agree can make tract panic while it plans.
fn guarded<T>(what: &'static str, work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = format!("the engine panicked: {}", panic_message(panic.as_ref()));
        let advice = "shapes that do not go together cause this: look at `inputs[].shape` in model.json";
        Err(LoadError { what, cause, advice: Some(advice.into()) })
    })
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
    fn a_product_of_unequal_lengths_is_an_error_and_reads_nothing_out_of_bounds() {
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
