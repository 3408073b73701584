//! Tries a chain before it is used: loads the models of its steps, and sends zeros through all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::run::{self, ChainSequence, Seen};
use super::serve::{Surroundings, serve};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::places::Places;
use crate::engine::{Inputs, Job, ReplyTo, Wake};
use crate::error::RequestError;
use crate::inference::catalogue::order;
use crate::inference::{Fingerprint, LoadError, ServedModel, Workers};
use crate::memory::{Budget, Share};
use crate::model::signature::EXAMPLE_TEXT;
use crate::model::{Input, ModelFiles, Tensor};

/// How many requests are sent until each step has run: the windows of a chain fill only slowly.
const MOST_REQUESTS: usize = 512;

/// A chain that was tried.
#[derive(Debug)]
pub struct Tried {
    pub model: ServedModel,
    /// The last run of each step; `None` for a step that has not run.
    pub steps: Vec<Option<Seen>>,
    /// Requests until each step had run.
    pub requests: usize,
    /// Why the trial was given up.
    pub error: Option<RequestError>,
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Loads the chain of `files` and the models of its steps, which are among `all`, and tries it.
///
/// Errors: a model does not load, or the steps do not fit.
pub fn load(files: &ModelFiles, all: &[ModelFiles], limits: &Limits) -> Result<Tried, LoadError> {
    let failed = |message: String| LoadError { model: files.name.clone(), message };
    let (clock, places, workers) = (Clock::system(), Places::default(), Workers::default());
    let find = |name: &str, version: Option<&str>| {
        let models = all.iter().filter(|other| other.name == name);
        let models = models.filter(|other| version.is_none_or(|version| other.version == version));
        let model = models.max_by(|a, b| order(&a.version, &b.version));
        let model = model.ok_or_else(|| format!("the repository has no model `{name}` of that version"))?;
        if model.manifest.ensemble_scheduling.is_some() {
            return Err("it is a chain itself: name its steps here".into());
        }
        let mut model = model.clone();
        model.manifest.instance_group.count = Some(1);
        let fingerprint = Fingerprint::of(&model, []);
        let loaded = crate::inference::load(model, limits).map_err(|error| error.message)?;
        let started = loaded.start(limits, &clock, &workers, &places, fingerprint);
        started.map(Arc::new).map_err(|error| format!("its threads cannot be started: {error}"))
    };
    let surroundings = Surroundings { limits, clock: &clock, places: &places };
    let model = serve(files, Fingerprint::of(files, []), surroundings, find).map_err(failed)?;
    Ok(run_all(model, limits.request_timeout))
}

/// Sends zeros through the chain until each step has run, but not for longer than `patience`.
fn run_all(model: ServedModel, patience: Duration) -> Tried {
    let count = model.chain().map_or(0, |chain| chain.steps.len());
    let mut tried = Tried { model, steps: (0..count).map(|_| None).collect(), requests: 0, error: None };
    let Some(chain) = tried.model.chain().cloned() else { return tried };
    let until = Instant::now() + patience;
    let sequence = chain.keeps_windows().then(|| ChainSequence::new(&chain));
    // Twice at least: the first run of a model takes longer.
    while tried.requests < 2 || tried.steps.iter().any(Option::is_none) {
        if tried.requests == MOST_REQUESTS || Instant::now() > until {
            break;
        }
        tried.requests += 1;
        let (replies, inbox) = bounded(1);
        let (watcher, seen) = bounded(count);
        let result = sample(&tried.model).and_then(|inputs| {
            let share = Share::none(&Budget::unbounded());
            let job = Job {
                inputs: Inputs::Own(inputs),
                rows: Vec::new(),
                result: None,
                sequence: None,
                arrived: Instant::now(),
                deadline: until,
                cancelled: Arc::default(),
                reply: ReplyTo::new(0, replies, Arc::new(Nobody), share),
            };
            run::begin(&chain, job, sequence.as_ref(), Some(watcher)).map_err(|(_, error)| error)?;
            match inbox.recv_deadline(until) {
                Ok(reply) => reply.outcome.map(|_| ()),
                Err(_) => Err(RequestError::invalid(format!("no answer came within {patience:?}"))),
            }
        });
        seen.try_iter().for_each(|seen| {
            let at = seen.step;
            tried.steps[at] = Some(seen);
        });
        if let Err(error) = result {
            tried.error = Some(error);
            break;
        }
    }
    tried
}

/// Zeros for each input, and a sentence for text.
fn sample(model: &ServedModel) -> Result<Vec<Input>, RequestError> {
    let inputs = model.signature.inputs.iter().map(|input| {
        if input.takes_text() {
            return Ok(Input::Text(vec![EXAMPLE_TEXT.into()]));
        }
        Tensor::zeros(input.datatype, input.shape_with_open(1)).map(Input::Tensor)
    });
    inputs.collect::<Result<_, String>>().map_err(RequestError::invalid)
}
