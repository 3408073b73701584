//! Ends conversations: the server stops, the peer closes or breaks a rule, or a deadline passes.
//!
//! Here belong close frames, the mapping of errors to close codes (RFC 6455 section 7.4.1), and all deadlines of an open
//! conversation except that of a blocked write, which is in [`super::writing`].
//!
//! Invariants: a conversation that the server ends gets a close frame with a code and a reason whenever the peer can still
//! read one. [`Conversation::next_deadline`] is the earliest time at which [`Conversation::watch`] must run.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message, WebSocket};

use super::frame_reader::Refused;
use super::frame_stream::FrameStream;
use super::life::Due;
use super::{Conversation, End, Phase, Turn};
use crate::config::Limits;
use crate::metrics::Cause;
use crate::net::service::Dialogue;
use crate::net::socket::{Interest, Socket};
use crate::net::transport::Transport;

impl<D: Dialogue, T: Transport> Conversation<'_, D, T> {
    /// Decides when the conversation leaves, once the server stops.
    pub(super) fn notice_drain(&mut self) {
        if self.leaves_at.is_none() && self.readiness.is_draining() {
            self.leaves_at = Some(self.now() + self.departures.next(self.limits.drain_spread));
        }
    }

    /// True when the server stops and it is this conversation's turn to end. Before that, it is served as always.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves_at.is_some_and(|at| self.now() >= at)
    }

    /// True when new requests are dropped, because the conversation ends soon.
    pub(super) fn takes_no_more(&mut self) -> bool {
        self.is_leaving() || self.dialogue.is_over().is_some()
    }

    /// Closes the conversation after its last answer when the server stops, or when the dialogue is over.
    pub(super) fn drain(&mut self) -> Turn {
        if self.phase != Phase::Open || !self.has_answered_all() {
            return Ok(());
        }
        if self.is_leaving() {
            return self.close(Cause::Drained, CloseCode::Away, "the server is stopping");
        }
        match self.dialogue.is_over() {
            Some(reason) => self.close(Cause::Replaced, CloseCode::Restart, reason),
            None => Ok(()),
        }
    }

    /// Passes the peer's close frame on to tungstenite when everything before it is answered, or when the time for that is
    /// over. A peer that closes may still read, so it gets its last answers first.
    pub(super) fn let_close_pass(&mut self) -> Turn {
        let Some(deadline) = self.peer_close_deadline() else { return Ok(()) };
        let is_late = self.now() >= deadline;
        if is_late && self.blocked.is_some() {
            return Err(End(Cause::Closed, "closed; the peer did not read its last answers".into()));
        }
        if is_late || self.phase != Phase::Open || self.has_answered_all() && !self.has_backlog() {
            self.ws.get_mut().reader_mut().release_close();
            self.unread = true;
        }
        Ok(())
    }

    /// Until when answers are written after the peer's close frame. Each answer extends it.
    fn peer_close_deadline(&self) -> Option<Instant> {
        Some(self.peer_closes()?.max(self.life.used) + self.limits.close_timeout)
    }

    /// True when every request has an answer and every answer is sent.
    fn has_answered_all(&self) -> bool {
        self.slots.is_empty() && self.rest.is_none() && self.unflushed == 0
    }

    /// Sends a close frame and waits for the peer's answer to it.
    pub(super) fn close(&mut self, cause: Cause, code: CloseCode, reason: &str) -> Turn {
        self.leaving = Some(cause);
        self.phase = Phase::Closing(self.now() + self.limits.close_timeout);
        self.unread = true;
        match self.ws.close(Some(close_frame(code, reason))) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => self.flush(),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Ends a conversation after an error of tungstenite or of the stream. A peer that broke the protocol or a limit gets a
    /// close frame; what it sends after that cannot be understood (RFC 6455 section 7.1.7).
    pub(super) fn failed(&mut self, error: &Error) -> End {
        let (cause, code, reason) = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                let Limits { max_message_bytes, max_frame_bytes, .. } = self.limits;
                let reason = format!(
                    "a message may have {max_message_bytes} bytes, and a frame of it {}",
                    max_frame_bytes.min(max_message_bytes)
                );
                (Cause::TooLarge, CloseCode::Size, reason)
            }
            Error::Io(fault) if fault.kind() == ErrorKind::InvalidData => {
                match self.ws.get_ref().reader().refused() {
                    Some(Refused::Fragments) => (Cause::TooSlow, CloseCode::Policy, fault.to_string()),
                    Some(Refused::Control) => (Cause::Protocol, CloseCode::Protocol, fault.to_string()),
                    // A TLS error: rustls has sent an alert, and nothing can be sent after it.
                    None => return self.lost(error),
                }
            }
            Error::Utf8(_) => (Cause::Protocol, CloseCode::Invalid, "a text message must be UTF-8".into()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return End(Cause::Lost, "the peer went away without a close".into());
            }
            Error::Protocol(protocol) => (Cause::Protocol, CloseCode::Protocol, protocol.to_string()),
            _ => return self.lost(error),
        };
        self.refuse(cause, code, &reason)
    }

    /// Sends the answers that are ready and then a close frame with the reason. Everything that follows from the peer is
    /// discarded.
    fn refuse(&mut self, cause: Cause, code: CloseCode, reason: &str) -> End {
        // The conversation ends in any case, so an error does not matter.
        let _ = self.write_answers();
        let _ = self.ws.close(Some(close_frame(code, reason)));
        self.phase = Phase::Lingering(self.now() + self.limits.close_timeout);
        End(cause, format!("closed with {}: {reason}", u16::from(code)))
    }

    /// The end of a conversation whose connection is closed or broken.
    pub(super) fn lost(&self, error: &Error) -> End {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => End(Cause::Closed, "closed".into()),
            error => End(Cause::Lost, format!("lost: {error}")),
        }
    }

    /// Checks all deadlines, and acts on those that have passed.
    pub(super) fn watch(&mut self) -> Turn {
        let now = self.now();
        if let Phase::Closing(deadline) = self.phase {
            return if now < deadline {
                Ok(())
            } else {
                Err(End(Cause::Lost, "dropped: the peer did not answer our close".into()))
            };
        }
        self.life.heard(self.transport().received(), now);
        self.reading_since = if self.may_read() { self.reading_since.or(Some(now)) } else { None };
        if let Some(reason) = self.dialogue.is_unwelcome() {
            return Err(self.refuse(Cause::Revoked, CloseCode::Policy, &reason));
        }
        if self.message_deadline().is_some_and(|deadline| now >= deadline) {
            let reason = format!("a message took longer than {:?}", self.limits.message_timeout);
            return Err(self.refuse(Cause::TooSlow, CloseCode::Policy, &reason));
        }
        if self.idle_deadline().is_some_and(|deadline| now >= deadline) {
            return self.close(Cause::Idle, CloseCode::Normal, "no request came for too long");
        }
        match self.next_sign_of_life() {
            Some(Due::Ping(at)) if now >= at && self.blocked.is_none() => {
                self.life.pinged = Some(now);
                self.counters.pings.one();
                self.ws.write(Message::Ping(Bytes::new())).map_err(|error| self.lost(&error))?;
                self.flush()
            }
            Some(Due::Death(at)) if now >= at => {
                let patience = self.limits.ping_timeout;
                Err(End(Cause::Silent, format!("dropped: no sign of life for {patience:?} after a ping")))
            }
            _ => Ok(()),
        }
    }

    /// When the next ping is due, or the end because a ping was not answered. A peer that has sent a close frame is not
    /// pinged.
    fn next_sign_of_life(&self) -> Option<Due> {
        if self.peer_closes().is_some() { None } else { self.life.next(self.limits, self.reading_since) }
    }

    /// When an incomplete message must be complete; `None` when there is none, or while the server does not read.
    ///
    /// The time starts again after each pause in which the server did not read. A peer can cause such pauses by not reading
    /// its answers, so from its first byte a message has at most `PAUSES` times the time-out.
    fn message_deadline(&self) -> Option<Instant> {
        const PAUSES: u32 = 20;
        let begun = self.ws.get_ref().reader().incomplete_since()?;
        let since = begun.max(self.reading_since?);
        Some((since + self.limits.message_timeout).min(begun + self.limits.message_timeout * PAUSES))
    }

    /// When the conversation is closed because no request came; `None` while requests are open, or without the limit.
    fn idle_deadline(&self) -> Option<Instant> {
        let counts = !self.limits.idle_timeout.is_zero() && self.has_answered_all();
        counts.then(|| self.life.used + self.limits.idle_timeout)
    }

    /// The earliest time at which the loop must make a turn even if nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if let Phase::Closing(deadline) | Phase::Lingering(deadline) = self.phase {
            return Some(deadline);
        }
        let ping = self.next_sign_of_life().and_then(|due| match due {
            Due::Ping(_) if self.blocked.is_some() => None,
            Due::Ping(at) | Due::Death(at) => Some(at),
        });
        let blocked = self.blocked.map(|blocked| blocked.deadline);
        let peer_close = self.peer_close_deadline();
        // Afterwards, the conversation ends with its last answer, and not at a time.
        let leaves = self.leaves_at.filter(|at| self.now() < *at);
        let deadlines = [ping, blocked, peer_close, leaves, self.message_deadline(), self.idle_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

/// A close frame. The reason is cut to 123 bytes: a control frame holds 125 (RFC 6455 section 5.5), and the code takes two.
fn close_frame(code: CloseCode, reason: &str) -> CloseFrame {
    const LONGEST: usize = 123;
    CloseFrame { code, reason: reason[..reason.floor_char_boundary(LONGEST)].into() }
}

/// Sends the close frame and discards what arrives, until the peer closes or the deadline passes.
pub(super) fn linger(mut ws: WebSocket<FrameStream<Socket>>, deadline: Instant) {
    let mut discarded = [0; 4096];
    loop {
        let blocked = matches!(ws.flush(), Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock);
        let socket = ws.get_mut().transport_mut();
        socket.refill(discarded.len());
        match socket.read(&mut discarded) {
            Ok(0) => return,
            Ok(_) if socket.clock().now() < deadline => continue,
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if !blocked {
            return ws.into_inner().into_transport().close_gently(deadline);
        }
        if socket.clock().now() >= deadline {
            return;
        }
        let either = Interest { read: true, write: true, reply: false };
        if socket.wait(either, Some(deadline), || false).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let frame = close_frame(CloseCode::Error, &"é".repeat(100));
        assert_eq!(frame.reason.len(), 122);
    }
}
