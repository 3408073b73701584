//! The traits between sockets and what they serve: a [`Service`] answers plain requests and opens [`Dialogue`]s.
//!
//! Only traits and the values in their signatures belong here. `service` implements them for inference, `ops` for
//! operators, and tests for an echo, which tests the connections without a model.
//!
//! Invariants: no method here blocks. Work that takes longer than [`ReplySlot::patience`] goes to a worker together with
//! [`ReplySlot::reply`]. The connection's thread makes the answer when the reply has arrived.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Sender;
use http::{Request, Response};
pub use tungstenite::Message;

use crate::engine::{Outcome, Reply, ReplyTo, Wake};
use crate::error::RequestError;
use crate::memory::Share;

/// The HTTP response that a peer gets instead of a conversation.
pub type Refusal = Box<Response<Vec<u8>>>;

/// What a listener serves. All its connections share one.
pub trait Service: Send + Sync + 'static {
    /// One WebSocket conversation.
    type Dialogue: Dialogue;
    /// One plain request with a body.
    type Exchange: Exchange;

    /// Opens a conversation, or returns the response that the peer gets instead of a 101.
    fn upgrade(&self, request: &Request<()>) -> Result<Self::Dialogue, Refusal>;

    /// Answers a plain request by its head, or asks for its body.
    fn begin(&self, request: &Request<()>) -> Begun<Self::Exchange>;

    /// The response to a request that is malformed, or that the server cannot accept now.
    fn refuse(&self, status: http::StatusCode, message: &str) -> Response<Vec<u8>>;

    /// The response to a request that failed, for example because the memory budget is used up.
    fn fail(&self, failure: &RequestError) -> Response<Vec<u8>>;
}

/// What a service decides after a plain request's head.
pub enum Begun<E> {
    /// This is the response; a body is not read.
    Respond(Response<Vec<u8>>),
    /// The body must be read and given to this exchange.
    Read(E),
}

/// A plain request whose body the service wants.
pub trait Exchange {
    /// What the answer is made of, beside the worker's reply.
    type Pending;

    /// Receives the body. Returns the response, or [`Progress::Pending`] when a worker replies later. `share` is the
    /// memory that the body occupies.
    fn receive(
        &mut self,
        body: &[u8],
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Self::Pending, Response<Vec<u8>>>;

    /// Makes the response from the worker's `outcome`. `share` is the memory of the outcome; the method resizes it to
    /// that of the response.
    fn answer(&mut self, pending: Self::Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>>;

    /// The error response of [`Service::refuse`] or [`Service::fail`] in the form that this exchange's clients read.
    fn refusal(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        response
    }
}

/// The server's side of a conversation.
pub trait Dialogue: Send + 'static {
    /// What an answer is made of, beside the worker's reply.
    type Pending;

    /// Receives a message. Returns its answer, or [`Progress::Pending`] when a worker replies later. `share` is the
    /// memory that the message occupies.
    fn receive(
        &mut self,
        message: Incoming<'_>,
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Self::Pending, Message>;

    /// Makes the answer from the worker's `outcome`, or none if the client does not want it. Called in the order of the
    /// requests. `share` is the memory of the outcome; the method resizes it to that of the answer.
    fn answer(&mut self, pending: Self::Pending, outcome: Outcome, share: &mut Share) -> Option<Message>;

    /// The answer to a message that was dropped because there was no memory for it.
    fn refuse(&mut self, error: &RequestError) -> Message;

    /// The next request that earlier messages ([`Progress::NoAnswer`]) have made complete, for example a window of
    /// sound. Called while a slot is free. `share` has 0 bytes; the request's memory is added to it.
    fn next(&mut self, _share: Share, _slot: &ReplySlot) -> Option<Progress<Self::Pending, Message>> {
        None
    }

    /// True when [`Dialogue::next`] has a request. Further messages wait until it has none.
    fn has_next(&self) -> bool {
        false
    }

    /// The reason why the conversation should end after its open requests are answered (close code 1012), or `None`.
    /// Called in each turn of the conversation's loop.
    fn is_over(&mut self) -> Option<&'static str> {
        None
    }

    /// The reason why the conversation must end now (close code 1008), or `None`. Called in each turn of the
    /// conversation's loop.
    fn is_unwelcome(&mut self) -> Option<String> {
        None
    }
}

/// A complete data message from the peer.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Incoming<'_> {
    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        match self {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
        }
    }

    /// True when the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How far a request has come after the service has received it.
#[derive(Debug)]
pub enum Progress<P, A> {
    /// The answer is complete.
    Answered(A),
    /// The service has called [`ReplySlot::reply`]. When that reply arrives, `P` and the reply make the answer.
    Pending(P),
    /// The message gets no answer of its own. The slot stays free for the next message.
    NoAnswer,
}

/// A request's place in the order of answers, and the way for its reply.
pub struct ReplySlot {
    pub(super) slot: u64,
    pub(super) replies: Sender<Reply>,
    pub(super) waker: Arc<dyn Wake>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) patience: Duration,
}

impl ReplySlot {
    /// The request's number in its conversation, from 0.
    pub fn number(&self) -> u64 {
        self.slot
    }

    /// What the worker replies through. Call it once, and only before returning [`Progress::Pending`]. `share` is the
    /// memory of the request.
    pub fn reply(&self, share: Share) -> ReplyTo {
        ReplyTo::new(self.slot, self.replies.clone(), self.waker.clone(), share)
    }

    /// How long the thread of the connection may be busy with the request itself. A request that takes longer must go to a
    /// worker.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Becomes true when the connection has ended, so that workers can skip the request.
    pub fn cancelled(&self) -> &Arc<AtomicBool> {
        &self.cancelled
    }
}
