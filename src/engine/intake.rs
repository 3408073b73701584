//! The workers' end of a model's queue: which jobs a worker takes at once.
//!
//! One worker at a time stands at the gate. It takes the first job, and with it as many more as are waiting and make a
//! batch that pays; the others wait behind it. While other workers are idle it leaves them their share: two jobs are
//! done sooner by two workers than by one.
//!
//! It waits for more jobs (`max_queue_delay_microseconds`) only when some can be expected: when the job before came less
//! than that delay ago. So a lone request on an idle server waits for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::queue::Job;

/// Shared by the workers of a model.
#[derive(Debug)]
pub struct Intake {
    jobs: Receiver<Job>,
    /// When the job before came.
    gate: Mutex<Option<Instant>>,
    /// Workers that wait for work.
    idle: AtomicUsize,
    delay: Duration,
}

impl Intake {
    pub fn new(jobs: Receiver<Job>, delay: Duration) -> Intake {
        Intake { jobs, gate: Mutex::new(None), idle: AtomicUsize::new(0), delay }
    }

    /// Waits for work: at least one job, and more as long as `rows` of them together are below `most()`. `None` when
    /// the queue is closed and empty.
    pub fn take(&self, most: impl Fn() -> usize, rows: impl Fn(&Job) -> usize) -> Option<Vec<Job>> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        let mut before = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.jobs.recv();
        let idle = self.idle.fetch_sub(1, Ordering::Relaxed) - 1;
        let first = first.ok()?;
        let most = most();
        let hot = before.is_some_and(|before| first.arrived.saturating_duration_since(before) < self.delay);
        let deadline = first.arrived + self.delay;
        let mut last = first.arrived;
        let mut taken = rows(&first);
        let mut batch = vec![first];
        while taken < most {
            // Its share of what is waiting, itself included.
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
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::{Inputs, Queue};
    use crate::engine::reply::{ReplyTo, Wake};
    use crate::memory::{Budget, Share};
    use crossbeam_channel::bounded;
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

    #[test]
    fn what_waits_is_taken_up_to_the_largest_batch_that_pays() {
        let (_queue, intake) = intake(Duration::ZERO, 11);
        let sizes: Vec<usize> = (0..3).map(|_| intake.take(|| 4, |_| 1).unwrap().len()).collect();
        assert_eq!(sizes, [4, 4, 3]);
    }

    #[test]
    fn a_request_of_several_rows_fills_a_batch_sooner() {
        let (_queue, intake) = intake(Duration::ZERO, 4);
        assert_eq!(intake.take(|| 4, |_| 3).unwrap().len(), 2);
    }

    #[test]
    fn where_batches_do_not_pay_jobs_are_taken_one_by_one() {
        let (_queue, intake) = intake(Duration::from_secs(3600), 2);
        assert_eq!(intake.take(|| 1, |_| 1).unwrap().len(), 1);
    }

    #[test]
    fn a_lone_request_waits_for_nobody() {
        let (_queue, intake) = intake(Duration::from_secs(3600), 1);
        assert_eq!(intake.take(|| 8, |_| 1).unwrap().len(), 1);
    }

    #[test]
    fn idle_workers_are_left_their_share() {
        let (_queue, intake) = intake(Duration::ZERO, 6);
        intake.idle.store(2, Ordering::Relaxed);
        assert_eq!(intake.take(|| 8, |_| 1).unwrap().len(), 2);
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let (queue, intake) = intake(Duration::ZERO, 1);
        drop(queue);
        assert!(intake.take(|| 8, |_| 1).is_some());
        assert!(intake.take(|| 8, |_| 1).is_none());
    }
}
