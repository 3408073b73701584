//! A model in service: the one place where wire, processing and engine meet. Takes a request that
//! the wire has read, puts it into the model's queue, and makes the response out of what comes back.
//!
//! Both ways in use it, the WebSocket conversation and HTTP; it knows neither.

mod embedding;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::engine::worker::WorkerThread;
use crate::engine::{Job, Queue, ReplyTo};
use crate::model::{Signature, Tensor};
use crate::processing::scores::Postprocessor;
use crate::wire::request::WantedOutput;
use crate::wire::response::Encoded;
use crate::wire::{Code, Form, InferRequest, InferResponse, OutputTensor, RequestError};

pub use load::{LoadError, Loaded, load, sample};

/// A model that answers requests.
#[derive(Debug)]
pub struct ServedModel {
    pub name: String,
    pub version: String,
    pub signature: Signature,
    /// One an output, in the signature's order.
    postprocessors: Vec<Postprocessor>,
    queue: Queue,
    request_timeout: Duration,
    clock: Clock,
}

/// What a connection keeps of a request while its inference is under way.
#[derive(Debug)]
pub struct Pending {
    id: Option<Box<RawValue>>,
    form: Form,
    outputs: Vec<WantedOutput>,
}

impl ServedModel {
    /// Queues a request. Its reply will come through `reply`, also when it is refused here; what is
    /// returned makes the response of it.
    pub fn submit(&self, request: InferRequest, cancelled: &Arc<AtomicBool>, reply: ReplyTo) -> Pending {
        let InferRequest { id, form, inputs, outputs, timeout } = request;
        // Triton: a time-out of 0 is none of the client's own.
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.request_timeout);
        let timeout = timeout.min(self.request_timeout);
        let job = Job { inputs, deadline: self.clock.now() + timeout, cancelled: cancelled.clone(), reply };
        if let Err((job, error)) = self.queue.submit(job) {
            job.reply.send(Err(error));
        }
        Pending { id, form, outputs }
    }

    /// Makes the response of what the worker sent: the encoded outputs, or the error reply's error
    /// and id.
    pub fn answer(&self, pending: Pending, outcome: Result<Vec<Tensor>, RequestError>) -> Answer {
        let Pending { id, form, outputs } = pending;
        match outcome.and_then(|tensors| self.encode(id.as_deref(), form, &outputs, tensors)) {
            Ok(encoded) => Answer::Response(encoded),
            Err(error) => Answer::Error { error, id },
        }
    }

    fn encode(
        &self,
        id: Option<&RawValue>,
        form: Form,
        wanted: &[WantedOutput],
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
        InferResponse { model_name: &self.name, model_version: &self.version, id, outputs }.encode(form)
    }
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer {
    Response(Encoded),
    Error { error: RequestError, id: Option<Box<RawValue>> },
}

/// The models of a server, by name; and the threads that run them.
#[derive(Debug, Default)]
pub struct Models {
    by_name: BTreeMap<String, Arc<ServedModel>>,
    default: Option<String>,
}

impl Models {
    /// `default` is the model that `/` means; without one it is the only model, if there is just one.
    pub fn new(models: Vec<ServedModel>, default: Option<String>) -> Result<Models, String> {
        let by_name: BTreeMap<String, Arc<ServedModel>> =
            models.into_iter().map(|model| (model.name.clone(), Arc::new(model))).collect();
        if let Some(name) = default.as_ref().filter(|name| !by_name.contains_key(*name)) {
            let known = crate::model::signature::quoted(by_name.keys().map(String::as_str));
            return Err(format!("the default model `{name}` is not there: the repository has {known}"));
        }
        let only = by_name.keys().next().filter(|_| by_name.len() == 1).cloned();
        Ok(Models { default: default.or(only), by_name })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.by_name.values()
    }

    /// The model that a path names; `None` for the name means the default model.
    pub fn find(&self, name: Option<&str>, version: Option<&str>) -> Result<&Arc<ServedModel>, RequestError> {
        let unknown = |message: String| RequestError::new(Code::UnknownModel, message);
        let known = || crate::model::signature::quoted(self.by_name.keys().map(String::as_str));
        let name = match name.or(self.default.as_deref()) {
            Some(name) => name,
            None => {
                return Err(unknown(format!(
                    "no default model is set: name one of {} in the path, as /v2/models/<name>",
                    known()
                )));
            }
        };
        let model = self.by_name.get(name).ok_or_else(|| {
            unknown(format!(
                "unknown model `{}`: this server has {}",
                crate::wire::error::shorten(name),
                known()
            ))
        })?;
        match version {
            Some(version) if version != model.version => Err(unknown(format!(
                "unknown version `{}` of model `{name}`: this server has {}",
                crate::wire::error::shorten(version),
                model.version
            ))),
            _ => Ok(model),
        }
    }
}

/// The worker threads of all models. They end when every [`ServedModel`] is gone and their queues are
/// empty.
#[derive(Debug, Default)]
pub struct Workers(Vec<WorkerThread>);

impl Workers {
    pub fn add(&mut self, worker: WorkerThread) {
        self.0.push(worker);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits for the workers to end, at most until `deadline`; says how many did not.
    pub fn join(self, deadline: Instant) -> usize {
        let mut stuck = 0;
        for worker in self.0 {
            match worker.alive.recv_deadline(deadline) {
                Err(RecvTimeoutError::Disconnected) => {
                    if worker.handle.join().is_err() {
                        log::error!("a worker had panicked");
                    }
                }
                _ => stuck += 1,
            }
        }
        stuck
    }
}
