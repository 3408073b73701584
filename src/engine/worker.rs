//! The threads that run a model: take a job, prepare its inputs, run, reply.
//!
//! A worker never ends before its queue does. A failed run, or a panic inside the engine, is that
//! request's answer and nobody else's trouble: the session's state is thrown away and made again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::queue::Job;
use super::session::{Runner, Session};
use crate::model::Tensor;
use crate::processing::Preprocessor;
use crate::wire::{Code, RequestError};

/// Bytes of stack a worker has: graphs with deep sub-graphs recurse.
const STACK: usize = 8 << 20;

/// What every worker of a model shares.
#[derive(Debug)]
pub struct Workload {
    pub session: Session,
    pub preprocessor: Preprocessor,
}

/// Starts worker `index` of the model `name`. It ends when the queue is closed and empty.
pub fn spawn(
    name: &str,
    index: usize,
    jobs: Receiver<Job>,
    workload: Arc<Workload>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("{name}-w{index}")).stack_size(STACK).spawn(move || {
        let mut worker = Worker { runner: workload.session.runner(), workload };
        for job in jobs {
            worker.serve(job);
        }
    })
}

struct Worker {
    workload: Arc<Workload>,
    runner: Runner,
}

impl Worker {
    fn serve(&mut self, job: Job) {
        if job.is_cancelled() {
            return job.reply.send(Err(RequestError::new(Code::Unavailable, "the connection is gone")));
        }
        if Instant::now() > job.deadline {
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
        self.runner.run(&inputs).map_err(|message| RequestError::new(Code::InferenceFailed, message))
    }
}

/// The words of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
