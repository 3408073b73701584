//! What stands between connections and workers: jobs one way, replies the other, both bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::mailbox::NewestFrame;
use super::reply::ReplyTo;
use super::sequence::Sequence;
use crate::model::Tensor;
use crate::wire::{Code, RequestError};

/// One inference to be done.
#[derive(Debug)]
pub struct Job {
    pub inputs: Inputs,
    /// The sequence whose next step it is, if it is one's.
    pub sequence: Option<Step>,
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
}

/// What a job is run with, in the signature's order; files not decoded yet.
#[derive(Debug)]
pub enum Inputs {
    Own(Vec<Tensor>),
    /// The newest frame, when it is the job's turn.
    Newest(Arc<dyn NewestFrame>),
}

/// A step of a sequence.
#[derive(Debug, Clone)]
pub struct Step {
    pub sequence: Arc<Sequence<Job>>,
    /// Where the steps behind it go.
    pub queue: Queue,
    /// It begins with the initial state, whatever was before.
    pub restart: bool,
    /// The sequence begins anew behind it.
    pub last: bool,
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
        let Some(step) = job.sequence.clone() else { return self.put(job) };
        let Some(job) = step.sequence.begin_or_wait(job) else { return Ok(()) };
        let refused = self.put(job);
        if refused.is_err() {
            // Another may have come to wait behind it, which is refused for the same reason unless there is room by now.
            let mut next = step.sequence.end_step(None);
            while let Some(Err((job, error))) = next.map(|job| self.put(job)) {
                job.reply.send(Err(error));
                next = step.sequence.end_step(None);
            }
        }
        refused
    }

    /// Puts a job in that has nothing to wait for.
    #[allow(clippy::result_large_err)]
    pub fn put(&self, job: Job) -> Result<(), (Job, RequestError)> {
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
    use crate::engine::reply::{Reply, Wake};
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
        job(8, &replies, &waker).reply.send(Ok(vec![]));
        assert_eq!(inbox.try_iter().count(), 1);
        assert_eq!(waker.0.load(Ordering::Relaxed), 2);
    }
}
