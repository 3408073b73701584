//! Reads the whole body of a plain HTTP request.
//!
//! Here belong the checks of the announced length, the reading loop with its deadlines, and the memory of a body. The
//! grammar of a chunked body is in [`super::chunked`], and what a body means is up to the service.
//!
//! Invariants: a body is never longer than [`Limits::max_message_bytes`] nor than the budget of [`crate::memory`]. Its
//! memory grows with the bytes that have arrived, not with the announced length, and the budget is charged first.
//!
//! [`Limits::max_message_bytes`]: crate::config::Limits::max_message_bytes

use std::io::ErrorKind;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use ureq_proto::BodyMode;

use super::chunked::Chunked;
use super::connections::Shared;
use super::socket::Socket;
use crate::error::RequestError;
use crate::memory::Share;

/// A complete body.
pub struct Received {
    /// The body's bytes, without chunk framing.
    pub body: Vec<u8>,
    /// The part of the memory budget that `body` occupies.
    pub share: Share,
}

/// Why there is no body.
pub enum NoBody {
    /// The peer closed the connection, or it broke. Nobody is left to answer.
    Gone,
    /// The peer gets this status and message: 400, 408, 413 or 503.
    Refused(StatusCode, String),
    /// The budget has no memory for it now.
    NoMemory(RequestError),
}

/// Bytes in one read from the socket, and the smallest allocation for a body.
const PIECE: usize = 16 << 10;

/// True when the head announces a body of at least one byte.
pub fn is_announced(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| !is_zero(length))
}

fn is_zero(length: &http::HeaderValue) -> bool {
    length.as_bytes().iter().all(|digit| *digit == b'0')
}

/// Checks the announced length before the body is read. Returns the status and message of a refusal: 413 for a body
/// that is too long, 411 for a POST, PUT or PATCH that announces no length.
pub fn refuse_length<S>(
    method: &Method,
    headers: &HeaderMap,
    shared: &Shared<S>,
) -> Option<(StatusCode, String)> {
    let may_have_one = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let most = longest(shared);
    match length {
        Some(length) if length > most as u64 => {
            let message = format!("the body has {length} bytes: the limit is {most}");
            Some((StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        // RFC 9112 section 6.3: a request with neither header has no body. A client that sends a body
        // anyway would wait for an answer, while the server waits for more bytes.
        None if may_have_one && !headers.contains_key(TRANSFER_ENCODING) => Some((
            StatusCode::LENGTH_REQUIRED,
            "a body needs Content-Length or Transfer-Encoding: chunked".into(),
        )),
        _ => None,
    }
}

/// The longest body in bytes. A longer one would not fit into the memory budget of all clients together.
fn longest<S>(shared: &Shared<S>) -> usize {
    shared.limits.max_message_bytes.min(shared.memory.most())
}

/// Reads a whole body within [`Limits::body_timeout`]. `buffer` holds bytes that arrived after the head; afterwards it
/// holds those after the body.
///
/// When the server stops, the body gets [`Limits::close_timeout`] from then on, if that ends earlier.
///
/// [`Limits::body_timeout`]: crate::config::Limits::body_timeout
/// [`Limits::close_timeout`]: crate::config::Limits::close_timeout
pub fn read<S>(
    mode: BodyMode,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> Result<Received, NoBody> {
    let (limits, readiness) = (&shared.limits, &shared.readiness);
    let mut deadline = socket.clock().now() + limits.body_timeout;
    let mut hurried = false;
    let (mut framing, most) = match mode {
        BodyMode::Chunked => (Framing::Chunked(Chunked::new(limits.max_head_bytes)), longest(shared)),
        BodyMode::LengthDelimited(length) => {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(longest(shared));
            (Framing::Length(length), most)
        }
        BodyMode::NoBody | BodyMode::CloseDelimited => (Framing::Length(0), 0),
    };
    let mut kept = Kept { body: Vec::new(), share: Share::none(&shared.memory), most };
    let mut piece = vec![0; PIECE];
    loop {
        take_all(&mut framing, buffer, &mut kept)?;
        if framing.is_ended() {
            return Ok(Received { body: kept.body, share: kept.share });
        }
        match socket.read_until(&mut piece, deadline, || !hurried && readiness.is_draining()) {
            Ok(0) => return Err(NoBody::Gone),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
            // This request is not accepted yet, so a stopping server gives it less time.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                hurried = true;
                deadline = deadline.min(socket.clock().now() + limits.close_timeout);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && hurried => {
                let message = "the server is stopping, and the body did not end in time";
                return Err(NoBody::Refused(StatusCode::SERVICE_UNAVAILABLE, message.into()));
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let message = format!("the body did not end within {:?}", limits.body_timeout);
                return Err(NoBody::Refused(StatusCode::REQUEST_TIMEOUT, message));
            }
            Err(_) => return Err(NoBody::Gone),
        }
    }
}

/// Moves the body's bytes from `buffer` to `kept`, and removes what was used from `buffer`.
fn take_all(framing: &mut Framing, buffer: &mut Vec<u8>, kept: &mut Kept) -> Result<(), NoBody> {
    let mut at = 0;
    loop {
        let (used, bytes) = framing
            .take(&buffer[at..])
            .map_err(|error| NoBody::Refused(StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
        if used == 0 {
            break;
        }
        kept.push(bytes)?;
        at += used;
    }
    buffer.drain(..at);
    Ok(())
}

/// How the end of a body is found (RFC 9112 section 6).
enum Framing {
    /// The number of bytes that are missing.
    Length(u64),
    Chunked(Chunked),
}

impl Framing {
    /// Takes the next element from the front of `bytes`. Returns how many bytes it has, and which of them belong to the
    /// body. 0 means that the body has ended, or that more bytes must arrive first.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, &'b [u8]), String> {
        match self {
            Framing::Chunked(chunked) => chunked.take(bytes),
            Framing::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Ok((count, &bytes[..count]))
            }
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Framing::Chunked(chunked) => chunked.is_ended(),
            Framing::Length(left) => *left == 0,
        }
    }
}

/// The part of a body that has arrived.
struct Kept {
    body: Vec<u8>,
    share: Share,
    /// The most bytes that the body may have.
    most: usize,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) -> Result<(), NoBody> {
        let length = self.body.len() + bytes.len();
        if length > self.most {
            let message = format!("the body is longer than {} bytes", self.most);
            return Err(NoBody::Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if length > self.body.capacity() {
            let capacity = (2 * self.body.capacity()).max(PIECE).min(self.most).max(length);
            // The capacity doubles. When the budget does not allow that, it grows by the new bytes alone.
            let capacity = if self.share.resize(capacity).is_ok() { capacity } else { length };
            self.share.resize(capacity).map_err(NoBody::NoMemory)?;
            self.body.reserve_exact(capacity - self.body.len());
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }
}
