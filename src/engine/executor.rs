//! Serves jobs in one thread: prepares their inputs, runs them, makes their results, ends their steps of sequences and sends
//! the replies.
//!
//! Which jobs are served together is decided in [`intake`](super::intake), and by whom in [`worker`](super::worker) and
//! [`guest`](super::guest).
//!
//! Invariants: each job gets exactly one reply. An executor stays in one thread, because tract keeps memory for a runner
//! in each thread that has used it. A failed run, or a panic inside the engine, is an error for that request only: the
//! executor drops its runner and creates a new one. A batch that failed is run again, one job at a time. When a result
//! cannot be made, or a panic ends that, this is an error for that request only, also in a batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::intake::Intake;
use super::mailbox::Begun;
use super::queue::{Inputs, Job};
use super::reply::Outputs;
use super::runs::{Pulse, Run, Runs};
use crate::clock::Clock;
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::Tensor;
use crate::onnx::{Item, Runner, Session, Shift};
use crate::processing::embedding::Embeddings;
use crate::processing::results::ResultMaker;
use crate::processing::{Allowance, Prepared, Preprocessor};

/// The parts of a model that all its workers share.
#[derive(Debug)]
pub struct Workload {
    pub session: Session,
    pub preprocessor: Preprocessor,
    pub embeddings: Embeddings,
    /// Makes results of outputs; `None` for a model that answers with its outputs.
    pub result: Option<Arc<ResultMaker>>,
}

/// What one thread needs to serve jobs of a model.
pub struct Executor {
    pub workload: Arc<Workload>,
    pub runs: Arc<Runs>,
    /// Steps of sequences that found no room in the queue. Whoever has called [`Executor::serve`] must serve them.
    pub overflow: VecDeque<Job>,
    /// `None` before the first run and after a failed run, so that nothing of a failed run is used again.
    runner: Option<Runner>,
    clock: Clock,
    /// That of the place which serves the current jobs.
    pulse: Pulse,
    /// Where other workers wait, which can help with a run. `None`: it runs alone.
    idle: Option<Arc<Intake>>,
}

/// A job whose inputs are prepared.
pub struct Ready {
    pub job: Job,
    pub item: Item,
    /// The index of the family of plans that runs the job.
    pub family: usize,
}

impl Executor {
    /// Begins without a runner: the first run creates it.
    pub fn new(workload: Arc<Workload>, runs: Arc<Runs>, clock: Clock) -> Executor {
        let (overflow, pulse) = (VecDeque::new(), Pulse::default());
        Executor { workload, runs, overflow, runner: None, clock, pulse, idle: None }
    }

    /// The same. The workers of `intake` help with a lone request.
    pub fn with_help(
        workload: Arc<Workload>,
        runs: Arc<Runs>,
        clock: Clock,
        intake: Arc<Intake>,
    ) -> Executor {
        Executor { idle: Some(intake), ..Executor::new(workload, runs, clock) }
    }

    /// Drops what a panic may have left half done.
    pub fn reset(&mut self) {
        self.runner = None;
    }

    /// Takes over the place of `run` for the jobs that are served next.
    pub fn enter(&mut self, run: &Run) {
        self.pulse = run.pulse().clone();
    }

    /// Serves jobs in the place of `run`.
    pub fn serve(&mut self, jobs: Vec<Job>, run: &Run) {
        self.enter(run);
        let mut ready: Vec<Ready> = jobs.into_iter().filter_map(|job| self.prepare(job)).collect();
        // In most cases all jobs belong to one family.
        while let Some(family) = ready.first().map(|first| first.family) {
            let (together, others) = ready.into_iter().partition(|ready| ready.family == family);
            self.run_together(together, family);
            ready = others;
        }
    }

    /// Checks that a job is still needed, and prepares its inputs. When it is not needed or the inputs are
    /// invalid, it sends the error reply and returns `None`.
    pub fn prepare(&mut self, mut job: Job) -> Option<Ready> {
        if let Inputs::Newest(mailbox) = &job.inputs {
            job.deadline = mailbox.deadline().unwrap_or(job.deadline);
        }
        if let Err(error) = self.is_due(&job) {
            self.finish(job, Err(error));
            return None;
        }
        let inputs = std::mem::replace(&mut job.inputs, Inputs::Own(Vec::new()));
        let (cancelled, deadline, clock) = (job.cancelled.clone(), job.deadline, &self.clock);
        let is_due = || is_due(&cancelled, deadline, clock);
        let prepared = self.pulse.during(|| {
            let inputs = match inputs {
                Inputs::Own(inputs) => inputs,
                Inputs::Newest(mailbox) => {
                    let slot = job.reply.slot();
                    let Begun { inputs, result, share } =
                        mailbox.begin(slot).ok_or_else(|| no_frame(slot))?;
                    *job.reply.share() = share;
                    job.result = result?;
                    inputs
                }
            };
            let session = &self.workload.session;
            let mut allowance = Allowance { memory: job.reply.share(), is_due: &is_due };
            let Prepared { tensors, rows } =
                self.workload.preprocessor.prepare(inputs, session.signature(), &mut allowance)?;
            if !rows.is_empty() {
                job.rows = rows;
            }
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

    /// Runs jobs of one family.
    fn run_together(&mut self, jobs: Vec<Ready>, family: usize) {
        let (mut jobs, items): (Vec<Job>, Vec<Item>) =
            jobs.into_iter().map(|ready| (ready.job, ready.item)).unzip();
        if let [_] = items.as_slice() {
            return self.run_alone(jobs, items, family);
        }
        let mut memory = Share::none(jobs[0].reply.share().budget());
        match self.run(|runner| runner.run_together(family, &items, &mut memory)) {
            Ok(results) => {
                for ((job, item), result) in jobs.into_iter().zip(items).zip(results) {
                    let share = memory.split(result.memory());
                    self.finish_with(job, item, Ok(result), share);
                }
            }
            Err(error) => {
                drop(memory);
                log::debug!("a batch of {} failed and is run item by item: {error}", items.len());
                self.runner = None;
                self.run_alone(jobs, items, family);
            }
        }
    }

    fn run_alone(&mut self, jobs: Vec<Job>, items: Vec<Item>, family: usize) {
        for (job, item) in jobs.into_iter().zip(items) {
            self.run_one(Ready { job, item, family });
        }
    }

    /// Runs one job and replies.
    pub fn run_one(&mut self, ready: Ready) {
        let Ready { mut job, item, family } = ready;
        let mut memory = job.reply.share().beside();
        // A new runner's first run takes longer.
        let is_typical =
            self.runner.is_some() && self.workload.session.does_equal_work(family, &item.tensors);
        let begun = Instant::now();
        let result = self.is_due(&job).and_then(|()| {
            // It ends with this run.
            let _shift = self.shift();
            self.run(|runner| runner.run(family, &item, &mut memory))
        });
        if is_typical && result.is_ok() {
            self.runs.took(family, begun.elapsed());
        }
        self.finish_with(job, item, result, memory);
    }

    /// Calls idle workers to help with the next run, if several threads make a run of this model faster.
    fn shift(&self) -> Option<Shift> {
        let threads = self.workload.session.threads();
        let intake = self.idle.as_ref().filter(|intake| threads > 1 && intake.has_help())?;
        let shift = Shift::open()?;
        intake.call(&shift.help(), threads - 1);
        Some(shift)
    }

    /// Releases the memory of the inputs, makes what the request wants of the outputs, and replies. `memory` is the
    /// memory of the outputs.
    fn finish_with(&mut self, mut job: Job, item: Item, result: Result<Item, RequestError>, memory: Share) {
        let result = result.and_then(|result| self.embed(&item, result));
        drop(item);
        *job.reply.share() = memory;
        let result = result.and_then(|Item { tensors, states }| {
            let outputs = self.outputs(&mut job, tensors)?;
            Ok((outputs, states))
        });
        self.finish(job, result);
    }

    /// Runs the engine. It creates a runner when there is none, and drops it after a failed run.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Runner) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let (session, runner) = (&self.workload.session, &mut self.runner);
        let result = self.pulse.during(|| work(runner.get_or_insert_with(|| session.runner())));
        if result.as_ref().is_err_and(|error| error.code == Code::InferenceFailed) {
            self.runner = None;
        }
        result
    }

    /// Pools and normalises the outputs for which `model.json` asks this. The mask is one of the inputs.
    fn embed(&self, item: &Item, result: Item) -> Result<Item, RequestError> {
        let Item { tensors, states } = result;
        let tensors = self.pulse.during(|| self.workload.embeddings.finish(&item.tensors, tensors))?;
        Ok(Item { tensors, states })
    }

    /// Makes the result that the request wants. Afterwards the job's share has the bytes of the reply.
    fn outputs(&self, job: &mut Job, tensors: Vec<Tensor>) -> Result<Outputs, RequestError> {
        let rows = std::mem::take(&mut job.rows);
        let mut tensors: Vec<Option<Tensor>> = tensors.into_iter().map(Some).collect();
        let result = match (&self.workload.result, &job.result) {
            // Nobody reads the reply of a connection that has ended. A step of a sequence has been run nevertheless.
            (Some(_), Some(_)) if job.is_cancelled() => return Ok(Outputs::default()),
            (Some(maker), Some(wanted)) => {
                let share = job.reply.share();
                Some(self.pulse.during(|| maker.finish(&mut tensors, &rows, wanted, share))?)
            }
            _ => {
                job.reply.share().shrink_to(tensors.iter().flatten().map(Tensor::memory).sum());
                None
            }
        };
        Ok(Outputs { tensors, rows, result })
    }

    /// Ends the job's step of its sequence, and sends the reply. The states are those after the step.
    fn finish(&mut self, job: Job, result: Result<(Outputs, Vec<Tensor>), RequestError>) {
        let Job { sequence, mut reply, .. } = job;
        let (outcome, states) = match result {
            Ok((outputs, states)) => (Ok(outputs), Some(states)),
            Err(error) => {
                reply.share().shrink_to(0);
                (Err(error), None)
            }
        };
        if let Some(step) = sequence {
            // When a step with `restart` fails, the sequence must not keep the states from before it.
            let anew = step.last || step.restart && states.is_none();
            let states = if anew { Some(step.sequence.states(true)) } else { states };
            // `end` queues the next step. When the queue is full, the step is served after these jobs: a sequence
            // must not lose an accepted step.
            self.overflow.extend(step.end(states));
        }
        reply.send(outcome);
    }
}

/// Returns an error when the job's connection has ended or its deadline has passed.
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

fn no_frame(slot: u64) -> RequestError {
    RequestError::new(Code::InferenceFailed, format!("the frame of request {slot} is gone"))
}

#[cfg(test)]
mod tests;
