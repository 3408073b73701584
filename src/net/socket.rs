//! A connection's socket: never blocking, read and written under deadlines, and the one place where
//! a connection thread sleeps.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::waker::Waker;

/// What to wait for on the socket; hang-ups and errors are always reported, as readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The deadline passed and nothing else happened.
    pub timed_out: bool,
}

/// A connected, non-blocking socket and the bell of the thread that owns it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    waker: Arc<Waker>,
    /// Bytes written so far: how a blocked writer tells a slow peer from one that has stopped.
    written: u64,
    /// Bytes read so far: a sign of life.
    received: u64,
    /// Bytes that `read` may still take.
    budget: usize,
}

impl Socket {
    pub fn new(stream: TcpStream, waker: Arc<Waker>) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        // Replies are written whole; waiting for more to send only delays them.
        stream.set_nodelay(true)?;
        Ok(Socket { stream, waker, written: 0, received: 0, budget: 0 })
    }

    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// Sleeps until the socket is ready as `interest` says, the bell rings, or the deadline passes.
    /// Does not sleep when `has_work` says that there is something to do already; it is asked after
    /// the bell is armed, so that what comes in between is not slept through.
    pub fn wait(
        &self,
        interest: Interest,
        deadline: Option<Instant>,
        has_work: impl FnOnce() -> bool,
    ) -> io::Result<Ready> {
        self.waker.prepare_to_sleep();
        if has_work() {
            self.waker.awake(false);
            return Ok(Ready::default());
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        let mut fds = [PollFd::new(&self.stream, flags), PollFd::new(&*self.waker, PollFlags::IN)];
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let count = match poll(&mut fds, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 1,
            Err(error) => {
                self.waker.awake(true);
                return Err(error.into());
            }
        };
        let (socket, bell) = (fds[0].revents(), fds[1].revents());
        self.waker.awake(!bell.is_empty());
        let broken = socket.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Ok(Ready {
            readable: broken || socket.contains(PollFlags::IN),
            writable: broken || socket.contains(PollFlags::OUT),
            timed_out: count == 0,
        })
    }

    /// Reads what there is, waiting for it until the deadline; 0 is the end of the stream. `give_up`
    /// is asked whenever the bell rings, and a yes is `Interrupted`.
    pub fn read_until(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
        give_up: impl Fn() -> bool,
    ) -> io::Result<usize> {
        loop {
            // Also for a peer that never pauses: the deadline is for the whole.
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => return result,
            }
            let ready = self.wait(Interest { read: true, write: false }, Some(deadline), &give_up)?;
            if ready.timed_out {
                return Err(ErrorKind::TimedOut.into());
            }
            if !ready.readable && give_up() {
                return Err(ErrorKind::Interrupted.into());
            }
        }
    }

    /// Writes everything; `patience` is for a peer that takes nothing.
    ///
    /// A peer that reads slowly makes room long before poll calls the socket writable (Linux waits for a
    /// third of the buffer), so after the patience a write is tried before the peer is given up.
    pub fn write_all_within(&mut self, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut deadline = Instant::now() + patience;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    deadline = Instant::now() + patience;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.wait(Interest { read: false, write: true }, Some(deadline), || false)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets `read` take so many bytes more; at none it says `WouldBlock`, and [`Socket::starved`] that
    /// there may be more. So a peer that never pauses cannot keep its reader for itself.
    pub fn refill(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    pub fn starved(&self) -> bool {
        self.budget == 0
    }

    /// Ends the connection so that the peer gets to read what was written: our half is closed, and
    /// what the peer still sends is thrown away until it closes too, or until the deadline. Closing
    /// at once, with bytes unread, would make TCP reset the connection and take the last answer with
    /// it.
    pub fn close_gently(mut self, deadline: Instant) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut rubbish = [0; 4096];
        while let Ok(1..) = self.read_until(&mut rubbish, deadline, || false) {
            if Instant::now() >= deadline {
                return;
            }
        }
    }
}

impl Read for Socket {
    /// Within the budget of [`Socket::refill`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.budget);
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.stream.read(&mut buffer[..room])?;
        self.budget -= count;
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
