//! Reads and checks a request's head, for plain requests and for upgrades.
//!
//! `ureq-proto` parses the head. Here belong the limits on its bytes and time, the checks that RFC 9112 demands and the
//! parser does not make, and the questions that all requests have in common. Bodies are in [`super::body`].
//!
//! Invariants: a head is at most [`Limits::max_head_bytes`] long and has one deadline for the whole. A head that two
//! HTTP implementations could read differently is refused, so that no request can be smuggled past a gateway.

use std::io::{self, ErrorKind};
use std::time::Instant;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, ORIGIN, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Request, StatusCode, Version};
use ureq_proto::server::Reply;
use ureq_proto::server::state::RecvRequest;

use super::socket::Socket;
use crate::config::Limits;

/// A request's head.
pub struct Head {
    pub request: Request<()>,
    /// The parser's state after the head, which knows the framing of the body.
    pub reply: Reply<RecvRequest>,
}

/// Why there is no head.
#[derive(Debug)]
pub enum NoHead {
    /// The peer closed the connection, was idle for too long, or the server stops. No answer is needed.
    Gone,
    /// The peer must get this answer. The connection cannot be used after it.
    Refused { status: StatusCode, message: String },
    /// The connection is broken.
    Io(io::Error),
}

fn refused(status: StatusCode, message: impl Into<String>) -> NoHead {
    NoHead::Refused { status, message: message.into() }
}

/// Reads a head. `buffer` may hold bytes that were read before; afterwards it holds the bytes after the head.
///
/// The first byte must arrive before `idle_until`, and the whole head within [`Limits::head_timeout`] after it. Before
/// the first byte, `draining` ends the wait.
pub fn read(
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    limits: &Limits,
    idle_until: Instant,
    draining: impl Fn() -> bool,
) -> Result<Head, NoHead> {
    let mut deadline = idle_until;
    let mut begun = false;
    let mut unparsed = !buffer.is_empty();
    loop {
        if !begun && !buffer.is_empty() {
            begun = true;
            deadline = socket.clock().now() + limits.head_timeout;
        }
        // A head ends, or proves wrong, only at the end of a line. Parsing only then avoids parsing the whole head again
        // for each byte of a peer that sends byte by byte.
        if unparsed && let Some(head) = parse(buffer)? {
            return Ok(head);
        }
        // Empty lines after the previous request do not start the next one.
        if begun && buffer.is_empty() {
            begun = false;
            deadline = idle_until;
        }
        if buffer.len() >= limits.max_head_bytes {
            return Err(refused(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the request's head is longer than {} bytes", limits.max_head_bytes),
            ));
        }
        let mut chunk = [0; 2048];
        let room = chunk.len().min(limits.max_head_bytes - buffer.len());
        match socket.read_until(&mut chunk[..room], deadline, || !begun && draining()) {
            Ok(0) => return Err(NoHead::Gone),
            Ok(count) => {
                unparsed = buffer.is_empty() || chunk[..count].contains(&b'\n');
                buffer.extend_from_slice(&chunk[..count]);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && begun => {
                return Err(refused(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("the request's head did not end within {:?}", limits.head_timeout),
                ));
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                return Err(NoHead::Gone);
            }
            Err(error) => return Err(NoHead::Io(error)),
        }
    }
}

/// Removes a complete head from the front of `buffer`; `None` when its end has not arrived.
pub(crate) fn parse(buffer: &mut Vec<u8>) -> Result<Option<Head>, NoHead> {
    // RFC 9112 section 2.2: a server ignores empty lines before a request.
    let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    buffer.drain(..blank);
    if buffer.is_empty() {
        return Ok(None);
    }
    // A TLS handshake begins with these two bytes (RFC 8446 section 5.1).
    if buffer.starts_with(&[22, 3]) {
        let message = "this is a TLS handshake, but this port is plain HTTP: connect to ws:// or http://, or start \
                       the server with --tls-cert and --tls-key";
        return Err(refused(StatusCode::BAD_REQUEST, message));
    }
    let not_http = |error: ureq_proto::Error| match error {
        ureq_proto::Error::HttpParseTooManyHeaders => refused(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request has more than {} header fields", ureq_proto::server::MAX_REQUEST_HEADERS),
        ),
        error => refused(StatusCode::BAD_REQUEST, format!("this is not an HTTP/1.1 request: {error}")),
    };
    let mut reply = Reply::new().map_err(not_http)?;
    let (used, request) = reply.try_request(buffer).map_err(not_http)?;
    let Some(request) = request else { return Ok(None) };
    // A refused head stays in the buffer: its method decides whether the answer has a body.
    check(&request)?;
    buffer.drain(..used);
    Ok(Some(Head { request, reply }))
}

/// Refuses what the parser accepts and RFC 9112 does not, or what this server does not support.
fn check(request: &Request<()>) -> Result<(), NoHead> {
    let headers = request.headers();
    let bad = |message: &str| Err(refused(StatusCode::BAD_REQUEST, message));
    // RFC 9112 section 3.2.
    match headers.get_all(HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => return bad("an HTTP/1.1 request needs a Host header"),
        0 | 1 => {}
        _ => return bad("a request must have exactly one Host header"),
    }
    // RFC 9110 section 5.3 and RFC 6455 section 11.3: these are not lists, so one of two lines would be ignored.
    for name in [AUTHORIZATION, CONTENT_TYPE, EXPECT, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(refused(
                StatusCode::BAD_REQUEST,
                format!("a request may have only one {name} header"),
            ));
        }
    }
    // RFC 9112 section 6.3: lengths that differ, or are not numbers, are an error for every method.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next() {
        let digits = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
        if !digits || lengths.any(|other| other != first) {
            return bad("a request may have only one Content-Length, in digits");
        }
    }
    // RFC 9112 section 6.1: both together may be an attempt to smuggle a request past a gateway.
    if headers.contains_key(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return bad("a request may have Content-Length or Transfer-Encoding, not both");
        }
        if request.version() == Version::HTTP_10 {
            return bad("HTTP/1.0 has no Transfer-Encoding");
        }
        if !is_chunked_alone(headers) {
            return Err(refused(
                StatusCode::NOT_IMPLEMENTED,
                "this server supports only the transfer coding `chunked`",
            ));
        }
    }
    if headers.get(EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(refused(
            StatusCode::EXPECTATION_FAILED,
            "this server supports only the expectation 100-continue",
        ));
    }
    Ok(())
}

fn is_chunked_alone(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let first =
        values.next().is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    first && values.next().is_none()
}

/// True for a request that asks to become a WebSocket. RFC 9110 section 7.8: `Upgrade` without `Connection: upgrade` was
/// addressed to a proxy, and HTTP/1.0 has no upgrades; such a request is a plain one.
pub fn wants_upgrade(request: &Request<()>) -> bool {
    request.version() == Version::HTTP_11
        && names_websocket(request.headers())
        && lists(request.headers(), CONNECTION, "upgrade")
}

/// True when `Upgrade` names a WebSocket.
pub fn names_websocket(headers: &HeaderMap) -> bool {
    lists(headers, UPGRADE, "websocket")
}

/// True when the header, read as one comma-separated list over all its lines, contains `word` in any case.
pub fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let mut words =
        headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> Option<u16> {
        match parse(&mut head.as_bytes().to_vec()) {
            Ok(_) => None,
            Err(NoHead::Refused { status, .. }) => Some(status.as_u16()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn malformed_and_ambiguous_heads_are_refused() {
        let get = |headers: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n");
        for (head, expected) in [
            (get("Host: a\r\n"), None),
            (get(""), Some(400)),
            (get("Host: a\r\nHost: b\r\n"), Some(400)),
            (get("Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"), Some(400)),
            (get("Host: a\r\nTransfer-Encoding: gzip\r\n"), Some(501)),
            (get("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), Some(501)),
            (get("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Some(501)),
            (get("Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n"), Some(400)),
            (get("Host: a\r\nContent-Length: -1\r\n"), Some(400)),
            (get("Host: a\r\nContent-Length: 2, 2\r\n"), Some(400)),
            (
                "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n".into(),
                Some(400),
            ),
            (get("Host: a\r\nContent-Length: 99999999999999999999\r\n"), Some(400)),
            (get("Host : a\r\n"), Some(400)),
            (get("Host: a\r\n folded: b\r\n"), Some(400)),
            (get("Host: a\r\nExpect: magic\r\n"), Some(417)),
            (get("Host: a\r\nExpect: 100-continue\r\n"), None),
            (get("Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n"), Some(400)),
            (get("Host: a\r\nExpect: 100-continue\r\nExpect: magic\r\n"), Some(400)),
            (get("Host: a\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n"), Some(400)),
            (get("Host: a\r\nAuthorization: a\r\nAuthorization: b\r\n"), Some(400)),
            (get("Host: a\r\nContent-Type: a/b\r\nContent-Type: a/c\r\n"), Some(400)),
            (get(&format!("Host: a\r\n{}", "X: y\r\n".repeat(200))), Some(431)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Some(400)),
            ("\x16\x03\x01\x02\0\x01".into(), Some(400)),
            ("rubbish\r\n\r\n".into(), Some(400)),
            ("\r\n\r\nGET / HTTP/1.0\r\n\r\n".into(), None),
        ] {
            assert_eq!(status(&head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_request_is_an_upgrade_only_with_connection_upgrade_and_http_1_1() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, WebSocket\r\nConnection: a, upgrade\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false),
        ] {
            let head = parse(&mut head.as_bytes().to_vec()).unwrap().unwrap();
            assert_eq!(wants_upgrade(&head.request), expected, "{:?}", head.request);
        }
    }

    #[test]
    fn bytes_after_the_head_stay_in_the_buffer() {
        let mut buffer = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80".to_vec();
        let head = parse(&mut buffer).unwrap().unwrap();
        assert_eq!(head.request.uri().path(), "/");
        assert_eq!(buffer, b"\x81\x80");
    }
}
