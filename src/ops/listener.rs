//! The private listener (`--ops-listen`): an address for operators, with the routes that need no inference. No TLS.
//!
//! [`crate::net::listener`] accepts the connections, as on the public port, with the same limits on a head's time and
//! bytes. Here belong the private port's own limit (`--max-ops-connections`) and the [`Service`] after it. The routes are
//! in [`super::routes`]; `super::relay` passes each request to `tiny_http`, which answers it.
//!
//! Invariants: bodies are never read. Probes are answered even when the public port is full. The port serves until the
//! end of the drain.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::relay::{Answer, Relay};
use super::routes::{self, Names, Sources};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::Outcome;
use crate::error::RequestError;
use crate::inference::Models;
use crate::memory::{Budget, Share};
use crate::net::connections::{Connections, Shared};
use crate::net::listener::Listener;
use crate::net::service::{
    Begun, Dialogue, Exchange, Incoming, Message, Progress, Refusal, ReplySlot, Service,
};
use crate::readiness::{Readiness, State};

/// How long [`OpsListener::stop`] waits for open connections.
const GOODBYE: Duration = Duration::from_secs(1);

/// The running listener.
pub struct OpsListener {
    /// The bound address, with the port that was chosen for port 0.
    pub address: SocketAddr,
    listener: Listener,
    connections: Arc<Connections>,
    /// The readiness of this port alone. It stays ready while the server drains.
    serving: Arc<Readiness>,
}

impl OpsListener {
    /// Serves on a bound socket until [`OpsListener::stop`].
    ///
    /// # Errors
    /// When a thread, a socket or a file descriptor is not available.
    pub fn start(
        socket: TcpListener,
        models: Arc<Models>,
        readiness: Arc<Readiness>,
        limits: &Limits,
        memory: Arc<Budget>,
        clock: Clock,
    ) -> io::Result<OpsListener> {
        let answer = move |method: &Method, path: &str| {
            let sources = Sources { models: &models, readiness: &readiness, names: Names::Told };
            routes::respond(method, path, sources).unwrap_or_else(|_| elsewhere())
        };
        let serving = Arc::new(Readiness::default());
        serving.set(State::Ready);
        let connections = Arc::new(Connections::new()?);
        let shared = Shared {
            service: Operators::new(Arc::new(answer))?,
            identity: None,
            limits: Limits { max_connections: limits.max_ops_connections, ..limits.clone() },
            readiness: serving.clone(),
            connections: connections.clone(),
            counters: Arc::default(),
            memory,
            clock,
        };
        let listener = Listener::start(socket, Arc::new(shared))?;
        Ok(OpsListener { address: listener.address, listener, connections, serving })
    }

    /// Stops. Waits until answers are written, but at most one second, and not beyond `deadline`.
    pub fn stop(self, deadline: Instant) {
        self.serving.set(State::Draining);
        self.listener.stop();
        self.connections.ring_all();
        let left = self.connections.wait_until_gone(deadline.min(Instant::now() + GOODBYE));
        if left > 0 {
            log::debug!("{left} of the operators' connections are still open");
        }
    }
}

/// The answer to a request for inference.
fn elsewhere() -> Response<Vec<u8>> {
    routes::error(StatusCode::NOT_FOUND, "inference is on the public port; this one is for operators")
}

/// The [`Service`] of the private port.
struct Operators {
    answer: Arc<Answer>,
    /// `None` after the relay failed, until the next request starts another.
    relay: Mutex<Option<Relay>>,
}

impl Operators {
    fn new(answer: Arc<Answer>) -> io::Result<Operators> {
        let relay = Mutex::new(Some(Relay::start(answer.clone())?));
        Ok(Operators { answer, relay })
    }

    /// Asks the relay. Starts one when there is none; a relay that fails is dropped.
    fn ask(&self, method: &Method, path: &str) -> io::Result<Response<Vec<u8>>> {
        // tiny_http closes the connection for such a path, so the relay cannot carry it. No route has one.
        if !path.is_ascii() {
            return Ok((self.answer)(method, path));
        }
        // The relay is taken out while it is used, so after a panic the place is `None`, which is a valid state.
        let mut place = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        let mut relay = match place.take() {
            Some(relay) => relay,
            None => Relay::start(self.answer.clone())?,
        };
        let response = relay.ask(method, path)?;
        *place = Some(relay);
        Ok(response)
    }
}

impl Service for Operators {
    type Dialogue = Nothing;
    type Exchange = Nothing;

    fn upgrade(&self, _: &Request<()>) -> Result<Nothing, Refusal> {
        Err(Box::new(elsewhere()))
    }

    fn begin(&self, request: &Request<()>) -> Begun<Nothing> {
        // The answer to HEAD needs the Content-Length of the answer to GET.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        Begun::Respond(self.ask(method, request.uri().path()).unwrap_or_else(|error| {
            log::error!("ops: a request could not be relayed: {error}");
            let mut response = routes::error(StatusCode::SERVICE_UNAVAILABLE, "try again later");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }))
    }

    fn refuse(&self, status: StatusCode, message: &str) -> Response<Vec<u8>> {
        routes::error(status, message)
    }

    fn fail(&self, failure: &RequestError) -> Response<Vec<u8>> {
        routes::request_error(failure)
    }
}

/// The type of the private port's conversations and bodies. It has no values, because there are none.
enum Nothing {}

impl Dialogue for Nothing {
    type Pending = Infallible;

    fn receive(&mut self, _: Incoming<'_>, _: Share, _: &ReplySlot) -> Progress<Infallible, Message> {
        match *self {}
    }

    fn answer(&mut self, pending: Infallible, _: Outcome, _: &mut Share) -> Option<Message> {
        match pending {}
    }

    fn refuse(&mut self, _: &RequestError) -> Message {
        match *self {}
    }
}

impl Exchange for Nothing {
    type Pending = Infallible;

    fn receive(&mut self, _: &[u8], _: Share, _: &ReplySlot) -> Progress<Infallible, Response<Vec<u8>>> {
        match *self {}
    }

    fn answer(&mut self, pending: Infallible, _: Outcome, _: &mut Share) -> Response<Vec<u8>> {
        match pending {}
    }
}
