//! What stands between connections and workers: jobs one way, replies the other, both bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::mailbox::NewestFrame;
use super::reply::ReplyTo;
use super::sequence::Sequence;
use crate::error::{Code, RequestError};
use crate::model::{Input, Row, Tensor};

/// One inference to be done.
#[derive(Debug)]
pub struct Job {
    pub inputs: Inputs,
    /// What is known of the request's rows before they are read; empty when nothing is.
    pub rows: Vec<Row>,
    /// The step of a sequence that it is, if it is one.
    pub sequence: Option<SequenceStep>,
    /// When it was queued: a batch waits from then on.
    pub arrived: Instant,
    /// When inference must have begun.
    pub deadline: Instant,
    /// Raised by the connection when it goes away: nobody wants the reply.
    pub cancelled: Arc<AtomicBool>,
    pub reply: ReplyTo,
}

impl Job {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The same, as its sequence's step that is under way.
    fn begun(self) -> Job {
        self.with(StepProgress::Begun)
    }

    /// The same, as a step that its sequence does not wait for.
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

/// What a job is run with, in the signature's order.
#[derive(Debug)]
pub enum Inputs {
    Own(Vec<Input>),
    /// The newest frame, when it is the job's turn.
    Newest(Arc<dyn NewestFrame>),
}

/// A sequence of requests, and the queue that its steps go to.
#[derive(Debug)]
pub struct JobSequence {
    steps: Sequence<Job>,
    queue: Queue,
}

impl JobSequence {
    /// At its start, with the states `initial`.
    pub fn new(initial: Arc<Vec<Tensor>>, queue: Queue) -> Arc<JobSequence> {
        Arc::new(JobSequence { steps: Sequence::new(initial), queue })
    }

    /// The states that the step under way begins with: those that the one before left, or the initial ones.
    pub fn states(&self, restart: bool) -> Vec<Tensor> {
        self.steps.states(restart)
    }

    /// No step is under way or waiting.
    pub fn is_idle(&self) -> bool {
        self.steps.is_idle()
    }
}

/// A step of a sequence. When one that has begun is dropped, for whatever reason, the sequence goes on with the next.
#[derive(Debug)]
pub struct SequenceStep {
    pub sequence: Arc<JobSequence>,
    /// It begins with the initial state, whatever was before.
    pub restart: bool,
    /// The sequence begins anew behind it.
    pub last: bool,
    progress: StepProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepProgress {
    /// Not with the workers: it has not begun, or is over.
    Apart,
    /// With the workers: the sequence waits for its end.
    Begun,
}

impl SequenceStep {
    pub fn new(sequence: Arc<JobSequence>, restart: bool, last: bool) -> SequenceStep {
        SequenceStep { sequence, restart, last, progress: StepProgress::Apart }
    }

    /// Ends the step, with new states unless it failed, and queues the next one. When the queue has no room for that, it
    /// comes back and must be run: it was accepted long ago.
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
        // A loop, because a refused step that is dropped here would otherwise call this again for the one behind it.
        while let Some(next) = self.sequence.steps.end_step(None) {
            let Err((refused, error)) = self.sequence.queue.put(next.begun()) else { return };
            refused.apart().reply.send(Err(error));
        }
    }
}

/// A model's queue, as connections see it. Dropping it (every clone) ends the workers once they have
/// emptied it.
#[derive(Debug, Clone)]
pub struct Queue {
    jobs: Sender<Job>,
}

impl Queue {
    /// A queue of at most `capacity` waiting jobs, and the workers' end of it.
    pub fn new(capacity: usize) -> (Queue, Receiver<Job>) {
        let (jobs, receiver) = bounded(capacity);
        (Queue { jobs }, receiver)
    }

    /// Puts a job in at once or not at all; the refused job comes back with its reply still to give. A step of a
    /// sequence waits in that until it is its turn.
    // The refused job is as large as the one given, and moves back to where it came from.
    #[allow(clippy::result_large_err)]
    pub fn submit(&self, job: Job) -> Result<(), (Job, RequestError)> {
        let Some(step) = &job.sequence else { return self.put(job) };
        let sequence = step.sequence.clone();
        sequence.steps.submit(job, |job| self.put(job.begun()).map_err(|(job, error)| (job.apart(), error)))
    }

    /// Puts a job in that has nothing to wait for.
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
    fn a_reply_that_is_dropped_unsent_is_answered_all_the_same_and_once() {
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
    fn a_step_that_is_lost_on_the_way_lets_its_sequence_go_on() {
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
