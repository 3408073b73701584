//! A model in service: the one place where wire, processing and engine meet. Takes a request that
//! the wire has read, puts it into the model's queue, and makes the response out of what comes back.
//!
//! Both ways in use it, the WebSocket conversation and HTTP; it knows neither.

mod catalogue;
mod embedding;
mod fingerprint;
mod load;
mod loader;
pub mod planning;
mod scan;
pub mod sequences;
mod sources;
mod submit;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::engine::worker::has_ended;
use crate::engine::{Outcome, Outputs, Queue};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Signature, Tensor};
use crate::processing::audio::AudioStream;
use crate::processing::scores::Postprocessor;
use crate::wire::request::WantedOutput;
use crate::wire::response::Encoded;
use crate::wire::{Form, InferResponse, OutputTensor, StreamParameters};

use sequences::{SequenceRules, SharedSequences};

pub use catalogue::{Catalogue, Entry, FailedAt, Failure, Models, Workers};
pub use fingerprint::Fingerprint;
pub use load::{LoadError, Loaded, load, sample};
pub use loader::{Before, Changes, Loader};
pub use scan::Scan;

/// A model that answers requests.
#[derive(Debug)]
pub struct ServedModel {
    pub name: String,
    pub version: String,
    pub signature: Signature,
    /// One an output, in the signature's order.
    postprocessors: Vec<Postprocessor>,
    queue: Queue,
    /// For a model with a state.
    pub sequences: Option<(SequenceRules, SharedSequences)>,
    /// For a model whose single input is a stream of sound.
    pub audio: Option<AudioStream>,
    /// Of its workers' threads: each is disconnected when its thread has ended.
    alive: Vec<Receiver<Infallible>>,
    request_timeout: Duration,
    clock: Clock,
    /// What it was loaded from, and where that lies.
    pub fingerprint: Fingerprint,
    pub home: PathBuf,
    /// When its conversations must end, once another has taken its place.
    over: OnceLock<Instant>,
}

/// What a connection keeps of a request while its inference is under way.
#[derive(Debug)]
pub struct Pending {
    id: Option<Box<RawValue>>,
    form: Form,
    outputs: Vec<WantedOutput>,
    /// For a request of `stream=last`: the frames that were passed over since the answer before.
    pub dropped: Option<u64>,
}

impl ServedModel {
    /// True while there is somebody to run its requests.
    pub fn is_ready(&self) -> bool {
        self.alive.iter().any(|alive| !has_ended(alive))
    }

    /// Another has taken its place: its conversations must end after `drain`.
    pub fn retire(&self, drain: Duration) {
        // A model is retired once; a second time changes nothing.
        let _ = self.over.set(self.clock.now() + drain);
    }

    /// True when its conversations must end.
    pub fn is_over(&self) -> bool {
        self.over.get().is_some_and(|over| self.clock.now() >= *over)
    }

    /// Makes the response of what the worker sent: the encoded outputs, or the error and the id of an error reply. `share`
    /// is the memory of the outcome, and then of the response.
    pub fn answer(&self, pending: Pending, outcome: Outcome, share: &mut Share) -> Answer {
        let Pending { id, form, outputs, dropped } = pending;
        let encoded = outcome.and_then(|Outputs { tensors, rows }| {
            let stream_offset = rows.first().and_then(|row| row.offset);
            let stream = StreamParameters { stream_offset, dropped };
            let encoded = self.encode(id.as_deref(), form, &outputs, stream, tensors)?;
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
        stream: StreamParameters,
        tensors: Vec<Tensor>,
    ) -> Result<Encoded, RequestError> {
        let mut tensors: Vec<Option<Tensor>> = tensors.into_iter().map(Some).collect();
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
        InferResponse { model_name, model_version, id, outputs, stream }.encode(form)
    }
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer {
    Response(Encoded),
    Error { error: RequestError, id: Option<Box<RawValue>> },
}
