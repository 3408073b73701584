//! A WebSocket conversation: frames both ways on one thread, full duplex.
//!
//! The thread goes round one loop: take replies, write the answers whose turn it is, read what has
//! come, sleep until one of these is possible again. Requests pipeline; answers keep their order,
//! because each request has a slot and only the ready front of the slots is written. While inference
//! runs the thread is free, so pings are answered (by tungstenite, inside `read`), a peer that went
//! away is noticed, and its queued requests are cancelled.
//!
//! Memory has bounds: at `max_in_flight` open slots nothing more is read; while a write is blocked
//! nothing is read either, and no further answer is encoded. A peer that does not read is dropped after `write_timeout`.

mod inflow;
mod life;
mod slots;

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Bytes, Message, WebSocket};

use self::inflow::{Inflow, Refused};
use self::life::{Due, Life};
use self::slots::{Slot, Slots};
use super::connections::Shared;
use super::service::{Dialogue, Incoming, ReplySlot, Service, Step};
use super::socket::{Interest, Socket};
use crate::config::Limits;
use crate::engine::Reply;
use crate::memory::{Budget, Share};
use crate::ops::health::Readiness;
use crate::ops::metrics::{Cause, Counters};

/// Bytes that tungstenite takes at once from [`Inflow`], and that an idle conversation keeps for it.
const READ_BUFFER: usize = 1 << 10;

/// A longer answer goes out in fragments of this length: tungstenite keeps its largest output buffer
/// for as long as the conversation lives.
const FRAGMENT: usize = 64 << 10;

/// Messages, and bytes, read before answers get their turn again.
const BURST: usize = 16;
const BURST_BYTES: usize = 256 << 10;

/// How a conversation went.
#[derive(Debug)]
pub struct Ended {
    /// Data messages received.
    pub requests: u64,
    pub cause: Cause,
    pub why: String,
}

/// Holds a conversation until it ends. `already_read` is what came behind the handshake.
pub fn hold<S: Service>(
    socket: Socket,
    already_read: Vec<u8>,
    dialogue: S::Dialogue,
    shared: &Shared<S>,
) -> Ended {
    let Shared { limits, readiness, counters, memory, clock, .. } = shared;
    let max_frame = limits.max_frame_bytes.min(limits.max_message_bytes);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Answers are gathered here and pushed by our flush; its own eager writes would only hide
        // when the peer stops reading.
        .write_buffer_size(usize::MAX - 1)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(limits.max_message_bytes))
        .max_frame_size(Some(max_frame));
    let inflow = Inflow::new(socket, already_read, max_frame, limits.max_fragments);
    let ws = WebSocket::from_raw_socket(inflow, Role::Server, Some(config));
    let (replies, inbox) = bounded(limits.max_in_flight);
    let mut conversation = Conversation {
        ws,
        dialogue,
        limits,
        readiness,
        counters,
        memory,
        slots: Slots::default(),
        replies,
        inbox,
        cancelled: Arc::new(AtomicBool::new(false)),
        phase: Phase::Open,
        leaving: None,
        unflushed: 0,
        blocked: None,
        unread: true,
        reading_since: None,
        rest: None,
        life: Life::begin(clock.now()),
    };
    let End(cause, why) = loop {
        if let Err(end) = conversation.turn() {
            break end;
        }
    };
    conversation.cancelled.store(true, Ordering::Relaxed);
    let requests = conversation.slots.next;
    let cause = conversation.leaving.unwrap_or(cause);
    if let Phase::Lingering(deadline) = conversation.phase {
        linger(conversation.ws, deadline);
    } else {
        conversation.ws.get_mut().socket_mut().say_goodbye();
    }
    Ended { requests, cause, why }
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Requests are taken.
    Open,
    /// We sent a close frame, and wait for the peer's until then.
    Closing(Instant),
    /// We failed the conversation; the stream makes no sense any more and is only thrown away.
    Lingering(Instant),
}

/// A write that the peer does not take.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    /// Bytes written when it was last seen to make progress.
    written: u64,
    deadline: Instant,
}

struct Conversation<'a, D: Dialogue> {
    ws: WebSocket<Inflow>,
    dialogue: D,
    limits: &'a Limits,
    readiness: &'a Readiness,
    counters: &'a Counters,
    memory: &'a Arc<Budget>,
    slots: Slots<D::Pending>,
    replies: Sender<Reply>,
    inbox: Receiver<Reply>,
    cancelled: Arc<AtomicBool>,
    phase: Phase,
    /// Why we closed, if it was us.
    leaving: Option<Cause>,
    /// Bytes given to tungstenite since the last complete flush.
    unflushed: usize,
    blocked: Option<Blocked>,
    /// There may be input that has not been looked at.
    unread: bool,
    /// Since when it is not us who do not read.
    reading_since: Option<Instant>,
    /// What is still to be written of a long answer.
    rest: Option<Bytes>,
    life: Life,
}

/// Why the loop ends, counted and in words for the log.
#[derive(Debug)]
struct End(Cause, String);

type Turn = Result<(), End>;

impl<D: Dialogue> Conversation<'_, D> {
    /// Once round.
    fn turn(&mut self) -> Turn {
        if self.blocked.is_none() {
            self.take_replies();
        }
        self.write_answers()?;
        self.take_backlog()?;
        if self.unread {
            self.read_requests()?;
            // Pongs and the answer to a close are pushed by the read, as far as they go.
            self.flush()?;
        }
        self.drain()?;
        self.watch()?;
        let may_write = self.phase == Phase::Open && self.blocked.is_none() && self.slots.is_front_ready();
        let may_read = self.unread && self.may_read();
        let may_take = self.has_backlog() && self.has_room();
        if may_write || may_read || may_take { Ok(()) } else { self.sleep() }
    }

    fn take_replies(&mut self) {
        while let Ok(reply) = self.inbox.try_recv() {
            let Some(pending) = self.slots.pending(reply.slot) else { continue };
            let answer = self.dialogue.answer(pending, *reply.outcome);
            self.slots.settle(reply.slot, answer);
        }
    }

    /// Writes the ready front of the slots, as much as the peer takes.
    fn write_answers(&mut self) -> Turn {
        loop {
            self.flush()?;
            if self.blocked.is_some() || self.phase != Phase::Open {
                return Ok(());
            }
            let before = self.unflushed;
            while self.unflushed < self.limits.write_buffer_bytes
                && let Some(answer) = self.next_frame()
            {
                self.unflushed += answer.len().max(1);
                self.ws.write(answer).map_err(|error| self.lost(&error))?;
            }
            if self.unflushed == before {
                return Ok(());
            }
        }
    }

    fn pop_answer(&mut self) -> Option<Message> {
        let answer = self.slots.pop_ready()?;
        self.counters.answers.one();
        self.life.used = self.now();
        Some(answer)
    }

    /// The next answer, or the next fragment of a long one.
    fn next_frame(&mut self) -> Option<Message> {
        let (mut payload, opcode) = match self.rest.take() {
            Some(rest) => (rest, Data::Continue),
            None => match self.pop_answer()? {
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

    /// Pushes what tungstenite holds (answers, pongs, close frames) to the socket.
    fn flush(&mut self) -> Turn {
        match self.ws.flush() {
            Ok(()) => {
                self.unflushed = 0;
                self.blocked = None;
                Ok(())
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let (written, now) = (self.ws.get_ref().socket().written(), self.now());
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

    fn now(&self) -> Instant {
        self.ws.get_ref().socket().clock().now()
    }

    fn may_read(&self) -> bool {
        match self.phase {
            // Not from a peer that does not read: every ping would add a pong to what it leaves lying.
            Phase::Open if self.blocked.is_some() => false,
            Phase::Open => self.has_room() && !self.has_backlog(),
            Phase::Closing(_) => true,
            Phase::Lingering(_) => false,
        }
    }

    fn has_room(&self) -> bool {
        self.slots.open.len() < self.limits.max_in_flight
            && self.slots.bytes() < self.limits.max_in_flight_bytes
    }

    /// Messages that were taken lead to more requests than there was room for. A draining server leaves them.
    fn has_backlog(&self) -> bool {
        self.phase == Phase::Open && self.dialogue.has_next() && !self.readiness.is_draining()
    }

    fn take_backlog(&mut self) -> Turn {
        while self.blocked.is_none() && self.has_room() && self.has_backlog() {
            let slot = next_slot(&self.slots, &self.replies, &self.ws, &self.cancelled);
            let share = Share::none(self.memory);
            let Some(step) = self.dialogue.next(share, &slot) else { return Ok(()) };
            self.take_step(step, 0)?;
        }
        Ok(())
    }

    fn read_requests(&mut self) -> Turn {
        self.ws.get_mut().socket_mut().refill(BURST_BYTES);
        for _ in 0..BURST {
            if !self.may_read() {
                return Ok(());
            }
            let read = self.ws.read();
            // Before anything is answered, so that whoever has an answer knows what time it counted.
            if read.is_ok() {
                self.life.heard(self.ws.get_ref().socket().received(), self.now());
            }
            match read {
                Ok(Message::Text(text)) => self.receive(Incoming::Text(text.as_str()))?,
                Ok(Message::Binary(bytes)) => self.receive(Incoming::Binary(&bytes))?,
                // Its pong is queued already.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // Nobody waits for what is still under way; tungstenite answers the close in the
                    // next read, which ends the loop.
                    self.cancelled.store(true, Ordering::Relaxed);
                    if self.phase == Phase::Open {
                        self.phase = Phase::Closing(self.now() + self.limits.close_timeout);
                    }
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.unread = self.ws.get_ref().socket().starved();
                    return Ok(());
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, message: Incoming<'_>) -> Turn {
        // A draining server reads on, for pings and the peer's close, but takes no more requests.
        if self.phase != Phase::Open || self.takes_no_more() {
            return Ok(());
        }
        self.life.used = self.now();
        let size = message.len();
        let slot = next_slot(&self.slots, &self.replies, &self.ws, &self.cancelled);
        let step = self.dialogue.receive(message, Share::none(self.memory), &slot);
        self.take_step(step, size)?;
        self.take_backlog()
    }

    fn take_step(&mut self, step: Step<D::Pending, Message>, size: usize) -> Turn {
        if !matches!(step, Step::Taken) {
            self.counters.requests.one();
        }
        match step {
            Step::Now(answer) => self.slots.push(Slot::Ready(answer), size),
            Step::Later(pending) => self.slots.push(Slot::Waiting(pending), size),
            Step::Taken => {}
            Step::Close(code, reason) => {
                self.slots.next += 1;
                return self.close(Cause::Unsupported, code, &reason);
            }
        }
        Ok(())
    }

    fn takes_no_more(&mut self) -> bool {
        self.readiness.is_draining() || self.dialogue.is_over().is_some()
    }

    /// A draining server takes no more requests, and says goodbye when the last is answered.
    fn drain(&mut self) -> Turn {
        if self.phase != Phase::Open || !self.has_answered_all() {
            return Ok(());
        }
        if self.readiness.is_draining() {
            return self.close(Cause::Drained, CloseCode::Away, "the server is stopping");
        }
        match self.dialogue.is_over() {
            Some(reason) => self.close(Cause::Replaced, CloseCode::Restart, reason),
            None => Ok(()),
        }
    }

    /// Every request has been answered, and every answer has left.
    fn has_answered_all(&self) -> bool {
        self.slots.open.is_empty() && self.rest.is_none() && self.unflushed == 0
    }

    fn close(&mut self, cause: Cause, code: CloseCode, reason: &str) -> Turn {
        self.leaving = Some(cause);
        self.phase = Phase::Closing(self.now() + self.limits.close_timeout);
        self.unread = true;
        match self.ws.close(Some(close_frame(code, reason))) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => self.flush(),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// The peer broke the protocol or a limit: it is told by a close frame, after which nothing it
    /// sends can be understood (RFC 6455 section 7.1.7).
    fn failed(&mut self, error: &Error) -> End {
        let (cause, code, reason) = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                let Limits { max_message_bytes, max_frame_bytes, .. } = self.limits;
                let reason = format!(
                    "a message may have {max_message_bytes} bytes, and a frame of it {}",
                    max_frame_bytes.min(max_message_bytes)
                );
                (Cause::TooLarge, CloseCode::Size, reason)
            }
            Error::Io(fault) if fault.kind() == ErrorKind::InvalidData => match self.ws.get_ref().refused() {
                Some(Refused::Fragments) => (Cause::TooSlow, CloseCode::Policy, fault.to_string()),
                Some(Refused::Control) => (Cause::Protocol, CloseCode::Protocol, fault.to_string()),
                // TLS: its own alert is out, and nothing can follow it.
                None => return self.lost(error),
            },
            Error::Utf8(_) => (Cause::Protocol, CloseCode::Invalid, "a text message must be UTF-8".into()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return End(Cause::Lost, "the peer went away without a close".into());
            }
            Error::Protocol(protocol) => (Cause::Protocol, CloseCode::Protocol, protocol.to_string()),
            _ => return self.lost(error),
        };
        self.refuse(cause, code, &reason)
    }

    /// Says why in a close frame, behind the answers that are there already, and takes no more.
    fn refuse(&mut self, cause: Cause, code: CloseCode, reason: &str) -> End {
        while let Some(answer) = self.next_frame() {
            let _ = self.ws.write(answer);
        }
        let _ = self.ws.close(Some(close_frame(code, reason)));
        self.phase = Phase::Lingering(self.now() + self.limits.close_timeout);
        End(cause, format!("closed with {}: {reason}", u16::from(code)))
    }

    fn lost(&self, error: &Error) -> End {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => End(Cause::Closed, "closed".into()),
            error => End(Cause::Lost, format!("lost: {error}")),
        }
    }

    /// Looks at every clock that is running, and does what its time asks for.
    fn watch(&mut self) -> Turn {
        let now = self.now();
        if let Phase::Closing(deadline) = self.phase {
            return if now < deadline {
                Ok(())
            } else {
                Err(End(Cause::Lost, "dropped: the peer did not answer our close".into()))
            };
        }
        self.life.heard(self.ws.get_ref().socket().received(), now);
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
        match self.life.next(self.limits, self.reading_since) {
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

    /// A message under way has its time, which begins anew when it was us who did not read; but not for
    /// ever, because a peer that does not read its answers can make us pause as often as it likes.
    fn message_deadline(&self) -> Option<Instant> {
        const PAUSES: u32 = 20;
        let begun = self.ws.get_ref().incomplete_since()?;
        let since = begun.max(self.reading_since?);
        Some((since + self.limits.message_timeout).min(begun + self.limits.message_timeout * PAUSES))
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let counts = !self.limits.idle_timeout.is_zero() && self.has_answered_all();
        counts.then(|| self.life.used + self.limits.idle_timeout)
    }

    /// When the loop must go round again though nothing has happened.
    fn next_deadline(&self) -> Option<Instant> {
        if let Phase::Closing(deadline) | Phase::Lingering(deadline) = self.phase {
            return Some(deadline);
        }
        let ping = self.life.next(self.limits, self.reading_since).and_then(|due| match due {
            Due::Ping(_) if self.blocked.is_some() => None,
            Due::Ping(at) | Due::Death(at) => Some(at),
        });
        let blocked = self.blocked.map(|blocked| blocked.deadline);
        [ping, blocked, self.message_deadline(), self.idle_deadline()].into_iter().flatten().min()
    }

    fn sleep(&mut self) -> Turn {
        // While an answer is due the worker goes first: on a busy machine it then often replies before
        // this thread has lain down, and the bell, the poll and a wake-up are spared (35–40 % of the
        // time a request takes with 16 conversations on one core).
        let waiting = self.slots.open.iter().any(Slot::is_waiting);
        if waiting {
            std::thread::yield_now();
            if !self.inbox.is_empty() {
                return Ok(());
            }
        }
        let waits_for_reply = waiting && self.blocked.is_none();
        let interest =
            Interest { read: self.may_read(), write: self.blocked.is_some(), reply: waits_for_reply };
        let deadline = self.next_deadline();
        let inbox = &self.inbox;
        let has_work = || waits_for_reply && !inbox.is_empty();
        let socket = self.ws.get_mut().socket_mut();
        let ready = socket
            .wait(interest, deadline, has_work)
            .map_err(|error| End(Cause::Lost, format!("lost: {error}")))?;
        if ready.readable {
            self.unread = true;
            if !interest.read {
                return Err(End(Cause::Lost, "the peer went away".into()));
            }
        }
        Ok(())
    }
}

/// The place of the next request. Takes the parts that it needs, so that the dialogue can be asked meanwhile.
fn next_slot<'c, P>(
    slots: &Slots<P>,
    replies: &'c Sender<Reply>,
    ws: &'c WebSocket<Inflow>,
    cancelled: &'c Arc<AtomicBool>,
) -> ReplySlot<'c> {
    ReplySlot { slot: slots.next, replies, waker: ws.get_ref().socket().waker(), cancelled }
}

/// A close frame; its reason is cut to what a control frame holds (RFC 6455 section 5.5: 125 bytes,
/// two of them for the code).
fn close_frame(code: CloseCode, reason: &str) -> CloseFrame {
    const LONGEST: usize = 123;
    CloseFrame { code, reason: reason[..reason.floor_char_boundary(LONGEST)].into() }
}

/// Pushes the close frame out and throws away what comes, until the peer closes or the deadline.
fn linger(mut ws: WebSocket<Inflow>, deadline: Instant) {
    let mut rubbish = [0; 4096];
    loop {
        let blocked = matches!(ws.flush(), Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock);
        let socket = ws.get_mut().socket_mut();
        socket.refill(rubbish.len());
        match socket.read(&mut rubbish) {
            Ok(0) => return,
            Ok(_) if socket.clock().now() < deadline => continue,
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if !blocked {
            return ws.into_inner().into_socket().close_gently(deadline);
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
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close_frame(CloseCode::Error, &"é".repeat(100));
        assert_eq!(frame.reason.len(), 122);
    }
}
