//! Reads messages, and gives each a slot or puts it into the backlog.
//!
//! Here belongs the way of a message from the stream to the [`Dialogue`]. Answers are in [`super::writing`].
//!
//! Invariants: messages reach the dialogue in the order in which they arrived. Each message that gets an answer has one
//! slot.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tungstenite::Message;
use tungstenite::error::Error;

use super::frame_reader::Arrived;
use super::{Conversation, Phase, Turn};
use crate::memory::Share;
use crate::net::service::{Dialogue, Incoming, Progress, ReplySlot};
use crate::net::transport::Transport;

/// How many messages and how many bytes one turn reads at most, so that answers are written in between.
const BURST: usize = 16;
const BURST_BYTES: usize = 256 << 10;

/// The longest run in this thread. A hand-over to a worker and back costs some 20 µs, so for longer runs little would be
/// gained.
pub(super) const PATIENCE: Duration = Duration::from_micros(200);

impl<D: Dialogue, T: Transport> Conversation<'_, D, T> {
    /// Reads messages until nothing more has arrived, a limit is reached, or the turn has read enough.
    pub(super) fn read_requests(&mut self) -> Turn {
        let stream = self.ws.get_mut();
        stream.borrow_from(self.buffers);
        stream.transport_mut().refill(BURST_BYTES);
        let result = self.read_messages();
        self.ws.get_mut().give_back_to(self.buffers);
        result
    }

    fn read_messages(&mut self) -> Turn {
        for _ in 0..BURST {
            if !self.may_read() {
                return Ok(());
            }
            let read = self.ws.read();
            // Before any answer is written: a test that has received an answer can rely on the recorded time.
            if read.is_ok() {
                self.life.heard(self.transport().received(), self.now());
            }
            match read {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => self.arrive(message)?,
                // tungstenite has queued the pong already.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // `FrameReader` held it back until everything was answered. tungstenite answers it in the next
                    // read, which ends the loop.
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

    /// Gives a message to the dialogue if a slot is free and no other message waits; otherwise puts it into the backlog.
    fn arrive(&mut self, message: Message) -> Turn {
        let arrived = self.ws.get_mut().reader_mut().arrived();
        let arrived = arrived.unwrap_or_else(|| Arrived::Whole(Share::none(self.memory)));
        // A draining server still reads, for pings and the peer's close frame, but drops new requests.
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

    /// Gives waiting messages to the dialogue while slots are free.
    pub(super) fn take_backlog(&mut self) -> Turn {
        while self.may_take() {
            if self.dialogue.has_next() {
                let share = Share::none(self.memory);
                let slot = self.next_slot();
                let Some(progress) = self.dialogue.next(share, &slot) else { return Ok(()) };
                self.open_slot(progress, 0)?;
            } else if let Some((message, arrived)) = self.backlog.pop() {
                self.receive(&message, arrived)?;
            }
        }
        Ok(())
    }

    /// Gives a message to the dialogue.
    fn receive(&mut self, message: &Message, arrived: Arrived) -> Turn {
        let incoming = match message {
            Message::Text(text) => Incoming::Text(text.as_str()),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            _ => return Ok(()),
        };
        let progress = match arrived {
            Arrived::Whole(share) => {
                let slot = self.next_slot();
                self.dialogue.receive(incoming, share, &slot)
            }
            Arrived::Refused(error) => Progress::Answered(self.dialogue.refuse(&error)),
        };
        self.open_slot(progress, incoming.len())
    }

    /// Opens the slot of a request of `size` bytes.
    fn open_slot(&mut self, progress: Progress<D::Pending, Message>, size: usize) -> Turn {
        if !matches!(progress, Progress::NoAnswer) {
            self.counters.requests.one();
        }
        match progress {
            Progress::Answered(answer) => {
                let mut share = Share::none(self.memory);
                // Without free memory the answer is sent all the same: it is an error of a few hundred bytes.
                let _ = share.grow(answer.len());
                self.slots.answer(answer, share, size);
            }
            Progress::Pending(pending) => self.slots.wait(pending, size),
            Progress::NoAnswer => {}
        }
        Ok(())
    }

    /// The slot for the next request.
    fn next_slot(&self) -> ReplySlot {
        ReplySlot {
            slot: self.slots.next,
            replies: self.replies.clone(),
            waker: self.waker.clone(),
            cancelled: self.cancelled.clone(),
            patience: self.patience(),
        }
    }

    /// How long this thread may be busy with a run of the next request. During that time it does not answer pings and does
    /// not notice that the peer goes away or the server stops. When the conversation has other requests, workers may run
    /// all of them at the same time, or in one batch.
    fn patience(&self) -> Duration {
        let is_alone = self.slots.is_empty() && self.backlog.is_empty() && !self.ws.get_ref().has_more();
        if is_alone { PATIENCE } else { Duration::ZERO }
    }
}
