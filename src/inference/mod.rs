//! Models that answer requests. This module connects wire, processing, onnx and engine: it loads models, takes a
//! decoded request, puts it into the model's queue, and makes the response from the worker's reply.
//!
//! The WebSocket conversation and HTTP both use this module. It does not know sockets or HTTP.
//!
//! Invariants: a request gets exactly one reply, also when it is refused here. A model stays usable for everyone
//! who holds it, also after a reload has replaced it.

mod catalogue;
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
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::engine::worker::has_ended;
use crate::engine::{Guests, Outcome, Outputs, Queue};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Signature, Tensor};
use crate::processing::audio::AudioStream;
use crate::processing::results::MadeResult;
use crate::processing::scores::Postprocessor;
use crate::wire::request::WantedOutput;
use crate::wire::response::Encoded;
use crate::wire::{Form, InferResponse, OutputTensor, ResultJson, StreamParameters};

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
    queue: Queue,
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
    /// The state of the files from which the model was loaded.
    pub fingerprint: Fingerprint,
    /// The folder of the model, as in [`ModelFiles::home`](crate::model::ModelFiles).
    pub home: PathBuf,
    /// The time at which its conversations must end. It is set when another model replaces this one.
    over: OnceLock<Instant>,
}

/// The parts of a request that a connection keeps until the reply comes: they are needed for the response.
#[derive(Debug)]
pub struct Pending {
    id: Option<Box<RawValue>>,
    form: Form,
    outputs: Vec<WantedOutput>,
    /// With `stream=last`: the number of frames that were dropped since the previous answer. `None` otherwise.
    pub dropped: Option<u64>,
}

impl ServedModel {
    /// The kind, the labels and the settings of the model's result, for metadata.
    pub fn result_metadata(&self) -> Option<serde_json::Value> {
        self.result.as_ref().map(ModelResult::metadata)
    }

    /// True while at least one worker runs.
    pub fn is_ready(&self) -> bool {
        self.alive.iter().any(|alive| !has_ended(alive))
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

    /// Makes the answer from the worker's outcome. `share` is the memory of the outcome; afterwards it is the
    /// memory of the response.
    pub fn answer(&self, pending: Pending, outcome: Outcome, share: &mut Share) -> Answer {
        let Pending { id, form, outputs, dropped } = pending;
        let encoded = outcome.and_then(|Outputs { tensors, rows, result }| {
            let stream_offset = rows.first().and_then(|row| row.offset);
            let stream = StreamParameters { stream_offset, dropped };
            let result = result.map(|MadeResult { rows, coordinates, non_finite }| ResultJson {
                rows,
                coordinates,
                non_finite,
            });
            let encoded = self.encode(id.as_deref(), form, &outputs, result, stream, tensors)?;
            share.resize(encoded.len())?;
            Ok(encoded)
        });
        match encoded {
            Ok(encoded) => Answer::Response(encoded),
            Err(error) => Answer::Error { error, id },
        }
    }

    fn encode(
        &self,
        id: Option<&RawValue>,
        form: Form,
        wanted: &[WantedOutput],
        result: Option<ResultJson>,
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
        let (model_name, model_version) = (&self.name, &self.version);
        InferResponse { model_name, model_version, id, outputs, result, stream }.encode(form)
    }
}

/// The answer to a request: the encoded response, or an error and the request's id.
#[derive(Debug)]
pub enum Answer {
    Response(Encoded),
    Error { error: RequestError, id: Option<Box<RawValue>> },
}
