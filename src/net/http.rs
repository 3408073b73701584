//! Plain HTTP/1.1: one request and its response, by ureq-proto's states, under the same limits and deadlines as
//! everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::bounded;
use http::header::CONNECTION;
use http::{Response, StatusCode, Version};
use ureq_proto::server::state::ProvideResponse;
use ureq_proto::server::{RecvRequestResult, Reply};

use super::body::{self, NoBody, Received};
use super::connections::Shared;
use super::head::{Head, lists};
use super::response::{self, HasBody};
use super::service::{Begun, Exchange, Progress, ReplySlot, Service};
use super::socket::{Interest, Socket};
use super::transport::Transport;
use crate::config::Limits;
use crate::memory::Share;

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

/// Answers one request. The status is that of the response, when one was sent.
pub fn exchange<S: Service>(
    head: Head,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> (Option<StatusCode>, Next) {
    let Head { request, reply } = head;
    let (limits, service) = (&shared.limits, &shared.service);
    let old = request.version() == Version::HTTP_10;
    let has_body = HasBody::to(request.method());
    // An HTTP/1.0 client wants to be told that its wish is met.
    let keep_alive = lists(request.headers(), CONNECTION, "keep-alive");
    let close = lists(request.headers(), CONNECTION, "close") || old && !keep_alive;
    let respond = |reply, socket: &mut Socket, response: Response<Vec<u8>>, end: bool| {
        let end = end || close || shared.readiness.is_draining();
        let connection = if end { Some("close") } else { keep_alive.then_some("keep-alive") };
        respond(reply, socket, limits, response, connection)
    };
    let Some(state) = reply.proceed() else { return (None, Next::Gone) };
    let mut exchange = match service.begin(&request) {
        Begun::Read(exchange) => exchange,
        Begun::Respond(response) => {
            return match state {
                RecvRequestResult::ProvideResponse(reply) => {
                    respond(reply, socket, response, body::is_announced(request.headers()))
                }
                // The body is not read, so nothing can come after it.
                RecvRequestResult::Send100(_) | RecvRequestResult::RecvBody(_) => {
                    last(socket, limits, &response, has_body)
                }
            };
        }
    };
    let received = match body::refuse_length(request.method(), request.headers(), shared) {
        Some((status, message)) => Err(NoBody::Refused(status, message)),
        None => receive(state, old, socket, buffer, shared),
    };
    let Received { body, share, reply } = match received {
        Ok(received) => received,
        Err(NoBody::Gone) => return (None, Next::Gone),
        Err(NoBody::Refused(status, message)) => {
            return last(socket, limits, &service.refuse(status, &message), has_body);
        }
        Err(NoBody::NoMemory(failure)) => {
            return last(socket, limits, &service.fail(&failure), has_body);
        }
    };
    let Some((response, mut share)) = run(&mut exchange, body, share, socket) else {
        return (None, Next::Gone);
    };
    // Until it is written, the response is what the exchange takes.
    let response = match share.resize(response.body().len()) {
        Ok(()) => response,
        Err(failure) => service.fail(&failure),
    };
    respond(reply, socket, response, false)
}

/// Receives the body, after an invitation where the peer waits for one.
fn receive<S>(
    state: RecvRequestResult,
    old: bool,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> Result<Received, NoBody> {
    match state {
        RecvRequestResult::ProvideResponse(reply) => {
            Ok(Received { body: Vec::new(), share: Share::none(&shared.memory), reply })
        }
        RecvRequestResult::RecvBody(reply) => body::read(reply, socket, buffer, shared),
        RecvRequestResult::Send100(reply) => {
            let mut go_on = [0; 64];
            let Ok((count, reply)) = reply.accept(&mut go_on) else { return Err(NoBody::Gone) };
            // RFC 9110 section 10.1.1: HTTP/1.0 knows no 100.
            let patience = shared.limits.write_timeout;
            if !old && socket.write_all_within(&go_on[..count], patience).is_err() {
                return Err(NoBody::Gone);
            }
            body::read(reply, socket, buffer, shared)
        }
    }
}

/// Hands the body over and waits for the answer, which comes with the memory of the exchange; `None` when the peer
/// went away meanwhile.
fn run<E: Exchange>(
    exchange: &mut E,
    body: Vec<u8>,
    share: Share,
    socket: &mut Socket,
) -> Option<(Response<Vec<u8>>, Share)> {
    let (replies, inbox) = bounded(1);
    let cancelled = Arc::new(AtomicBool::new(false));
    let slot = ReplySlot { slot: 0, replies, waker: socket.waker(), cancelled: cancelled.clone() };
    let nothing = Share::none(share.budget());
    let pending = match exchange.receive(&body, share, &slot) {
        Progress::Answered(response) => return Some((response, nothing)),
        Progress::Pending(pending) => pending,
        // An exchange is one request, which has an answer.
        Progress::NoAnswer => return None,
    };
    // What is wanted of it is in the request now.
    drop(body);
    loop {
        if let Ok(reply) = inbox.try_recv() {
            let mut share = reply.share;
            let response = exchange.answer(pending, *reply.outcome, &mut share);
            return Some((response, share));
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
    /// Up to so many bytes head and body go out in one write; a longer body is not copied for that.
    const SHORT: usize = 16 << 10;
    let (mut bytes, has_body, must_close) = match response::head(reply, &response, connection) {
        Ok(head) => head,
        Err(error) => {
            log::error!("a response could not be encoded: {error}");
            return (None, Next::Gone);
        }
    };
    let mut body = if has_body == HasBody::Yes { response.body().as_slice() } else { &[] };
    if body.len() <= SHORT {
        bytes.extend_from_slice(std::mem::take(&mut body));
    }
    let patience = limits.write_timeout;
    let written =
        socket.write_all_within(&bytes, patience).and_then(|()| socket.write_all_within(body, patience));
    match written {
        Ok(()) if must_close => (Some(response.status()), Next::Close),
        Ok(()) => (Some(response.status()), Next::Again),
        Err(_) => (None, Next::Gone),
    }
}

/// Sends a response after which nothing can come on this connection.
fn last(
    socket: &mut Socket,
    limits: &Limits,
    response: &Response<Vec<u8>>,
    has_body: HasBody,
) -> (Option<StatusCode>, Next) {
    match socket.write_all_within(&response::last(response, has_body), limits.write_timeout) {
        Ok(()) => (Some(response.status()), Next::Close),
        Err(_) => (None, Next::Gone),
    }
}
