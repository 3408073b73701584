//! A transport in memory, the peer at its other end, and a dialogue for which the test plays the workers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tungstenite::Message;

use super::super::*;
use crate::clock::Clock;
use crate::engine::{Outcome, ReplyTo};
use crate::error::RequestError;
use crate::net::buffers::BUFFER;
use crate::net::connections::Departures;
use crate::net::service::{Incoming, Progress, ReplySlot};

/// The parts of a server that a conversation uses.
pub struct Setting {
    pub limits: Limits,
    pub readiness: Readiness,
    pub counters: Counters,
    pub memory: Arc<Budget>,
    pub clock: Clock,
    pub buffers: Buffers,
    pub departures: Departures,
}

impl Setting {
    pub fn new(limits: Limits) -> Setting {
        let readiness = Readiness::default();
        readiness.set(crate::readiness::State::Ready);
        let memory = Budget::new(1 << 20);
        Setting {
            limits,
            readiness,
            counters: Counters::default(),
            memory,
            clock: Clock::stopped(),
            buffers: Buffers::default(),
            departures: Departures::default(),
        }
    }
}

/// Both directions of a stream.
#[derive(Default)]
pub struct Wire {
    to_server: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    /// The most bytes that `to_peer` holds; `None` is no limit.
    window: Option<usize>,
    received: u64,
    written: u64,
}

/// The server's end of the stream.
pub struct Memory {
    wire: Rc<RefCell<Wire>>,
    clock: Clock,
    woken: Arc<Woken>,
    budget: usize,
}

/// Counts the calls of workers.
#[derive(Default)]
pub struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Transport for Memory {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.woken.clone()
    }

    fn received(&self) -> u64 {
        self.wire.borrow().received
    }

    fn written(&self) -> u64 {
        self.wire.borrow().written
    }

    fn refill(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    fn starved(&self) -> bool {
        self.budget == 0
    }
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        let count = out.len().min(self.budget).min(wire.to_server.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.budget -= count;
        wire.received += count as u64;
        wire.to_server.read_exact(&mut out[..count])?;
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        let room = wire.window.map_or(usize::MAX, |window| window.saturating_sub(wire.to_peer.len()));
        let count = room.min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.written += count as u64;
        wire.to_peer.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The peer's end of the stream. What it writes waits in `outbox` until the test calls [`Held::let_go`].
pub struct Peer {
    outbox: Vec<u8>,
    inbox: VecDeque<u8>,
}

impl Read for Peer {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.inbox.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.inbox.read_exact(&mut out[..count])?;
        Ok(count)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A dialogue with four kinds of requests: `now N L` is answered at once, `here N L` by a run in the conversation's own
/// thread, `later N L` when the test replies, and `several C L` with C answers, as sound with several windows is. An answer
/// is the number N and L dashes.
#[derive(Default)]
pub struct Script {
    jobs: Arc<Mutex<Vec<ReplyTo>>>,
    encoded: Arc<AtomicUsize>,
    patience: Arc<Mutex<Vec<Duration>>>,
    next: u64,
    left: u64,
    length: usize,
}

fn answer(number: u64, length: usize) -> Message {
    Message::text(format!("{number} {}", "-".repeat(length)))
}

impl Dialogue for Script {
    type Pending = (u64, usize);

    fn receive(
        &mut self,
        message: Incoming<'_>,
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<(u64, usize), Message> {
        let Incoming::Text(text) = message else { panic!("the tests send text") };
        let mut words = text.split(' ');
        let kind = words.next().unwrap();
        let mut numbers = words.map(|word| word.parse::<u64>().unwrap_or(0));
        let (number, length) = (numbers.next().unwrap(), numbers.next().unwrap() as usize);
        lock(&self.patience).push(slot.patience());
        match kind {
            "here" => {
                slot.reply(share).send(Ok(Default::default()));
                Progress::Pending((number, length))
            }
            "now" => Progress::Answered(answer(number, length)),
            "later" => {
                lock(&self.jobs).push(slot.reply(share));
                Progress::Pending((number, length))
            }
            "several" => {
                (self.next, self.left, self.length) = (1_000_000, number, length);
                Progress::NoAnswer
            }
            other => panic!("{other}"),
        }
    }

    fn answer(&mut self, (number, length): (u64, usize), _: Outcome, share: &mut Share) -> Option<Message> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let answer = answer(number, length);
        Some(match share.resize(answer.len()) {
            Ok(()) => answer,
            Err(error) => Message::text(format!("{number} {error}")),
        })
    }

    fn refuse(&mut self, error: &RequestError) -> Message {
        Message::text(error.to_string())
    }

    fn next(&mut self, _: Share, _: &ReplySlot) -> Option<Progress<(u64, usize), Message>> {
        self.left = self.left.checked_sub(1)?;
        self.next += 1;
        Some(Progress::Answered(answer(self.next, self.length)))
    }

    fn has_next(&self) -> bool {
        self.left > 0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A conversation, and everything that the test controls.
pub struct Held<'a> {
    pub conversation: Conversation<'a, Script, Memory>,
    pub wants: Wants,
    /// Turns so far.
    pub turns: usize,
    wire: Rc<RefCell<Wire>>,
    peer: WebSocket<Peer>,
    woken: Arc<Woken>,
    /// How many calls of workers were followed by a turn.
    heard: usize,
    /// True when the common bell has rung since the last turn.
    rung: bool,
    jobs: Arc<Mutex<Vec<ReplyTo>>>,
    encoded: Arc<AtomicUsize>,
    patience: Arc<Mutex<Vec<Duration>>>,
    end: Option<End>,
    /// The messages that the peer has received.
    inbox: Vec<Message>,
    setting: &'a Setting,
}

impl<'a> Held<'a> {
    pub fn new(setting: &'a Setting) -> Held<'a> {
        let wire = Rc::new(RefCell::new(Wire::default()));
        let woken = Arc::new(Woken::default());
        let transport =
            Memory { wire: wire.clone(), clock: setting.clock.clone(), woken: woken.clone(), budget: 0 };
        let Setting { limits, readiness, counters, memory, buffers, departures, .. } = setting;
        let surroundings = Surroundings { limits, readiness, counters, memory, buffers, departures };
        let script = Script::default();
        let (jobs, encoded, patience) =
            (script.jobs.clone(), script.encoded.clone(), script.patience.clone());
        let peer = Peer { outbox: Vec::new(), inbox: VecDeque::new() };
        Held {
            conversation: Conversation::new(transport, vec![], script, surroundings),
            wants: Wants::Turn,
            turns: 0,
            wire,
            peer: WebSocket::from_raw_socket(peer, Role::Client, None),
            woken,
            heard: 0,
            rung: false,
            jobs,
            encoded,
            patience,
            end: None,
            inbox: Vec::new(),
            setting,
        }
    }

    /// The peer sends a message, which arrives at once.
    pub fn send(&mut self, message: Message) {
        assert!(self.write(message), "the conversation is open");
        self.let_go(usize::MAX);
    }

    /// The peer sends a message, which arrives after [`Held::let_go`]. False when the conversation is closed.
    pub fn write(&mut self, message: Message) -> bool {
        self.peer.send(message).is_ok()
    }

    pub fn close(&mut self) {
        // An error means that it is closed already.
        let _ = self.peer.close(None);
        self.let_go(usize::MAX);
    }

    /// This many bytes of what the peer has written arrive at the server.
    pub fn let_go(&mut self, bytes: usize) {
        let outbox = &mut self.peer.get_mut().outbox;
        let count = bytes.min(outbox.len());
        let mut wire = self.wire.borrow_mut();
        wire.to_server.extend(outbox.drain(..count));
    }

    /// How many bytes have arrived that the server has not read.
    pub fn unread(&self) -> usize {
        self.wire.borrow().to_server.len()
    }

    /// Sets the peer's window in bytes. With `None`, the peer reads everything at once.
    pub fn peer_reads(&mut self, window: Option<usize>) {
        self.wire.borrow_mut().window = window;
    }

    /// The peer reads this many bytes.
    pub fn peer_takes(&mut self, bytes: usize) {
        let mut wire = self.wire.borrow_mut();
        let count = bytes.min(wire.to_peer.len());
        self.peer.get_mut().inbox.extend(wire.to_peer.drain(..count));
        drop(wire);
        while let Ok(message) = self.peer.read() {
            self.inbox.push(message);
        }
    }

    /// True when `poll` would return, so the loop would make a turn.
    fn would_wake(&self) -> bool {
        let Wants::Sleep { interest, until } = self.wants else { return true };
        let wire = self.wire.borrow();
        let has_room = wire.window.is_none_or(|window| wire.to_peer.len() < window);
        self.rung
            || interest.read && !wire.to_server.is_empty()
            || interest.write && has_room
            || interest.reply && self.woken.0.load(Ordering::Relaxed) > self.heard
            || until.is_some_and(|until| self.setting.clock.now() >= until)
    }

    /// Makes turns as the loop does, until it sleeps and nothing wakes it. Then makes one more turn, which must find no work.
    pub fn settle(&mut self) {
        let mut in_vain = 0;
        while self.end.is_none() && self.would_wake() {
            let asked_for = self.wants == Wants::Turn && self.turns > 0;
            let before = self.progress();
            self.turn();
            in_vain = if asked_for && before == self.progress() { in_vain + 1 } else { 0 };
            // A turn may take frames that were read ahead, which `progress` does not show.
            assert!(in_vain < BUFFER / 16, "the loop asked for turns that did nothing: {before:?}");
        }
        if self.end.is_none() {
            let (before, wants) = (self.progress(), self.wants);
            self.turn();
            if self.end.is_none() {
                self.turns -= 1;
                assert_eq!((self.progress(), self.wants), (before, wants), "it slept while there was work");
            }
        }
    }

    /// Makes one turn. Sets `unread` as `poll` does when bytes have arrived.
    fn turn(&mut self) {
        self.turns += 1;
        self.rung = false;
        self.heard = self.woken.0.load(Ordering::Relaxed);
        let reads = matches!(self.wants, Wants::Sleep { interest: Interest { read: true, .. }, .. });
        if reads && self.unread() > 0 {
            self.conversation.unread = true;
        }
        match self.conversation.turn() {
            Ok(wants) => self.wants = wants,
            Err(end) => self.end = Some(end),
        }
        if self.wire.borrow().window.is_none() {
            self.peer_takes(usize::MAX);
        }
    }

    /// Everything that a turn can change.
    fn progress(&self) -> [u64; 12] {
        let conversation = &self.conversation;
        let wire = self.wire.borrow();
        let counted = &self.setting.counters;
        [
            wire.received,
            wire.written,
            conversation.unread.into(),
            conversation.unflushed as u64,
            conversation.slots.next,
            conversation.slots.len() as u64,
            conversation.backlog.bytes() as u64,
            conversation.inbox.len() as u64,
            matches!(conversation.phase, Phase::Open).into(),
            counted.answers.get(),
            counted.pings.get(),
            self.setting.memory.used() as u64,
        ]
    }

    /// The server starts to drain, and rings the common bell.
    pub fn drain(&mut self) {
        self.setting.readiness.set(crate::readiness::State::Draining);
        self.rung = true;
    }

    /// A worker replies to one of the jobs.
    pub fn reply(&mut self, job: usize) {
        let reply = lock(&self.jobs).remove(job);
        reply.send(Ok(Default::default()));
    }

    /// How many requests wait for a reply.
    pub fn jobs(&self) -> usize {
        lock(&self.jobs).len()
    }

    /// Workers reply to one request after another, with turns in between, until none waits.
    pub fn reply_all(&mut self) {
        self.settle();
        while self.jobs() > 0 {
            self.reply(0);
            self.settle();
        }
    }

    /// Workers reply to all waiting requests before the next turn.
    pub fn reply_all_at_once(&mut self) {
        while self.jobs() > 0 {
            self.reply(0);
        }
        self.settle();
    }

    /// How many answers were made from replies.
    pub fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The patience with which each request was received since the last call.
    pub fn patience(&self) -> Vec<Duration> {
        std::mem::take(&mut lock(&self.patience))
    }

    pub fn cancelled(&self) -> bool {
        self.conversation.cancelled.load(Ordering::Relaxed)
    }

    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The messages that the peer has received since the last call.
    pub fn received(&mut self) -> Vec<Message> {
        if self.wire.borrow().window.is_none() {
            self.peer_takes(usize::MAX);
        }
        std::mem::take(&mut self.inbox)
    }

    /// Settles, and returns the numbers of the answers that the peer has received since the last call.
    pub fn numbers(&mut self) -> Vec<u64> {
        self.settle();
        let received = self.received();
        let texts = received.iter().filter_map(|message| message.to_text().ok());
        texts.filter_map(|text| text.split(' ').next()?.parse().ok()).collect()
    }
}
