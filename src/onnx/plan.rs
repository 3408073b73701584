//! A plan is the graph, optimised for the shapes of its inputs. All workers share it; each worker has a state of its own
//! to run it.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{InferenceFact, SymbolScope, ToDim, TypedSimplePlan, TypedSimpleState};

use super::convert::{chain, datatype_of, dim_of, from_tract, memory_of, to_tract};
use super::guard::Guard;
use super::late::Meter;
use super::lower::lower;
use super::optimised::Optimised;
use super::source::Source;
use super::{LoadError, bodies, failed};
use crate::error::RequestError;
use crate::memory::Share;
use crate::model::{self, Dim, TensorMetadata};

/// An optimised graph. Clones are cheap and share everything.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    runnable: Arc<TypedSimplePlan>,
    /// The shapes that it takes, for each input of the graph.
    pub inputs: Vec<TensorMetadata>,
    /// The checks before each run.
    guard: Arc<Guard>,
    /// The bytes of the graph's constants. Every plan has a copy of them, in the order that it needs.
    pub weight_bytes: usize,
    /// Whether it has operators that run a graph inside the graph.
    pub has_bodies: bool,
}

impl Plan {
    /// Optimises the graph for these inputs, which can take seconds. No tensor of a run may have more than
    /// `max_tensor_bytes`.
    pub fn new(
        template: &Template,
        inputs: &[TensorMetadata],
        max_tensor_bytes: usize,
    ) -> Result<Plan, LoadError> {
        let failed = |error: TractError| plan_failed(&error, inputs);
        let typed = template.typed(inputs, max_tensor_bytes).map_err(failed)?;
        let Optimised { runnable, guard, weight_bytes } =
            Optimised::of(typed, max_tensor_bytes).map_err(failed)?;
        let weight_bytes = weight_bytes + bodies::weight_bytes(runnable.model());
        let has_bodies = bodies::has_any(runnable.model());
        Ok(Plan { runnable, inputs: inputs.to_vec(), guard: Arc::new(guard), weight_bytes, has_bodies })
    }

    /// The outputs of this plan, with the given names.
    pub fn outputs(&self, names: &[String]) -> Result<Vec<TensorMetadata>, LoadError> {
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
                        "output `{name}` is of type {:?}, which the protocol does not have",
                        fact.datum_type
                    ),
                    advice: None,
                })?;
                let shape = fact.shape.iter().map(dim_of).collect();
                Ok(TensorMetadata { name: name.clone(), datatype, shape, accepts: &[], filled_by: None })
            })
            .collect()
    }

    /// The shape of each output.
    pub fn output_shapes(&self) -> Result<Vec<Vec<Dim>>, LoadError> {
        let model = self.runnable.model();
        let failed = |error: TractError| plan_failed(&error, &self.inputs);
        let outlets = model.output_outlets().map_err(failed)?;
        let shape = |outlet: &OutletId| {
            Ok(model.outlet_fact(*outlet).map_err(failed)?.shape.iter().map(dim_of).collect())
        };
        outlets.iter().map(shape).collect()
    }
}

/// A graph whose shapes are not chosen yet, and the values of the inputs that are always the same. Clones share all.
#[derive(Debug, Clone)]
pub(super) struct Template {
    source: Arc<Source>,
    constants: Arc<[(String, Arc<Tensor>)]>,
}

impl Template {
    /// The graph of `source`, with some inputs replaced by constants.
    pub fn new(source: &Arc<Source>, constants: Vec<(String, Arc<Tensor>)>) -> Template {
        Template { source: source.clone(), constants: constants.into() }
    }

    /// The typed graph for inputs of these shapes. No tensor of a run may have more than `max_tensor_bytes`.
    fn typed(&self, inputs: &[TensorMetadata], max_tensor_bytes: usize) -> TractResult<TypedModel> {
        let symbols = SymbolScope::default();
        let declared: HashMap<String, InferenceFact> = self.source.inputs(&symbols)?.into_iter().collect();
        let fact = |input: &TensorMetadata| -> TractResult<(String, TypedFact)> {
            let declared = &declared[&input.name];
            let dims = input.shape.iter().enumerate().map(|(axis, dim)| match dim {
                Dim::Fixed(length) => length.to_dim(),
                Dim::Open(_) => match declared.shape.dim(axis).and_then(|dim| dim.concretize()) {
                    Some(dim) if dim.to_i64().is_err() => dim,
                    _ => symbols.new_with_prefix("open").to_dim(),
                },
            });
            let datum_type = declared.datum_type.concretize().expect("read() admits typed inputs only");
            Ok((input.name.clone(), TypedFact::dt_shape(datum_type, dims.collect::<Vec<TDim>>())))
        };
        let inputs: Vec<(String, TypedFact)> = inputs.iter().map(fact).collect::<TractResult<_>>()?;
        lower(&self.source, &symbols, &inputs, &self.constants, max_tensor_bytes)
    }
}

/// The state of a plan in one worker.
#[derive(Debug)]
pub(super) struct PlanState {
    plan: Plan,
    /// tract's state. It is made at the first run. After an error it takes no inputs, so it is made again.
    state: Option<TypedSimpleState>,
}

impl PlanState {
    /// A state that has not run yet.
    pub fn new(plan: &Plan) -> PlanState {
        PlanState { plan: plan.clone(), state: None }
    }

    /// Runs the plan with all inputs of the graph, in its order, and returns all outputs. The shapes must fit
    /// `Plan::inputs`. The memory of the run is taken from the budget of `memory`; afterwards `memory` includes the bytes
    /// of the outputs.
    pub fn run(
        &mut self,
        inputs: &[&model::Tensor],
        memory: &mut Share,
    ) -> Result<Vec<model::Tensor>, RequestError> {
        let bytes = self.plan.guard.check(inputs)?;
        let mut taken = memory.take_beside(bytes.peak)?;
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.plan.runnable.spawn().map_err(|error| failed(chain(&error)))?,
        };
        state.turn_state.shared.insert(Meter::new(memory.beside()));
        // The engine has its own copy of all texts. The elements themselves are in `bytes.peak`.
        let texts: usize = inputs.iter().map(|tensor| tensor.elements().text_bytes()).sum();
        let _texts = memory.take_beside(texts)?;
        let inputs = inputs.iter().map(|tensor| to_tract(tensor)).collect::<TractResult<TVec<TValue>>>();
        let outputs = inputs.and_then(|inputs| state.run(inputs)).map_err(|error| refused(&error))?;
        // Outputs with a size that only the run determined are not in `bytes.outputs`. The meter holds their memory until
        // it is counted here.
        let size = outputs.iter().map(|output| memory_of(output)).sum::<usize>();
        memory.grow(size.saturating_sub(bytes.outputs))?;
        let outputs =
            outputs.iter().map(|value| from_tract(value).map_err(failed)).collect::<Result<_, _>>()?;
        memory.absorb(taken.split(bytes.outputs));
        state.turn_state.shared.remove::<Meter>();
        self.state = Some(state);
        Ok(outputs)
    }
}

/// The error of a failed run. If our own code stopped the run, its error is returned unchanged.
fn refused(error: &TractError) -> RequestError {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<RequestError>());
    ours.cloned().unwrap_or_else(|| failed(chain(error)))
}

fn plan_failed(error: &TractError, inputs: &[TensorMetadata]) -> LoadError {
    let open: Vec<String> = inputs
        .iter()
        .filter(|input| input.shape.iter().any(|dim| dim.fixed().is_none()))
        .map(|input| format!("`{}` {:?}", input.name, input.shape_i64()))
        .collect();
    let advice = if open.is_empty() {
        "the engine cannot run the operator or shape that is named above".to_owned()
    } else {
        format!(
            "open dimensions may be the cause: fix those of {} with `inputs[].shape` in model.json, or list the shapes of your requests in `shapes`",
            open.join(", ")
        )
    };
    LoadError { what: "planning the model", cause: chain(error), advice: Some(advice) }
}
