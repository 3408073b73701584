//! The only room that imports tract: ONNX files in, tensors through, tensors out.
//!
//! # Plans
//! tract optimises a graph for shapes. With every dimension known a plan is up to eighteen times
//! faster than a symbolic one, and some models load no other way; so a [`Session`] is a short list of
//! plans, the most concrete first, and a run takes the first that admits its shapes. A client never
//! makes the server compile one.
//!
//! | the model's inputs | plans |
//! |---|---|
//! | nothing open | one, concrete |
//! | a batch axis, declared by `max_batch_size` | one for a single row; more rows are looped over it |
//! | open dimensions, nothing declared | one for a single row, and a symbolic one where that loads |
//!
//! # State
//! A plan is shared; its running state is a [`Runner`]'s own, one a worker. After a failed run that
//! state refuses good input, so a `Runner` is thrown away on any error.

mod convert;
pub mod graph;
mod guard;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{
    InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, ToDim, TypedSimplePlan, TypedSimpleState,
};
use tract_onnx::tract_hir::ops::konst::Const;

use super::panic::panic_message;
use crate::model::tensor::volume;
use crate::model::{self, Dim, Signature, TensorMetadata};
use crate::wire::{Code, RequestError};

use convert::{chain, datatype_of, dim_of, from_tract, to_tract};
use guard::Guard;

pub use graph::Graph;

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
#[derive(Debug)]
pub struct Options {
    /// Narrowed shapes, by input name: as many dimensions as the file has, a fixed one where the
    /// owner fixed it.
    pub shapes: Vec<(String, Vec<Dim>)>,
    /// Inputs that always get the same value and leave the signature.
    pub constants: Vec<(String, model::Tensor)>,
    /// Declares the first open axis a batch of independent rows, at most so many a request.
    pub max_batch_size: Option<usize>,
    /// The most bytes of a tensor that open dimensions may lead to.
    pub max_tensor_bytes: usize,
}

/// The plans of a model for its shapes, and the signature that they serve.
#[derive(Debug)]
pub struct Session {
    signature: Signature,
    /// Which inputs are cut into rows when a request brings several.
    batched: Vec<bool>,
    plans: Vec<Plan>,
}

#[derive(Debug)]
struct Plan {
    runnable: Arc<TypedSimplePlan>,
    /// What it admits, an input each.
    inputs: Vec<TensorMetadata>,
    guard: Arc<Guard>,
}

impl Session {
    /// Plans the graph for the shapes that `options` leave.
    pub fn load(graph: &Graph, options: &Options) -> Result<Session, LoadError> {
        guarded("planning the model", || Session::try_load(graph, options))
    }

    fn try_load(graph: &Graph, options: &Options) -> Result<Session, LoadError> {
        let (model, inputs) = narrow(graph, options)?;
        let batched: Vec<bool> =
            inputs.iter().map(|input| matches!(input.shape.first(), Some(Dim::Open(_)))).collect();
        if options.max_batch_size.is_some() {
            check_batch_axis(&inputs, &batched, options.max_batch_size)?;
        }
        let single = single_row(&inputs);
        let is_concrete = |inputs: &[TensorMetadata]| {
            inputs.iter().flat_map(|input| &input.shape).all(|dim| dim.fixed().is_some())
        };
        let mut plans = Vec::new();
        if single != inputs && options.max_batch_size.is_none() {
            // Any length may come: the symbolic plan serves it, the single row keeps its own plan
            // where that is concrete, which is the fast one.
            match Plan::new(&model, &inputs, options) {
                Ok(open) => {
                    if is_concrete(&single)
                        && let Ok(plan) = Plan::new(&model, &single, options)
                    {
                        plans.push(plan);
                    }
                    plans.push(open);
                }
                Err(error) => {
                    log::debug!("no plan for open dimensions: {error}");
                    plans.push(Plan::new(&model, &single, options)?);
                }
            }
        } else {
            plans.push(Plan::new(&model, &single, options)?);
        }
        let widest = plans.last().expect("at least one plan was made");
        let outputs = widest.outputs(&graph.output_names)?;
        let signature = match options.max_batch_size {
            Some(most) => Signature {
                inputs,
                outputs: outputs.into_iter().map(with_batch_axis).collect::<Result<_, _>>()?,
                max_batch_size: Some(most),
            },
            None => Signature { inputs: widest.inputs.clone(), outputs, max_batch_size: None },
        };
        Ok(Session { signature, batched, plans })
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The signature, to be completed with what processing adds.
    pub fn signature_mut(&mut self) -> &mut Signature {
        &mut self.signature
    }

    /// A running form for one thread.
    pub fn runner(&self) -> Runner {
        let plans = self.plans.iter().map(|plan| PlanState { plan: plan.clone(), state: None }).collect();
        Runner { plans, batched: self.signature.max_batch_size.map(|_| self.batched.clone()) }
    }
}

impl Clone for Plan {
    fn clone(&self) -> Self {
        Plan { runnable: self.runnable.clone(), inputs: self.inputs.clone(), guard: self.guard.clone() }
    }
}

impl Plan {
    fn new(model: &InferenceModel, inputs: &[TensorMetadata], options: &Options) -> Result<Plan, LoadError> {
        let failed = |error: TractError| plan_failed(&error, inputs);
        let mut model = model.clone();
        for (at, input) in inputs.iter().enumerate() {
            let outlet = model.input_outlets().map_err(failed)?[at];
            let declared = model.outlet_fact(outlet).map_err(failed)?.clone();
            let dims: Vec<TDim> = input
                .shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| match dim {
                    Dim::Fixed(length) => length.to_dim(),
                    Dim::Open(_) => match declared.shape.dim(axis).and_then(|dim| dim.concretize()) {
                        Some(dim) if dim.to_i64().is_err() => dim,
                        _ => model.symbols.new_with_prefix("open").to_dim(),
                    },
                })
                .collect();
            let datum_type = declared.datum_type.concretize().expect("read() admits typed inputs only");
            model.set_input_fact(at, InferenceFact::dt_shape(datum_type, dims)).map_err(failed)?;
        }
        let typed = model.into_typed().and_then(|typed| typed.into_decluttered()).map_err(failed)?;
        let guard = Arc::new(Guard::of(&typed, options.max_tensor_bytes).map_err(failed)?);
        let runnable = typed.into_optimized().and_then(IntoRunnable::into_runnable).map_err(failed)?;
        Ok(Plan { runnable, inputs: inputs.to_vec(), guard })
    }

    fn outputs(&self, names: &[String]) -> Result<Vec<TensorMetadata>, LoadError> {
        let model = self.runnable.model();
        let failed = |error: TractError| plan_failed(&error, &self.inputs);
        let outlets = model.output_outlets().map_err(failed)?;
        outlets
            .iter()
            .zip(names)
            .map(|(outlet, name)| {
                let fact = model.outlet_fact(*outlet).map_err(failed)?;
                let datatype = datatype_of(fact.datum_type).ok_or_else(|| LoadError {
                    what: "planning the model",
                    cause: format!(
                        "output `{name}` is of type {:?}, which the protocol has no word for",
                        fact.datum_type
                    ),
                    advice: None,
                })?;
                let shape = fact.shape.iter().map(dim_of).collect();
                Ok(TensorMetadata { name: name.clone(), datatype, shape, accepts: &[], filled_by: None })
            })
            .collect()
    }

    fn admits(&self, inputs: &[model::Tensor]) -> bool {
        self.inputs.iter().zip(inputs).all(|(declared, tensor)| declared.admits(tensor.shape()))
    }
}

/// A session's running form: not shared, thrown away after an error.
#[derive(Debug)]
pub struct Runner {
    plans: Vec<PlanState>,
    /// Which inputs are cut into rows, for a model with a declared batch axis.
    batched: Option<Vec<bool>>,
}

#[derive(Debug)]
struct PlanState {
    plan: Plan,
    /// Made when first needed.
    state: Option<TypedSimpleState>,
}

impl Runner {
    /// Runs the model on inputs that agree with the signature. After [`Code::InferenceFailed`], or a
    /// panic, this runner must not be used again.
    pub fn run(&mut self, inputs: &[model::Tensor]) -> Result<Vec<model::Tensor>, RequestError> {
        let rows = self.rows(inputs);
        if rows == 1 {
            return self.run_once(inputs);
        }
        let mut gathered: Vec<model::Tensor> = Vec::new();
        for row in 0..rows {
            let batched = self.batched.as_deref().unwrap_or_default();
            let one: Vec<model::Tensor> = inputs
                .iter()
                .zip(batched)
                .map(|(tensor, batched)| if *batched { tensor.row(row) } else { tensor.clone() })
                .collect();
            let outputs = self.run_once(&one)?;
            if gathered.is_empty() {
                gathered = outputs;
            } else {
                let mut pairs = gathered.iter_mut().zip(outputs);
                pairs.try_for_each(|(all, output)| all.append(output)).map_err(failed)?;
            }
        }
        Ok(gathered)
    }

    fn rows(&self, inputs: &[model::Tensor]) -> usize {
        let Some(batched) = &self.batched else { return 1 };
        let first = inputs.iter().zip(batched).find(|(_, batched)| **batched);
        first.map_or(1, |(tensor, _)| tensor.shape()[0])
    }

    fn run_once(&mut self, inputs: &[model::Tensor]) -> Result<Vec<model::Tensor>, RequestError> {
        let Some(entry) = self.plans.iter_mut().find(|entry| entry.plan.admits(inputs)) else {
            let shapes: Vec<&[usize]> = inputs.iter().map(model::Tensor::shape).collect();
            return Err(RequestError::invalid(format!(
                "the model has no plan for inputs of shapes {shapes:?}"
            )));
        };
        entry.plan.guard.check(inputs)?;
        let state = match &mut entry.state {
            Some(state) => state,
            empty => empty.insert(entry.plan.runnable.spawn().map_err(|error| failed(chain(&error)))?),
        };
        let inputs = inputs.iter().map(to_tract).collect::<TractResult<TVec<TValue>>>();
        let outputs = inputs.and_then(|inputs| state.run(inputs));
        let outputs = outputs.map_err(|error| failed(chain(&error)))?;
        outputs.iter().map(|value| from_tract(value).map_err(failed)).collect()
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

/// The inputs for one row: the symbols that stand first in some input are 1 wherever they stand.
fn single_row(inputs: &[TensorMetadata]) -> Vec<TensorMetadata> {
    let firsts: Vec<&str> = inputs
        .iter()
        .filter_map(|input| match input.shape.first() {
            Some(Dim::Open(Some(symbol))) => Some(symbol.as_str()),
            _ => None,
        })
        .collect();
    let mut single = inputs.to_vec();
    for input in &mut single {
        for (axis, dim) in input.shape.iter_mut().enumerate() {
            let is_batch = match dim {
                Dim::Open(Some(symbol)) => axis == 0 || firsts.contains(&symbol.as_str()),
                Dim::Open(None) => axis == 0,
                Dim::Fixed(_) => false,
            };
            if is_batch {
                *dim = Dim::Fixed(1);
            }
        }
    }
    single
}

fn check_batch_axis(
    inputs: &[TensorMetadata],
    batched: &[bool],
    most: Option<usize>,
) -> Result<(), LoadError> {
    let wrong = |cause: String, advice: &str| LoadError {
        what: "max_batch_size",
        cause,
        advice: Some(advice.into()),
    };
    if !batched.contains(&true) {
        return Err(wrong(
            "no input leaves its first dimension open".into(),
            "leave it out, or give that dimension as -1",
        ));
    }
    let single = single_row(inputs);
    let elsewhere =
        inputs.iter().zip(&single).find(|(open, single)| open.shape.get(1..) != single.shape.get(1..));
    if let (Some((input, _)), true) = (elsewhere, most != Some(1)) {
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

fn plan_failed(error: &TractError, inputs: &[TensorMetadata]) -> LoadError {
    let open: Vec<String> = inputs
        .iter()
        .filter(|input| input.shape.iter().any(|dim| dim.fixed().is_none()))
        .map(|input| format!("`{}` {:?}", input.name, input.shape_i64()))
        .collect();
    let advice = if open.is_empty() {
        "the operator or shape named above is what the engine stumbles over".to_owned()
    } else {
        format!(
            "open dimensions may be the cause: fix those of {} with `inputs[].shape` in model.json",
            open.join(", ")
        )
    };
    LoadError { what: "planning the model", cause: chain(error), advice: Some(advice) }
}

/// Wrong shapes can make tract panic while it plans; that is a load error like any other.
fn guarded<T>(what: &'static str, work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = format!("the engine panicked: {}", panic_message(panic.as_ref()));
        let advice = "shapes that do not go together cause this: look at `inputs[].shape` in model.json";
        Err(LoadError { what, cause, advice: Some(advice.into()) })
    })
}

/// Zeros for every input, open dimensions 1: what a warm-up runs.
pub fn zeros(signature: &Signature) -> Result<Vec<model::Tensor>, String> {
    signature
        .inputs
        .iter()
        .map(|input| {
            let shape = input.shape_with_open(1);
            volume(&shape).ok_or("an input is larger than memory")?;
            model::Tensor::zeros(input.datatype, shape)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Elements;
    use std::path::Path;

    fn runner(model: &str) -> Runner {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("model.onnx");
        let options =
            Options { shapes: vec![], constants: vec![], max_batch_size: None, max_tensor_bytes: 1 << 20 };
        Session::load(&Graph::read(&path).unwrap(), &options).unwrap().runner()
    }

    fn ones(shape: [usize; 2]) -> model::Tensor {
        model::Tensor::new(shape.to_vec(), Elements::Fp32(vec![1.0; shape[0] * shape[1]])).unwrap()
    }

    #[test]
    fn a_product_of_unlike_lengths_is_an_error_and_reads_nothing_past_an_end() {
        let error = runner("matmul").run(&[ones([2, 2]), ones([3000, 2])]).unwrap_err();
        assert!(error.message.contains("to be equal, but they are 2 and 3000"), "{error}");
        assert_eq!(error.code, Code::InvalidRequest);
        assert!(runner("matmul").run(&[ones([2, 3000]), ones([2, 2])]).is_err());
        assert!(
            runner("matmul").run(&[ones([3, 1]), ones([4, 3])]).is_err(),
            "a summed axis is not stretched"
        );
        assert_eq!(runner("matmul").run(&[ones([2, 4]), ones([4, 3])]).unwrap()[0].shape(), [2, 3]);
    }

    #[test]
    fn a_tensor_that_would_be_larger_than_the_limit_is_never_made() {
        let error = runner("matmul").run(&[ones([1000, 1]), ones([1, 1000])]).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        assert!(
            error.message.contains("would make 4000000 bytes of this input: the limit is 1048576"),
            "{error}"
        );
        assert_eq!(runner("matmul").run(&[ones([500, 1]), ones([1, 500])]).unwrap()[0].shape(), [500, 500]);
    }

    #[test]
    fn an_input_smaller_than_a_kernel_is_refused_before_it_is_run() {
        let image = |side: usize| {
            model::Tensor::new(vec![1, 1, side, side], Elements::Fp32(vec![1.0; side * side])).unwrap()
        };
        let error = runner("conv").run(&[image(1)]).unwrap_err();
        assert!(error.message.contains("the input is too small"), "{error}");
        assert_eq!(runner("conv").run(&[image(3)]).unwrap()[0].shape(), [1, 2, 1, 1]);
    }

    #[test]
    fn a_run_that_fails_is_an_error_and_a_new_runner_serves_the_next() {
        let error = runner("pair").run(&[ones([4, 2]), ones([3, 2])]).unwrap_err();
        assert_eq!(error.code, Code::InferenceFailed);
        assert_eq!(runner("pair").run(&[ones([3, 2]), ones([3, 2])]).unwrap().len(), 2);
    }
}
