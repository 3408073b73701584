//! Slots keep the order of answers: each accepted request has one, and only the front slot is answered next.
//!
//! Here belong the order and the count of open requests. Encoding and writing are in [`super::writing`].
//!
//! Invariants: answers leave in the order of the requests. A reply is encoded only when its answer can be written, so a
//! conversation holds at most one encoded answer beside its write buffer.

use std::collections::VecDeque;

use tungstenite::Message;

use crate::engine::{Outcome, Reply};
use crate::memory::Share;

/// The accepted requests without an answer, oldest first.
pub struct Slots<P> {
    /// The number of the next request, which is also the number of requests so far.
    pub next: u64,
    open: VecDeque<Slot<P>>,
    /// How many open slots wait for a reply.
    waiting: usize,
    /// Bytes of the requests in open slots, as received.
    bytes: usize,
}

struct Slot<P> {
    /// Bytes of the request.
    size: usize,
    state: State<P>,
}

enum State<P> {
    /// The reply has not arrived. `None` only inside [`Slots::settle`].
    Waiting(Option<P>),
    Ready(Ready<P>),
}

/// What the next answer is made from.
pub enum Ready<P> {
    /// The answer itself, and its memory.
    Answer(Message, Share),
    /// What the dialogue kept for the request, the worker's outcome, and its memory.
    Reply(P, Box<Outcome>, Share),
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Slots { next: 0, open: VecDeque::new(), waiting: 0, bytes: 0 }
    }
}

impl<P> Slots<P> {
    /// Opens a slot for a request of `size` bytes that waits for a reply.
    pub fn wait(&mut self, pending: P, size: usize) {
        self.waiting += 1;
        self.push(State::Waiting(Some(pending)), size);
    }

    /// Opens a slot for a request of `size` bytes that has its answer already.
    pub fn answer(&mut self, answer: Message, share: Share, size: usize) {
        self.push(State::Ready(Ready::Answer(answer, share)), size);
    }

    fn push(&mut self, state: State<P>, size: usize) {
        self.next += 1;
        self.open.push_back(Slot { size, state });
        self.bytes += size;
    }

    /// How many slots are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// True when a slot waits for a reply.
    pub fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// Bytes of the requests in open slots.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a reply into its slot. A second reply for a slot, or one for a slot that is not open, is ignored.
    pub fn settle(&mut self, reply: Reply) {
        let first = self.next - self.open.len() as u64;
        let at = reply.slot.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let Some(Slot { state, .. }) = at.and_then(|at| self.open.get_mut(at)) else { return };
        if let State::Waiting(pending) = state
            && let Some(pending) = pending.take()
        {
            self.waiting -= 1;
            *state = State::Ready(Ready::Reply(pending, reply.outcome, reply.share));
        }
    }

    /// True when the next answer can be made.
    pub fn is_front_ready(&self) -> bool {
        matches!(self.open.front(), Some(Slot { state: State::Ready(_), .. }))
    }

    /// Closes the front slot if it is ready.
    pub fn pop_ready(&mut self) -> Option<Ready<P>> {
        let Slot { size, state } = self.open.pop_front()?;
        match state {
            State::Ready(ready) => {
                self.bytes -= size;
                Some(ready)
            }
            waiting => {
                self.open.push_front(Slot { size, state: waiting });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    fn settle(slots: &mut Slots<u32>, slot: u64) {
        let share = Share::none(&Budget::new(0));
        slots.settle(Reply { slot, outcome: Box::new(Ok(Default::default())), share });
    }

    fn pop(slots: &mut Slots<u32>) -> Option<u32> {
        match slots.pop_ready()? {
            Ready::Reply(pending, ..) => Some(pending),
            Ready::Answer(..) => panic!("no answer was given at once"),
        }
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests_for_any_order_of_replies() {
        let mut slots = Slots::default();
        for pending in 0..3 {
            slots.wait(pending, 10);
        }
        settle(&mut slots, 2);
        assert_eq!(pop(&mut slots), None);
        settle(&mut slots, 0);
        settle(&mut slots, 0);
        assert_eq!((pop(&mut slots), pop(&mut slots)), (Some(0), None));
        assert!(slots.waits());
        settle(&mut slots, 1);
        settle(&mut slots, 7);
        assert_eq!((pop(&mut slots), pop(&mut slots)), (Some(1), Some(2)));
        assert_eq!((slots.bytes(), slots.waits()), (0, false));
    }
}
