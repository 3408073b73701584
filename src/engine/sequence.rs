//! Sequences: requests that share a state, each of which begins with what the one before left.
//!
//! A sequence has at most one step with the workers. The next one waits here until that has come back, so steps keep
//! their order whatever the pool does, and the state travels with the job. A step that fails changes nothing: the next
//! begins with the state that the failed one began with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::{Job, Queue};
use crate::model::Tensor;
use crate::wire::RequestError;

/// One sequence. Its steps wait in it, and are bounded by what its connection may have in flight.
#[derive(Debug)]
pub struct Sequence {
    initial: Arc<Vec<Tensor>>,
    queue: Queue,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    states: Vec<Tensor>,
    /// A step is with the workers.
    running: bool,
    waiting: VecDeque<Job>,
}

impl Sequence {
    /// At its start; `queue` is the model's.
    pub fn new(initial: Arc<Vec<Tensor>>, queue: Queue) -> Sequence {
        let progress =
            Progress { states: initial.as_ref().clone(), running: false, waiting: VecDeque::new() };
        Sequence { initial, queue, progress: Mutex::new(progress) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next step, whose `sequence` is this one.
    #[allow(clippy::result_large_err)] // As the queue does it.
    pub fn submit(&self, job: Job) -> Result<(), (Job, RequestError)> {
        let mut progress = self.progress();
        if progress.running {
            progress.waiting.push_back(job);
            return Ok(());
        }
        self.queue.submit(job)?;
        progress.running = true;
        Ok(())
    }

    /// What the step that is being run begins with.
    pub fn states(&self, restart: bool) -> Vec<Tensor> {
        if restart { self.initial.as_ref().clone() } else { self.progress().states.clone() }
    }

    /// The step has come back, with new states unless it failed. The next one goes into the queue; when there is no
    /// room it is given back, to be run at once: a sequence must not lose a step on the way.
    pub fn step_done(&self, states: Option<Vec<Tensor>>) -> Option<Job> {
        let mut progress = self.progress();
        if let Some(states) = states {
            progress.states = states;
        }
        let next = progress.waiting.pop_front();
        progress.running = next.is_some();
        drop(progress);
        self.queue.submit(next?).err().map(|(job, _)| job)
    }

    /// No step is under way or waiting.
    pub fn is_idle(&self) -> bool {
        !self.progress().running
    }
}
