//! A place in the queue whose request is chosen when it is its turn: the newest that has come by then. For live video,
//! where an answer to an old frame is worth nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Tensor;

/// A conversation's newest frame that no worker has begun with.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Letters>);

#[derive(Debug, Default)]
struct Letters {
    newest: Option<(u64, Vec<Tensor>)>,
    /// Frames that were replaced since the last one was begun.
    dropped: u64,
    /// By the slot of the job: which frame it was, and how many were dropped before it.
    begun: BTreeMap<u64, Begun>,
}

/// What a job of the mailbox was run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    pub frame: u64,
    pub dropped: u64,
}

impl Mailbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a frame. True when a job has to be queued for it; false when it takes the place of one that had not been
    /// begun.
    pub fn put(&self, frame: u64, inputs: Vec<Tensor>) -> bool {
        let mut letters = self.letters();
        let replaced = letters.newest.replace((frame, inputs)).is_some();
        letters.dropped += u64::from(replaced);
        !replaced
    }

    /// Begins with the newest frame, for the job of `slot`.
    pub fn begin(&self, slot: u64) -> Option<Vec<Tensor>> {
        let mut letters = self.letters();
        let (frame, inputs) = letters.newest.take()?;
        let dropped = std::mem::take(&mut letters.dropped);
        letters.begun.insert(slot, Begun { frame, dropped });
        Some(inputs)
    }

    /// What the job of `slot` was run with; a job that was refused is the newest frame's own.
    pub fn end(&self, slot: u64) -> Option<Begun> {
        let mut letters = self.letters();
        if let Some(begun) = letters.begun.remove(&slot) {
            return Some(begun);
        }
        let (frame, _) = letters.newest.take()?;
        Some(Begun { frame, dropped: std::mem::take(&mut letters.dropped) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_frame_takes_the_place_of_one_that_waits_and_is_counted() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put(0, vec![]));
        assert!(!mailbox.put(1, vec![]));
        assert!(!mailbox.put(2, vec![]));
        assert!(mailbox.begin(0).is_some());
        assert!(mailbox.put(3, vec![]), "the one that is being run keeps its place");
        assert_eq!(mailbox.end(0), Some(Begun { frame: 2, dropped: 2 }));
        assert!(mailbox.begin(1).is_some());
        assert_eq!(mailbox.end(1), Some(Begun { frame: 3, dropped: 0 }));
    }

    #[test]
    fn a_job_that_was_refused_answers_for_the_newest_frame() {
        let mailbox = Mailbox::default();
        mailbox.put(0, vec![]);
        assert_eq!(mailbox.end(0), Some(Begun { frame: 0, dropped: 0 }));
        assert!(mailbox.put(1, vec![]));
    }
}
