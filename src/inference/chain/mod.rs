//! Chains: one request runs several models. Here are the steps as they were checked at load; a request's way through them is
//! in `run`.
//!
//! The models of the steps are ordinary models, with queues and workers of their own. A chain has neither.
//!
//! Invariant: the tensors of a step fit its model in datatype and shape, as far as both are known before a request.

mod run;
pub mod serve;
pub mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ServedModel;
use crate::engine::Job;
use crate::error::RequestError;
use crate::model::manifest::EnsembleManifest;
use crate::model::signature::{choice, quoted};
use crate::model::{Dim, Signature, TensorMetadata};
use crate::processing::mapping::Mapping;
use crate::processing::results::ResultMaker;
use crate::processing::scores::Postprocessor;

pub use self::run::ChainSequence;

/// The steps of a chain.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Step>,
    /// How many tensors there are: first the inputs of the chain.
    tensors: usize,
    /// The outputs of the chain, by their places among the tensors.
    outputs: Vec<usize>,
    /// How many mappings have windows.
    windows: usize,
    /// Makes the result of the outputs; `None` for a chain that answers with them.
    result: Option<Arc<ResultMaker>>,
}

/// One step: a model, and where its inputs come from.
#[derive(Debug)]
struct Step {
    model: Arc<ServedModel>,
    inputs: Vec<Source>,
    /// Pairs: the place of an output in the model's signature, and its place among the tensors.
    outputs: Vec<(usize, usize)>,
    /// The names of these tensors.
    makes: Vec<String>,
}

/// Where an input of a step comes from.
#[derive(Debug)]
enum Source {
    Tensor {
        /// Its place among the tensors.
        at: usize,
        mapping: Mapping,
        /// The number of its window among all windows of the chain.
        window: Option<usize>,
    },
    /// The step's model makes it from the text of this other input.
    FilledBy(usize),
}

/// A chain that fits its models, and what it takes and gives.
#[derive(Debug)]
pub struct Checked {
    pub chain: Chain,
    pub signature: Signature,
    /// One for each output.
    pub postprocessors: Vec<Postprocessor>,
}

/// A tensor of the chain while it is checked.
struct Known {
    name: String,
    /// `None` for an input of the chain that no step has used yet.
    metadata: Option<TensorMetadata>,
    postprocessor: Postprocessor,
    is_used: bool,
}

impl Chain {
    /// Checks a chain against the models of its steps, which `find` finds by name and version.
    ///
    /// Errors: a sentence with the step and what fits.
    pub fn check(
        said: &EnsembleManifest,
        find: impl Fn(&str, Option<&str>) -> Result<Arc<ServedModel>, String>,
    ) -> Result<Checked, String> {
        let mut building = Building::begin(said);
        for (at, step) in said.step.iter().enumerate() {
            let within = |error: String| format!("step {} (`{}`): {error}", at + 1, step.model_name);
            let version =
                step.model_version.filter(|version| *version >= 0).map(|version| version.to_string());
            let model = find(&step.model_name, version.as_deref()).map_err(within)?;
            building.add(model, &step.input_map, &step.output_map).map_err(within)?;
        }
        building.finish()
    }

    /// The models of the steps.
    pub fn models(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.steps.iter().map(|step| &step.model)
    }

    /// The names of the tensors that a step makes.
    pub fn made_by(&self, step: usize) -> &[String] {
        &self.steps[step].makes
    }

    /// Whether an answer depends on the requests before it.
    pub fn keeps_windows(&self) -> bool {
        self.windows > 0
    }

    /// Sets what makes the result of the outputs.
    pub fn with_result(self, result: Option<Arc<ResultMaker>>) -> Chain {
        Chain { result, ..self }
    }

    /// Begins a request. Its reply comes when the last step has ended. `sequence` keeps the windows of a conversation.
    // The error is as large as the job because it returns the job to the caller.
    #[allow(clippy::result_large_err)]
    pub fn submit(
        self: &Arc<Self>,
        job: Job,
        sequence: Option<&Arc<ChainSequence>>,
    ) -> Result<(), (Job, RequestError)> {
        run::begin(self, job, sequence, None)
    }
}

struct Building {
    known: Vec<Known>,
    inputs: usize,
    steps: Vec<Step>,
    windows: usize,
}

impl Building {
    /// Finds the inputs of the chain: the tensors that a step uses and none makes.
    fn begin(said: &EnsembleManifest) -> Building {
        let made =
            |name: &str| said.step.iter().any(|step| step.output_map.values().any(|other| other == name));
        let mut known: Vec<Known> = Vec::new();
        for mapped in said.step.iter().flat_map(|step| step.input_map.values()) {
            let name = mapped.tensor();
            if !made(name) && known.iter().all(|other| other.name != name) {
                known.push(Known {
                    name: name.into(),
                    metadata: None,
                    postprocessor: Postprocessor::default(),
                    is_used: true,
                });
            }
        }
        Building { inputs: known.len(), known, steps: Vec::new(), windows: 0 }
    }

    fn add(
        &mut self,
        model: Arc<ServedModel>,
        input_map: &BTreeMap<String, crate::model::manifest::MappedInput>,
        output_map: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let signature = model.signature.clone();
        if model.is_chain() {
            return Err("it is a chain itself: name its steps here".into());
        }
        if signature.has_state {
            return Err(
                "it keeps a state from request to request, which a chain cannot carry: give it windows \
                        (`window`) instead, or call it alone"
                    .into(),
            );
        }
        for name in input_map.keys() {
            if signature.input(name).is_none() {
                return Err(format!(
                    "input_map names `{name}`, but the model has {}",
                    choice(name, &signature.inputs)
                ));
            }
        }
        let mut inputs = Vec::new();
        for input in &signature.inputs {
            inputs.push(match (input_map.get(&input.name), input.filled_by) {
                (Some(mapped), _) => self
                    .source(mapped.tensor(), Mapping::new(mapped), input)
                    .map_err(|error| format!("input `{}` from `{}`: {error}", input.name, mapped.tensor()))?,
                (None, Some(source)) => Source::FilledBy(source),
                (None, None) => return Err(format!("input_map lacks the model's input `{}`", input.name)),
            });
        }
        let mut outputs = Vec::new();
        for (name, tensor) in output_map {
            let (at, output) = signature.output(name).ok_or_else(|| {
                format!("output_map names `{name}`, but the model has {}", choice(name, &signature.outputs))
            })?;
            if self.known.iter().any(|known| known.name == *tensor) {
                return Err(format!(
                    "output `{name}` becomes `{tensor}`, which is there already: give it another name"
                ));
            }
            outputs.push((at, self.known.len()));
            self.known.push(Known {
                name: tensor.clone(),
                metadata: Some(TensorMetadata { name: tensor.clone(), ..output.clone() }),
                postprocessor: model.postprocessor(at).clone(),
                is_used: false,
            });
        }
        let makes = output_map.values().cloned().collect();
        self.steps.push(Step { model, inputs, outputs, makes });
        Ok(())
    }

    /// Checks that a tensor of the chain fits an input of a step.
    fn source(&mut self, name: &str, mapping: Mapping, input: &TensorMetadata) -> Result<Source, String> {
        let at = self.known.iter().position(|known| known.name == name);
        let at = at.ok_or_else(|| {
            let known = quoted(self.known.iter().map(|known| known.name.as_str()));
            format!("no step before makes it: there are {known}")
        })?;
        let known = &mut self.known[at];
        known.is_used = true;
        if mapping.changes_values() && input.datatype != crate::model::Datatype::Fp32 {
            return Err(format!("scale, offset and initial need FP32, but the input is {}", input.datatype));
        }
        match &known.metadata {
            None => {
                if mapping.has_window() || mapping.shape(&lengths(input)).ok() != Some(lengths(input)) {
                    return Err(
                        "it is an input of the chain: `window` and `reshape` are for what a step gives"
                            .into(),
                    );
                }
                let accepts = if mapping.is_plain() { input.accepts } else { &[] };
                known.metadata =
                    Some(TensorMetadata { name: name.into(), accepts, filled_by: None, ..input.clone() });
            }
            Some(have) => {
                let shape = mapping.shape(&lengths(have))?;
                let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
                let wanted = lengths(input);
                if have.datatype != input.datatype {
                    return Err(format!("it is {}, but the input is {}", have.datatype, input.datatype));
                }
                if shape.len() != wanted.len() || !shape.iter().zip(&wanted).all(fits) {
                    return Err(format!(
                        "its shape is {}, but the input takes {}: `reshape` changes the shape",
                        show(&shape),
                        show(&wanted)
                    ));
                }
                if at < self.inputs && have.accepts != input.accepts {
                    return Err("two steps take this input of the chain in different forms, one of them as a file: give \
                                them inputs with different names"
                        .into());
                }
            }
        }
        let window = mapping.has_window().then(|| {
            self.windows += 1;
            self.windows - 1
        });
        Ok(Source::Tensor { at, mapping, window })
    }

    fn finish(self) -> Result<Checked, String> {
        let Building { known, inputs, steps, windows } = self;
        let outputs: Vec<usize> = (inputs..known.len()).filter(|at| !known[*at].is_used).collect();
        if outputs.is_empty() {
            return Err("every tensor is used by a step, so nothing is left for the answer".into());
        }
        let metadata = |at: usize| known[at].metadata.clone().ok_or("a tensor has no form");
        let open = |mut tensor: TensorMetadata| {
            // A step may run several times, once for each window, or not at all.
            if let Some(first) = tensor.shape.first_mut().filter(|_| windows > 0) {
                *first = Dim::Open(None);
            }
            tensor
        };
        let signature = Signature {
            inputs: (0..inputs).map(metadata).collect::<Result<_, _>>()?,
            outputs: outputs.iter().map(|at| metadata(*at).map(open)).collect::<Result<_, _>>()?,
            max_batch_size: None,
            has_state: windows > 0,
        };
        let postprocessors = outputs.iter().map(|at| Postprocessor {
            // It was applied after the step.
            activation: None,
            ..known[*at].postprocessor.clone()
        });
        let postprocessors = postprocessors.collect();
        let chain = Chain { steps, tensors: known.len(), outputs, windows, result: None };
        Ok(Checked { chain, signature, postprocessors })
    }
}

fn lengths(tensor: &TensorMetadata) -> Vec<Option<usize>> {
    tensor.shape.iter().map(Dim::fixed).collect()
}

fn show(shape: &[Option<usize>]) -> String {
    let lengths: Vec<String> =
        shape.iter().map(|length| length.map_or("?".into(), |length| length.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}
