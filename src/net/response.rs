//! Turns responses into bytes.
//!
//! Every response of a connection is encoded here: those to plain requests, the 101 that starts a conversation, and
//! refusals. Bytes are sent by [`super::http`] and [`super::connection`]; what a response says is up to the service.
//!
//! Invariants: each response has a `Date`; each but the 101 has a `Content-Length` and says in `Connection` when the
//! connection ends.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Whether a response's body is sent. The response to HEAD has the headers of the one to GET, but no body (RFC 9110
/// section 9.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasBody {
    Yes,
    No,
}

impl HasBody {
    /// For the response to a request with this method.
    pub fn to(method: &Method) -> HasBody {
        if method == Method::HEAD { HasBody::No } else { HasBody::Yes }
    }
}

/// What a response tells the peer about the connection after it (RFC 9112 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// `Connection: close`: the server closes it.
    Close,
    /// `Connection: keep-alive`: an HTTP/1.0 client that asked for this must be told.
    KeepAlive,
    /// No header: HTTP/1.1 keeps connections open.
    Unsaid,
}

/// The head of a response with a body, as bytes up to and with the empty line. `Content-Length` is the length of
/// `response`'s body.
pub fn head(response: &Response<Vec<u8>>, persistence: Persistence) -> Vec<u8> {
    let mut headers = response.headers().clone();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(response.body().len()));
    match persistence {
        Persistence::Close => _ = headers.insert(CONNECTION, HeaderValue::from_static("close")),
        Persistence::KeepAlive => _ = headers.insert(CONNECTION, HeaderValue::from_static("keep-alive")),
        Persistence::Unsaid => {}
    }
    encode(response.status(), headers)
}

/// The whole last response of a connection, as bytes, with `Connection: close`.
pub fn last(response: &Response<Vec<u8>>, has_body: HasBody) -> Vec<u8> {
    let mut bytes = head(response, Persistence::Close);
    if has_body == HasBody::Yes {
        bytes.extend_from_slice(response.body());
    }
    bytes
}

/// The 101 that starts a conversation, as bytes (RFC 6455 section 4.2.2).
pub fn switching(response: Response<()>) -> Vec<u8> {
    let (parts, ()) = response.into_parts();
    encode(parts.status, parts.headers)
}

/// A status line and its headers, with those that RFC 9110 wants in every response: the date (section 6.6.1), and in a
/// 426 the protocol to change to (sections 15.5.22 and 7.8).
fn encode(status: StatusCode, mut headers: HeaderMap) -> Vec<u8> {
    // HTTP dates have four digits for the year. RFC 9110 section 6.6.1: a server without a usable clock sends no date.
    let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    if let Some(date) = now.ok().and_then(|now| HeaderValue::try_from(now).ok()) {
        headers.insert(DATE, date);
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_has_a_date_and_a_426_names_the_protocol_to_change_to() {
        for status in [200, 400, 426, 503] {
            let mut response = Response::new(b"x".to_vec());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let bytes = String::from_utf8(last(&response, HasBody::Yes)).unwrap();
            let date = bytes.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
            // RFC 9110 section 5.6.7: an IMF-fixdate, as `Sun, 06 Nov 1994 08:49:37 GMT`.
            assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
            let upgrades =
                bytes.contains("\r\nupgrade: websocket\r\n") && bytes.contains("connection: upgrade\r\n");
            assert_eq!(upgrades, status == 426, "{bytes}");
            assert!(bytes.contains("connection: close\r\n"), "{bytes}");
        }
    }

    #[test]
    fn a_head_names_the_length_of_the_body_and_what_becomes_of_the_connection() {
        let response = Response::new(b"four".to_vec());
        for (persistence, expected) in [
            (Persistence::Close, Some("connection: close")),
            (Persistence::KeepAlive, Some("connection: keep-alive")),
            (Persistence::Unsaid, None),
        ] {
            let head = String::from_utf8(head(&response, persistence)).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
            assert!(head.contains("\r\ncontent-length: 4\r\n"), "{head}");
            assert_eq!(head.lines().find(|line| line.starts_with("connection")), expected);
        }
        let whole = last(&response, HasBody::No);
        assert!(whole.ends_with(b"\r\n\r\n"), "the response to HEAD has no body");
    }
}
