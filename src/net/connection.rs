//! Serves one connection from accept to close: the TLS handshake, plain requests one after another, and the upgrade to a
//! conversation.
//!
//! Here belongs the order of these steps. The steps themselves are in [`super::head`], [`super::http`] and
//! [`super::conversation`].
//!
//! Invariants: the connection holds its [`Permit`] until it is closed and logged. Its thread owns the socket alone.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use crossbeam_channel::bounded;
use tungstenite::handshake::server::create_response;

use super::body;
use super::connections::{Permit, Shared};
use super::conversation;
use super::head::{self, Head, NoHead};
use super::http::{self, Next};
use super::response::{self, HasBody};
use super::service::{Refusal, Service};
use super::socket::{NoHandshake, Socket};
use crate::error::shorten;

/// Stack of a conversation's thread in bytes. It is more than four times a connection's stack, so that the C library does
/// not reuse a finished connection's stack for it: the pages that a handshake used would stay in memory for as long as
/// the conversation lives, which may be days. Short models run on it, too.
const CONVERSATION_STACK: usize = 544 << 10;

/// Serves a connection until it is closed or becomes a conversation. `accepted` is the time of the accept, from which the
/// first deadline counts.
///
/// A conversation continues in a new thread, and this one ends. TLS, HTTP and the handshake have used more stack than an
/// idle conversation needs in all; these pages are freed with the thread.
pub fn serve<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    accepted: Instant,
    permit: Permit,
    shared: Arc<Shared<S>>,
) {
    let socket = match Socket::new(stream, shared.connections.bells().clone(), shared.clock.clone()) {
        Ok(socket) => socket,
        Err(error) => return log::debug!("{peer}: {error}"),
    };
    log::debug!("{peer}: connected");
    let name = format!("conn-{}", permit.number());
    let connection = Connection { socket, peer, buffer: Vec::new(), permit, shared };
    let Some(upgraded) = connection.run(accepted) else {
        return log::debug!("{peer}: gone");
    };
    let (hand_over, take_over) = bounded::<Upgraded<S>>(1);
    let go_on = move || {
        if let Ok(upgraded) = take_over.recv() {
            upgraded.converse();
        }
    };
    let thread = std::thread::Builder::new().name(name).stack_size(CONVERSATION_STACK).spawn(go_on);
    match thread {
        Ok(_) => drop(hand_over.send(upgraded)),
        // No thread could be started, so the conversation continues in this one.
        Err(_) => upgraded.converse(),
    }
}

struct Connection<S> {
    socket: Socket,
    peer: SocketAddr,
    /// Bytes that were read and not used yet.
    buffer: Vec<u8>,
    permit: Permit,
    shared: Arc<Shared<S>>,
}

/// A connection that has become a conversation.
struct Upgraded<S: Service> {
    connection: Connection<S>,
    dialogue: S::Dialogue,
    path: String,
}

impl<S: Service> Connection<S> {
    /// Serves requests until one upgrades the connection, or until it ends (`None`).
    fn run(mut self, accepted: Instant) -> Option<Upgraded<S>> {
        let shared = self.shared.clone();
        let (limits, counters) = (&shared.limits, &shared.counters);
        let mut idle_until = accepted + limits.head_timeout;
        if shared.identity.is_some() {
            self = self.shake_hands(accepted)?;
            idle_until = shared.clock.now() + limits.head_timeout;
        }
        loop {
            let draining = || shared.readiness.is_draining();
            let head = head::read(&mut self.socket, &mut self.buffer, limits, idle_until, draining);
            let next = match head {
                Ok(head) if head::wants_upgrade(&head.request) => {
                    return self.upgrade(&head.request);
                }
                Ok(head) => self.exchange(head),
                Err(NoHead::Gone) => return None,
                Err(NoHead::Io(error)) => {
                    log::debug!("{}: {error}", self.peer);
                    return None;
                }
                Err(NoHead::Refused { status, message }) => {
                    counters.heads_refused.one();
                    log::info!("{}: {status}: {message}", self.peer);
                    let response = shared.service.refuse(status, &message);
                    let has_body = if self.buffer.starts_with(b"HEAD ") { HasBody::No } else { HasBody::Yes };
                    self.refuse(&response, has_body);
                    return None;
                }
            };
            match next {
                Next::Again => idle_until = shared.clock.now() + limits.keep_alive_timeout,
                Next::Close => {
                    self.socket.close_gently(shared.clock.now() + limits.close_timeout);
                    return None;
                }
                Next::Gone => return None,
            }
        }
    }

    /// Makes the TLS handshake. A peer that sends plain HTTP instead gets an explanation in plain HTTP.
    fn shake_hands(mut self, accepted: Instant) -> Option<Connection<S>> {
        let shared = self.shared.clone();
        let identity = shared.identity.as_ref()?;
        let deadline = accepted + shared.limits.tls_timeout;
        let Err(failed) = self.socket.shake_hands(identity, deadline) else { return Some(self) };
        shared.counters.handshakes_failed.one();
        log::info!("{}: {failed}", self.peer);
        if let NoHandshake::Plain = failed {
            let read = head::read(&mut self.socket, &mut self.buffer, &shared.limits, deadline, || false);
            if !matches!(read, Err(NoHead::Gone | NoHead::Io(_))) {
                let response = shared.service.refuse(StatusCode::BAD_REQUEST, &failed.to_string());
                self.refuse(&response, HasBody::Yes);
            }
        }
        None
    }

    /// Answers one plain request.
    fn exchange(&mut self, head: Head) -> Next {
        let what = format!("{} {}", head.request.method(), shorten(head.request.uri().path()));
        let (status, next) = http::exchange(head, &mut self.socket, &mut self.buffer, &self.shared);
        match status {
            Some(status) => {
                self.shared.counters.exchanges.one();
                log::debug!("{}: {what}: {status}", self.peer);
            }
            None => log::debug!("{}: {what}: the peer went away", self.peer),
        }
        next
    }

    /// Makes the WebSocket handshake. `None` when the upgrade was refused, or the peer went away.
    fn upgrade(mut self, request: &Request<()>) -> Option<Upgraded<S>> {
        let path = shorten(request.uri().path()).into_owned();
        let (response, dialogue) = match self.accept(request) {
            Ok(accepted) => accepted,
            Err(response) => {
                self.shared.counters.upgrades_refused.one();
                log::info!("{}: upgrade of {path} refused: {}", self.peer, response.status());
                self.refuse(&response, HasBody::to(request.method()));
                return None;
            }
        };
        let patience = self.shared.limits.write_timeout;
        match self.socket.write_all_within(&response::switching(response), patience) {
            Ok(()) => Some(Upgraded { connection: self, dialogue, path }),
            Err(error) => {
                log::debug!("{}: {error}", self.peer);
                None
            }
        }
    }

    /// The 101 response and the dialogue that follows it, or the response that refuses the upgrade (PROTOCOL.md,
    /// "Paths").
    fn accept(&self, request: &Request<()>) -> Result<(Response<()>, S::Dialogue), Refusal> {
        let service = &self.shared.service;
        if self.shared.readiness.is_draining() {
            let mut response = service.refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return Err(Box::new(response));
        }
        // The bytes of a body would be read as frames.
        if body::is_announced(request.headers()) {
            let message = "a request that upgrades the connection has no body, but this one announces one";
            return Err(Box::new(service.refuse(StatusCode::BAD_REQUEST, message)));
        }
        // RFC 6455 section 4.4: the answer to an unknown version names the versions that the server knows.
        if request.headers().get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version != "13") {
            let message = "this server supports only version 13 of the WebSocket protocol";
            let mut response = service.refuse(StatusCode::UPGRADE_REQUIRED, message);
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Err(Box::new(response));
        }
        let mut accepted = create_response(&normalised(request)).map_err(|error| {
            let message = format!("this is not a WebSocket handshake: {error}");
            Box::new(service.refuse(StatusCode::BAD_REQUEST, &message))
        })?;
        let dialogue = service.upgrade(request)?;
        match subprotocol(request.headers()) {
            Subprotocol::Known(name) => {
                accepted.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
            }
            Subprotocol::Unknown(offered) => log::info!(
                "{}: the client offers the subprotocols `{offered}`, but this server knows only `{BINARY}`; the \
                 conversation goes on without a subprotocol",
                self.peer
            ),
            Subprotocol::NotOffered => {}
        }
        Ok((accepted, dialogue))
    }

    /// Sends a last response and closes the connection.
    fn refuse(mut self, response: &Response<Vec<u8>>, has_body: HasBody) {
        let limits = &self.shared.limits;
        let bytes = response::last(response, has_body);
        if self.socket.write_all_within(&bytes, limits.write_timeout).is_ok() {
            let deadline = self.socket.clock().now() + limits.close_timeout;
            self.socket.close_gently(deadline);
        }
    }
}

impl<S: Service> Upgraded<S> {
    /// Holds the conversation until it ends.
    fn converse(self) {
        let Upgraded { connection: Connection { socket, peer, buffer, permit, shared }, dialogue, path } =
            self;
        log::info!("{peer}: conversation on {path}");
        drop(path);
        shared.counters.conversations.one();
        let begun = shared.clock.now();
        let ended = conversation::hold(socket, buffer, dialogue, &shared);
        shared.counters.ended(ended.cause).one();
        log::info!(
            "{peer}: conversation ended after {:.1} s, {} requests: {}",
            shared.clock.now().saturating_duration_since(begun).as_secs_f64(),
            ended.requests,
            ended.why
        );
        // Only now may another connection take this place.
        drop(permit);
    }
}

/// The one subprotocol that is accepted. It changes nothing, but many clients offer it and disconnect when the server does
/// not accept it.
const BINARY: &str = "binary";

/// What a client offers in `Sec-WebSocket-Protocol`.
#[derive(Debug, PartialEq, Eq)]
enum Subprotocol {
    NotOffered,
    /// The subprotocol to name in the response.
    Known(&'static str),
    /// What was offered, shortened for a log line. RFC 6455 section 4.2.2: the handshake goes on without a subprotocol.
    Unknown(String),
}

fn subprotocol(headers: &HeaderMap) -> Subprotocol {
    let lines: Vec<_> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes).collect();
    let mut names = lines.iter().flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if lines.is_empty() {
        Subprotocol::NotOffered
    } else if names.any(|name| name == BINARY.as_bytes()) {
        Subprotocol::Known(BINARY)
    } else {
        Subprotocol::Unknown(shorten(&lines.join(&b", "[..]).escape_ascii().to_string()).into_owned())
    }
}

/// The request with one word in each of `Connection` and `Upgrade`, as tungstenite's check expects them. Both are lists
/// that may be spread over several lines (RFC 9110 sections 5.3, 7.6.1, 7.8).
fn normalised(request: &Request<()>) -> Request<()> {
    let mut normalised = request.clone();
    for (name, word) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
        if head::lists(request.headers(), name.clone(), word) {
            normalised.headers_mut().insert(name, HeaderValue::from_static(word));
        }
    }
    normalised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_accepted_anywhere_in_the_list_and_unknown_subprotocols_are_named() {
        let offered = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line)));
            let mut headers = HeaderMap::new();
            for (name, line) in lines {
                headers.append(name, line);
            }
            subprotocol(&headers)
        };
        assert_eq!(offered(&[]), Subprotocol::NotOffered);
        assert_eq!(offered(&["binary"]), Subprotocol::Known("binary"));
        assert_eq!(offered(&["mqtt, binary"]), Subprotocol::Known("binary"));
        assert_eq!(offered(&["mqtt", " binary ,x"]), Subprotocol::Known("binary"));
        assert_eq!(offered(&["mqtt", "binary2"]), Subprotocol::Unknown("mqtt, binary2".into()));
    }
}
