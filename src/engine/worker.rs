//! The threads that run a model: take jobs, prepare their inputs, run, reply.
//!
//! A worker never ends before its queue does. A failed run, or a panic inside the engine, is that
//! request's answer and nobody else's trouble: the session's state is thrown away and made again, and
//! a batch that failed is run once more, item by item.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::intake::Intake;
use super::panic::panic_message;
use super::queue::{Inputs, Job};
use super::session::{Item, Runner, Session};
use crate::clock::Clock;
use crate::memory::Share;
use crate::model::Tensor;
use crate::processing::embedding::Embeddings;
use crate::processing::{Allowance, Preprocessor};
use crate::wire::{Code, RequestError};

/// Bytes of stack a worker has: graphs with deep sub-graphs recurse.
const STACK: usize = 8 << 20;

/// What every worker of a model shares.
#[derive(Debug)]
pub struct Workload {
    pub session: Session,
    pub preprocessor: Preprocessor,
    pub embeddings: Embeddings,
}

/// A worker's thread. `alive` is disconnected when the thread has ended, which can be waited for with
/// a time-out; a `JoinHandle` cannot.
#[derive(Debug)]
pub struct WorkerThread {
    pub alive: Receiver<Infallible>,
    pub handle: JoinHandle<()>,
}

impl WorkerThread {
    pub fn has_ended(&self) -> bool {
        matches!(self.alive.try_recv(), Err(TryRecvError::Disconnected))
    }
}

/// Starts worker `index` of the model `name`. It ends when the queue is closed and empty.
pub fn spawn(
    name: &str,
    index: usize,
    intake: Arc<Intake>,
    workload: Arc<Workload>,
    clock: Clock,
) -> std::io::Result<WorkerThread> {
    let (living, alive) = bounded(0);
    let builder = std::thread::Builder::new().name(format!("{name}-w{index}")).stack_size(STACK);
    let handle = builder.spawn(move || {
        let _living: Sender<Infallible> = living;
        let runner = workload.session.runner();
        Worker { workload, runner, clock, intake, overflow: VecDeque::new() }.work();
    })?;
    Ok(WorkerThread { alive, handle })
}

struct Worker {
    workload: Arc<Workload>,
    runner: Runner,
    clock: Clock,
    intake: Arc<Intake>,
    /// Steps of sequences for which there was no room in the queue.
    overflow: VecDeque<Job>,
}

/// A job that is ready to be run.
struct Ready {
    job: Job,
    item: Item,
    family: usize,
}

impl Worker {
    fn work(mut self) {
        loop {
            let jobs = match self.overflow.pop_front() {
                Some(job) => vec![job],
                None => {
                    let session = &self.workload.session;
                    let taken = self.intake.take(|| session.largest_batch(), |job| rows(session, job));
                    match taken {
                        Some(jobs) => jobs,
                        None => return,
                    }
                }
            };
            self.serve(jobs);
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let mut ready: Vec<Ready> = jobs.into_iter().filter_map(|job| self.prepare(job)).collect();
        // Nearly always they are all of one family.
        while let Some(family) = ready.first().map(|first| first.family) {
            let (together, others) = ready.into_iter().partition(|ready| ready.family == family);
            self.run_together(together);
            ready = others;
        }
    }

    /// Looks whether a job is still wanted, and makes its inputs ready; answers it when there is nothing to be run.
    fn prepare(&mut self, mut job: Job) -> Option<Ready> {
        if let Err(error) = self.is_due(&job) {
            self.finish(job, Err(error));
            return None;
        }
        let inputs = std::mem::replace(&mut job.inputs, Inputs::Own(Vec::new()));
        let (cancelled, deadline, clock) = (job.cancelled.clone(), job.deadline, &self.clock);
        let slot = job.reply.slot();
        let is_due = || is_due(&cancelled, deadline, clock);
        let prepared = caught(|| {
            let inputs = match inputs {
                Inputs::Own(inputs) => inputs,
                Inputs::Newest(mailbox) => mailbox.begin(slot).unwrap_or_default(),
            };
            let session = &self.workload.session;
            let mut allowance = Allowance { memory: job.reply.share(), is_due: &is_due };
            let tensors = self.workload.preprocessor.prepare(inputs, session.signature(), &mut allowance)?;
            let family = session.family_of(&tensors)?;
            let states = job.sequence.as_ref().map(|step| step.sequence.states(step.restart));
            Ok((Item { tensors, states: states.unwrap_or_default() }, family))
        });
        match prepared {
            Ok((item, family)) => Some(Ready { job, item, family }),
            Err(error) => {
                self.finish(job, Err(error));
                None
            }
        }
    }

    fn is_due(&self, job: &Job) -> Result<(), RequestError> {
        is_due(&job.cancelled, job.deadline, &self.clock)
    }

    fn run_together(&mut self, jobs: Vec<Ready>) {
        let (mut jobs, items): (Vec<Job>, Vec<Item>) =
            jobs.into_iter().map(|ready| (ready.job, ready.item)).unzip();
        if let [_] = items.as_slice() {
            return self.run_alone(jobs, items);
        }
        let mut memory = Share::none(jobs[0].reply.share().budget());
        match caught(|| self.runner.run_together(&items, &mut memory)) {
            Ok(results) => {
                for ((job, item), result) in jobs.into_iter().zip(items).zip(results) {
                    let share = memory.split(result.memory());
                    self.finish_with(job, item, Ok(result), share);
                }
            }
            Err(error) => {
                drop(memory);
                log::debug!("a batch of {} failed and is run item by item: {error}", items.len());
                self.runner = self.workload.session.runner();
                self.run_alone(jobs, items);
            }
        }
    }

    fn run_alone(&mut self, jobs: Vec<Job>, items: Vec<Item>) {
        for (mut job, item) in jobs.into_iter().zip(items) {
            let mut memory = Share::none(job.reply.share().budget());
            let result = self.is_due(&job).and_then(|()| caught(|| self.runner.run(&item, &mut memory)));
            if result.as_ref().is_err_and(|error| error.code == Code::InferenceFailed) {
                // Whatever the failed run left behind goes with it.
                self.runner = self.workload.session.runner();
            }
            self.finish_with(job, item, result, memory);
        }
    }

    /// Makes the outcome of a run's result, and gives the inputs' memory back; `memory` is the result's.
    fn finish_with(&mut self, mut job: Job, item: Item, result: Result<Item, RequestError>, memory: Share) {
        let result = result.and_then(|result| self.embed(&item, result));
        drop(item);
        *job.reply.share() = memory;
        self.finish(job, result);
    }

    /// Pools and normalises where that is declared; the mask is among the run's inputs.
    fn embed(&self, item: &Item, result: Item) -> Result<Item, RequestError> {
        let Item { tensors, states } = result;
        let tensors = self.workload.embeddings.finish(&item.tensors, tensors)?;
        Ok(Item { tensors, states })
    }

    /// Lets the job's sequence go on, and replies.
    fn finish(&mut self, job: Job, result: Result<Item, RequestError>) {
        let Job { sequence, mut reply, .. } = job;
        let (outcome, states) = match result {
            Ok(Item { tensors, states }) => (Ok(tensors), Some(states)),
            Err(error) => (Err(error), None),
        };
        if let Some(step) = sequence {
            // A step that was to begin anew and failed leaves nothing of what was before.
            let anew = step.last || step.restart && states.is_none();
            let states = if anew { Some(step.sequence.states(true)) } else { states };
            // Behind the others; when there is no room it is run at once, for a sequence must not lose a step on the way.
            let next = step.sequence.end_step(states);
            self.overflow.extend(next.and_then(|next| step.queue.put(next).err()).map(|(next, _)| next));
        }
        let bytes = outcome.as_ref().map_or(0, |tensors| tensors.iter().map(Tensor::memory).sum());
        reply.share().shrink_to(bytes);
        reply.send(outcome);
    }
}

/// Whether a job is still to be gone on with.
fn is_due(cancelled: &AtomicBool, deadline: Instant, clock: &Clock) -> Result<(), RequestError> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(RequestError::new(Code::Unavailable, "the connection is gone"));
    }
    if clock.now() > deadline {
        let message = "the deadline passed before the request was run";
        return Err(RequestError::new(Code::DeadlineExceeded, message));
    }
    Ok(())
}

/// How many rows a job brings, files counted as a row each.
fn rows(session: &Session, job: &Job) -> usize {
    match &job.inputs {
        Inputs::Own(inputs) => session.rows(inputs),
        Inputs::Newest(_) => 1,
    }
}

/// The engine, and a file's decoder, may panic on what came.
fn caught<T>(work: impl FnOnce() -> Result<T, RequestError>) -> Result<T, RequestError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = format!("the engine panicked on this input: {}", panic_message(panic.as_ref()));
        Err(RequestError::new(Code::InferenceFailed, message))
    })
}
