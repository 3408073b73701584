//! What the sockets are for, as the net room sees it: a [`Service`] answers plain requests and opens
//! [`Dialogue`]s. Inference is one service; an echo is another, with which the conversation layer is
//! tested alone.
//!
//! Nothing in these traits blocks. What takes time goes to a worker with a [`ReplySlot`]'s reply, and
//! the connection's thread makes the answer once it has come.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Sender;
use http::{Request, Response};
pub use tungstenite::Message;

use crate::engine::{Outcome, Reply, ReplyTo, Wake};
use crate::error::RequestError;
use crate::memory::Share;

/// The response that a peer gets instead of a conversation.
pub type Refusal = Box<Response<Vec<u8>>>;

/// What listens behind the sockets. Shared by all connections.
pub trait Service: Send + Sync + 'static {
    type Dialogue: Dialogue;
    type Exchange: Exchange;

    /// Opens a conversation, or refuses with the response that the peer gets instead of a 101.
    fn upgrade(&self, request: &Request<()>) -> Result<Self::Dialogue, Refusal>;

    /// Looks at a plain request's head.
    fn begin(&self, request: &Request<()>) -> Begun<Self::Exchange>;

    /// The response to a request that could not be read, or not be taken.
    fn refuse(&self, status: http::StatusCode, message: &str) -> Response<Vec<u8>>;

    /// The response to a request for which something was missing: memory, or time.
    fn fail(&self, failure: &RequestError) -> Response<Vec<u8>>;
}

/// What a plain request's head leads to.
pub enum Begun<E> {
    /// The head tells all: this is the response, and a body would be of no use.
    Respond(Response<Vec<u8>>),
    /// The body is wanted.
    Read(E),
}

/// A plain request whose body is wanted.
pub trait Exchange {
    type Pending;

    /// Takes the body: the response at once, or later, when the slot's reply has come.
    /// `share` is the memory that the body takes.
    fn receive(
        &mut self,
        body: &[u8],
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Self::Pending, Response<Vec<u8>>>;

    /// Makes the response; `share` is the memory of the outcome, and then of the response.
    fn answer(&mut self, pending: Self::Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>>;
}

/// One side of a conversation: ours.
pub trait Dialogue: Send + 'static {
    type Pending;

    /// Takes a message: its answer at once, or later, when the slot's reply has come. `share` is the memory that the
    /// message takes.
    fn receive(
        &mut self,
        message: Incoming<'_>,
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Self::Pending, Message>;

    /// Makes the answer; `share` is the memory of the outcome, and then of the answer.
    fn answer(&mut self, pending: Self::Pending, outcome: Outcome, share: &mut Share) -> Message;

    /// The answer to a message that could not be taken, for want of memory.
    fn refuse(&mut self, error: &RequestError) -> Message;

    /// A request that follows from messages taken before ([`Progress::NoAnswer`]): asked while there is room for one. `share`
    /// is of no bytes yet.
    fn next(&mut self, _share: Share, _slot: &ReplySlot) -> Option<Progress<Self::Pending, Message>> {
        None
    }

    /// True when [`Dialogue::next`] has one. No further message is taken until then.
    fn has_next(&self) -> bool {
        false
    }

    /// Asked each time round: why the conversation is to end once its requests are answered, if it is.
    fn is_over(&mut self) -> Option<&'static str> {
        None
    }

    /// Asked each time the conversation's thread goes round: why the peer may not go on, if so.
    fn is_unwelcome(&mut self) -> Option<String> {
        None
    }
}

/// A data message from the peer, whole.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Incoming<'_> {
    /// Bytes of payload.
    pub fn len(&self) -> usize {
        match self {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
        }
    }

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

/// The place in the order of answers that a request has been given.
pub struct ReplySlot {
    pub(super) slot: u64,
    pub(super) replies: Sender<Reply>,
    pub(super) waker: Arc<dyn Wake>,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl ReplySlot {
    /// Which one it is, counted from the conversation's begin.
    pub fn number(&self) -> u64 {
        self.slot
    }

    /// Where the reply goes. To be made once, and only when the step is [`Progress::Pending`]. `share` is the memory of the
    /// request.
    pub fn reply(&self, share: Share) -> ReplyTo {
        ReplyTo::new(self.slot, self.replies.clone(), self.waker.clone(), share)
    }

    /// Raised when the connection goes away.
    pub fn cancelled(&self) -> &Arc<AtomicBool> {
        &self.cancelled
    }
}
