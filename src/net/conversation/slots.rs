//! The order of answers: a slot for every accepted request, written from the front when it is ready.
//!
//! A reply stays as it came until its answer can be written. Then it is encoded: so a conversation holds one encoded
//! answer at most beside its write buffer, however many are ready.

use std::collections::VecDeque;

use tungstenite::Message;

use crate::engine::{Outcome, Reply};
use crate::memory::Share;

/// The requests that are accepted and not answered, oldest first.
pub struct Slots<P> {
    /// The number of the next request: as many as there have been.
    pub next: u64,
    open: VecDeque<Slot<P>>,
    /// Of the open slots, how many wait for a reply.
    waiting: usize,
    /// Bytes of the open slots' requests, as they came.
    bytes: usize,
}

struct Slot<P> {
    /// Bytes of the request.
    size: usize,
    state: State<P>,
}

enum State<P> {
    /// Until its reply comes; never `None` outside of [`Slots::settle`].
    Waiting(Option<P>),
    Ready(Ready<P>),
}

/// What is to be written next.
pub enum Ready<P> {
    /// Known at once.
    Answer(Message, Share),
    /// A reply, and what makes the answer of it.
    Reply(P, Box<Outcome>, Share),
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Slots { next: 0, open: VecDeque::new(), waiting: 0, bytes: 0 }
    }
}

impl<P> Slots<P> {
    /// Takes a request of `size` bytes whose reply will come.
    pub fn wait(&mut self, pending: P, size: usize) {
        self.waiting += 1;
        self.push(State::Waiting(Some(pending)), size);
    }

    /// Takes a request of `size` bytes that is answered already.
    pub fn answer(&mut self, answer: Message, share: Share, size: usize) {
        self.push(State::Ready(Ready::Answer(answer, share)), size);
    }

    fn push(&mut self, state: State<P>, size: usize) {
        self.next += 1;
        self.open.push_back(Slot { size, state });
        self.bytes += size;
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// True when there is a slot whose reply has not come.
    pub fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// Bytes of the requests that are not answered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a reply into its slot.
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

    pub fn is_front_ready(&self) -> bool {
        matches!(self.open.front(), Some(Slot { state: State::Ready(_), .. }))
    }

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
    fn answers_leave_in_the_order_of_the_requests_whatever_the_order_of_replies() {
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
