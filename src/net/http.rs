//! Answers one plain HTTP/1.1 request: invites and reads its body, asks the service, sends the response.
//!
//! Reading a head is in [`super::head`], a body in [`super::body`]; responses are encoded in [`super::response`]. What a
//! path means is up to the [`Service`].
//!
//! Invariants: a request gets one response at most. When its body is not read to the end, the connection ends with the
//! response, because the rest of the body would be taken for the next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use http::header::CONNECTION;
use http::{Response, StatusCode, Version};
use ureq_proto::server::RecvRequestResult;

use super::body::{self, NoBody, Received};
use super::connections::Shared;
use super::head::{Head, lists};
use super::response::{self, HasBody, Persistence};
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
    /// It must be closed, in a way that lets the peer read the response first.
    Close,
    /// The peer has gone.
    Gone,
}

/// Answers one request. `buffer` holds bytes that were read after the head; afterwards it holds those after the body.
///
/// Returns the status of the response, or `None` when none was sent, and what becomes of the connection.
pub fn exchange<S: Service>(
    head: Head,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> (Option<StatusCode>, Next) {
    let Head { request, reply } = head;
    let (limits, service) = (&shared.limits, &shared.service);
    let has_body = HasBody::to(request.method());
    let is_http_1_0 = request.version() == Version::HTTP_10;
    let keep_alive = lists(request.headers(), CONNECTION, "keep-alive");
    let close = lists(request.headers(), CONNECTION, "close") || is_http_1_0 && !keep_alive;
    let persistence = || match keep_alive {
        _ if close || shared.readiness.is_draining() => Persistence::Close,
        true => Persistence::KeepAlive,
        false => Persistence::Unsaid,
    };
    let last = |response: &Response<Vec<u8>>, socket: &mut Socket| {
        send(socket, limits, response, has_body, Persistence::Close)
    };
    let Some(state) = reply.proceed() else { return (None, Next::Gone) };
    let mut exchange = match service.begin(&request) {
        Begun::Read(exchange) => exchange,
        Begun::Respond(response) => {
            let may_have_body = body::is_announced(request.headers())
                || !matches!(state, RecvRequestResult::ProvideResponse(_));
            let persistence = if may_have_body { Persistence::Close } else { persistence() };
            return send(socket, limits, &response, has_body, persistence);
        }
    };
    let received = match body::refuse_length(request.method(), request.headers(), shared) {
        Some((status, message)) => Err(NoBody::Refused(status, message)),
        None => receive(state, request.version(), socket, buffer, shared),
    };
    let Received { body, share } = match received {
        Ok(received) => received,
        Err(NoBody::Gone) => return (None, Next::Gone),
        Err(NoBody::Refused(status, message)) => {
            return last(&exchange.refusal(service.refuse(status, &message)), socket);
        }
        Err(NoBody::NoMemory(failure)) => return last(&exchange.refusal(service.fail(&failure)), socket),
    };
    let Some((response, mut share)) = run(&mut exchange, body, share, socket) else {
        return (None, Next::Gone);
    };
    // The response occupies memory until it is written.
    let response = match share.resize(response.body().len()) {
        Ok(()) => response,
        Err(failure) => exchange.refusal(service.fail(&failure)),
    };
    send(socket, limits, &response, has_body, persistence())
}

/// Reads the body, if there is one. A peer that sent `Expect: 100-continue` is invited first.
fn receive<S>(
    state: RecvRequestResult,
    version: Version,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> Result<Received, NoBody> {
    let reply = match state {
        RecvRequestResult::ProvideResponse(_) => {
            return Ok(Received { body: Vec::new(), share: Share::none(&shared.memory) });
        }
        RecvRequestResult::RecvBody(reply) => reply,
        RecvRequestResult::Send100(reply) => {
            let mut invitation = [0; 64];
            let Ok((count, reply)) = reply.accept(&mut invitation) else { return Err(NoBody::Gone) };
            // RFC 9110 section 10.1.1: an HTTP/1.0 client does not know 100.
            let patience = shared.limits.write_timeout;
            if version != Version::HTTP_10 && socket.write_all_within(&invitation[..count], patience).is_err()
            {
                return Err(NoBody::Gone);
            }
            reply
        }
    };
    body::read(reply.body_mode(), socket, buffer, shared)
}

/// Gives the body to the exchange and waits for the response. Returns it with the memory that it occupies, or `None`
/// when the peer went away before.
fn run<E: Exchange>(
    exchange: &mut E,
    body: Vec<u8>,
    share: Share,
    socket: &mut Socket,
) -> Option<(Response<Vec<u8>>, Share)> {
    let (replies, inbox) = bounded(1);
    let cancelled = Arc::new(AtomicBool::new(false));
    let slot = ReplySlot {
        slot: 0,
        replies,
        waker: socket.waker(),
        cancelled: cancelled.clone(),
        // The stack of this thread is too small for a run.
        patience: Duration::ZERO,
    };
    let nothing = Share::none(share.budget());
    let pending = match exchange.receive(&body, share, &slot) {
        Progress::Answered(response) => return Some((response, nothing)),
        Progress::Pending(pending) => pending,
        // An exchange always has an answer; without one the connection ends.
        Progress::NoAnswer => return None,
    };
    // The request has its own copy of what it needs from the body.
    drop(body);
    loop {
        if let Ok(reply) = inbox.try_recv() {
            let mut share = reply.share;
            let response = exchange.answer(pending, *reply.outcome, &mut share);
            return Some((response, share));
        }
        // `wait` always reports a reset or a full hang-up. Reading is not asked for: bytes of the next request can
        // wait, and a peer that has closed only its sending half still wants the response.
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

/// Sends a response. The connection ends with it when `persistence` says so.
fn send(
    socket: &mut Socket,
    limits: &Limits,
    response: &Response<Vec<u8>>,
    has_body: HasBody,
    persistence: Persistence,
) -> (Option<StatusCode>, Next) {
    /// A body of at most this many bytes is copied after the head, so that one write sends both.
    const SHORT: usize = 16 << 10;
    let mut bytes = response::head(response, persistence);
    let mut body = if has_body == HasBody::Yes { response.body().as_slice() } else { &[] };
    if body.len() <= SHORT {
        bytes.extend_from_slice(std::mem::take(&mut body));
    }
    let patience = limits.write_timeout;
    let written =
        socket.write_all_within(&bytes, patience).and_then(|()| socket.write_all_within(body, patience));
    match written {
        Ok(()) if persistence == Persistence::Close => (Some(response.status()), Next::Close),
        Ok(()) => (Some(response.status()), Next::Again),
        Err(_) => (None, Next::Gone),
    }
}
