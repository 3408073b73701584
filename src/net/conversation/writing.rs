//! Writes answers in order, as fast as the peer reads.
//!
//! Here belong encoding, fragments of long answers, and the deadline of a blocked write. The order is in [`super::slots`].
//!
//! Invariant: an answer is encoded only when the peer has room for it, so ready answers do not fill memory.

use std::io::ErrorKind;

use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::slots::Ready;
use super::{Blocked, Conversation, End, Turn};
use crate::metrics::Cause;
use crate::net::service::Dialogue;
use crate::net::transport::Transport;

/// Bytes in a fragment of a longer answer. tungstenite keeps its output buffer at its largest size until the conversation
/// ends, so frames must be short.
const FRAGMENT: usize = 64 << 10;

impl<D: Dialogue, T: Transport> Conversation<'_, D, T> {
    /// Writes the answers that are next, as many as the peer reads.
    pub(super) fn write_answers(&mut self) -> Turn {
        loop {
            self.flush()?;
            if !self.may_write() {
                return Ok(());
            }
            while self.unflushed < self.limits.write_buffer_bytes
                && let Some(frame) = self.next_frame()
            {
                self.unflushed += frame.len().max(1);
                self.ws.write(frame).map_err(|error| self.lost(&error))?;
            }
        }
    }

    /// Encodes the next answer. Call it only when the answer can be written.
    fn next_answer(&mut self) -> Option<Message> {
        while let Some(ready) = self.slots.pop_ready() {
            let (answer, share) = match ready {
                Ready::Answer(answer, share) => (Some(answer), share),
                Ready::Reply(pending, outcome, mut share) => {
                    (self.dialogue.answer(pending, *outcome, &mut share), share)
                }
            };
            self.counters.answers.one();
            self.life.used = self.now();
            if answer.is_some() {
                self.writing.absorb(share);
                return answer;
            }
        }
        None
    }

    /// The next answer, or the next fragment of a long one.
    fn next_frame(&mut self) -> Option<Message> {
        let (mut payload, opcode) = match self.rest.take() {
            Some(rest) => (rest, Data::Continue),
            None => match self.next_answer()? {
                Message::Text(text) if text.len() > FRAGMENT => (text.into(), Data::Text),
                Message::Binary(bytes) if bytes.len() > FRAGMENT => (bytes, Data::Binary),
                short => return Some(short),
            },
        };
        let fragment = payload.split_to(FRAGMENT.min(payload.len()));
        let is_final = payload.is_empty();
        if !is_final {
            self.rest = Some(payload);
        }
        Some(Message::Frame(Frame::message(fragment, OpCode::Data(opcode), is_final)))
    }

    /// Sends what tungstenite holds: answers, pongs and close frames. Ends the conversation when the peer has read nothing
    /// for [`Limits::write_timeout`](crate::config::Limits::write_timeout).
    pub(super) fn flush(&mut self) -> Turn {
        match self.ws.flush() {
            Ok(()) => {
                self.unflushed = 0;
                self.blocked = None;
                if self.rest.is_none() {
                    self.writing.shrink(usize::MAX);
                }
                Ok(())
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let (written, now) = (self.transport().written(), self.now());
                match self.blocked {
                    Some(blocked) if blocked.written == written && now >= blocked.deadline => {
                        let patience = self.limits.write_timeout;
                        Err(End(Cause::Stalled, format!("dropped: the peer read nothing for {patience:?}")))
                    }
                    Some(blocked) if blocked.written == written => Ok(()),
                    _ => {
                        self.blocked = Some(Blocked { written, deadline: now + self.limits.write_timeout });
                        Ok(())
                    }
                }
            }
            Err(error) => Err(self.lost(&error)),
        }
    }
}
