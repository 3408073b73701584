//! One connection from its first byte to its last: requests one after another, until one of them
//! upgrades it to a conversation.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use tungstenite::handshake::server::{create_response, write_response};

use super::connections::Shared;
use super::conversation;
use super::head::{self, Head, NoHead};
use super::http::{self as plain, Next};
use super::service::{Refusal, Service};
use super::socket::Socket;
use super::waker::Waker;
use crate::wire::error::shorten;

/// Serves a connection to its end, on this thread.
pub fn serve<S: Service>(stream: TcpStream, peer: SocketAddr, waker: Arc<Waker>, shared: &Shared<S>) {
    let socket = match Socket::new(stream, waker) {
        Ok(socket) => socket,
        Err(error) => return log::debug!("{peer}: {error}"),
    };
    log::debug!("{peer}: connected");
    Connection { socket, peer, buffer: Vec::new(), shared }.run();
    log::debug!("{peer}: gone");
}

struct Connection<'a, S> {
    socket: Socket,
    peer: SocketAddr,
    /// Read, and not used yet.
    buffer: Vec<u8>,
    shared: &'a Shared<S>,
}

impl<S: Service> Connection<'_, S> {
    fn run(mut self) {
        let limits = &self.shared.limits;
        let mut idle = limits.head_timeout;
        loop {
            let draining = || self.shared.readiness.is_draining();
            let head =
                head::read(&mut self.socket, &mut self.buffer, limits, Instant::now() + idle, draining);
            let next = match head {
                Ok(head) if head::wants_upgrade(head.request.headers()) => {
                    return self.upgrade(&head.request);
                }
                Ok(head) => self.exchange(head),
                Err(NoHead::Gone) => return,
                Err(NoHead::Io(error)) => return log::debug!("{}: {error}", self.peer),
                Err(NoHead::Refused { status, message }) => {
                    log::info!("{}: {status}: {message}", self.peer);
                    let response = self.shared.service.refuse(status, &message);
                    return self.refuse(response);
                }
            };
            match next {
                Next::Again => idle = limits.keep_alive_timeout,
                Next::Close => return self.socket.close_gently(Instant::now() + limits.close_timeout),
                Next::Gone => return,
            }
        }
    }

    fn exchange(&mut self, head: Head) -> Next {
        let what = format!("{} {}", head.request.method(), head.request.uri().path());
        let (status, next) = plain::exchange(head, &mut self.socket, &mut self.buffer, self.shared);
        match status {
            Some(status) => log::debug!("{}: {what}: {status}", self.peer),
            None => log::debug!("{}: {what}: the peer went away", self.peer),
        }
        next
    }

    fn upgrade(mut self, request: &Request<()>) {
        let path = shorten(request.uri().path()).into_owned();
        let (response, dialogue) = match self.accept(request) {
            Ok(accepted) => accepted,
            Err(response) => {
                log::info!("{}: upgrade of {path} refused: {}", self.peer, response.status());
                return self.refuse(*response);
            }
        };
        let mut bytes = Vec::new();
        let written =
            write_response(&mut bytes, &response).map_err(|error| error.to_string()).and_then(|()| {
                let patience = self.shared.limits.write_timeout;
                self.socket.write_all_within(&bytes, patience).map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            return log::debug!("{}: {error}", self.peer);
        }
        log::info!("{}: conversation on {path}", self.peer);
        let begun = Instant::now();
        let (limits, readiness) = (&self.shared.limits, &self.shared.readiness);
        let ended = conversation::hold(self.socket, self.buffer, dialogue, limits, readiness);
        log::info!(
            "{}: conversation ended after {:.1} s, {} requests: {}",
            self.peer,
            begun.elapsed().as_secs_f64(),
            ended.requests,
            ended.why
        );
    }

    /// The 101 and what comes after it, or the response that refuses (PROTOCOL, "Paths").
    fn accept(&self, request: &Request<()>) -> Result<(Response<()>, S::Dialogue), Refusal> {
        let service = &self.shared.service;
        if self.shared.readiness.is_draining() {
            let mut response = service.refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return Err(Box::new(response));
        }
        // RFC 6455 section 4.4: a version that is not ours is answered with the one that is.
        if request.headers().get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version != "13") {
            let message = "of the WebSocket versions this server speaks 13";
            let mut response = service.refuse(StatusCode::UPGRADE_REQUIRED, message);
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Err(Box::new(response));
        }
        let accepted = create_response(&normalised(request)).map_err(|error| {
            let message = format!("this is no WebSocket handshake: {error}");
            Box::new(service.refuse(StatusCode::BAD_REQUEST, &message))
        })?;
        let dialogue = service.upgrade(request)?;
        Ok((accepted, dialogue))
    }

    /// Answers, and ends the connection.
    fn refuse(mut self, response: Response<Vec<u8>>) {
        let limits = &self.shared.limits;
        let bytes = plain::last_response(&response);
        if self.socket.write_all_within(&bytes, limits.write_timeout).is_ok() {
            self.socket.close_gently(Instant::now() + limits.close_timeout);
        }
    }
}

/// The request with `Connection` and `Upgrade` as the handshake's check wants them, one word each; both
/// are lists, which a peer may spread over several lines (RFC 9110 sections 5.3, 7.6.1, 7.8).
fn normalised(request: &Request<()>) -> Request<()> {
    let mut plain = request.clone();
    for (name, word) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
        if head::lists(request.headers(), name.clone(), word) {
            plain.headers_mut().insert(name, HeaderValue::from_static(word));
        }
    }
    plain
}
