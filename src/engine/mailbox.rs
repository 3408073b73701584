//! A place in the queue whose request is chosen when it is its turn: the newest that has come by then. For live video,
//! where an answer to an old frame is worth nothing.
//!
//! The mailbox is the only owner of a frame and of what makes its answer. A frame that a newer one replaces is dropped
//! with all that belongs to it; one that a worker has begun with waits here for its reply, under the slot of its job. So
//! several workers can run frames of one conversation at once, and the memory is bounded by the slots.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::memory::Share;
use crate::model::Input;

/// What a worker sees of a mailbox.
pub trait NewestFrame: std::fmt::Debug + Send + Sync {
    /// When inference of the newest frame must have begun.
    fn deadline(&self) -> Option<Instant>;

    /// Takes the newest frame, for the job of `slot`.
    fn begin(&self, slot: u64) -> Option<(Vec<Input>, Share)>;
}

/// A conversation's newest frame that no worker has begun with, and the frames that are being run. `P` makes the
/// answer of a frame.
#[derive(Debug)]
pub struct Mailbox<P>(Mutex<Letters<P>>);

#[derive(Debug)]
struct Letters<P> {
    newest: Option<Frame<P>>,
    /// Frames that were replaced since the last one was begun.
    dropped: u64,
    /// By the slot of the job: what makes the answer, and how many frames were dropped before this one.
    begun: BTreeMap<u64, (P, u64)>,
}

/// A frame that waits for a worker.
#[derive(Debug)]
pub struct Frame<P> {
    pub pending: P,
    pub inputs: Vec<Input>,
    pub deadline: Instant,
    /// The memory that the inputs take.
    pub share: Share,
}

impl<P> Default for Mailbox<P> {
    fn default() -> Self {
        Mailbox(Mutex::new(Letters { newest: None, dropped: 0, begun: BTreeMap::new() }))
    }
}

impl<P> Mailbox<P> {
    fn letters(&self) -> MutexGuard<'_, Letters<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a frame. True when a job has to be queued for it; false when it takes the place of one that had not been
    /// begun.
    pub fn put(&self, frame: Frame<P>) -> bool {
        let mut letters = self.letters();
        let replaced = letters.newest.replace(frame);
        letters.dropped += u64::from(replaced.is_some());
        drop(letters);
        // Its memory is given back outside the lock.
        replaced.is_none()
    }

    /// What makes the answer for the job of `slot`, and how many frames were dropped before it. A job that was refused
    /// before it began answers for the newest frame.
    pub fn end(&self, slot: u64) -> Option<(P, u64)> {
        let mut letters = self.letters();
        if let Some(begun) = letters.begun.remove(&slot) {
            return Some(begun);
        }
        let frame = letters.newest.take()?;
        Some((frame.pending, std::mem::take(&mut letters.dropped)))
    }
}

impl<P: std::fmt::Debug + Send> NewestFrame for Mailbox<P> {
    fn deadline(&self) -> Option<Instant> {
        self.letters().newest.as_ref().map(|frame| frame.deadline)
    }

    fn begin(&self, slot: u64) -> Option<(Vec<Input>, Share)> {
        let mut letters = self.letters();
        let Frame { pending, inputs, share, .. } = letters.newest.take()?;
        let dropped = std::mem::take(&mut letters.dropped);
        letters.begun.insert(slot, (pending, dropped));
        Some((inputs, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    fn put(mailbox: &Mailbox<u32>, pending: u32, share: Share) -> bool {
        mailbox.put(Frame { pending, inputs: vec![], deadline: Instant::now(), share })
    }

    #[test]
    fn a_newer_frame_takes_the_place_of_one_that_waits_and_is_counted() {
        let budget = Budget::new(100);
        let mailbox = Mailbox::default();
        assert!(put(&mailbox, 0, Share::none(&budget).take_beside(10).unwrap()));
        assert!(!put(&mailbox, 1, Share::none(&budget).take_beside(10).unwrap()));
        assert!(!put(&mailbox, 2, Share::none(&budget).take_beside(10).unwrap()));
        assert_eq!(budget.used(), 10, "nothing is kept of a frame that was replaced");
        assert!(mailbox.begin(0).is_some());
        assert!(put(&mailbox, 3, Share::none(&budget)), "the one that is being run keeps its place");
        assert_eq!(mailbox.end(0), Some((2, 2)));
        assert!(mailbox.begin(1).is_some());
        assert_eq!(mailbox.end(1), Some((3, 0)));
    }

    #[test]
    fn a_newer_frame_that_is_done_first_takes_no_answer_from_an_older_one() {
        let budget = Budget::new(0);
        let mailbox = Mailbox::default();
        for slot in 0..2 {
            put(&mailbox, slot, Share::none(&budget));
            assert!(mailbox.begin(slot.into()).is_some());
        }
        assert_eq!(mailbox.end(1), Some((1, 0)));
        assert_eq!(mailbox.end(0), Some((0, 0)));
        assert_eq!(mailbox.end(0), None);
    }

    #[test]
    fn a_job_that_was_refused_answers_for_the_newest_frame() {
        let budget = Budget::new(0);
        let mailbox = Mailbox::default();
        put(&mailbox, 0, Share::none(&budget));
        assert_eq!(mailbox.end(0), Some((0, 0)));
        assert!(put(&mailbox, 1, Share::none(&budget)));
    }
}
