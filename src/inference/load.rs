//! From files to a model in service: read, narrow by the manifest, plan, warm up, start workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ServedModel, Workers, embedding};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::panic::panic_message;
use crate::engine::session::zeros;
use crate::engine::worker::{self, Workload};
use crate::engine::{Graph, Options, Queue, Session};
use crate::model::signature::{nearest, quoted};
use crate::model::{Dim, Manifest, ModelFiles, Tensor, TensorMetadata};
use crate::processing::Preprocessor;
use crate::processing::image::{ImageDecoder, MEDIA_TYPES};
use crate::processing::scores::{Postprocessor, parse_labels};
use crate::processing::text::TextEncoder;
use crate::wire::elements;

/// Why a model is not served.
#[derive(Debug, thiserror::Error)]
#[error("model `{model}`: {message}")]
pub struct LoadError {
    pub model: String,
    pub message: String,
}

/// A model that is loaded and warm, its workers not started yet.
#[derive(Debug)]
pub struct Loaded {
    pub files: ModelFiles,
    pub workload: Workload,
    pub postprocessors: Vec<Postprocessor>,
    /// Of the warm-up's runs.
    pub warmup: Vec<Duration>,
    /// Why the warm-up failed, when it did. Some models cannot run on a [`sample`] and serve well.
    pub warmup_error: Option<String>,
}

/// Loads a model and warms it up.
pub fn load(files: ModelFiles, limits: &Limits) -> Result<Loaded, LoadError> {
    let failed = |message: String| LoadError { model: files.name.clone(), message };
    let graph = Graph::read(&files.onnx).map_err(|error| failed(error.to_string()))?;
    let options = options(&graph, &files.manifest, limits).map_err(failed)?;
    let mut session = Session::load(&graph, &options).map_err(|error| failed(error.to_string()))?;
    let texts = embedding::texts(session.signature_mut(), &files, limits).map_err(failed)?;
    let embeddings =
        embedding::embeddings(session.signature_mut(), &files.manifest, &texts).map_err(failed)?;
    let preprocessor = preprocessor(&mut session, &files.manifest, texts, limits).map_err(failed)?;
    let postprocessors = postprocessors(&session, &files).map_err(failed)?;
    let workload = Workload { session, preprocessor, embeddings };
    let (warmup, warmup_error) = warm_up(&workload, files.manifest.warmup.unwrap_or(1));
    if files.manifest.dynamic_batching.is_some() {
        log::warn!("model `{}`: dynamic_batching has no effect yet, requests are run one by one", files.name);
    }
    if let Some(error) = &warmup_error {
        log::warn!("model `{}`: the warm-up failed: {error}", files.name);
    }
    Ok(Loaded { workload, postprocessors, warmup, warmup_error, files })
}

impl Loaded {
    /// Starts the model's workers and puts it into service.
    pub fn serve(
        self,
        limits: &Limits,
        clock: &Clock,
        workers: &mut Workers,
    ) -> std::io::Result<ServedModel> {
        let (queue, jobs) = Queue::new(limits.queue_capacity);
        let signature = self.workload.session.signature().clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = self.files.manifest.instance_group.count.unwrap_or(cores);
        let workload = Arc::new(self.workload);
        for index in 0..count {
            workers.add(worker::spawn(
                &self.files.name,
                index,
                jobs.clone(),
                workload.clone(),
                clock.clone(),
            )?);
        }
        Ok(ServedModel {
            name: self.files.name,
            version: self.files.version,
            signature,
            postprocessors: self.postprocessors,
            queue,
            request_timeout: limits.request_timeout,
            clock: clock.clone(),
        })
    }
}

/// What the manifest says about the graph, held against the graph.
fn options(graph: &Graph, manifest: &Manifest, limits: &Limits) -> Result<Options, String> {
    let mut shapes = Vec::new();
    for said in &manifest.inputs {
        let input = find("inputs", &said.name, graph.inputs())?;
        if let Some(datatype) = said.datatype.filter(|datatype| *datatype != input.datatype) {
            return Err(format!(
                "model.json says input `{}` is {datatype}, but the file says {}",
                said.name, input.datatype
            ));
        }
        if let Some(shape) = &said.shape {
            shapes.push((said.name.clone(), narrowed(input, shape)?));
        }
    }
    let mut constants = Vec::new();
    for (name, value) in &manifest.parameters {
        let input = find("parameters", name, graph.inputs())?;
        let constant = constant(input, value).map_err(|error| format!("parameters[`{name}`] {error}"))?;
        constants.push((name.clone(), constant));
    }
    let max_batch_size = Some(manifest.max_batch_size).filter(|most| *most > 0);
    Ok(Options { shapes, constants, max_batch_size, max_tensor_bytes: limits.max_tensor_bytes })
}

pub(super) fn find<'a>(
    field: &str,
    name: &str,
    known: &'a [TensorMetadata],
) -> Result<&'a TensorMetadata, String> {
    known.iter().find(|metadata| metadata.name == name).ok_or_else(|| {
        let names = || known.iter().map(|metadata| metadata.name.as_str());
        let meant =
            nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("model.json's {field} name `{name}`, but the file has {}{meant}", quoted(names()))
    })
}

/// A manifest may fix what the file leaves open, and name again what the file fixes.
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

/// A constant from JSON; a single number fills an input whose shape is [] or all ones.
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
    let inputs = &mut session.signature_mut().inputs;
    let decoders = inputs
        .iter_mut()
        .map(|input| {
            let Some(image) = manifest.input(&input.name).and_then(|said| said.image.as_ref()) else {
                return Ok(None);
            };
            let decoder = ImageDecoder::new(image, input, limits)?;
            input.accepts = MEDIA_TYPES;
            Ok(Some(decoder))
        })
        .collect::<Result<_, String>>()?;
    Ok(Preprocessor::new(decoders, texts))
}

fn postprocessors(session: &Session, files: &ModelFiles) -> Result<Vec<Postprocessor>, String> {
    let outputs = &session.signature().outputs;
    for said in &files.manifest.outputs {
        let output = find("outputs", &said.name, outputs)?;
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
    outputs.iter().map(|output| postprocessor(output, files)).collect()
}

fn postprocessor(output: &TensorMetadata, files: &ModelFiles) -> Result<Postprocessor, String> {
    let Some(said) = files.manifest.output(&output.name) else { return Ok(Postprocessor::default()) };
    let labels = match &said.labels {
        None => Vec::new(),
        Some(file) => {
            let path = files.folder.join(file);
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            parse_labels(&text)
        }
    };
    let classes = output.shape.last().and_then(Dim::fixed);
    if let Some(classes) = classes.filter(|classes| !labels.is_empty() && *classes != labels.len()) {
        return Err(format!(
            "output `{}` has {classes} classes, but there are {} labels",
            output.name,
            labels.len()
        ));
    }
    Ok(Postprocessor { activation: said.activation, labels, classification: said.classification })
}

/// What a model is tried on: zeros, and a sentence where it takes text.
pub fn sample(workload: &Workload) -> Result<Vec<Tensor>, String> {
    let signature = workload.session.signature();
    let zeros = zeros(signature)?;
    workload.preprocessor.sample(zeros, signature).map_err(|error| error.message)
}

fn warm_up(workload: &Workload, runs: u32) -> (Vec<Duration>, Option<String>) {
    let mut times = Vec::new();
    let mut runner = workload.session.runner();
    let inputs = match sample(workload) {
        Ok(inputs) => inputs,
        Err(error) => return (times, Some(error)),
    };
    for _ in 0..runs {
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| runner.run(&inputs))) {
            Ok(Ok(_)) => times.push(begun.elapsed()),
            Ok(Err(error)) => return (times, Some(error.message)),
            Err(panic) => return (times, Some(panic_message(panic.as_ref()).to_owned())),
        }
    }
    (times, None)
}
