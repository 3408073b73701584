//! The backlog: complete messages that wait undecoded for a free slot.
//!
//! Only the queue and its size belong here; [`super::reading`] decides when a message waits.
//!
//! Invariant: [`Backlog::bytes`] is the sum over the messages in the queue.

use std::collections::VecDeque;

use tungstenite::Message;

use super::frame_reader::{Arrived, MESSAGE};

/// The messages that wait for a slot, oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    messages: VecDeque<(Message, Arrived)>,
    bytes: usize,
}

impl Backlog {
    /// Adds the newest message.
    pub fn push(&mut self, message: Message, arrived: Arrived) {
        self.bytes += message.len() + MESSAGE;
        self.messages.push_back((message, arrived));
    }

    /// Removes the oldest message.
    pub fn pop(&mut self) -> Option<(Message, Arrived)> {
        let (message, arrived) = self.messages.pop_front()?;
        self.bytes -= message.len() + MESSAGE;
        if self.messages.is_empty() {
            // Frees the queue's memory, because a conversation may live for days.
            self.messages = VecDeque::new();
        }
        Some((message, arrived))
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of all messages, with [`MESSAGE`] bytes for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
