//! Messages on their way in: to a slot when there is one, or held until there is.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use tungstenite::Message;
use tungstenite::error::Error;

use super::frame_reader::Arrived;
use super::{Conversation, Phase, Turn};
use crate::memory::Share;
use crate::net::service::{Dialogue, Incoming, Progress, ReplySlot};
use crate::net::transport::Transport;

/// Messages, and bytes, read before answers get their turn again.
const BURST: usize = 16;
const BURST_BYTES: usize = 256 << 10;

impl<D: Dialogue, T: Transport> Conversation<'_, D, T> {
    pub(super) fn read_requests(&mut self) -> Turn {
        self.ws.get_mut().transport_mut().refill(BURST_BYTES);
        for _ in 0..BURST {
            if !self.may_read() {
                return Ok(());
            }
            let read = self.ws.read();
            // Before anything is answered, so that whoever has an answer knows what time it counted.
            if read.is_ok() {
                self.life.heard(self.transport().received(), self.now());
            }
            match read {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => self.arrive(message)?,
                // Its pong is queued already.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // It was let pass when all was answered that could be; tungstenite answers it in the next read,
                    // which ends the loop.
                    self.cancelled.store(true, Ordering::Relaxed);
                    if self.phase == Phase::Open {
                        self.phase = Phase::Closing(self.now() + self.limits.close_timeout);
                    }
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.unread = self.transport().starved();
                    return Ok(());
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// Takes a message at once if it is its turn and there is a slot; otherwise it waits.
    fn arrive(&mut self, message: Message) -> Turn {
        let arrived = self.ws.get_mut().reader_mut().arrived();
        let arrived = arrived.unwrap_or_else(|| Arrived::Whole(Share::none(self.memory)));
        // A draining server reads on, for pings and the peer's close, but takes no more requests.
        if self.phase != Phase::Open || self.takes_no_more() {
            return Ok(());
        }
        self.life.used = self.now();
        if self.has_backlog() || self.slots.len() >= self.limits.max_in_flight {
            self.backlog.push(message, arrived);
            return Ok(());
        }
        self.receive(&message, arrived)?;
        self.take_backlog()
    }

    pub(super) fn take_backlog(&mut self) -> Turn {
        while self.may_take() {
            if self.dialogue.has_next() {
                let share = Share::none(self.memory);
                let slot = self.next_slot();
                let Some(step) = self.dialogue.next(share, &slot) else { return Ok(()) };
                self.take_step(step, 0)?;
            } else if let Some((message, arrived)) = self.backlog.pop() {
                self.receive(&message, arrived)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, message: &Message, arrived: Arrived) -> Turn {
        let incoming = match message {
            Message::Text(text) => Incoming::Text(text.as_str()),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            _ => return Ok(()),
        };
        let step = match arrived {
            Arrived::Whole(share) => {
                let slot = self.next_slot();
                self.dialogue.receive(incoming, share, &slot)
            }
            Arrived::Refused(error) => Progress::Answered(self.dialogue.refuse(&error)),
        };
        self.take_step(step, incoming.len())
    }

    fn take_step(&mut self, step: Progress<D::Pending, Message>, size: usize) -> Turn {
        if !matches!(step, Progress::NoAnswer) {
            self.counters.requests.one();
        }
        match step {
            Progress::Answered(answer) => {
                let mut share = Share::none(self.memory);
                // It is an error of some hundred bytes, and says so even when nothing is left.
                let _ = share.grow(answer.len());
                self.slots.answer(answer, share, size);
            }
            Progress::Pending(pending) => self.slots.wait(pending, size),
            Progress::NoAnswer => {}
        }
        Ok(())
    }

    /// The place of the next request.
    fn next_slot(&self) -> ReplySlot {
        ReplySlot {
            slot: self.slots.next,
            replies: self.replies.clone(),
            waker: self.waker.clone(),
            cancelled: self.cancelled.clone(),
        }
    }
}
