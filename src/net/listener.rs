//! Accepts connections. Each gets a permit and a thread of its own.
//!
//! What happens on a connection is in [`super::connection`]; both the public and the private port listen with this
//! module.
//!
//! Invariants: no error ends the accept thread, only [`Listener::stop`] does. It never waits for a peer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::connection;
use super::connections::Shared;
use super::response::{self, HasBody};
use super::service::Service;
use super::wake::Ring;
use super::waker::Bell;

/// Stack of a connection's thread in bytes. No model runs here, so the TLS handshake and the JSON parser need the most. Only pages that are used take memory.
pub const STACK: usize = 128 << 10;

/// The pause after an accept that failed because threads, descriptors or memory have run out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A running accept thread. [`Listener::stop`] ends it and closes the port.
#[derive(Debug)]
pub struct Listener {
    /// The bound address, with the port that was chosen for port 0.
    pub address: SocketAddr,
    bell: Arc<Bell>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Accepts connections on a bound socket, and serves each on its own thread.
    ///
    /// # Errors
    /// When the socket cannot be used, or no thread or file descriptor is free.
    pub fn start<S: Service>(listener: TcpListener, shared: Arc<Shared<S>>) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let bell = Arc::new(Bell::new()?);
        let stopping = Arc::new(AtomicBool::new(false));
        let (bell_there, stopping_there) = (bell.clone(), stopping.clone());
        let connections = shared.connections.clone();
        shared.clock.on_advance(move || connections.ring_all());
        let thread = std::thread::Builder::new().name("accept".into()).spawn(move || {
            let mut complaint = Complaint::default();
            while !stopping_there.load(Ordering::SeqCst) {
                accept(&listener, &shared, &stopping_there, &mut complaint);
                let mut fds =
                    [PollFd::new(&listener, PollFlags::IN), PollFd::new(&*bell_there, PollFlags::IN)];
                if let Err(error) = poll(&mut fds, None) {
                    complaint.say(&error);
                }
            }
        })?;
        Ok(Listener { address, bell, stopping, thread })
    }

    /// Ends the accept thread and closes the port. Open connections continue.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
        if self.thread.join().is_err() {
            log::error!("the accept thread had panicked");
        }
    }
}

/// Accepts all connections that wait. An error does not end the thread: a peer that has gone does not matter, and
/// resources that have run out become free again.
fn accept<S: Service>(
    listener: &TcpListener,
    shared: &Arc<Shared<S>>,
    stopping: &AtomicBool,
    complaint: &mut Complaint,
) {
    while !stopping.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Err(error) = open(stream, peer, shared, complaint) {
                    shared.counters.accept_errors.one();
                    complaint.say(&error);
                    std::thread::sleep(BACK_OFF);
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                shared.counters.accept_errors.one();
                complaint.say(&error);
                std::thread::sleep(BACK_OFF);
                return;
            }
        }
    }
}

/// Serves one accepted connection on a new thread, or turns it away when the limit is reached.
fn open<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared<S>>,
    complaint: &mut Complaint,
) -> io::Result<()> {
    // The deadlines count from now, even if the thread starts to run later.
    let accepted = shared.clock.now();
    let Some(permit) = shared.connections.admit(shared.limits.max_connections) else {
        shared.counters.connections_refused.one();
        complaint.say(&format_args!("{} are open already", shared.limits.max_connections));
        // A TLS client could not read a plain answer.
        if shared.identity.is_none() {
            turn_away(stream, &shared.service);
        }
        return Ok(());
    };
    shared.counters.connections.one();
    let shared = shared.clone();
    let name = format!("conn-{}", permit.number());
    let begin = move || connection::serve(stream, peer, accepted, permit, shared);
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(begin)?;
    Ok(())
}

/// Sends 503 to a peer for which no place is free, without waiting for it.
fn turn_away<S: Service>(mut stream: TcpStream, service: &S) {
    let mut response =
        service.refuse(http::StatusCode::SERVICE_UNAVAILABLE, "all connections are taken: try again later");
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.write(&response::last(&response, HasBody::Yes));
        let _ = stream.shutdown(Shutdown::Write);
        // When bytes are unread, the close becomes a reset, and the peer may lose the answer.
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// Logs at most one line a second, with the number of errors since the last line.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    fn say(&mut self, error: &dyn std::fmt::Display) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            self.unsaid += 1;
            return;
        }
        log::error!("a connection is refused: {error} ({} more since the last such line)", self.unsaid);
        self.last = Some(Instant::now());
        self.unsaid = 0;
    }
}
