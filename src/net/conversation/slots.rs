//! The order of answers: a slot for every accepted request, written from the front when it is ready.

use std::collections::VecDeque;

use tungstenite::Message;

/// The requests that are accepted and not answered, oldest first.
pub struct Slots<P> {
    /// The number of the next request: as many as there have been.
    pub next: u64,
    pub open: VecDeque<Slot<P>>,
    /// The sizes of the open slots' requests, and their sum, in bytes.
    sizes: VecDeque<usize>,
    bytes: usize,
}

pub enum Slot<P> {
    Waiting(P),
    /// Its reply is being made into an answer.
    Taken,
    Ready(Message),
}

impl<P> Slot<P> {
    pub fn is_waiting(&self) -> bool {
        matches!(self, Slot::Waiting(_))
    }
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Slots { next: 0, open: VecDeque::new(), sizes: VecDeque::new(), bytes: 0 }
    }
}

impl<P> Slots<P> {
    /// Takes a request of `size` bytes.
    pub fn push(&mut self, slot: Slot<P>, size: usize) {
        self.next += 1;
        self.open.push_back(slot);
        self.sizes.push_back(size);
        self.bytes += size;
    }

    /// Bytes of the requests that are not answered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot<P>> {
        let first = self.next - self.open.len() as u64;
        self.open.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Takes what an open slot keeps for its answer.
    pub fn pending(&mut self, number: u64) -> Option<P> {
        let slot = self.slot(number)?;
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Waiting(pending) => Some(pending),
            other => {
                *slot = other;
                None
            }
        }
    }

    pub fn settle(&mut self, number: u64, answer: Message) {
        if let Some(slot) = self.slot(number) {
            *slot = Slot::Ready(answer);
        }
    }

    pub fn is_front_ready(&self) -> bool {
        matches!(self.open.front(), Some(Slot::Ready(_)))
    }

    pub fn pop_ready(&mut self) -> Option<Message> {
        match self.open.pop_front()? {
            Slot::Ready(answer) => {
                self.bytes -= self.sizes.pop_front().unwrap_or(0);
                Some(answer)
            }
            other => {
                self.open.push_front(other);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_the_requests_whatever_the_order_of_replies() {
        let mut slots = Slots::default();
        for pending in 0..3 {
            slots.push(Slot::Waiting(pending), 10);
        }
        assert_eq!(slots.pending(2), Some(2));
        slots.settle(2, Message::text("2"));
        assert!(slots.pop_ready().is_none());
        assert_eq!(slots.pending(0), Some(0));
        assert_eq!(slots.pending(0), None);
        slots.settle(0, Message::text("0"));
        assert_eq!(slots.pop_ready(), Some(Message::text("0")));
        assert!(slots.pop_ready().is_none());
        assert_eq!(slots.pending(1), Some(1));
        slots.settle(1, Message::text("1"));
        assert_eq!(slots.pop_ready(), Some(Message::text("1")));
        assert_eq!(slots.pop_ready(), Some(Message::text("2")));
        assert_eq!(slots.pending(7), None);
        assert_eq!(slots.bytes(), 0);
    }
}
