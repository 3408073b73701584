//! Accepting connections: a permit each, a thread each, and never an end before the server's.

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

/// Bytes of stack for a connection's thread. Models run on workers; the deepest things here are the
/// TLS handshake and the JSON parser. Only what is touched takes memory.
pub const STACK: usize = 128 << 10;

/// How long the listener rests when the machine has run out of something.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The accept thread. It stops, and the port closes, on [`Listener::stop`].
#[derive(Debug)]
pub struct Listener {
    pub address: SocketAddr,
    bell: Arc<Bell>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens on a bound socket and serves each connection on a thread of its own.
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

    /// Ends the accept thread and closes the port. Connections go on.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
        if self.thread.join().is_err() {
            log::error!("the accept thread had panicked");
        }
    }
}

/// Accepts what is waiting. No error ends it: a peer that has gone is nothing to us, and of what the
/// machine has run out of there will be more.
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

fn open<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared<S>>,
    complaint: &mut Complaint,
) -> io::Result<()> {
    // Its deadlines count from here, whenever its thread gets to run.
    let accepted = shared.clock.now();
    let Some(permit) = shared.connections.admit(shared.limits.max_connections) else {
        shared.counters.connections_refused.one();
        complaint.say(&format_args!("{} are open already", shared.limits.max_connections));
        // A TLS client could not read it.
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

/// Tells a peer for whom there is no place to come back. Never waits for it.
fn turn_away<S: Service>(mut stream: TcpStream, service: &S) {
    let mut response =
        service.refuse(http::StatusCode::SERVICE_UNAVAILABLE, "all connections are taken: try again later");
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.write(&response::last(&response, HasBody::Yes));
        let _ = stream.shutdown(Shutdown::Write);
        // Bytes left unread would turn the close into a reset, and the answer would be lost.
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// Says what is wrong at most once a second, with what was left unsaid.
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
