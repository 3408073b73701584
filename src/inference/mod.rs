//! Models that answer requests. This module connects wire, processing, onnx and engine: it loads models, takes a
//! decoded request, puts it into the model's queue, and makes the response from the worker's reply.
//!
//! The WebSocket conversation and HTTP both use this module. It does not know sockets or HTTP.
//!
//! Invariants: a request gets exactly one reply, also when it is refused here. A model stays usable for everyone
//! who holds it, also after a reload has replaced it.

mod catalogue;
pub mod chain;
mod detectors;
mod embedding;
mod fingerprint;
mod load;
mod loader;
pub mod planning;
mod recognised;
mod results;
mod scan;
pub mod sequences;
mod sources;
mod submit;
mod warmup;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::engine::worker::has_ended;
use crate::engine::{Guests, Outcome, Outputs, Queue};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::choices::Choices;
use crate::model::{Signature, Tensor};
use crate::processing::audio::AudioStream;
use crate::processing::results::{MadeResult, Settled, Tracker, WantedResult};
use crate::processing::scores::Postprocessor;
use crate::wire::request::WantedOutput;
use crate::wire::response::Encoded;
use crate::wire::{Form, InferResponse, OutputTensor, ResultJson, StreamParameters, metadata};

use chain::Chain;
use sequences::{SequenceRules, SharedSequences};

pub use catalogue::{Catalogue, Entry, FailedAt, Failure, Models, Workers};
pub use detectors::Detector;
pub use fingerprint::Fingerprint;
pub use load::{LoadError, Loaded, load};
pub use loader::{Before, Changes, Loader};
pub use recognised::{Suggestion, suggestion};
pub use results::ModelResult;
pub use scan::Scan;
pub use warmup::{Sample, WarmUp};

/// A model that answers requests.
#[derive(Debug)]
pub struct ServedModel {
    pub name: String,
    pub version: String,
    pub signature: Signature,
    /// One postprocessor for each output, in the signature's order.
    postprocessors: Vec<Postprocessor>,
    /// What results workers make of outputs; `None` for a model that answers with its outputs.
    result: Option<ModelResult>,
    backend: Backend,
    /// Makes guests: conversations whose threads run short jobs themselves.
    pub guests: Guests,
    /// The sequences of a model with states; `None` for a model without.
    pub sequences: Option<(SequenceRules, SharedSequences)>,
    /// The audio stream of a model whose only input is audio; `None` for other models.
    pub audio: Option<AudioStream>,
    /// One channel for each worker thread. A channel is disconnected when its thread has ended.
    alive: Vec<Receiver<Infallible>>,
    request_timeout: Duration,
    clock: Clock,
    /// Whether clients can use it.
    pub is_public: bool,
    /// The state of the files from which the model was loaded.
    pub fingerprint: Fingerprint,
    /// The folder of the model, as in [`ModelFiles::home`](crate::model::ModelFiles).
    pub home: PathBuf,
    /// The time at which its conversations must end. It is set when another model replaces this one.
    over: OnceLock<Instant>,
}

/// What runs the requests of a model.
#[derive(Debug)]
enum Backend {
    /// Workers of its own, which take jobs from this queue.
    Queue(Queue),
    /// The models of its steps.
    Chain(Arc<Chain>),
}

/// The parts of a request that a connection keeps until the reply comes: they are needed for the response.
#[derive(Debug)]
pub struct Pending {
    id: Option<Box<RawValue>>,
    form: Form,
    outputs: Vec<WantedOutput>,
    /// With `stream=last`: the number of frames that were dropped since the previous answer. `None` otherwise.
    pub dropped: Option<u64>,
    /// The result that the conversation makes with its tracker; `None` when a worker makes it, or there is none.
    tracked: Option<WantedResult>,
}

impl Pending {
    fn new(id: Option<Box<RawValue>>, form: Form, outputs: Vec<WantedOutput>) -> Pending {
        Pending { id, form, outputs, dropped: None, tracked: None }
    }
}

impl ServedModel {
    /// The kind, the labels and the settings of the model's result, for metadata.
    pub fn result_metadata(&self) -> Option<serde_json::Value> {
        self.result.as_ref().map(ModelResult::metadata)
    }

    /// What a step of a chain says about the result: it wants it with all defaults, and the outputs too.
    pub fn whole_result(&self) -> Option<WantedResult> {
        let settled = self.result.as_ref()?.settle(&Choices::default()).ok()?;
        Some(WantedResult { settled, rows: 1, with_outputs: true, ..WantedResult::default() })
    }

    /// What is made of the outputs; `None` for a model that answers with them.
    pub fn result(&self) -> Option<&ModelResult> {
        self.result.as_ref()
    }

    /// The metadata of this version, as the metadata endpoint gives it.
    pub fn describe(&self) -> String {
        metadata::model(&self.name, vec![&self.version], &self.signature, self.result_metadata())
    }

    /// True while at least one worker runs; for a chain, while one of each step does.
    pub fn is_ready(&self) -> bool {
        match &self.backend {
            Backend::Queue(_) => self.alive.iter().any(|alive| !has_ended(alive)),
            Backend::Chain(chain) => chain.models().all(|model| model.is_ready()),
        }
    }

    /// Whether it runs other models.
    pub fn is_chain(&self) -> bool {
        self.chain().is_some()
    }

    /// The chain; `None` for a model of its own.
    pub fn chain(&self) -> Option<&Arc<Chain>> {
        match &self.backend {
            Backend::Queue(_) => None,
            Backend::Chain(chain) => Some(chain),
        }
    }

    /// Whether answers depend on the requests before them: it has a state, or a chain has windows.
    pub fn keeps_state(&self) -> bool {
        self.signature.has_state
    }

    /// The last steps for the output `at` of the signature.
    pub fn postprocessor(&self, at: usize) -> &Postprocessor {
        &self.postprocessors[at]
    }

    /// Marks the model as replaced: its conversations must end after `drain`.
    pub fn retire(&self, drain: Duration) {
        // Only the first call sets the time; later calls change nothing.
        let _ = self.over.set(self.clock.now() + drain);
    }

    /// True when its conversations must end now.
    pub fn is_over(&self) -> bool {
        self.over.get().is_some_and(|over| self.clock.now() >= *over)
    }

    /// Makes the answer from the worker's outcome. `tracker` is that of the conversation. `share` is the memory of the
    /// outcome; afterwards it is the memory of the response.
    pub fn answer(
        &self,
        pending: Pending,
        outcome: Outcome,
        tracker: Option<&mut Tracker>,
        share: &mut Share,
    ) -> Answer {
        let Pending { id, form, outputs, dropped, tracked } = pending;
        let answered = outcome.and_then(|Outputs { mut tensors, rows, mut result }| {
            let stream_offset = rows.first().and_then(|row| row.offset);
            if let (Some(wanted), Some(tracker), Some(own)) = (&tracked, tracker, &self.result) {
                result = Some(own.maker().track(&mut tensors, stream_offset, wanted, tracker, share)?);
            }
            let eventful = tracked.is_some() && result.as_ref().is_some_and(MadeResult::is_eventful);
            let stream = StreamParameters { stream_offset, dropped };
            let encoded = self.encode(id.as_deref(), form, &outputs, result, stream, tensors)?;
            share.resize(encoded.len())?;
            Ok(Answer::Response { encoded, eventful })
        });
        answered.unwrap_or_else(|error| Answer::Error { error, id })
    }

    /// The settings of events for a conversation with these defaults. `None` when the model makes no events.
    ///
    /// Errors: a default is not within the model's bounds.
    pub fn event_settings(&self, choices: &Choices) -> Result<Option<Settled>, RequestError> {
        let events = self.result.as_ref().filter(|result| result.maker().is_tracked());
        events.filter(|_| choices.results != Some(false)).map(|result| result.settle(choices)).transpose()
    }

    /// The response with the events that the end of a stream causes; `None` when it causes none. `end` is the length of
    /// the stream in samples, if it has sound.
    pub fn end_of_stream(
        &self,
        tracker: &mut Tracker,
        end: Option<u64>,
        settled: &Settled,
    ) -> Option<Encoded> {
        let result = self.result.as_ref()?.maker().end_of_stream(tracker, end, settled)?;
        let stream = StreamParameters { stream_offset: end, dropped: None };
        self.encode(None, Form::Oip, &[], Some(result), stream, Vec::new()).ok()
    }

    fn encode(
        &self,
        id: Option<&RawValue>,
        form: Form,
        wanted: &[WantedOutput],
        result: Option<MadeResult>,
        stream: StreamParameters,
        mut tensors: Vec<Option<Tensor>>,
    ) -> Result<Encoded, RequestError> {
        let mut outputs = Vec::with_capacity(wanted.len());
        for WantedOutput { index, classification, binary } in wanted {
            let name = &self.signature.outputs[*index].name;
            let tensor = tensors.get_mut(*index).and_then(Option::take).ok_or_else(|| {
                RequestError::new(Code::InferenceFailed, format!("the engine gave no output `{name}`"))
            })?;
            let tensor = self.postprocessors[*index].finish(tensor, *classification).map_err(|error| {
                RequestError::new(error.code, format!("output `{name}`: {}", error.message))
            })?;
            outputs.push(OutputTensor { name, tensor, binary: *binary });
        }
        let result = result.map(|MadeResult { rows, coordinates, non_finite }| ResultJson {
            rows,
            coordinates,
            non_finite,
        });
        let (model_name, model_version) = (&self.name, &self.version);
        InferResponse { model_name, model_version, id, outputs, result, stream }.encode(form)
    }
}

/// The answer to a request: the encoded response, or an error and the request's id.
#[derive(Debug)]
pub enum Answer {
    Response {
        encoded: Encoded,
        /// Whether it has events of the conversation's stream.
        eventful: bool,
    },
    Error {
        error: RequestError,
        id: Option<Box<RawValue>>,
    },
}
