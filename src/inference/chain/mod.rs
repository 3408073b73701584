//! Chains: one request runs several models. Here are the steps as they were checked at load; a request's way through them is
//! in `run`.
//!
//! The models of the steps are ordinary models, with queues and workers of their own. A chain has neither.
//!
//! Invariant: the tensors of a step fit its model in datatype and shape, as far as both are known before a request.

mod parts;
mod run;
pub mod serve;
pub mod trial;

use std::sync::Arc;

use super::ServedModel;
use crate::engine::Job;
use crate::error::RequestError;
use crate::model::manifest::{ChangedInput, CropManifest, EnsembleManifest, MappedInput, StepManifest};
use crate::model::signature::{choice, quoted};
use crate::model::{Dim, Signature, TensorMetadata};
use crate::processing::mapping::Mapping;
use crate::processing::results::{ResultMaker, show};
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
    /// How many results of steps there are.
    results: usize,
    /// The result of a step that is the answer; `None` when no step has one.
    answer: Option<Answer>,
    /// The most pixels of an image of which parts are cut out.
    max_pixels: u64,
}

/// The answer of a chain whose steps have results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    /// The last result.
    result: usize,
    /// The result with the places, when the step of `result` ran for each of them. Each place then gets its fields.
    places: Option<usize>,
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
    /// The number of the step's result among the results; `None` when the chain does not use it.
    result: Option<usize>,
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
    /// Parts of an image, each for a run of the model.
    Crop(Crop),
}

/// How parts of an image are cut out for a step.
#[derive(Debug)]
struct Crop {
    /// The image, among the tensors: an input of the chain.
    image: usize,
    /// The places, among the results.
    regions: usize,
    if_tall: bool,
    /// The tensor, the class and the least score that say that a part is upside down.
    turn: Option<(usize, usize, f32)>,
}

impl Source {
    /// Whether it needs the tensor at this place.
    fn uses(&self, tensor: usize) -> bool {
        match self {
            Source::Tensor { at, .. } => *at == tensor,
            Source::FilledBy(_) => false,
            Source::Crop(crop) => crop.image == tensor || crop.turn.is_some_and(|(at, ..)| at == tensor),
        }
    }
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
            building.add(model, step).map_err(within)?;
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

    /// Sets the most pixels of an image of which parts are cut out.
    pub fn with_max_pixels(self, max_pixels: u64) -> Chain {
        Chain { max_pixels, ..self }
    }

    /// Whether a step's result is the answer.
    pub fn has_answer(&self) -> bool {
        self.answer.is_some()
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
    /// The names of the results of steps.
    results: Vec<String>,
    answer: Option<Answer>,
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
        let (steps, results) = (Vec::new(), Vec::new());
        Building { inputs: known.len(), known, steps, windows: 0, results, answer: None }
    }

    fn add(&mut self, model: Arc<ServedModel>, said: &StepManifest) -> Result<(), String> {
        let StepManifest { input_map, output_map, .. } = said;
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
                (Some(MappedInput::Changed(ChangedInput { tensor, crop: Some(crop), .. })), _) => {
                    let crop = self.crop(tensor, crop, input);
                    Source::Crop(crop.map_err(|error| format!("input `{}`, crop: {error}", input.name))?)
                }
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
        let result = said.result.as_ref().map(|name| self.add_result(name, &model, &inputs)).transpose()?;
        self.steps.push(Step { model, inputs, outputs, makes, result });
        Ok(())
    }

    /// Adds the result of a step's model, which is the answer of the chain if no other one follows.
    fn add_result(&mut self, name: &str, model: &ServedModel, inputs: &[Source]) -> Result<usize, String> {
        match model.result() {
            None => return Err(format!("its result becomes `{name}`, but its model.json has no `result`")),
            Some(result) if result.maker().is_tracked() => {
                return Err("its result is `events`: declare it in the model.json of the chain, which knows the conversation".into());
            }
            Some(_) => {}
        }
        if self.results.iter().any(|other| other == name) {
            return Err(format!("its result becomes `{name}`, which is there already: give it another name"));
        }
        self.results.push(name.to_owned());
        let result = self.results.len() - 1;
        let places = inputs.iter().find_map(|source| match source {
            Source::Crop(crop) => Some(crop.regions),
            _ => None,
        });
        self.answer = Some(Answer { result, places });
        Ok(result)
    }

    /// Checks how parts of an image are cut out for an input of a step.
    fn crop(&mut self, image: &str, said: &CropManifest, input: &TensorMetadata) -> Result<Crop, String> {
        if !input.takes_images() {
            return Err(
                "the model takes no images here: declare `image` for this input in its model.json".into()
            );
        }
        let at = self.known[..self.inputs].iter().position(|known| known.name == image);
        let at = at.ok_or_else(|| {
            format!("`{image}` is no input of the chain: expected the image as it was sent")
        })?;
        let takes_images = self.known[at].metadata.as_ref().is_some_and(TensorMetadata::takes_images);
        if !takes_images {
            return Err(format!("`{image}` is no image for a step before: its places come from such a step"));
        }
        let regions = self.results.iter().position(|name| *name == said.regions).ok_or_else(|| {
            let known = quoted(self.results.iter().map(String::as_str));
            format!("regions are `{}`, but the results of the steps before are {known}", said.regions)
        })?;
        let turn = said.turn_when.as_ref().map(|turn| {
            let at = self.known.iter().position(|known| known.name == turn.tensor);
            let at = at.ok_or_else(|| {
                format!("turn_when names the tensor `{}`, which no step before makes", turn.tensor)
            })?;
            self.known[at].is_used = true;
            Ok::<_, String>((at, turn.class, turn.threshold.unwrap_or(0.9)))
        });
        Ok(Crop { image: at, regions, if_tall: said.rotate_tall.unwrap_or(true), turn: turn.transpose()? })
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
        let Building { known, inputs, steps, windows, results, answer } = self;
        let outputs: Vec<usize> = (inputs..known.len()).filter(|at| !known[*at].is_used).collect();
        if outputs.is_empty() && answer.is_none() {
            return Err("every tensor is used by a step, so nothing is left for the answer".into());
        }
        let is_cut =
            steps.iter().flat_map(|step| &step.inputs).any(|source| matches!(source, Source::Crop(_)));
        let metadata = |at: usize| known[at].metadata.clone().ok_or("a tensor has no form");
        let open = |mut tensor: TensorMetadata| {
            // A step may run several times, once for each window, or not at all.
            if let Some(first) = tensor.shape.first_mut().filter(|_| windows > 0 || is_cut) {
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
        let (tensors, results) = (known.len(), results.len());
        let chain = Chain { steps, tensors, outputs, windows, result: None, results, answer, max_pixels: 0 };
        Ok(Checked { chain, signature, postprocessors })
    }
}

fn lengths(tensor: &TensorMetadata) -> Vec<Option<usize>> {
    tensor.shape.iter().map(Dim::fixed).collect()
}
