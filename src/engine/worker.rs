//! The threads that run a model: take a job, prepare its inputs, run, reply.
//!
//! A worker never ends before its queue does. A failed run, or a panic inside the engine, is that
//! request's answer and nobody else's trouble: the session's state is thrown away and made again.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::panic::panic_message;
use super::queue::Job;
use super::session::{Runner, Session};
use crate::clock::Clock;
use crate::model::Tensor;
use crate::processing::Preprocessor;
use crate::processing::embedding::Embeddings;
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

/// Starts worker `index` of the model `name`. It ends when the queue is closed and empty.
pub fn spawn(
    name: &str,
    index: usize,
    jobs: Receiver<Job>,
    workload: Arc<Workload>,
    clock: Clock,
) -> std::io::Result<WorkerThread> {
    let (living, alive) = bounded(0);
    let builder = std::thread::Builder::new().name(format!("{name}-w{index}")).stack_size(STACK);
    let handle = builder.spawn(move || {
        let _living: Sender<Infallible> = living;
        let mut worker = Worker { runner: workload.session.runner(), workload, clock };
        for job in jobs {
            worker.serve(job);
        }
    })?;
    Ok(WorkerThread { alive, handle })
}

struct Worker {
    workload: Arc<Workload>,
    runner: Runner,
    clock: Clock,
}

impl Worker {
    fn serve(&mut self, job: Job) {
        if job.is_cancelled() {
            return job.reply.send(Err(RequestError::new(Code::Unavailable, "the connection is gone")));
        }
        if self.clock.now() > job.deadline {
            let message = "the deadline passed while the request waited for a worker";
            return job.reply.send(Err(RequestError::new(Code::DeadlineExceeded, message)));
        }
        let Job { inputs, reply, .. } = job;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(inputs))).unwrap_or_else(|panic| {
            let message = format!("the engine panicked on this input: {}", panic_message(panic.as_ref()));
            Err(RequestError::new(Code::InferenceFailed, message))
        });
        if outcome.as_ref().is_err_and(|error| error.code == Code::InferenceFailed) {
            // Whatever the failed run left behind goes with it.
            self.runner = self.workload.session.runner();
        }
        reply.send(outcome);
    }

    fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, RequestError> {
        let inputs = self.workload.preprocessor.prepare(inputs, self.workload.session.signature())?;
        let outputs = self.runner.run(&inputs)?;
        self.workload.embeddings.finish(&inputs, outputs)
    }
}
