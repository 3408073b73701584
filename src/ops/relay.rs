//! Runs `tiny_http` behind the private listener, and sends it one request at a time over one connection.
//!
//! `tiny_http` has no limits: a connection occupies two threads and two file descriptors for as long as the peer wants, a
//! head may have any length, a body takes as much memory as it declares, and one failed accept ends the server. So no peer
//! may reach it. This module opens a single connection to it at the start and then closes its port. [`super::listener`]
//! accepts the peers under the limits of the public port, and passes on complete requests without their bodies. An answer
//! takes microseconds, and nothing waits for a peer meanwhile.
//!
//! Here belong the connection and the conversion of its messages. What is answered is in [`super::routes`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use rustix::net::Shutdown;
use ureq_proto::parser::try_parse_response;

use super::routes;

/// The longest time for one answer. Answers are made from memory, so this is far more than they need.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the response to a request from its method and path.
pub type Answer = dyn Fn(&Method, &str) -> Response<Vec<u8>> + Send + Sync;

/// A running `tiny_http` and the connection to it.
pub struct Relay {
    stream: BufReader<TcpStream>,
    server: Arc<tiny_http::Server>,
    stopping: Arc<AtomicBool>,
}

impl Relay {
    /// Starts `tiny_http` on a loopback port, connects to it, and closes the port.
    ///
    /// # Errors
    /// When a thread or a socket is not available.
    pub fn start(answer: Arc<Answer>) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let port = listener.try_clone()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        let stopping = Arc::new(AtomicBool::new(false));
        let (there, stopping_there) = (server.clone(), stopping.clone());
        let serve = move || {
            while !stopping_there.load(Ordering::SeqCst) {
                // An error is expected: the port is closed, so accepting fails.
                let Ok(request) = there.recv() else { continue };
                let response = respond(&request, &*answer);
                if let Err(error) = request.respond(response) {
                    log::debug!("ops: an answer could not be written: {error}");
                }
            }
        };
        std::thread::Builder::new().name("ops".into()).spawn(serve)?;
        let mut relay = Relay { stream: BufReader::new(TcpStream::connect(address)?), server, stopping };
        relay.stream.get_ref().set_nodelay(true)?;
        relay.stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        relay.stream.get_ref().set_write_timeout(Some(PATIENCE))?;
        // After this answer the connection is certainly accepted, so the port can be closed.
        relay.ask(&Method::GET, "/v2/health/live")?;
        rustix::net::shutdown(&port, Shutdown::Both)?;
        Ok(relay)
    }

    /// Sends a request without a body and reads the response. After an error, do not use the relay again.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` after [`PATIENCE`], `InvalidData` for a response that cannot be read, others when the
    /// connection is broken.
    pub fn ask(&mut self, method: &Method, path: &str) -> io::Result<Response<Vec<u8>>> {
        write!(self.stream.get_mut(), "{method} {path} HTTP/1.1\r\nHost: ops\r\n\r\n")?;
        let broken = |error: &str| io::Error::new(io::ErrorKind::InvalidData, error.to_owned());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let parsed = try_parse_response::<32>(&head).map_err(|error| broken(&error.to_string()))?;
        let (_, parsed) = parsed.ok_or_else(|| broken("the response's head is not complete"))?;
        let length = parsed.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        self.stream
            .by_ref()
            .take(length.ok_or_else(|| broken("the response has no Content-Length"))?)
            .read_to_end(&mut body)?;
        Ok(parsed.map(|()| body))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.server.unblock();
    }
}

/// Makes the response in `tiny_http`'s types.
fn respond(request: &tiny_http::Request, answer: &Answer) -> tiny_http::Response<io::Cursor<Vec<u8>>> {
    let path = request.url().split(['?', '#']).next().unwrap_or_default();
    let response = match Method::from_bytes(request.method().as_str().as_bytes()) {
        Ok(method) => answer(&method, path),
        Err(_) => routes::error(StatusCode::BAD_REQUEST, "this is not an HTTP method"),
    };
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        tiny_http::Header::from_bytes(name.as_str().as_bytes(), value.as_bytes()).ok()
    });
    let status = tiny_http::StatusCode(parts.status.as_u16());
    let length = body.len();
    // `ask` reads the body by its Content-Length, so it must not be chunked.
    tiny_http::Response::new(status, headers.collect(), io::Cursor::new(body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_one_connection_and_no_other_connection_is_accepted() {
        let answer = |method: &Method, path: &str| {
            let long = if path == "/long" { "x".repeat(100_000) } else { String::new() };
            routes::json(StatusCode::OK, format!("{method} {path} {long}"))
        };
        let mut relay = Relay::start(Arc::new(answer)).unwrap();
        let address = relay.stream.get_ref().peer_addr().unwrap();
        for (method, path) in [(Method::GET, "/a"), (Method::POST, "/b?c"), (Method::GET, "/long")] {
            let response = relay.ask(&method, path).unwrap();
            let expected = format!("{method} {} ", path.split('?').next().unwrap());
            assert!(response.body().starts_with(expected.as_bytes()), "{response:?}");
            assert_eq!(response.body().len() > 100_000, path == "/long");
        }
        assert!(TcpStream::connect(address).is_err(), "its port is closed");
        assert!(relay.ask(&Method::GET, "/again").is_ok());
    }
}
