//! The private listener: `tiny_http` on an address that only operators reach, with the routes that
//! answer without a model's work. No TLS, no limits against hostile peers; not for the public port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use http::StatusCode;

use super::health::Readiness;
use super::routes::{self, Sources};
use crate::inference::Models;

/// The running listener.
pub struct OpsListener {
    pub address: SocketAddr,
    server: Arc<tiny_http::Server>,
    thread: JoinHandle<()>,
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
        let thread = std::thread::Builder::new().name("ops".into()).spawn(move || {
            for request in there.incoming_requests() {
                let sources = Sources { models: &models, readiness: &readiness };
                let response = answer(request.method().as_str(), request.url(), sources);
                if let Err(error) = request.respond(convert(response)) {
                    log::debug!("ops: {error}");
                }
            }
        })?;
        Ok(OpsListener { address, server, thread })
    }

    pub fn stop(self) {
        self.server.unblock();
        if self.thread.join().is_err() {
            log::error!("the ops thread had panicked");
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
