//! The queue between connections and workers. Jobs go to the workers through it, and replies go back through
//! [`reply`](super::reply). Both channels are bounded. The rules of a sequence's order are in
//! [`sequence`](super::sequence).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::mailbox::NewestFrame;
use super::reply::ReplyTo;
use super::sequence::Sequence;
use crate::error::{Code, RequestError};
use crate::model::{Input, Row, Tensor};
use crate::processing::results::WantedResult;

/// One request for inference.
#[derive(Debug)]
pub struct Job {
    pub inputs: Inputs,
    /// The known facts about each row of the request, before its files are decoded; empty when there are none.
    pub rows: Vec<Row>,
    /// The result that is made of the outputs; `None` when the reply has only outputs. That of a frame comes with its
    /// inputs.
    pub result: Option<WantedResult>,
    /// The job's step of a sequence; `None` when the model has no state.
    pub sequence: Option<SequenceStep>,
    /// The time at which the job was created. The delay of a batch is counted from this time.
    pub arrived: Instant,
    /// Inference must begin by this time.
    pub deadline: Instant,
    /// The connection sets this to true when it ends: then the reply is not needed any more.
    pub cancelled: Arc<AtomicBool>,
    pub reply: ReplyTo,
}

impl Job {
    /// True when the connection has ended and the reply is not needed any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Marks the job's step as begun.
    fn begun(self) -> Job {
        self.with(StepProgress::Begun)
    }

    /// Marks the job's step as one that its sequence does not wait for.
    fn apart(self) -> Job {
        self.with(StepProgress::Apart)
    }

    fn with(mut self, progress: StepProgress) -> Job {
        if let Some(step) = &mut self.sequence {
            step.progress = progress;
        }
        self
    }
}

/// The inputs of a job, in the signature's order.
#[derive(Debug)]
pub enum Inputs {
    Own(Vec<Input>),
    /// The job runs the newest frame that the mailbox holds when a worker begins the job.
    Newest(Arc<dyn NewestFrame>),
}

/// A sequence of requests, and the queue that receives its steps.
#[derive(Debug)]
pub struct JobSequence {
    steps: Sequence<Job>,
    queue: Queue,
}

impl JobSequence {
    /// Creates a sequence that begins with the states `initial`.
    pub fn new(initial: Arc<Vec<Tensor>>, queue: Queue) -> Arc<JobSequence> {
        Arc::new(JobSequence { steps: Sequence::new(initial), queue })
    }

    /// The states with which the current step begins: the initial states when `restart` is true, else the states
    /// after the last successful step.
    pub fn states(&self, restart: bool) -> Vec<Tensor> {
        self.steps.states(restart)
    }

    /// No step is under way or waiting.
    pub fn is_idle(&self) -> bool {
        self.steps.is_idle()
    }
}

/// A step of a sequence. When a begun step is dropped for any reason, the sequence continues with the next step.
#[derive(Debug)]
pub struct SequenceStep {
    pub sequence: Arc<JobSequence>,
    /// The step begins with the initial states, not with those of the step before.
    pub restart: bool,
    /// The next step after this one begins with the initial states.
    pub last: bool,
    progress: StepProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepProgress {
    /// No worker runs the step: it has not begun, or it has ended.
    Apart,
    /// The step was given to the workers. The sequence waits for its end.
    Begun,
}

impl SequenceStep {
    /// Creates a step that has not begun. `restart` and `last` are explained at the fields.
    pub fn new(sequence: Arc<JobSequence>, restart: bool, last: bool) -> SequenceStep {
        SequenceStep { sequence, restart, last, progress: StepProgress::Apart }
    }

    /// Ends the step and queues the next one. `states` are the new states, or `None` when the step failed. When
    /// the queue is full, the next step is returned and the caller must run it, because it was accepted earlier.
    pub fn end(mut self, states: Option<Vec<Tensor>>) -> Option<Job> {
        self.progress = StepProgress::Apart;
        let next = self.sequence.steps.end_step(states)?;
        self.sequence.queue.put(next.begun()).err().map(|(next, _)| next)
    }
}

impl Drop for SequenceStep {
    fn drop(&mut self) {
        if self.progress == StepProgress::Apart {
            return;
        }
        // This is a loop because dropping a refused step here would call this function again for the step after
        // it.
        while let Some(next) = self.sequence.steps.end_step(None) {
            let Err((refused, error)) = self.sequence.queue.put(next.begun()) else { return };
            refused.apart().reply.send(Err(error));
        }
    }
}

/// The sending end of a model's queue. When all clones are dropped, the workers empty the queue and end.
#[derive(Debug, Clone)]
pub struct Queue {
    jobs: Sender<Job>,
}

impl Queue {
    /// Creates a queue of at most `capacity` waiting jobs. Returns the sending end and the workers' end.
    pub fn new(capacity: usize) -> (Queue, Receiver<Job>) {
        let (jobs, receiver) = bounded(capacity);
        (Queue { jobs }, receiver)
    }

    /// Adds a job without waiting. When the queue is full, the job is returned with an error, and the caller must
    /// send its reply. A step of a sequence waits in the sequence while another step of it runs.
    // The error is as large as the job because it returns the job to the caller.
    #[allow(clippy::result_large_err)]
    pub fn submit(&self, job: Job) -> Result<(), (Job, RequestError)> {
        let Some(step) = &job.sequence else { return self.put(job) };
        let sequence = step.sequence.clone();
        sequence.steps.submit(job, |job| self.put(job.begun()).map_err(|(job, error)| (job.apart(), error)))
    }

    /// Adds a job that does not wait for another step.
    #[allow(clippy::result_large_err)]
    fn put(&self, job: Job) -> Result<(), (Job, RequestError)> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) => {
                let waiting = self.jobs.len();
                let message =
                    format!("{waiting} requests are waiting for this model already: try again later");
                (job, RequestError::new(Code::Overloaded, message))
            }
            TrySendError::Disconnected(job) => {
                (job, RequestError::new(Code::Unavailable, "the model has been stopped"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reply::{Outputs, Reply, Wake};
    use crate::memory::{Budget, Share};
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn job(slot: u64, replies: &Sender<Reply>, waker: &Arc<Count>) -> Job {
        Job {
            inputs: Inputs::Own(vec![]),
            rows: vec![],
            result: None,
            sequence: None,
            arrived: Instant::now(),
            deadline: Instant::now() + Duration::from_secs(1),
            cancelled: Arc::default(),
            reply: ReplyTo::new(slot, replies.clone(), waker.clone(), Share::none(&Budget::new(0))),
        }
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_the_job_is_not_lost() {
        let (queue, _receiver) = Queue::new(1);
        let (replies, inbox) = bounded(2);
        let waker = Arc::new(Count::default());
        queue.submit(job(0, &replies, &waker)).unwrap();
        let (refused, error) = queue.submit(job(1, &replies, &waker)).unwrap_err();
        assert_eq!(error.code, Code::Overloaded);
        refused.reply.send(Err(error));
        assert_eq!(inbox.try_recv().unwrap().slot, 1);
    }

    #[test]
    fn a_dropped_reply_sends_exactly_one_error() {
        let (replies, inbox) = bounded(2);
        let waker = Arc::new(Count::default());
        drop(job(7, &replies, &waker));
        let reply = inbox.try_recv().unwrap();
        assert_eq!((reply.slot, reply.outcome.unwrap_err().code), (7, Code::Unavailable));
        job(8, &replies, &waker).reply.send(Ok(Outputs::default()));
        assert_eq!(inbox.try_iter().count(), 1);
        assert_eq!(waker.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_sequence_continues_after_a_dropped_step() {
        let (queue, receiver) = Queue::new(1);
        let (replies, inbox) = bounded(8);
        let waker = Arc::new(Count::default());
        let sequence = JobSequence::new(Arc::default(), queue.clone());
        for slot in 0..3 {
            let step = SequenceStep::new(sequence.clone(), false, false);
            queue.submit(Job { sequence: Some(step), ..job(slot, &replies, &waker) }).unwrap();
        }
        drop(receiver.recv().unwrap());
        assert_eq!(inbox.try_recv().unwrap().slot, 0, "its client is answered");
        assert_eq!(receiver.try_recv().unwrap().reply.slot(), 1, "and the next one is with the workers");
        drop(receiver.try_recv().unwrap());
        assert_eq!(inbox.try_iter().map(|reply| reply.slot).collect::<Vec<_>>(), [1, 2]);
        assert!(sequence.is_idle());
    }
}
