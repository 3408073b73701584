//! A connection's socket, with or without TLS, and the one place where a connection's thread sleeps.
//!
//! Here belong reading and writing with deadlines, and `poll`. What the bytes mean is up to the callers; TLS records are
//! in [`super::tls`].
//!
//! Invariants: no call blocks except [`Socket::wait`] and the methods that use it, and each of these has a deadline or can
//! be woken by a bell.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tls::{Identity, TlsStream};
use super::transport::Transport;
use super::waker::{Bells, Sleeper};
use crate::clock::Clock;
use crate::engine::Wake;

/// How long a connection sleeps at once while it waits for a reply without a bell, because no file descriptor was free.
const WITHOUT_BELL: Duration = Duration::from_millis(1);

/// What a connection waits for. A hang-up or an error of the socket always ends the wait, and is reported as readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Bytes from the peer.
    pub read: bool,
    /// Room for bytes to the peer.
    pub write: bool,
    /// Replies of workers.
    pub reply: bool,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// Bytes have arrived, or the connection has ended or broken. False after a bell, a deadline or an early return.
    pub readable: bool,
}

/// A connected, non-blocking socket, and the bells that wake the thread that owns it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<TlsStream>>,
    sleeper: Sleeper,
    clock: Clock,
    /// Total bytes written. A change shows that a slow peer still reads.
    written: u64,
    /// Total bytes read. A change shows that the peer is alive.
    received: u64,
    /// How many bytes [`Read::read`] may still return; see [`Transport::refill`].
    budget: usize,
    /// The last read returned less than it had room for, so nothing more is there until `poll` says so.
    dry: bool,
}

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum NoHandshake {
    /// The peer's first byte does not begin a TLS handshake.
    #[error("this port speaks TLS, but the peer does not: connect to wss:// or https://")]
    Plain,
    /// The peer went away, or the deadline passed.
    #[error("{0}")]
    Gone(&'static str),
    /// rustls refused the handshake.
    #[error("the TLS handshake failed: {0}")]
    Refused(String),
}

impl Socket {
    /// # Errors
    /// When the operating system refuses the socket's options.
    pub fn new(stream: TcpStream, bells: Arc<Bells>, clock: Clock) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        // Answers are written whole, so Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        let sleeper = Sleeper::new(bells);
        Ok(Socket { stream, tls: None, sleeper, clock, written: 0, received: 0, budget: 0, dry: false })
    }

    /// The clock for all deadlines of the connection.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes the TLS handshake before `deadline`. After [`NoHandshake::Plain`] no byte was read, so the socket can be used
    /// without TLS.
    pub fn shake_hands(&mut self, identity: &Identity, deadline: Instant) -> Result<(), NoHandshake> {
        const GONE: NoHandshake = NoHandshake::Gone("the peer went away in the TLS handshake");
        const LATE: NoHandshake = NoHandshake::Gone("the TLS handshake took too long");
        /// The type of a TLS handshake record (RFC 8446 section 5.1).
        const HANDSHAKE: u8 = 22;
        let mut first = [0];
        loop {
            match self.stream.peek(&mut first) {
                Ok(0) => return Err(GONE),
                Ok(_) if first[0] == HANDSHAKE => break,
                Ok(_) => return Err(NoHandshake::Plain),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(GONE),
            }
            self.sleep_by(Interest { read: true, ..Interest::default() }, deadline).map_err(|_| GONE)?;
            if self.clock.now() >= deadline {
                return Err(LATE);
            }
        }
        let mut tls = TlsStream::new(identity).map_err(NoHandshake::Refused)?;
        loop {
            match tls.advance(&mut self.stream) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let interest = Interest { read: true, write: tls.wants_write(), reply: false };
                    self.sleep_by(interest, deadline).map_err(|_| GONE)?;
                }
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return Err(NoHandshake::Refused(error.to_string()));
                }
                Err(_) => return Err(GONE),
            }
            if self.clock.now() >= deadline {
                return Err(LATE);
            }
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// Waits for the socket, a bell or the deadline.
    fn sleep_by(&mut self, interest: Interest, deadline: Instant) -> io::Result<Ready> {
        self.wait(interest, Some(deadline), || false)
    }

    /// Sleeps until the socket is ready for `interest`, a bell rings, or the deadline passes.
    ///
    /// Does not sleep when `has_work` returns true. It is called after the bell was armed: a reply that arrives before is
    /// seen by `has_work`, and one that arrives later rings the bell.
    ///
    /// May return early without a reason, so a caller that waits for a time must look at the clock.
    ///
    /// # Errors
    /// When `poll` fails.
    pub fn wait(
        &mut self,
        interest: Interest,
        deadline: Option<Instant>,
        has_work: impl FnOnce() -> bool,
    ) -> io::Result<Ready> {
        let without_bell = self.sleeper.prepare(interest.reply).is_err();
        if has_work() {
            self.sleeper.awake(false, false);
            return Ok(Ready::default());
        }
        let wants_write = interest.write || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, wants_write);
        let mut left = deadline.and_then(|deadline| self.clock.until(deadline));
        if without_bell {
            left = Some(left.unwrap_or(WITHOUT_BELL).min(WITHOUT_BELL));
        }
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let (common, own) = self.sleeper.bells();
        let mut fds = [
            PollFd::from_borrowed_fd(self.stream.as_fd(), flags),
            PollFd::from_borrowed_fd(common.as_fd(), PollFlags::IN),
            // Without its own bell, the common one fills this place and is not polled here.
            PollFd::from_borrowed_fd(own.unwrap_or(common).as_fd(), PollFlags::IN),
        ];
        let count = if own.is_some() { 3 } else { 2 };
        let polled: io::Result<()> = match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let [socket, common, own] = [0, 1, 2].map(|at| fds[at].revents());
        self.sleeper.awake(!common.is_empty(), !own.is_empty());
        polled?;
        if socket.contains(PollFlags::OUT)
            && let Some(tls) = &mut self.tls
        {
            // This sends TLS's own messages. An error shows again in the next write.
            let _ = tls.push(&mut self.stream, &mut self.written);
        }
        if !socket.is_empty() {
            self.dry = false;
        }
        let broken = socket.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Ok(Ready { readable: broken || socket.contains(PollFlags::IN) })
    }

    /// Reads what has arrived, without waiting and without the limit of [`Transport::refill`].
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => {
                let count = self.stream.read(buffer)?;
                self.received += count as u64;
                Ok(count)
            }
            Some(tls) => tls.read(&mut self.stream, buffer, &mut self.received, &mut self.written),
        }
    }

    /// Reads at least one byte, and waits for it until the deadline. Returns the number of bytes; 0 is the end of the
    /// stream.
    ///
    /// # Errors
    /// `TimedOut` after the deadline. `Interrupted` when nothing has arrived and `give_up` returns true; it is asked before
    /// each sleep, so also after each bell. Other errors mean that the connection is broken.
    pub fn read_until(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
        give_up: impl Fn() -> bool,
    ) -> io::Result<usize> {
        loop {
            // The deadline is for all reads together, so it also ends a peer that never pauses.
            if self.clock.now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.take(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => return result,
            }
            if give_up() {
                return Err(ErrorKind::Interrupted.into());
            }
            self.sleep_by(Interest { read: true, ..Interest::default() }, deadline)?;
        }
    }

    /// Writes all bytes and flushes them. Fails with `TimedOut` when the peer reads nothing for `patience`.
    ///
    /// `poll` calls a socket writable only when a third of its buffer is free (Linux). A slow peer may have made less room
    /// than that, so after `patience` one more write is tried.
    pub fn write_all_within(&mut self, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut deadline = self.clock.now() + patience;
        let mut written = self.written;
        loop {
            let result = if bytes.is_empty() { self.flush().map(|()| 0) } else { self.write(bytes) };
            match result {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.written == written && self.clock.now() >= deadline {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.sleep_by(Interest { write: true, ..Interest::default() }, deadline)?;
                }
                Err(error) => return Err(error),
            }
            if self.written != written {
                (written, deadline) = (self.written, self.clock.now() + patience);
            }
        }
    }

    /// Sends a TLS peer the `close_notify` alert, if that is possible without waiting.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye();
            let _ = tls.push(&mut self.stream, &mut self.written);
        }
    }

    /// Closes the connection so that the peer can read what was written (RFC 9112 section 9.6).
    ///
    /// Closes the sending half, and discards what the peer sends until it closes too, or until the deadline. If the socket
    /// were closed with unread bytes, TCP would reset the connection and the peer could lose the last answer.
    pub fn close_gently(mut self, deadline: Instant) {
        self.say_goodbye();
        // The bytes that follow are discarded, so they need no decryption.
        self.tls = None;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut discarded = [0; 4096];
        while let Ok(1..) = self.read_until(&mut discarded, deadline, || false) {}
    }
}

impl Transport for Socket {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.sleeper.waker().clone()
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn refill(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    fn starved(&self) -> bool {
        self.budget == 0
    }
}

impl Read for Socket {
    /// Reads at most as many bytes as [`Transport::refill`] has left.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.budget);
        if room == 0 || self.dry {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.take(&mut buffer[..room])?;
        self.dry = count < room && self.tls.is_none();
        self.budget -= count;
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => {
                let count = self.stream.write(bytes)?;
                self.written += count as u64;
                Ok(count)
            }
            Some(tls) => tls.write(&mut self.stream, bytes, &mut self.written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.push(&mut self.stream, &mut self.written),
        }
    }
}
