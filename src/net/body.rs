//! A plain request's body, whole: under a bound, a deadline, and the budget of [`crate::memory`].

use std::io::ErrorKind;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use ureq_proto::BodyMode;
use ureq_proto::server::Reply;
use ureq_proto::server::state::{ProvideResponse, RecvBody};

use super::chunked::Chunked;
use super::connections::Shared;
use super::socket::Socket;
use crate::error::RequestError;
use crate::memory::Share;

/// A body that has come, and how the exchange goes on.
pub struct Received {
    pub body: Vec<u8>,
    /// The memory that it takes.
    pub share: Share,
    pub reply: Reply<ProvideResponse>,
}

/// Why a body did not arrive.
pub enum NoBody {
    Gone,
    Refused(StatusCode, String),
    /// There is no memory for it.
    NoMemory(RequestError),
}

/// What is read from the socket at once.
const PIECE: usize = 16 << 10;

/// True when the head announces bytes behind it.
pub fn is_announced(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| !is_zero(length))
}

fn is_zero(length: &http::HeaderValue) -> bool {
    length.as_bytes().iter().all(|digit| *digit == b'0')
}

/// Says why a body is not to be read at all, by what the head says.
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
        // RFC 9112 section 6.3: without either header there is no body; a client that meant to send
        // one would wait, and so would we.
        None if may_have_one && !headers.contains_key(TRANSFER_ENCODING) => Some((
            StatusCode::LENGTH_REQUIRED,
            "a body needs Content-Length or Transfer-Encoding: chunked".into(),
        )),
        _ => None,
    }
}

/// Bytes of the longest body that can be taken: a longer one would not fit into the memory of all clients together.
fn longest<S>(shared: &Shared<S>) -> usize {
    shared.limits.max_message_bytes.min(shared.memory.most())
}

/// Reads a body whole. `buffer` holds what has come behind the head, and afterwards what is behind the body.
pub fn read<S>(
    mut reply: Reply<RecvBody>,
    socket: &mut Socket,
    buffer: &mut Vec<u8>,
    shared: &Shared<S>,
) -> Result<Received, NoBody> {
    let (limits, readiness) = (&shared.limits, &shared.readiness);
    let mut deadline = socket.clock().now() + limits.body_timeout;
    let mut hurried = false;
    let (mut framing, mut kept) = match reply.body_mode() {
        BodyMode::Chunked => {
            let chunked = Chunked::new(limits.max_head_bytes);
            (Some(chunked), Kept::new(longest(shared), shared))
        }
        BodyMode::LengthDelimited(length) => {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(longest(shared));
            (None, Kept::new(most, shared))
        }
        BodyMode::NoBody | BodyMode::CloseDelimited => (None, Kept::new(0, shared)),
    };
    let mut piece = vec![0; PIECE];
    loop {
        let used = match &mut framing {
            Some(chunked) => take_chunks(chunked, buffer, &mut kept, &mut reply)?,
            None => take_plain(&mut reply, buffer, &mut piece, &mut kept)?,
        };
        buffer.drain(..used);
        if reply.is_ended() {
            let reply = reply.proceed().map_err(broken)?;
            return Ok(Received { body: kept.body, share: kept.share, reply });
        }
        match socket.read_until(&mut piece, deadline, || !hurried && readiness.is_draining()) {
            Ok(0) => return Err(NoBody::Gone),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
            // A stopping server does not wait as long for what is not accepted yet.
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

fn broken(error: ureq_proto::Error) -> NoBody {
    NoBody::Refused(StatusCode::BAD_REQUEST, format!("the body: {error}"))
}

/// Takes what `buffer` has of a body whose length the head tells; how many bytes that were.
fn take_plain(
    reply: &mut Reply<RecvBody>,
    buffer: &[u8],
    piece: &mut [u8],
    kept: &mut Kept,
) -> Result<usize, NoBody> {
    let mut at = 0;
    while !reply.is_ended() {
        let (used, made) = reply.read(&buffer[at..], piece).map_err(broken)?;
        kept.push(&piece[..made])?;
        at += used;
        if used == 0 {
            break;
        }
    }
    Ok(at)
}

/// Takes what `buffer` has of a body in chunks; how many bytes that were.
fn take_chunks(
    chunked: &mut Chunked,
    buffer: &[u8],
    kept: &mut Kept,
    reply: &mut Reply<RecvBody>,
) -> Result<usize, NoBody> {
    let mut at = 0;
    while !chunked.is_ended() {
        let (used, data) = chunked
            .take(&buffer[at..])
            .map_err(|error| NoBody::Refused(StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
        kept.push(data)?;
        at += used;
        if used == 0 {
            return Ok(at);
        }
    }
    // ureq-proto answers when it has seen the end, and has seen nothing of the body.
    reply.read(b"0\r\n\r\n", &mut []).map_err(broken)?;
    Ok(at)
}

/// What has come of a body. Memory grows with that, not with what is announced, and is taken from the budget first.
struct Kept {
    body: Vec<u8>,
    share: Share,
    /// The bytes that may come.
    most: usize,
}

impl Kept {
    fn new<S>(most: usize, shared: &Shared<S>) -> Kept {
        Kept { body: Vec::new(), share: Share::none(&shared.memory), most }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), NoBody> {
        let length = self.body.len() + bytes.len();
        if length > self.most {
            let message = format!("the body is longer than {} bytes", self.most);
            return Err(NoBody::Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if length > self.body.capacity() {
            let capacity = (2 * self.body.capacity()).max(PIECE).min(self.most).max(length);
            // In great steps, unless memory is so short that only what has come fits.
            let capacity = if self.share.resize(capacity).is_ok() { capacity } else { length };
            self.share.resize(capacity).map_err(NoBody::NoMemory)?;
            self.body.reserve_exact(capacity - self.body.len());
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }
}
