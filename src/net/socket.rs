//! A connection's socket, plain or TLS: never blocking, read and written under deadlines, and the one
//! place where a connection thread sleeps.

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

/// How long a connection sleeps for a reply when no bell could be had for it.
const WITHOUT_BELL: Duration = Duration::from_millis(1);

/// What to wait for on the socket; hang-ups and errors are always reported, as readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
    /// Replies of workers, too.
    pub reply: bool,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    pub readable: bool,
}

/// A connected, non-blocking socket and the sleep of the thread that owns it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<TlsStream>>,
    sleeper: Sleeper,
    clock: Clock,
    /// Bytes written so far: how a blocked writer tells a slow peer from one that has stopped.
    written: u64,
    /// Bytes read so far: a sign of life.
    received: u64,
    /// Bytes that `read` may still take.
    budget: usize,
    /// The last read got less than it asked for: there is nothing more until poll says so.
    dry: bool,
}

/// How a TLS handshake can fail.
#[derive(Debug, thiserror::Error)]
pub enum NoHandshake {
    #[error("this port speaks TLS, and this is no TLS: connect to wss:// or https://")]
    Plain,
    /// The peer went away, or its time was over.
    #[error("{0}")]
    Gone(&'static str),
    /// What TLS itself says.
    #[error("the TLS handshake failed: {0}")]
    Refused(String),
}

impl Socket {
    pub fn new(stream: TcpStream, bells: Arc<Bells>, clock: Clock) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        // Replies are written whole; waiting for more to send only delays them.
        stream.set_nodelay(true)?;
        let sleeper = Sleeper::new(bells);
        Ok(Socket { stream, tls: None, sleeper, clock, written: 0, received: 0, budget: 0, dry: false })
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes this a TLS connection, by `deadline`. After [`NoHandshake::Plain`] the socket is as it was.
    pub fn shake_hands(&mut self, identity: &Identity, deadline: Instant) -> Result<(), NoHandshake> {
        const GONE: NoHandshake = NoHandshake::Gone("the peer went away in the TLS handshake");
        const LATE: NoHandshake = NoHandshake::Gone("the TLS handshake took too long");
        /// A TLS record of the handshake (RFC 8446 section 5.1).
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

    fn sleep_by(&mut self, interest: Interest, deadline: Instant) -> io::Result<Ready> {
        self.wait(interest, Some(deadline), || false)
    }

    /// Sleeps until the socket is ready as `interest` says, a bell rings, or the deadline passes.
    /// Does not sleep when `has_work` says that there is something to do already; it is asked after
    /// the bell is armed, so that what comes in between is not slept through.
    ///
    /// May return early, with nothing: whoever waits for a time looks at the clock.
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
            // Without a bell of its own the common one stands here too, unheard.
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
            // What TLS itself had to say; what of ours is blocked is pushed by who wrote it.
            let _ = tls.push(&mut self.stream, &mut self.written);
        }
        if !socket.is_empty() {
            self.dry = false;
        }
        let broken = socket.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Ok(Ready { readable: broken || socket.contains(PollFlags::IN) })
    }

    /// What has come, without waiting and without a budget.
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

    /// Reads what there is, waiting for it until the deadline; 0 is the end of the stream. `give_up`
    /// is asked whenever a bell rings, and a yes is `Interrupted`.
    pub fn read_until(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
        give_up: impl Fn() -> bool,
    ) -> io::Result<usize> {
        loop {
            // Also for a peer that never pauses: the deadline is for the whole.
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

    /// Writes everything and pushes it out; `patience` is for a peer that takes nothing.
    ///
    /// A peer that reads slowly makes room long before poll calls the socket writable (Linux waits for a
    /// third of the buffer), so after the patience a write is tried before the peer is given up.
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

    /// Tells a TLS peer that nothing more comes, if it can be told at once.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye();
            let _ = tls.push(&mut self.stream, &mut self.written);
        }
    }

    /// Ends the connection so that the peer gets to read what was written: our half is closed, and
    /// what the peer still sends is thrown away until it closes too, or until the deadline. Closing
    /// at once, with bytes unread, would make TCP reset the connection and take the last answer with
    /// it.
    pub fn close_gently(mut self, deadline: Instant) {
        self.say_goodbye();
        // From here on bytes are rubbish, and need no decryption.
        self.tls = None;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut rubbish = [0; 4096];
        while let Ok(1..) = self.read_until(&mut rubbish, deadline, || false) {}
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
    /// Within the budget of [`Transport::refill`].
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
