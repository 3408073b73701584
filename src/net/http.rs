//! Plain HTTP/1.1 on the public port: one request and its response, by ureq-proto's states, under the
//! same limits and deadlines as everything else.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::bounded;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use ureq_proto::server::state::{ProvideResponse, RecvBody};
use ureq_proto::server::{RecvRequestResult, Reply, SendResponseResult};

use super::connections::Shared;
use super::head::{Head, lists};
use super::service::{Begun, Exchange, ReplySlot, Service, Step};
use super::socket::{Interest, Socket};
use super::transport::Transport;
use crate::config::Limits;
use crate::memory::Share;
use crate::ops::health::Readiness;

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It may bring another request.
    Again,
    /// It is to be closed so that the peer can read the response.
    Close,
    /// There is nobody left to close it for.
    Gone,
}

/// Why a body did not arrive.
enum NoBody {
    Gone,
    Refused(StatusCode, String),
}

/// Answers one request. The status is that of the response, when one was sent.
pub fn exchange<S: Service>(
    head: Head,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> (Option<StatusCode>, Next) {
    let Head { request, reply } = head;
    let (limits, service) = (&shared.limits, &shared.service);
    let declares_body = has_body(request.headers());
    let old = request.version() == Version::HTTP_10;
    // An HTTP/1.0 client wants to be told that its wish is met.
    let keep_alive = lists(request.headers(), CONNECTION, "keep-alive");
    let close = lists(request.headers(), CONNECTION, "close") || old && !keep_alive;
    let respond = |reply, socket: &mut Socket, response: Response<Vec<u8>>, end: bool| {
        let end = end || close || shared.readiness.is_draining();
        respond(
            reply,
            socket,
            limits,
            response,
            if end { Some("close") } else { keep_alive.then_some("keep-alive") },
        )
    };
    let Some(state) = reply.proceed() else { return (None, Next::Gone) };
    let mut exchange = match service.begin(&request) {
        Begun::Read(exchange) => exchange,
        Begun::Respond(response) => {
            let reply = match state {
                RecvRequestResult::ProvideResponse(reply) => reply,
                // The body is not read, so nothing can come after it.
                RecvRequestResult::Send100(_) | RecvRequestResult::RecvBody(_) => {
                    return last(socket, limits, response);
                }
            };
            return respond(reply, socket, response, declares_body);
        }
    };
    if let Some(refusal) = refuse_length(request.headers(), takes_body(request.method()), limits) {
        let (status, message) = refusal;
        return last(socket, limits, service.refuse(status, &message));
    }
    let (body, reply) = match state {
        RecvRequestResult::ProvideResponse(reply) => (Vec::new(), reply),
        RecvRequestResult::RecvBody(reply) => {
            match read_body(reply, socket, buffer, limits, &shared.readiness) {
                Ok(read) => read,
                Err(NoBody::Gone) => return (None, Next::Gone),
                Err(NoBody::Refused(status, message)) => {
                    return last(socket, limits, service.refuse(status, &message));
                }
            }
        }
        RecvRequestResult::Send100(reply) => {
            let mut go_on = [0; 64];
            let Ok((count, reply)) = reply.accept(&mut go_on) else { return (None, Next::Gone) };
            // RFC 9110 section 10.1.1: HTTP/1.0 knows no 100.
            if !old && socket.write_all_within(&go_on[..count], limits.write_timeout).is_err() {
                return (None, Next::Gone);
            }
            match read_body(reply, socket, buffer, limits, &shared.readiness) {
                Ok(read) => read,
                Err(NoBody::Gone) => return (None, Next::Gone),
                Err(NoBody::Refused(status, message)) => {
                    return last(socket, limits, service.refuse(status, &message));
                }
            }
        }
    };
    let share = Share::none(&shared.memory);
    match run(&mut exchange, &body, share, socket) {
        Some(response) => respond(reply, socket, response, false),
        None => (None, Next::Gone),
    }
}

/// True when the head announces bytes behind it.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// A method that may carry a body here.
fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A body that is not to be read at all, by what the head says.
fn refuse_length(headers: &HeaderMap, takes_body: bool, limits: &Limits) -> Option<(StatusCode, String)> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limits.max_message_bytes as u64 => Some((
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has {length} bytes: the limit is {}", limits.max_message_bytes),
        )),
        // RFC 9112 section 6.3: without either header there is no body; a client that meant to send
        // one would wait, and so would we.
        None if takes_body && !headers.contains_key(TRANSFER_ENCODING) => Some((
            StatusCode::LENGTH_REQUIRED,
            "a body needs Content-Length or Transfer-Encoding: chunked".into(),
        )),
        _ => None,
    }
}

/// Reads a body whole. Memory grows with what arrives, not with what is announced.
fn read_body(
    mut reply: Reply<RecvBody>,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    limits: &Limits,
    readiness: &Readiness,
) -> Result<(Vec<u8>, Reply<ProvideResponse>), NoBody> {
    let mut deadline = socket.clock().now() + limits.body_timeout;
    let mut hurried = false;
    let mut body = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    let broken =
        |error: ureq_proto::Error| NoBody::Refused(StatusCode::BAD_REQUEST, format!("the body: {error}"));
    loop {
        let (used, made) = reply.read(buffer, &mut chunk).map_err(broken)?;
        buffer.drain(..used);
        body.extend_from_slice(&chunk[..made]);
        if body.len() > limits.max_message_bytes {
            let message = format!("the body is longer than {} bytes", limits.max_message_bytes);
            return Err(NoBody::Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if reply.is_ended() {
            let reply = reply.proceed().map_err(broken)?;
            return Ok((body, reply));
        }
        if made > 0 || used > 0 {
            continue;
        }
        // What is left in the buffer is part of a chunk's line, which is short.
        if buffer.len() > limits.max_head_bytes {
            return Err(NoBody::Refused(
                StatusCode::BAD_REQUEST,
                "the body: a chunk has no end of line".into(),
            ));
        }
        match socket.read_until(&mut chunk, deadline, || !hurried && readiness.is_draining()) {
            Ok(0) => return Err(NoBody::Gone),
            // A stopping server does not wait as long for what is not accepted yet.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                hurried = true;
                deadline = deadline.min(socket.clock().now() + limits.close_timeout);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && hurried => {
                let message = "the server is stopping, and the body did not end in time";
                return Err(NoBody::Refused(StatusCode::SERVICE_UNAVAILABLE, message.into()));
            }
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(NoBody::Refused(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("the body did not end within {:?}", limits.body_timeout),
                ));
            }
            Err(_) => return Err(NoBody::Gone),
        }
    }
}

/// Hands the body over and waits for the answer; `None` when the peer went away meanwhile.
fn run<E: Exchange>(
    exchange: &mut E,
    body: &[u8],
    share: Share,
    socket: &mut Socket,
) -> Option<Response<Vec<u8>>> {
    let (replies, inbox) = bounded(1);
    let cancelled = Arc::new(AtomicBool::new(false));
    let slot = ReplySlot { slot: 0, replies, waker: socket.waker(), cancelled: cancelled.clone() };
    let pending = match exchange.receive(body, share, &slot) {
        Step::Now(response) => return Some(response),
        Step::Later(pending) => pending,
        // An exchange is one request, which has an answer.
        Step::Taken | Step::Close(..) => return None,
    };
    loop {
        if let Ok(reply) = inbox.try_recv() {
            let mut share = reply.share;
            return Some(exchange.answer(pending, *reply.outcome, &mut share));
        }
        // Bytes of a next request do not matter now; a reset does, and is always reported. A peer that has
        // closed its half may still read ours, so a mere end of its stream is no reason to stop.
        let reply = Interest { reply: true, ..Interest::default() };
        match socket.wait(reply, None, || !inbox.is_empty()) {
            Ok(ready) if !ready.readable => {}
            _ => {
                cancelled.store(true, Ordering::Relaxed);
                return None;
            }
        }
    }
}

fn respond(
    reply: Reply<ProvideResponse>,
    socket: &mut Socket,
    limits: &Limits,
    response: Response<Vec<u8>>,
    connection: Option<&'static str>,
) -> (Option<StatusCode>, Next) {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(connection) = connection {
        parts.headers.insert(CONNECTION, HeaderValue::from_static(connection));
    }
    match encode(reply, Response::from_parts(parts, ()), &body) {
        Ok((bytes, must_close)) => match socket.write_all_within(&bytes, limits.write_timeout) {
            Ok(()) if must_close => (Some(status), Next::Close),
            Ok(()) => (Some(status), Next::Again),
            Err(_) => (None, Next::Gone),
        },
        Err(error) => {
            log::error!("a response could not be encoded: {error}");
            (None, Next::Gone)
        }
    }
}

/// Head and body as bytes, and whether the connection ends with them.
fn encode(
    reply: Reply<ProvideResponse>,
    head: Response<()>,
    body: &[u8],
) -> Result<(Vec<u8>, bool), ureq_proto::Error> {
    let mut reply = reply.provide(head)?;
    let mut bytes = Vec::with_capacity(256 + body.len());
    let mut lines = [0; 1024];
    while !reply.is_finished() {
        let count = reply.write(&mut lines)?;
        bytes.extend_from_slice(&lines[..count]);
    }
    let cleanup = match reply.proceed() {
        SendResponseResult::Cleanup(cleanup) => cleanup,
        SendResponseResult::SendBody(mut reply) => {
            // The length is declared, so the body goes as it is.
            bytes.extend_from_slice(body);
            reply.consume_direct_write(body.len())?;
            reply.proceed()
        }
    };
    Ok((bytes, cleanup.must_close_connection()))
}

/// Sends a response after which nothing can come on this connection.
fn last(socket: &mut Socket, limits: &Limits, response: Response<Vec<u8>>) -> (Option<StatusCode>, Next) {
    match socket.write_all_within(&last_response(&response), limits.write_timeout) {
        Ok(()) => (Some(response.status()), Next::Close),
        Err(_) => (None, Next::Gone),
    }
}

/// A response as bytes, with `Connection: close`: for requests that have no state to answer by.
pub fn last_response(response: &Response<Vec<u8>>) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let length = HeaderValue::from(response.body().len());
    let close = HeaderValue::from_static("close");
    let headers = response.headers().iter().chain([(&CONTENT_LENGTH, &length), (&CONNECTION, &close)]);
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(response.body());
    bytes
}
