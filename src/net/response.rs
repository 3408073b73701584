//! Responses on their way out: what every one of them has, and how it becomes bytes.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use ureq_proto::server::state::ProvideResponse;
use ureq_proto::server::{Reply, SendResponseResult};

/// Adds what RFC 9110 wants of every response: the date (section 6.6.1), and in a 426 the protocol to change to
/// (sections 15.5.22 and 7.8).
pub fn complete(status: StatusCode, headers: &mut HeaderMap) {
    // A machine whose clock tells no time that HTTP can write sends none, as the section says.
    let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    if let Some(date) = now.ok().and_then(|now| HeaderValue::try_from(now).ok()) {
        headers.insert(DATE, date);
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// The head of a response to a request, as bytes; whether its body follows; whether the connection ends with it.
/// `connection` is what the peer is told about that.
pub fn head(
    reply: Reply<ProvideResponse>,
    response: &Response<Vec<u8>>,
    connection: Option<&'static str>,
) -> Result<(Vec<u8>, HasBody, bool), ureq_proto::Error> {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    let length = response.body().len();
    let headers = head.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(connection) = connection {
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
    }
    complete(response.status(), headers);
    let mut reply = reply.provide(head)?;
    let mut bytes = Vec::with_capacity(512);
    let mut lines = [0; 1024];
    while !reply.is_finished() {
        let count = reply.write(&mut lines)?;
        bytes.extend_from_slice(&lines[..count]);
    }
    let (cleanup, has_body) = match reply.proceed() {
        SendResponseResult::Cleanup(cleanup) => (cleanup, HasBody::No),
        SendResponseResult::SendBody(mut reply) => {
            // The length is declared, so the body goes as it is.
            reply.consume_direct_write(length)?;
            (reply.proceed(), HasBody::Yes)
        }
    };
    Ok((bytes, has_body, cleanup.must_close_connection()))
}

/// Whether a response's body is sent: that to a HEAD request is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasBody {
    Yes,
    No,
}

impl HasBody {
    /// That of the response to a request with this method.
    pub fn to(method: &Method) -> HasBody {
        if method == Method::HEAD { HasBody::No } else { HasBody::Yes }
    }
}

/// A response as bytes, with `Connection: close`: for requests that have no state to answer by.
pub fn last(response: &Response<Vec<u8>>, has_body: HasBody) -> Vec<u8> {
    let mut headers = response.headers().clone();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(response.body().len()));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    complete(response.status(), &mut headers);
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if has_body == HasBody::Yes {
        bytes.extend_from_slice(response.body());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_has_a_date_and_a_426_the_protocol_to_change_to() {
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
}
