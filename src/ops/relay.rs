//! `tiny_http` behind the private listener: it reads whole requests, hands them to the routes, and writes the answers.
//!
//! It has no bound of its own: a connection takes two threads and two descriptors for as long as its peer likes, a head
//! may be of any length, a body is read into as much memory as it declares, and one accept that fails, for want of a
//! descriptor, ends it. So no peer ever reaches it. It has a single connection, from inside this program, which is made
//! at the start; then its port is closed. [`super::listener`] takes the peers under the limits of the public port, and
//! what it has read whole goes over that one connection, without a body, one request at a time. An answer takes
//! microseconds, and no peer is waited for meanwhile.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use rustix::net::Shutdown;
use ureq_proto::parser::try_parse_response;

use super::routes;

/// How long an answer may take, which is made of what is in memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// What answers a request: its method and path tell all that is needed.
pub type Answer = dyn Fn(&Method, &str) -> Response<Vec<u8>> + Send + Sync;

/// A running `tiny_http` and the connection to it.
pub struct Relay {
    stream: BufReader<TcpStream>,
    server: Arc<tiny_http::Server>,
    stopping: Arc<AtomicBool>,
}

impl Relay {
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
                // It also fails when accepting has ended, which is meant to be.
                let Ok(request) = there.recv() else { continue };
                let response = respond(&request, &*answer);
                if let Err(error) = request.respond(response) {
                    log::debug!("ops: {error}");
                }
            }
        };
        std::thread::Builder::new().name("ops".into()).spawn(serve)?;
        let mut relay = Relay { stream: BufReader::new(TcpStream::connect(address)?), server, stopping };
        relay.stream.get_ref().set_nodelay(true)?;
        relay.stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        relay.stream.get_ref().set_write_timeout(Some(PATIENCE))?;
        // Once this is answered the connection has been accepted, and nobody else is to be.
        relay.ask(&Method::GET, "/v2/health/live")?;
        rustix::net::shutdown(&port, Shutdown::Both)?;
        Ok(relay)
    }

    /// Asks for the answer to a request without a body. After an error the connection is of no more use.
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
        let (_, parsed) = parsed.ok_or_else(|| broken("the head has no end"))?;
        let length = parsed.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        self.stream
            .by_ref()
            .take(length.ok_or_else(|| broken("no Content-Length"))?)
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

fn respond(request: &tiny_http::Request, answer: &Answer) -> tiny_http::Response<io::Cursor<Vec<u8>>> {
    let path = request.url().split(['?', '#']).next().unwrap_or_default();
    let response = match Method::from_bytes(request.method().as_str().as_bytes()) {
        Ok(method) => answer(&method, path),
        Err(_) => routes::error(StatusCode::BAD_REQUEST, "this is no HTTP method"),
    };
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        tiny_http::Header::from_bytes(name.as_str().as_bytes(), value.as_bytes()).ok()
    });
    let status = tiny_http::StatusCode(parts.status.as_u16());
    let length = body.len();
    // The other end reads by the length.
    tiny_http::Response::new(status, headers.collect(), io::Cursor::new(body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_one_after_another_over_the_one_connection_and_nobody_else_is_accepted() {
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
