//! A WebSocket conversation: frames both ways on one thread, full duplex.
//!
//! The thread goes round one loop, `Conversation::turn`: take replies, write the answers whose turn it is, read what
//! has come. Each turn ends with what is wanted next, `Wants`: another turn at once, or a sleep until the socket can be
//! read or written, a reply comes, or a time is reached. Both the loop and `poll` follow this one value, so the thread
//! neither sleeps while there is work nor turns without a cause.
//!
//! Requests pipeline; answers keep their order, because each request has a slot and only the ready front of the slots is
//! written. While inference runs the thread is free, so pings are answered (by tungstenite, inside `read`), a peer that
//! went away is noticed, and its queued requests are cancelled.
//!
//! Memory has bounds. At `max_in_flight` open slots, further messages are held undecoded, so that control frames behind
//! them are still read; at `max_in_flight_bytes` nothing more is read. While a write is blocked nothing is read either,
//! and no further answer is encoded. A peer that does not read is dropped after `write_timeout`. All messages and answers
//! take their memory from the server's one budget.
//!
//! A conversation does not know what it talks over ([`Transport`]): `tests` holds it over buffers in memory, with a clock
//! that stands still.

mod ending;
mod frame_reader;
mod frame_stream;
mod header;
mod held;
mod life;
mod reading;
mod slots;
mod writing;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, WebSocket};

use self::frame_reader::FrameReader;
use self::frame_stream::FrameStream;
use self::held::Backlog;
use self::life::Life;
use self::slots::Slots;
use super::connections::Shared;
use super::service::{Dialogue, Service};
use super::socket::{Interest, Socket};
use super::transport::Transport;
use crate::config::Limits;
use crate::engine::{Reply, Wake};
use crate::memory::{Budget, Share};
use crate::metrics::{Cause, Counters};
use crate::readiness::Readiness;

/// Bytes that tungstenite takes at once from [`FrameStream`], and that an idle conversation keeps for it.
const READ_BUFFER: usize = 1 << 10;

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
    let Shared { limits, readiness, counters, memory, .. } = shared;
    let surroundings = Surroundings { limits, readiness, counters, memory };
    let mut conversation = Conversation::new(socket, already_read, dialogue, surroundings);
    let End(cause, why) = loop {
        let wants = match conversation.turn() {
            Err(end) => break end,
            Ok(wants) => wants,
        };
        if let Err(error) = conversation.sleep(wants) {
            break error;
        }
    };
    conversation.cancelled.store(true, Ordering::Relaxed);
    let requests = conversation.slots.next;
    let cause = conversation.leaving.unwrap_or(cause);
    if let Phase::Lingering(deadline) = conversation.phase {
        ending::linger(conversation.ws, deadline);
    } else {
        conversation.ws.get_mut().transport_mut().say_goodbye();
    }
    Ended { requests, cause, why }
}

/// What a conversation looks at and counts in.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    limits: &'a Limits,
    readiness: &'a Readiness,
    counters: &'a Counters,
    memory: &'a Arc<Budget>,
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

struct Conversation<'a, D: Dialogue, T> {
    ws: WebSocket<FrameStream<T>>,
    dialogue: D,
    limits: &'a Limits,
    readiness: &'a Readiness,
    counters: &'a Counters,
    memory: &'a Arc<Budget>,
    slots: Slots<D::Pending>,
    /// Messages that wait for a slot.
    backlog: Backlog,
    replies: Sender<Reply>,
    inbox: Receiver<Reply>,
    waker: Arc<dyn Wake>,
    cancelled: Arc<AtomicBool>,
    phase: Phase,
    /// Why we closed, if it was us.
    leaving: Option<Cause>,
    /// Bytes given to tungstenite since the last complete flush.
    unflushed: usize,
    /// The memory of the answers that are being written.
    writing: Share,
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

/// What a conversation wants after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Another turn: there is work.
    Turn,
    /// A sleep until one of these is possible, or the time has come.
    Sleep { interest: Interest, until: Option<Instant> },
}

impl<'a, D: Dialogue, T: Transport> Conversation<'a, D, T> {
    fn new(
        transport: T,
        already_read: Vec<u8>,
        dialogue: D,
        surroundings: Surroundings<'a>,
    ) -> Conversation<'a, D, T> {
        let Surroundings { limits, readiness, counters, memory } = surroundings;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Answers are gathered here and pushed by our flush; its own eager writes would only hide
            // when the peer stops reading.
            .write_buffer_size(usize::MAX - 1)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(limits.max_message_bytes))
            .max_frame_size(Some(limits.max_frame_bytes.min(limits.max_message_bytes)));
        let (life, waker) = (Life::begin(transport.clock().now()), transport.waker());
        let frame_stream = FrameStream::new(transport, FrameReader::new(already_read, limits, memory));
        let (replies, inbox) = bounded(limits.max_in_flight);
        Conversation {
            ws: WebSocket::from_raw_socket(frame_stream, Role::Server, Some(config)),
            dialogue,
            limits,
            readiness,
            counters,
            memory,
            slots: Slots::default(),
            backlog: Backlog::default(),
            replies,
            inbox,
            waker,
            cancelled: Arc::new(AtomicBool::new(false)),
            phase: Phase::Open,
            leaving: None,
            unflushed: 0,
            writing: Share::none(memory),
            blocked: None,
            unread: true,
            reading_since: None,
            rest: None,
            life,
        }
    }

    /// Once round: does what can be done, and says what is wanted next.
    fn turn(&mut self) -> Result<Wants, End> {
        self.take_replies();
        self.write_answers()?;
        self.take_backlog()?;
        if self.unread && self.may_read() {
            self.read_requests()?;
            // Pongs and the answer to a close are pushed by the read, as far as they go.
            self.flush()?;
        }
        self.let_close_pass()?;
        self.drain()?;
        self.watch()?;
        Ok(self.wants())
    }

    /// The one answer to "may I sleep?".
    fn wants(&self) -> Wants {
        let has_replies = self.may_take_replies() && !self.inbox.is_empty();
        let has_input = self.unread && self.may_read();
        if has_replies || has_input || self.may_write() || self.may_take() {
            return Wants::Turn;
        }
        let interest = Interest {
            read: self.may_read(),
            write: self.blocked.is_some(),
            reply: self.slots.waits() && self.may_take_replies(),
        };
        Wants::Sleep { interest, until: self.next_deadline() }
    }

    /// Not while a write is blocked: nothing could be done with them.
    fn may_take_replies(&self) -> bool {
        self.blocked.is_none()
    }

    /// There is an answer, and the peer takes it.
    fn may_write(&self) -> bool {
        let has_answer = self.rest.is_some() || self.slots.is_front_ready();
        self.phase == Phase::Open && self.blocked.is_none() && has_answer
    }

    fn may_read(&self) -> bool {
        match self.phase {
            // Not from a peer that does not read: every ping would add a pong to what it leaves lying.
            Phase::Open if self.blocked.is_some() => false,
            Phase::Open => self.has_memory() && self.peer_closes().is_none(),
            Phase::Closing(_) => true,
            Phase::Lingering(_) => false,
        }
    }

    /// There is a message, or a part of one, that waits for a slot, and there is a slot. A draining server leaves them.
    fn may_take(&self) -> bool {
        let has_slot = self.slots.len() < self.limits.max_in_flight;
        has_slot && self.blocked.is_none() && self.has_backlog()
    }

    /// Messages were taken that have led to no request yet.
    fn has_backlog(&self) -> bool {
        let has_some = !self.backlog.is_empty() || self.dialogue.has_next();
        has_some && self.phase == Phase::Open && !self.readiness.is_draining()
    }

    /// The requests that are not answered leave room for more bytes.
    fn has_memory(&self) -> bool {
        self.slots.bytes() + self.backlog.bytes() < self.limits.max_in_flight_bytes
    }

    /// Since when the peer waits for our answer to its close.
    fn peer_closes(&self) -> Option<Instant> {
        self.ws.get_ref().reader().closing_since()
    }

    fn take_replies(&mut self) {
        while self.may_take_replies()
            && let Ok(reply) = self.inbox.try_recv()
        {
            self.slots.settle(reply);
        }
    }

    fn transport(&self) -> &T {
        self.ws.get_ref().transport()
    }

    fn now(&self) -> Instant {
        self.transport().clock().now()
    }
}

impl<D: Dialogue> Conversation<'_, D, Socket> {
    /// Sleeps as the last turn wants it, if it wants it.
    fn sleep(&mut self, wants: Wants) -> Turn {
        let Wants::Sleep { interest, until } = wants else { return Ok(()) };
        if interest.reply {
            // While an answer is due the worker goes first: on a busy machine it then often replies before
            // this thread has lain down, and the bell, the poll and a wake-up are spared (35–40 % of the
            // time a request takes with 16 conversations on one core).
            std::thread::yield_now();
        }
        let inbox = &self.inbox;
        let has_work = || interest.reply && !inbox.is_empty();
        if has_work() {
            return Ok(());
        }
        let socket = self.ws.get_mut().transport_mut();
        let ready = socket
            .wait(interest, until, has_work)
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
