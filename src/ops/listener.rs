//! The private listener: `tiny_http` on an address that only operators reach, with the routes that
//! answer without a model's work. No TLS, no limits against hostile peers; not for the public port.
//!
//! tiny_http reads a request's body when the request is dropped, for as long as the peer takes, into a
//! buffer as large as the peer declares. Nothing here wants a body, so what has one is dropped on a
//! thread that nobody waits for, or, when its length alone would cost memory, not at all.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use http::StatusCode;

use super::health::Readiness;
use super::routes::{self, Sources};
use crate::inference::Models;

/// The running listener.
pub struct OpsListener {
    pub address: SocketAddr,
    server: Arc<tiny_http::Server>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    alive: Receiver<Infallible>,
}

impl OpsListener {
    /// Serves on a bound socket until [`OpsListener::stop`].
    pub fn start(
        listener: TcpListener,
        models: Arc<Models>,
        readiness: Arc<Readiness>,
    ) -> io::Result<OpsListener> {
        let address = listener.local_addr()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        let there = server.clone();
        let (living, alive) = bounded::<Infallible>(0);
        let thread = std::thread::Builder::new().name("ops".into()).spawn(move || {
            let _living = living;
            for request in there.incoming_requests() {
                let sources = Sources { models: &models, readiness: &readiness };
                let response = answer(request.method().as_str(), request.url(), sources);
                answer_without_body(request, convert(response));
            }
        })?;
        Ok(OpsListener { address, server, thread, alive })
    }

    /// Stops; waits for an answer under way until the deadline.
    pub fn stop(self, deadline: Instant) {
        self.server.unblock();
        match self.alive.recv_deadline(deadline) {
            Err(RecvTimeoutError::Disconnected) if self.thread.join().is_err() => {
                log::error!("the ops thread had panicked");
            }
            Err(RecvTimeoutError::Disconnected) => {}
            _ => log::warn!("an operator's connection is still being answered"),
        }
    }
}

/// Answers, and lets go of the request in a way that costs nobody anything (see the module).
fn answer_without_body(request: tiny_http::Request, response: tiny_http::Response<io::Cursor<Vec<u8>>>) {
    /// A declared body up to here may be read and thrown away.
    const SMALL: usize = 1 << 20;
    let respond = |request: tiny_http::Request| {
        if let Err(error) = request.respond(response) {
            log::debug!("ops: {error}");
        }
    };
    match request.body_length() {
        None | Some(0) => respond(request),
        Some(..=SMALL) => {
            let spawned = std::thread::Builder::new().name("ops-body".into()).spawn(move || respond(request));
            if let Err(error) = spawned {
                log::warn!("ops: {error}");
            }
        }
        Some(length) => {
            log::warn!("ops: a request declares {length} bytes of body; its connection is left lying");
            std::mem::forget(request);
        }
    }
}

fn answer(method: &str, url: &str, sources: Sources<'_>) -> http::Response<Vec<u8>> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let Ok(method) = http::Method::from_bytes(method.as_bytes()) else {
        return routes::error(StatusCode::BAD_REQUEST, "this is no HTTP method");
    };
    match routes::respond(&method, path, sources) {
        Ok(response) => response,
        Err(_) => {
            routes::error(StatusCode::NOT_FOUND, "inference is on the public port; this one is for operators")
        }
    }
}

fn convert(response: http::Response<Vec<u8>>) -> tiny_http::Response<io::Cursor<Vec<u8>>> {
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        tiny_http::Header::from_bytes(name.as_str().as_bytes(), value.as_bytes()).ok()
    });
    let status = tiny_http::StatusCode(parts.status.as_u16());
    let length = body.len();
    tiny_http::Response::new(status, headers.collect(), io::Cursor::new(body), Some(length), None)
}
