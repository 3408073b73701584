//! The path of a request from the connection to the workers, from top to bottom.
//!
//! 1. A connection reads a request ([`wire::decode`](crate::wire::decode)) and calls [`ServedModel::submit`], or
//!    [`ServedModel::submit_newest`] on a conversation with `stream=last`.
//! 2. The request gets its deadline and, on a model with a state, its step of a sequence
//!    ([`sequences`](super::sequences)).
//! 3. It becomes a [`Job`] and goes into the model's [`Queue`](crate::engine::Queue), or is refused without
//!    waiting. A step waits in its sequence while the step before it runs. A short job of a [`Guest`] runs at once in
//!    the conversation's thread, and step 4 is left out.
//! 4. A [`worker`](crate::engine::worker) takes the job, decodes files and text, finds the family of plans for its
//!    shapes, runs it, makes the result that the request wants, and sends the reply through [`ReplyTo`].
//!    A chain has no queue: its job becomes one or more jobs for the first step ([`chain`](super::chain)), and whoever ends
//!    the last of them queues those of the next step. The last step sends the reply.
//! 5. The connection makes the response from that reply with [`ServedModel::answer`] and [`Pending`].
//!
//! Invariant: exactly one reply comes, also when a step fails.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::chain::ChainSequence;
use super::sequences::{Sequences, Turn};
use super::{Backend, Pending, ServedModel};
use crate::engine::{Frame, Guest, Inputs, Job, Mailbox, ReplyTo};
use crate::error::{RequestError, shorten};
use crate::memory::Share;
use crate::model::Input;
use crate::processing::results::WantedResult;
use crate::wire::{InferRequest, SequenceParameters};

impl ServedModel {
    /// Queues a request, or runs it with `guest` if that takes at most the given time. Its reply comes through `reply`, also
    /// when the request is refused here. The returned value is needed to make the response from that reply. The connection
    /// sets `cancelled` when the reply is not needed any more.
    pub fn submit(
        &self,
        mut request: InferRequest,
        sequences: Sequences<'_>,
        cancelled: &Arc<AtomicBool>,
        reply: ReplyTo,
        guest: Option<(&mut Guest, Duration)>,
    ) -> Pending {
        let deadline = self.deadline(request.timeout);
        let result = self.wanted_result(&mut request);
        let InferRequest { id, form, inputs, rows, outputs, sequence, .. } = request;
        let mut pending = Pending::new(id, form, outputs);
        let result = match result {
            // A sequence with an id has no tracker of its own, so its requests are streams of one request each.
            Ok(Some(wanted))
                if self.is_tracked() && sequences.are_of_conversation() && sequence.id.is_none() =>
            {
                pending.tracked = Some(wanted);
                None
            }
            Ok(result) => result,
            Err(error) => {
                reply.send(Err(error));
                return pending;
            }
        };
        let (turn, windows) = match self.place(sequence, sequences) {
            Ok(place) => place,
            Err(error) => {
                reply.send(Err(error));
                return pending;
            }
        };
        let job = Job {
            inputs: Inputs::Own(inputs),
            rows,
            result,
            sequence: turn.as_ref().map(Turn::step),
            arrived: Instant::now(),
            deadline,
            cancelled: cancelled.clone(),
            reply,
        };
        let job = match guest {
            Some((guest, patience)) => match guest.run(job, patience) {
                Ok(()) => return pending,
                Err(job) => job,
            },
            None => job,
        };
        let submitted = match &self.backend {
            Backend::Queue(queue) => queue.submit(job),
            Backend::Chain(chain) => chain.submit(job, windows.as_ref()),
        };
        match (submitted, turn) {
            (Ok(()), Some(turn)) => turn.take(),
            (Ok(()), None) => {}
            (Err((refused, error)), _) => refused.reply.send(Err(error)),
        }
        pending
    }

    /// Stores a request in `mailbox`, from which a worker takes the newest one. When no job waits for the mailbox,
    /// this queues one and calls `reply` to create the destination of its reply. Returns true when a job was
    /// queued.
    pub fn submit_newest(
        &self,
        mut request: InferRequest,
        mailbox: &Arc<Mailbox<Pending>>,
        cancelled: &Arc<AtomicBool>,
        share: Share,
        reply: impl FnOnce() -> ReplyTo,
    ) -> bool {
        let deadline = self.deadline(request.timeout);
        let result = self.wanted_result(&mut request);
        let InferRequest { id, form, inputs, outputs, .. } = request;
        let pending = Pending::new(id, form, outputs);
        let is_new = mailbox.put(Frame { pending, inputs, result, deadline, share });
        if is_new {
            let job = Job {
                inputs: Inputs::Newest(mailbox.clone()),
                rows: Vec::new(),
                result: None,
                sequence: None,
                arrived: Instant::now(),
                deadline,
                cancelled: cancelled.clone(),
                reply: reply(),
            };
            if let Err((refused, error)) = self.enqueue(job) {
                refused.reply.send(Err(error));
            }
        }
        is_new
    }

    /// Queues a job that is no step of a sequence.
    // The error is as large as the job because it returns the job to the caller.
    #[allow(clippy::result_large_err)]
    pub fn enqueue(&self, job: Job) -> Result<(), (Job, RequestError)> {
        match &self.backend {
            Backend::Queue(queue) => queue.submit(job),
            Backend::Chain(chain) => chain.submit(job, None),
        }
    }

    /// Whether answers depend on the requests before them in a conversation.
    pub fn is_tracked(&self) -> bool {
        self.result.as_ref().is_some_and(|result| result.maker().is_tracked())
    }

    /// What a request says about the model's result; `None` when it wants none. Outputs that became the result are taken
    /// from those that the request wants.
    fn wanted_result(&self, request: &mut InferRequest) -> Result<Option<WantedResult>, RequestError> {
        let InferRequest { choices, names_outputs, inputs, outputs, .. } = request;
        let (result, with_outputs) = match (&self.result, choices.results) {
            (None, Some(true)) => {
                return Err(RequestError::invalid(
                    "`results` is true, but this model has no result: leave it out, or declare `result` in model.json",
                ));
            }
            (None, _) | (_, Some(false)) => return Ok(None),
            (Some(_), None) if *names_outputs => return Ok(None),
            (Some(result), _) => (result, *names_outputs),
        };
        let settled = result.settle(choices)?;
        if !with_outputs {
            outputs.retain(|output| !result.reads(output.index));
        }
        let rows_of = |input: &Input| match input {
            Input::Files(files) => Some(files.len()),
            // A tensor of images.
            Input::Tensor(tensor) if tensor.shape().len() == 4 => Some(tensor.shape()[0]),
            _ => None,
        };
        let rows = inputs.iter().find_map(rows_of).unwrap_or(1);
        let canvas = result.canvas_of(inputs);
        Ok(Some(WantedResult { settled, rows, canvas, with_outputs }))
    }

    /// The time by which inference must begin. It is set by the request's time-out, but is never later than the
    /// server's time-out allows.
    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        // Triton: a time-out of 0 means that the client sets none.
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.request_timeout);
        self.clock.now() + timeout.min(self.request_timeout)
    }

    /// Where the request stands among others of its conversation: its step of a sequence for a model with states, and the
    /// windows for a chain that keeps some.
    #[allow(clippy::type_complexity)]
    fn place<'s>(
        &'s self,
        parameters: SequenceParameters,
        sequences: Sequences<'s>,
    ) -> Result<(Option<Turn<'s>>, Option<Arc<ChainSequence>>), RequestError> {
        let Some(chain) = self.chain().filter(|chain| chain.keeps_windows()) else {
            return Ok((self.turn(parameters, sequences)?, None));
        };
        if let Some(id) = parameters.id {
            return Err(RequestError::invalid(format!(
                "sequence_id is `{}`: the windows of a chain belong to the conversation, so leave it out",
                shorten(&id)
            )));
        }
        let windows = match sequences {
            Sequences::Conversation(own) => own.windows(chain, parameters.start, parameters.end),
            // Over HTTP each request is a stream of its own.
            Sequences::Shared => ChainSequence::new(chain),
        };
        Ok((None, Some(windows)))
    }

    /// The request's step of a sequence; `None` for a model without states.
    fn turn<'s>(
        &'s self,
        parameters: SequenceParameters,
        sequences: Sequences<'s>,
    ) -> Result<Option<Turn<'s>>, RequestError> {
        let Some((rules, shared)) = &self.sequences else { return Ok(None) };
        match sequences {
            Sequences::Conversation(own) => own.turn(parameters, rules).map(Some),
            Sequences::Shared => shared.turn(parameters, rules).map(Some),
        }
    }
}
