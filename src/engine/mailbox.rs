//! A mailbox holds the newest frame of a conversation until a worker is free. It is for live video, where the
//! answer to an old frame has no value. One job in the queue stands for the mailbox; the worker takes the newest
//! frame when it begins that job.
//!
//! Invariants: the mailbox is the only owner of a frame and of the values that are needed for its answer. When a
//! newer frame replaces a waiting one, the old frame and its memory are dropped. When a worker begins a frame, the
//! mailbox keeps the values for the answer under the slot of the job. So several workers can run frames of one
//! conversation at once, and the slots bound the memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::RequestError;
use crate::memory::Share;
use crate::model::Input;
use crate::processing::results::WantedResult;

/// The part of a mailbox that a worker uses.
pub trait NewestFrame: std::fmt::Debug + Send + Sync {
    /// The time by which inference of the newest frame must begin; `None` when no frame waits.
    fn deadline(&self) -> Option<Instant>;

    /// Takes what the job of `slot` needs of the newest frame. `None` when no frame waits.
    fn begin(&self, slot: u64) -> Option<Begun>;
}

/// What a worker needs of a frame.
#[derive(Debug)]
pub struct Begun {
    pub inputs: Vec<Input>,
    pub result: Result<Option<WantedResult>, RequestError>,
    /// The memory that the inputs hold.
    pub share: Share,
}

/// The newest waiting frame of a conversation, and the frames that workers run now. `P` is the type of the values
/// that are needed for a frame's answer.
#[derive(Debug)]
pub struct Mailbox<P>(Mutex<Letters<P>>);

#[derive(Debug)]
struct Letters<P> {
    newest: Option<Frame<P>>,
    /// The number of frames that were replaced since a worker last began one.
    dropped: u64,
    /// The frames that workers have begun, by the slot of the job: the values for the answer, and the number of
    /// frames that were dropped before this one.
    begun: BTreeMap<u64, (P, u64)>,
}

/// A frame that waits for a worker.
#[derive(Debug)]
pub struct Frame<P> {
    /// The values that are needed for the answer.
    pub pending: P,
    pub inputs: Vec<Input>,
    /// The result that is made of the outputs, if any. The error is the answer to the frame.
    pub result: Result<Option<WantedResult>, RequestError>,
    /// Inference must begin by this time.
    pub deadline: Instant,
    /// The memory that the inputs hold.
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

    /// Stores a frame. Returns true when the caller must queue a job for it, and false when it replaced a frame
    /// that still waited: then a job is queued already.
    pub fn put(&self, frame: Frame<P>) -> bool {
        let mut letters = self.letters();
        let replaced = letters.newest.replace(frame);
        letters.dropped += u64::from(replaced.is_some());
        drop(letters);
        // The replaced frame is dropped after the lock is released.
        replaced.is_none()
    }

    /// Removes and returns the values for the answer of the job of `slot`, and the number of frames that were
    /// dropped before it. A job that was refused before a worker began it answers for the newest frame. `None`
    /// when there is no such frame.
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

    fn begin(&self, slot: u64) -> Option<Begun> {
        let mut letters = self.letters();
        let Frame { pending, inputs, result, share, .. } = letters.newest.take()?;
        let dropped = std::mem::take(&mut letters.dropped);
        letters.begun.insert(slot, (pending, dropped));
        Some(Begun { inputs, result, share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    fn put(mailbox: &Mailbox<u32>, pending: u32, share: Share) -> bool {
        mailbox.put(Frame { pending, inputs: vec![], result: Ok(None), deadline: Instant::now(), share })
    }

    #[test]
    fn a_newer_frame_replaces_the_waiting_one_which_is_counted() {
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
    fn a_newer_frame_that_ends_first_does_not_take_the_answer_of_an_older_one() {
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
