//! `stream=last`: the frames of a conversation of which only the newest is run.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::Mailbox;
use crate::inference::Pending;

/// The frames that have come and are not answered, oldest first.
#[derive(Debug, Default)]
pub struct Frames {
    pub mailbox: Arc<Mailbox>,
    /// The number of the oldest that is kept.
    first: u64,
    waiting: VecDeque<Pending>,
}

impl Frames {
    /// The number of the frame that comes now.
    pub fn next(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    pub fn wait(&mut self, pending: Pending) {
        self.waiting.push_back(pending);
    }

    /// What makes the answer for the job of `slot`. Frames before the one that it was run with have no answer.
    pub fn answered(&mut self, slot: u64) -> Option<Pending> {
        let begun = self.mailbox.end(slot)?;
        let before = usize::try_from(begun.frame.checked_sub(self.first)?).ok()?;
        self.waiting.drain(..before.min(self.waiting.len()));
        let mut pending = self.waiting.pop_front()?;
        self.first = begun.frame + 1;
        pending.stream.dropped = Some(begun.dropped);
        Some(pending)
    }
}
