//! Makes a served model from its files: it reads them, applies the manifest to the graph, makes plans, runs the
//! warm-up, and starts the workers. Which models are loaded is decided in `loader`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::planning::{self, Trials};
use super::sequences::{SequenceRules, SharedSequences};
use super::sources::Sources;
use super::warmup::{WarmUp, warm_up};
use super::{Backend, Fingerprint, ModelResult, ServedModel, Workers, embedding};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::executor::Workload;
use crate::engine::intake::Intake;
use crate::engine::places::Places;
use crate::engine::runs::{Pulse, Runs};
use crate::engine::worker::{self, WorkerThread};
use crate::engine::{Guests, Queue};
use crate::error::show_shape;
use crate::model::signature::{declared, quoted};
use crate::model::tensor::volume;
use crate::model::{Dim, Manifest, ModelFiles, Signature, Tensor, TensorMetadata};
use crate::onnx::{ClassLabels, Graph, Options, Planner, Session, StateOption};
use crate::panics::panic_message;
use crate::processing::audio::{self, AudioStream};
use crate::processing::image::{self, ImageDecoder};
use crate::processing::scores::{Postprocessor, parse_labels};
use crate::processing::text::TextEncoder;
use crate::processing::{Decoder, Preprocessor};
use crate::wire::elements;

/// A run must take at least this long for other workers to help: waking them takes a part of it.
const LONG: Duration = Duration::from_millis(1);

/// The reason why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("model `{model}`: {message}")]
pub struct LoadError {
    pub model: String,
    pub message: String,
}

/// A model that is loaded and warmed up. Its workers are not started yet.
#[derive(Debug)]
pub struct Loaded {
    pub files: ModelFiles,
    pub workload: Workload,
    pub postprocessors: Vec<Postprocessor>,
    /// What answers are made of outputs.
    pub result: Option<ModelResult>,
    /// Makes and measures plans for batches; `None` when the model uses no batches.
    pub planner: Option<Planner>,
    /// The states with which a sequence begins; empty for a model without states.
    initial: Vec<Tensor>,
    audio: Option<AudioStream>,
    /// The outputs that are dictionaries in the ONNX file, with their keys.
    pub class_labels: Vec<ClassLabels>,
    /// What the trial runs have shown.
    pub warm_up: WarmUp,
}

/// Loads a model and warms it up.
pub fn load(files: ModelFiles, limits: &Limits) -> Result<Loaded, LoadError> {
    let mut fingerprint = Fingerprint::of(&files, []);
    Sources::read(files, &mut fingerprint).and_then(|sources| load_read(sources, limits))
}

/// Loads a model from sources that were read before. A panic becomes an error of this model.
pub fn load_read(sources: Sources, limits: &Limits) -> Result<Loaded, LoadError> {
    let model = sources.files.name.clone();
    catch_unwind(AssertUnwindSafe(|| try_load(sources, limits))).unwrap_or_else(|panic| {
        Err(LoadError { model, message: format!("loading it panicked: {}", panic_message(panic.as_ref())) })
    })
}

fn try_load(sources: Sources, limits: &Limits) -> Result<Loaded, LoadError> {
    let model = sources.files.name.clone();
    let failed = |message: String| LoadError { model: model.clone(), message };
    let prepared = prepare(&sources, limits).map_err(failed)?;
    let warm_up =
        warm_up(&prepared.workload, sources.files.manifest.warmup.unwrap_or(1)).map_err(|error| {
            let advice = advice(prepared.workload.session.signature());
            failed(format!("it fails on every sample that fits its inputs: {error} ({advice})"))
        })?;
    for note in &warm_up.notes {
        log::warn!("model `{model}`: {note}");
    }
    let class_labels = sources.graph.class_labels().to_vec();
    let Sources { files, .. } = sources;
    let Assembled { workload, postprocessors, result, planner, initial } = prepared;
    let audio = workload.preprocessor.stream().cloned();
    Ok(Loaded { workload, postprocessors, result, planner, initial, audio, class_labels, warm_up, files })
}

/// What the owner can do about a model that fails on every sample.
fn advice(signature: &Signature) -> String {
    let has_open_lengths = |input: &&TensorMetadata| input.shape.iter().any(|dim| dim.fixed().is_none());
    let open: Vec<String> = signature
        .inputs
        .iter()
        .filter(has_open_lengths)
        .map(|input| format!("`{}` {}", input.name, show_shape(&input.shape_i64())))
        .collect();
    let trial = "if real requests work, \"warmup\": 0 in model.json serves it without a trial";
    match open.is_empty() {
        true => trial.to_owned(),
        false => format!(
            "the trial gives every open dimension the same length: fix those that never change, of {}, with \
             `inputs[].shape` in model.json; {trial}",
            open.join(", ")
        ),
    }
}

/// The parts that a model needs to answer requests, before its first run.
struct Assembled {
    workload: Workload,
    postprocessors: Vec<Postprocessor>,
    result: Option<ModelResult>,
    planner: Option<Planner>,
    initial: Vec<Tensor>,
}

/// Makes the plans of the graph with the limits of model.json, and makes the preprocessor and postprocessors.
fn prepare(sources: &Sources, limits: &Limits) -> Result<Assembled, String> {
    let (files, graph) = (&sources.files, &sources.graph);
    let options = options(graph, &files.manifest, limits)?;
    let (mut session, planner) = Session::load(graph, &options).map_err(|error| error.to_string())?;
    for note in session.notes() {
        log::warn!("model `{}`: {note}", files.name);
    }
    let initial = initial_states(&session, &files.manifest)?;
    let texts = embedding::texts(session.signature_mut(), sources, limits)?;
    let embeddings = embedding::embeddings(session.signature_mut(), &files.manifest, &texts)?;
    let preprocessor = preprocessor(&mut session, &files.manifest, texts, limits)?;
    let postprocessors = postprocessors(&session, sources, graph.class_labels())?;
    let pace = preprocessor.stream().and_then(AudioStream::pace);
    let result = ModelResult::new(session.signature(), sources, pace)?;
    if let Some(result) = &result {
        log::info!("model `{}`: result: {}", files.name, result.describe(session.signature()));
    }
    for ClassLabels { output, labels } in graph.class_labels() {
        log::info!(
            "model `{}`: output `{output}` is the tensor that the file makes a ZipMap of: a row's scores for {}",
            files.name,
            quoted(labels.iter().map(String::as_str))
        );
    }
    let maker = result.as_ref().map(|result| result.maker().clone());
    let workload = Workload { session, preprocessor, embeddings, result: maker };
    Ok(Assembled { workload, postprocessors, result, planner, initial })
}

impl Loaded {
    /// How many of `workers` may work on one request, if it takes so long that they can help. `None`: only one.
    pub fn threads(&self, workers: usize) -> Option<usize> {
        let most = self.files.manifest.intra_op_threads.filter(|count| *count > 0).unwrap_or(workers);
        let is_long = self.warm_up.times.iter().min().is_some_and(|time| *time >= LONG);
        Some(most.min(workers)).filter(|count| *count > 1 && is_long)
    }

    /// Starts the workers of the model, and the thread that measures batches. When it returns, the model accepts
    /// requests. Returns an error when a thread cannot be started.
    pub fn start(
        self,
        limits: &Limits,
        clock: &Clock,
        workers: &Workers,
        places: &Places,
        fingerprint: Fingerprint,
    ) -> std::io::Result<ServedModel> {
        let manifest = &self.files.manifest;
        let (queue, jobs) = Queue::new(limits.queue_capacity);
        let signature = self.workload.session.signature().clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = manifest.instance_group.count.unwrap_or(cores);
        let helping = self.threads(count);
        let workload = Arc::new(self.workload);
        let delay = Duration::from_micros(manifest.dynamic_batching.max_queue_delay_microseconds);
        let intake = Arc::new(Intake::new(jobs, delay));
        let pulses: Vec<Pulse> = std::iter::repeat_with(Pulse::default).take(count).collect();
        let runs = Runs::new(pulses.clone(), workload.session.families());
        let threads = pulses.into_iter().enumerate().map(|(index, pulse)| {
            let part = (&workload, &runs, pulse);
            worker::spawn(&self.files.name, index, intake.clone(), part, clock.clone(), places)
        });
        // When one thread cannot be started, the others end by themselves, because the queue is dropped.
        let threads: Vec<WorkerThread> = threads.collect::<Result<_, _>>()?;
        let alive = threads.iter().map(|thread| thread.alive.clone()).collect();
        workers.add(threads);
        let trials = Trials { planner: self.planner, threads: helping.zip(self.warm_up.sample) };
        if let Err(error) = planning::start(&self.files.name, trials, &workload) {
            log::warn!("model `{}`: neither batches nor helping workers are used: {error}", self.files.name);
        }
        let is_public = manifest.is_public();
        let sequences = manifest.sequence.as_ref().map(|said| {
            let rules = SequenceRules {
                initial: Arc::new(self.initial),
                most: said.max_sequences,
                idle: Duration::from_micros(said.max_sequence_idle_microseconds),
                queue: queue.clone(),
            };
            (rules, SharedSequences::new(clock.clone()))
        });
        Ok(ServedModel {
            name: self.files.name,
            version: self.files.version,
            signature,
            postprocessors: self.postprocessors,
            result: self.result,
            guests: Guests::new(&workload, &runs, clock, places, delay),
            backend: Backend::Queue(queue),
            sequences,
            audio: self.audio,
            alive,
            is_public,
            request_timeout: limits.request_timeout,
            clock: clock.clone(),
            fingerprint,
            home: self.files.home,
            over: OnceLock::new(),
        })
    }
}

/// Makes the options of a session from the manifest, and checks them against the graph.
fn options(graph: &Graph, manifest: &Manifest, limits: &Limits) -> Result<Options, String> {
    let mut shapes = Vec::new();
    for said in &manifest.inputs {
        let input = declared("inputs", &said.name, graph.inputs())?;
        if let Some(datatype) = said.datatype.filter(|datatype| *datatype != input.datatype) {
            return Err(format!(
                "model.json says input `{}` is {datatype}, but the file says {}",
                said.name, input.datatype
            ));
        }
        if let Some(shape) = &said.shape {
            let shape = narrowed(input, shape)?;
            check_size("inputs", input, &shape, limits)?;
            shapes.push((said.name.clone(), shape));
        }
    }
    let mut constants = Vec::new();
    for (name, value) in &manifest.parameters {
        let input = declared("parameters", name, graph.inputs())?;
        let constant = constant(input, value).map_err(|error| format!("parameters[`{name}`] {error}"))?;
        constants.push((name.clone(), constant));
    }
    let variants = manifest.shapes.iter().map(|shapes| {
        let shapes = shapes.iter().map(|(name, shape)| {
            let input = declared("shapes", name, graph.inputs())?;
            let shape = narrowed(input, shape)?;
            check_size("shapes", input, &shape, limits)?;
            Ok((name.clone(), shape))
        });
        shapes.collect::<Result<Vec<_>, String>>()
    });
    let states = manifest.sequence.iter().flat_map(|sequence| &sequence.states).map(|state| StateOption {
        input: state.input.clone(),
        output: state.output.clone(),
        batch_axis: state.batch_axis,
    });
    Ok(Options {
        shapes,
        variants: variants.collect::<Result<_, _>>()?,
        constants,
        states: states.collect(),
        max_batch_size: Some(manifest.max_batch_size).filter(|most| *most > 0),
        preferred_batch_size: manifest.dynamic_batching.preferred_batch_size.clone(),
        max_plan_bytes: limits.max_plan_bytes,
        max_tensor_bytes: limits.max_tensor_bytes,
    })
}

/// The states with which each sequence begins, in the order of the session's states.
fn initial_states(session: &Session, manifest: &Manifest) -> Result<Vec<Tensor>, String> {
    let said = manifest.sequence.iter().flat_map(|sequence| &sequence.states);
    let states = session.states().iter().zip(said);
    let initial = states.map(|(state, said)| match &said.initial {
        None => session.zeros(state),
        Some(value) => {
            session.zeros(state)?;
            filled(state, value).map_err(|error| format!("sequence.states[`{}`].initial {error}", state.name))
        }
    });
    initial.collect()
}

/// Makes the initial tensor of a state from JSON: all its elements, or one number that is used for each element.
fn filled(state: &TensorMetadata, value: &serde_json::Value) -> Result<Tensor, String> {
    let shape = state.shape_with_open(1);
    if !value.is_number() {
        return constant(state, value);
    }
    let count = volume(&shape).ok_or("is larger than memory")?;
    let (_, one) = elements::parse(&format!("[{value}]"), state.datatype)?;
    let one = Tensor::new(vec![1], one)?;
    Tensor::new(shape, Tensor::concat(0, &vec![&one; count])?.into_elements())
}

/// Combines a shape in the manifest with the one in the file. The manifest may set dimensions that are open in the
/// file, and may repeat those that are fixed. Any other difference is an error.
fn narrowed(input: &TensorMetadata, said: &[i64]) -> Result<Vec<Dim>, String> {
    // A file that declares no shape at all takes the manifest's.
    let unknown_rank = input.shape.is_empty() && !said.is_empty();
    if said.len() != input.shape.len() && !unknown_rank {
        return Err(format!(
            "model.json gives input `{}` the shape {said:?}, but the file says {:?}",
            input.name,
            input.shape_i64()
        ));
    }
    let declared = |axis: usize| input.shape.get(axis).cloned().unwrap_or(Dim::Open(None));
    said.iter()
        .enumerate()
        .map(|(axis, said)| match (declared(axis), usize::try_from(*said)) {
            (Dim::Open(_), Ok(length)) => Ok(Dim::Fixed(length)),
            (Dim::Fixed(length), Ok(said)) if length != said => Err(format!(
                "model.json says dimension {axis} of input `{}` is {said}, but the file fixes it at {length}",
                input.name
            )),
            (declared, _) => Ok(declared),
        })
        .collect()
}

/// Checks that a tensor of this shape is within `--max-tensor-bytes`. No request could bring a larger one, and a
/// trial run with it may need more memory than there is.
fn check_size(field: &str, input: &TensorMetadata, shape: &[Dim], limits: &Limits) -> Result<(), String> {
    let shape: Vec<usize> = shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
    let bytes = volume(&shape).and_then(|count| count.checked_mul(input.datatype.size().unwrap_or(1)));
    if bytes.is_some_and(|bytes| bytes <= limits.max_tensor_bytes) {
        return Ok(());
    }
    Err(format!(
        "model.json's {field} give input `{}` the shape {shape:?}, which takes more than the {} bytes of \
         --max-tensor-bytes",
        input.name, limits.max_tensor_bytes
    ))
}

/// Makes a constant from JSON. A single number is allowed for an input whose shape is [] or has only ones.
fn constant(input: &TensorMetadata, value: &serde_json::Value) -> Result<Tensor, String> {
    let (nesting, values) = elements::parse(&value.to_string(), input.datatype)?;
    let shape = if input.admits(&nesting) { nesting } else { input.shape_with_open(1) };
    Tensor::new(shape, values)
}

fn preprocessor(
    session: &mut Session,
    manifest: &Manifest,
    texts: Vec<TextEncoder>,
    limits: &Limits,
) -> Result<Preprocessor, String> {
    for said in &manifest.inputs {
        let is_state = session.states().iter().any(|state| state.name == said.name);
        if is_state && (said.image.is_some() || said.audio.is_some() || said.text.is_some()) {
            return Err(format!("input `{}` is a state: it takes no files", said.name));
        }
    }
    let listed: Vec<Vec<TensorMetadata>> =
        (0..session.signature().inputs.len()).map(|at| session.listed_for(at)).collect();
    let inputs = &mut session.signature_mut().inputs;
    let decoders = inputs
        .iter_mut()
        .zip(listed)
        .map(|(input, listed)| {
            let Some(said) = manifest.input(&input.name) else { return Ok(None) };
            if let Some(audio) = &said.audio {
                let stream = AudioStream::new(audio, input)?;
                input.accepts = audio::MEDIA_TYPES;
                return Ok(Some(Decoder::Audio(stream)));
            }
            let Some(image) = &said.image else { return Ok(None) };
            let decoder = ImageDecoder::new(image, input, &listed, limits)?;
            input.accepts = image::MEDIA_TYPES;
            Ok(Some(Decoder::Image(decoder)))
        })
        .collect::<Result<_, String>>()?;
    Ok(Preprocessor::new(decoders, texts))
}

fn postprocessors(
    session: &Session,
    sources: &Sources,
    known: &[ClassLabels],
) -> Result<Vec<Postprocessor>, String> {
    let outputs = &session.signature().outputs;
    for said in &sources.files.manifest.outputs {
        let output = declared("outputs", &said.name, outputs)?;
        if let Some(datatype) = said.datatype.filter(|datatype| *datatype != output.datatype) {
            return Err(format!(
                "model.json says output `{}` is {datatype}, but the file says {}",
                said.name, output.datatype
            ));
        }
        let scores = said.activation.is_some() || said.classification.is_some();
        if scores && !output.datatype.is_float() {
            return Err(format!(
                "output `{}` is {}: activation and classification need floats",
                said.name, output.datatype
            ));
        }
    }
    outputs.iter().map(|output| postprocessor(output, sources, known)).collect()
}

fn postprocessor(
    output: &TensorMetadata,
    sources: &Sources,
    known: &[ClassLabels],
) -> Result<Postprocessor, String> {
    let classes = output.shape.last().and_then(Dim::fixed);
    let known = known.iter().find(|known| known.output == output.name);
    let known = known.filter(|known| Some(known.labels.len()) == classes);
    let known = known.map(|known| known.labels.clone()).unwrap_or_default();
    let Some(said) = sources.files.manifest.output(&output.name) else {
        return Ok(Postprocessor { labels: known, ..Postprocessor::default() });
    };
    let labels = match &said.labels {
        None => known,
        Some(file) => {
            let text = std::str::from_utf8(sources.named(file));
            parse_labels(text.map_err(|_| format!("{file} is no text in UTF-8"))?)
        }
    };
    if let Some(classes) = classes.filter(|classes| !labels.is_empty() && *classes != labels.len()) {
        return Err(format!(
            "output `{}` has {classes} classes, but there are {} labels",
            output.name,
            labels.len()
        ));
    }
    Ok(Postprocessor { activation: said.activation, labels, classification: said.classification })
}
