//! The workers' end of a model's queue. It decides which jobs a worker takes together.
//!
//! Only one worker at a time takes jobs; the others wait for the lock. The worker takes the first job, and more
//! waiting jobs up to the batch size that the session recommends. When other workers are idle, it leaves them a
//! share: two workers finish two jobs sooner than one worker does.
//!
//! A worker waits for more jobs (`max_queue_delay_microseconds`) only when more are likely: when the previous job
//! arrived less than that delay before this one. So a single request on an idle server is run at once.
//!
//! A worker that runs a lone request may call the idle ones: they help it, until a job comes for them.
//!
//! How a batch is run does not belong here: see [`worker`](super::worker).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::queue::Job;
use crate::onnx::Help;

/// Calls for help that wait. A run that has ended needs no help any more, so few are enough.
const CALLS: usize = 64;

/// What an idle worker does next.
#[derive(Debug)]
pub enum Taken {
    /// Serves jobs, at least one.
    Jobs(Vec<Job>),
    /// Helps another worker.
    Call(Help),
}

/// The receiving end of one model's queue. All workers of the model share it.
#[derive(Debug)]
pub struct Intake {
    jobs: Receiver<Job>,
    /// The time at which the previous job arrived. A worker holds the lock while it takes jobs.
    gate: Mutex<Option<Instant>>,
    /// The number of workers that wait for a job.
    idle: AtomicUsize,
    calls: (Sender<Help>, Receiver<Help>),
    delay: Duration,
}

impl Intake {
    /// `delay` is the longest time that a job waits for others to join its batch.
    pub fn new(jobs: Receiver<Job>, delay: Duration) -> Intake {
        Intake { jobs, gate: Mutex::new(None), idle: AtomicUsize::new(0), calls: bounded(CALLS), delay }
    }

    /// Whether a job waits for a worker.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether a worker could help another one: it waits for a job, and there is none.
    pub fn has_help(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0 && !self.has_jobs()
    }

    /// Calls up to `most` of the workers that wait for a job.
    pub fn call(&self, help: &Help, most: usize) {
        for _ in 0..most.min(self.idle.load(Ordering::Relaxed)) {
            if self.calls.0.try_send(help.clone()).is_err() {
                return;
            }
        }
    }

    /// Waits for a job or a call. After a job, it takes more jobs while the sum of their `rows` is less than `most()`.
    /// Returns `None` when the queue is closed and empty.
    pub fn take(&self, most: impl Fn() -> usize, rows: impl Fn(&Job) -> usize) -> Option<Taken> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        let mut before = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let first = select! {
            recv(self.jobs) -> first => first.map(Ok),
            recv(self.calls.1) -> call => call.map(Err),
        };
        let idle = self.idle.fetch_sub(1, Ordering::Relaxed) - 1;
        let first = match first.ok()? {
            Ok(first) => first,
            Err(call) => return Some(Taken::Call(call)),
        };
        let most = most();
        let hot = before.is_some_and(|before| first.arrived.saturating_duration_since(before) < self.delay);
        let deadline = first.arrived + self.delay;
        let mut last = first.arrived;
        let mut taken = rows(&first);
        let mut batch = vec![first];
        while taken < most {
            // This worker's share of the jobs: those that it has and those that wait.
            let share = (batch.len() + self.jobs.len()).div_ceil(idle + 1);
            let next = if self.jobs.is_empty() && hot {
                self.jobs.recv_deadline(deadline).ok()
            } else if batch.len() < share {
                self.jobs.try_recv().ok()
            } else {
                None
            };
            let Some(next) = next else { break };
            taken += rows(&next);
            last = next.arrived;
            batch.push(next);
        }
        *before = Some(last);
        Some(Taken::Jobs(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::{Inputs, Queue};
    use crate::engine::reply::{ReplyTo, Wake};
    use crate::memory::{Budget, Share};
    use crate::onnx::Shift;
    use std::sync::Arc;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn intake(delay: Duration, jobs: usize) -> (Queue, Intake) {
        let (queue, receiver) = Queue::new(64);
        let (replies, _) = bounded(64);
        for slot in 0..jobs {
            let reply =
                ReplyTo::new(slot as u64, replies.clone(), Arc::new(Nobody), Share::none(&Budget::new(0)));
            let now = Instant::now();
            let job = Job {
                inputs: Inputs::Own(vec![]),
                rows: vec![],
                result: None,
                sequence: None,
                arrived: now,
                deadline: now,
                cancelled: Arc::default(),
                reply,
            };
            queue.submit(job).unwrap();
        }
        (queue, Intake::new(receiver, delay))
    }

    /// The number of jobs that a worker takes.
    fn taken(intake: &Intake, most: usize, rows: usize) -> usize {
        match intake.take(|| most, |_| rows) {
            Some(Taken::Jobs(jobs)) => jobs.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_takes_waiting_jobs_up_to_the_largest_batch() {
        let (_queue, intake) = intake(Duration::ZERO, 11);
        let sizes: Vec<usize> = (0..3).map(|_| taken(&intake, 4, 1)).collect();
        assert_eq!(sizes, [4, 4, 3]);
    }

    #[test]
    fn a_request_of_several_rows_fills_a_batch_sooner() {
        let (_queue, intake) = intake(Duration::ZERO, 4);
        assert_eq!(taken(&intake, 4, 3), 2);
    }

    #[test]
    fn without_batches_jobs_are_taken_one_by_one() {
        let (_queue, intake) = intake(Duration::from_secs(3600), 2);
        assert_eq!(taken(&intake, 1, 1), 1);
    }

    #[test]
    fn a_single_request_is_taken_at_once() {
        let (_queue, intake) = intake(Duration::from_secs(3600), 1);
        assert_eq!(taken(&intake, 8, 1), 1);
    }

    #[test]
    fn a_worker_leaves_a_share_to_idle_workers() {
        let (_queue, intake) = intake(Duration::ZERO, 6);
        intake.idle.store(2, Ordering::Relaxed);
        assert_eq!(taken(&intake, 8, 1), 2);
    }

    #[test]
    fn a_closed_queue_is_emptied_before_workers_end() {
        let (queue, intake) = intake(Duration::ZERO, 1);
        drop(queue);
        assert!(intake.take(|| 8, |_| 1).is_some());
        assert!(intake.take(|| 8, |_| 1).is_none());
    }

    #[test]
    fn an_idle_worker_takes_a_call_and_a_busy_one_is_not_called() {
        let (queue, intake) = intake(Duration::ZERO, 0);
        let shift = Shift::open().unwrap();
        assert!(!intake.has_help(), "nobody waits");
        intake.call(&shift.help(), 3);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| intake.take(|| 1, |_| 1));
            while !intake.has_help() {
                std::thread::yield_now();
            }
            intake.call(&shift.help(), 3);
            assert!(matches!(worker.join().unwrap(), Some(Taken::Call(_))));
        });
        drop(queue);
        assert!(intake.take(|| 1, |_| 1).is_none(), "one worker was called once");
    }
}
