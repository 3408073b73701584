//! Messages that are read and not decoded, because all slots are taken.

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
    pub fn push(&mut self, message: Message, arrived: Arrived) {
        self.bytes += message.len() + MESSAGE;
        self.messages.push_back((message, arrived));
    }

    pub fn pop(&mut self) -> Option<(Message, Arrived)> {
        let (message, arrived) = self.messages.pop_front()?;
        self.bytes -= message.len() + MESSAGE;
        if self.messages.is_empty() {
            // Its room is not kept for a conversation that may live for days.
            self.messages = VecDeque::new();
        }
        Some((message, arrived))
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of the messages, with what each takes beside its payload.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
