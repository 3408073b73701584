//! A WebSocket conversation: one thread reads requests and writes answers at the same time.
//!
//! The thread repeats `Conversation::turn`: take replies, write the answers that are next, read what has arrived. Each
//! turn returns `Wants`: another turn at once, or a sleep until the socket can be read or written, a reply arrives, or a
//! time is reached. Both the loop and `poll` use this one value.
//!
//! A client may send requests without waiting for answers. Each request has a slot, and answers are written in the order
//! of the slots. The thread does not wait for inference, so it answers pings (tungstenite does, inside `read`), notices
//! when the peer goes away, and then cancels the queued requests.
//!
//! Here belong frames, the order of answers, deadlines and closes. What a message means is up to the
//! [`Dialogue`]. The stream below is a [`Transport`]: `tests` uses buffers in memory and a stopped clock.
//!
//! Invariants:
//! - The thread does not sleep while there is work, and makes no turn without a cause.
//! - With [`Limits::max_in_flight`] open slots, further messages wait undecoded in the backlog, so that control frames
//!   after them are still read. With [`Limits::max_in_flight_bytes`], nothing more is read.
//! - While a write is blocked, nothing is read and no answer is encoded. After [`Limits::write_timeout`] without progress
//!   the conversation ends.
//! - The memory of all messages and answers comes from the server's one budget.
//! - A large buffer is borrowed only while messages are read (`read_ahead`), never during a sleep.

mod ending;
mod frame_reader;
mod frame_stream;
mod header;
mod held;
mod life;
mod read_ahead;
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
use super::buffers::Buffers;
use super::connections::{Departures, Shared};
use super::service::{Dialogue, Service};
use super::socket::{Interest, Socket};
use super::transport::Transport;
use crate::config::Limits;
use crate::engine::{Reply, Wake};
use crate::memory::{Budget, Share};
use crate::metrics::{Cause, Counters};
use crate::readiness::Readiness;

/// Size in bytes of tungstenite's read buffer. An idle conversation keeps this memory.
const READ_BUFFER: usize = 1 << 10;

/// The result of a conversation, for counters and the log.
#[derive(Debug)]
pub struct Ended {
    /// Data messages received.
    pub requests: u64,
    pub cause: Cause,
    /// Why it ended, in words.
    pub why: String,
}

/// Runs a conversation until it ends, and closes the socket. `already_read` holds bytes that were read after the
/// handshake.
pub fn hold<S: Service>(
    socket: Socket,
    already_read: Vec<u8>,
    dialogue: S::Dialogue,
    shared: &Shared<S>,
) -> Ended {
    let Shared { limits, readiness, counters, memory, connections, .. } = shared;
    let (buffers, departures) = (connections.buffers(), connections.departures());
    let surroundings = Surroundings { limits, readiness, counters, memory, buffers, departures };
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

/// The parts of the server that a conversation uses.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    limits: &'a Limits,
    readiness: &'a Readiness,
    counters: &'a Counters,
    memory: &'a Arc<Budget>,
    buffers: &'a Buffers,
    departures: &'a Departures,
}

/// The phase of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Requests are accepted.
    Open,
    /// A close frame was sent. The peer must answer it before this time.
    Closing(Instant),
    /// The peer broke the protocol or a limit. What it still sends is discarded until this time.
    Lingering(Instant),
}

/// A write that waits because the peer does not read.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    /// The transport's total of written bytes at the last progress.
    written: u64,
    /// Without progress until then, the conversation ends.
    deadline: Instant,
}

struct Conversation<'a, D: Dialogue, T> {
    ws: WebSocket<FrameStream<T>>,
    dialogue: D,
    limits: &'a Limits,
    readiness: &'a Readiness,
    counters: &'a Counters,
    memory: &'a Arc<Budget>,
    buffers: &'a Buffers,
    departures: &'a Departures,
    /// When the conversation leaves a server that stops; `None` while the server does not.
    leaves_at: Option<Instant>,
    slots: Slots<D::Pending>,
    /// Complete messages that wait for a slot.
    backlog: Backlog,
    replies: Sender<Reply>,
    inbox: Receiver<Reply>,
    waker: Arc<dyn Wake>,
    cancelled: Arc<AtomicBool>,
    phase: Phase,
    /// Why the server closed the conversation; `None` when it did not.
    leaving: Option<Cause>,
    /// Bytes given to tungstenite since the last complete flush.
    unflushed: usize,
    /// The memory of the answers that are being written.
    writing: Share,
    blocked: Option<Blocked>,
    /// True when bytes may have arrived that were not read.
    unread: bool,
    /// When the server began to read without a pause; `None` while it does not read. Deadlines for the peer do not run
    /// while the server does not read.
    reading_since: Option<Instant>,
    /// The part of a long answer that is not written yet.
    rest: Option<Bytes>,
    life: Life,
}

/// Why a conversation ends: the cause for the counters, and words for the log.
#[derive(Debug)]
struct End(Cause, String);

type Turn = Result<(), End>;

/// What a conversation needs after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Another turn at once, because there is work.
    Turn,
    /// A sleep until the transport is ready for `interest`, or until the time `until`.
    Sleep { interest: Interest, until: Option<Instant> },
}

impl<'a, D: Dialogue, T: Transport> Conversation<'a, D, T> {
    fn new(
        transport: T,
        already_read: Vec<u8>,
        dialogue: D,
        surroundings: Surroundings<'a>,
    ) -> Conversation<'a, D, T> {
        let Surroundings { limits, readiness, counters, memory, buffers, departures } = surroundings;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // tungstenite collects answers, and only `flush` sends them. If it sent them by itself, the conversation would
            // not notice when the peer stops reading.
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
            buffers,
            departures,
            leaves_at: None,
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

    /// Does all work that is possible now, and returns what is needed next.
    fn turn(&mut self) -> Result<Wants, End> {
        self.notice_drain();
        self.take_replies();
        self.write_answers()?;
        self.take_backlog()?;
        if self.unread && self.may_read() {
            self.read_requests()?;
            // Reading may have queued pongs or the answer to a close frame.
            self.flush()?;
        }
        self.let_close_pass()?;
        self.drain()?;
        self.watch()?;
        Ok(self.wants())
    }

    /// Decides whether the thread may sleep, and what must wake it.
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

    /// False while a write is blocked, because no answer could be written.
    fn may_take_replies(&self) -> bool {
        self.blocked.is_none()
    }

    /// True when an answer is ready and the peer reads.
    fn may_write(&self) -> bool {
        let has_answer = self.rest.is_some() || self.slots.is_front_ready();
        self.phase == Phase::Open && self.blocked.is_none() && has_answer
    }

    /// True when the conversation may read from the peer now.
    fn may_read(&self) -> bool {
        match self.phase {
            // The peer does not read. Each ping that is read now would add a pong to the bytes that wait for it.
            Phase::Open if self.blocked.is_some() => false,
            Phase::Open => self.has_memory() && self.peer_closes().is_none(),
            Phase::Closing(_) => true,
            Phase::Lingering(_) => false,
        }
    }

    /// True when a slot is free and a message, or a part of one, waits for it.
    fn may_take(&self) -> bool {
        let has_slot = self.slots.len() < self.limits.max_in_flight;
        has_slot && self.blocked.is_none() && self.has_backlog()
    }

    /// True when messages have arrived that have not become requests yet. A draining server drops them.
    fn has_backlog(&self) -> bool {
        let has_some = !self.backlog.is_empty() || self.dialogue.has_next();
        has_some && self.phase == Phase::Open && !self.is_leaving()
    }

    /// True while unanswered requests occupy less than [`Limits::max_in_flight_bytes`].
    fn has_memory(&self) -> bool {
        self.slots.bytes() + self.backlog.bytes() < self.limits.max_in_flight_bytes
    }

    /// Since when a close frame of the peer waits for its answer.
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
    /// Sleeps if the last turn allows it, until something of `wants` happens.
    fn sleep(&mut self, wants: Wants) -> Turn {
        let Wants::Sleep { interest, until } = wants else { return Ok(()) };
        if interest.reply {
            // This lets a worker run first. On a busy machine it often replies before this thread sleeps, which saves
            // the bell, the poll and a wake-up: 35–40 % of a request's time with 16 conversations on one core.
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
