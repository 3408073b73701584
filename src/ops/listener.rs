//! The private listener: an address that only operators are meant to reach, with the routes that answer without a
//! model's work. No TLS.
//!
//! Peers are accepted by [`crate::net::listener`], as on the public port: under permits, which are its own
//! (`--max-ops-connections`), with the same bounds on a head's time and bytes, with bodies that are refused unread, and
//! with an accept loop that no error ends. So a probe is answered when the public port is full, and whoever reaches this
//! port can do no more harm than there. Each whole request then goes to `tiny_http`, which answers it: `super::relay`.

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

/// How long the end waits for operators' connections.
const GOODBYE: Duration = Duration::from_secs(1);

/// The running listener.
pub struct OpsListener {
    pub address: SocketAddr,
    listener: Listener,
    connections: Arc<Connections>,
    /// Whether this port serves: it does so until the very end, also while the server drains.
    serving: Arc<Readiness>,
}

impl OpsListener {
    /// Serves on a bound socket until [`OpsListener::stop`].
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

    /// Stops. Answers under way are written; a peer that does not take its own is not waited for.
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

fn elsewhere() -> Response<Vec<u8>> {
    routes::error(StatusCode::NOT_FOUND, "inference is on the public port; this one is for operators")
}

/// What operators ask for, as the net room's [`Service`].
struct Operators {
    answer: Arc<Answer>,
    /// `None` after one that failed, until another could be started.
    relay: Mutex<Option<Relay>>,
}

impl Operators {
    fn new(answer: Arc<Answer>) -> io::Result<Operators> {
        let relay = Mutex::new(Some(Relay::start(answer.clone())?));
        Ok(Operators { answer, relay })
    }

    /// Asks, with a relay that is started anew when there is none. One that fails is not used again.
    fn ask(&self, method: &Method, path: &str) -> io::Result<Response<Vec<u8>>> {
        // tiny_http ends a connection with such a path. No route has one.
        if !path.is_ascii() {
            return Ok((self.answer)(method, path));
        }
        // A panic under the lock leaves a relay out of step at worst; then it is none.
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
        // The answer to HEAD has the length of that to GET.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        Begun::Respond(self.ask(method, request.uri().path()).unwrap_or_else(|error| {
            log::error!("ops: {error}");
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

/// The conversations and bodies of operators: there are none.
enum Nothing {}

impl Dialogue for Nothing {
    type Pending = Infallible;

    fn receive(&mut self, _: Incoming<'_>, _: Share, _: &ReplySlot) -> Progress<Infallible, Message> {
        match *self {}
    }

    fn answer(&mut self, pending: Infallible, _: Outcome, _: &mut Share) -> Message {
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
