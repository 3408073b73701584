//! The path of a reply from a worker back to the connection. Invariant: each accepted request gets exactly one
//! reply, whatever happens to its job. `tests/loom` checks this together with the wake-up.

use std::sync::Arc;

use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Row, Tensor};
use crate::processing::results::MadeResult;
use crate::sync::{Sender, TrySendError};

/// The reply to one job.
#[derive(Debug)]
pub struct Reply {
    /// The slot that the connection gave the request.
    pub slot: u64,
    /// This is boxed to keep the channel small: it has room for all slots of the connection from the start.
    pub outcome: Box<Outcome>,
    /// The memory that the outcome holds.
    pub share: Share,
}

/// The outputs of a request, or the error that the client receives.
pub type Outcome = Result<Outputs, RequestError>;

/// The outputs of a successful request.
#[derive(Debug, Default)]
pub struct Outputs {
    /// In the signature's order. `None` in place of an output that became the result.
    pub tensors: Vec<Option<Tensor>>,
    /// The known facts about each row of the request; empty when there are none.
    pub rows: Vec<Row>,
    /// What was made of outputs; `None` when the request wants no result.
    pub result: Option<MadeResult>,
}

/// Wakes the thread that waits for replies. It is called after a reply was put into the channel.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// Receives replies that go on inside the server: those of a chain's step.
pub trait Continue: Send + Sync {
    /// Takes the reply to the job `part`. `share` is the memory of the outcome. It is called in the thread that has run the
    /// job, and must not wait.
    fn take(self: Arc<Self>, part: u64, outcome: Outcome, share: Share);
}

/// The destination of one reply. [`ReplyTo::send`] consumes it. When it is dropped without a reply, it sends an
/// error reply, so that every accepted request gets exactly one reply.
pub struct ReplyTo {
    slot: u64,
    /// `None` when the reply was sent.
    to: Option<Destination>,
    share: Share,
}

enum Destination {
    Connection(Sender<Reply>, Arc<dyn Wake>),
    Chain(Arc<dyn Continue>),
}

impl ReplyTo {
    /// `replies` must have room for one reply for each open slot. `share` is the memory of the request, and later
    /// of its outcome.
    pub fn new(slot: u64, replies: Sender<Reply>, waker: Arc<dyn Wake>, share: Share) -> ReplyTo {
        ReplyTo { slot, to: Some(Destination::Connection(replies, waker)), share }
    }

    /// The reply to the job `part` of a chain's step.
    pub fn chain(part: u64, chain: Arc<dyn Continue>, share: Share) -> ReplyTo {
        ReplyTo { slot: part, to: Some(Destination::Chain(chain)), share }
    }

    /// The memory that the request holds.
    pub fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    /// The slot that the reply is for.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// Gives up the reply, because the caller takes care of the request itself. Returns the memory that it held.
    pub fn forget(mut self) -> Share {
        self.to = None;
        self.share.take()
    }

    /// Sends the reply and wakes the connection.
    pub fn send(mut self, outcome: Outcome) {
        self.deliver(outcome);
    }

    fn deliver(&mut self, outcome: Outcome) {
        let share = self.share.take();
        let (replies, waker) = match self.to.take() {
            None => return,
            Some(Destination::Chain(chain)) => return chain.take(self.slot, outcome, share),
            Some(Destination::Connection(replies, waker)) => (replies, waker),
        };
        match replies.try_send(Reply { slot: self.slot, outcome: Box::new(outcome), share }) {
            Ok(()) => waker.wake(),
            // The connection has ended, so no client waits for the reply.
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => log::error!("no room for a reply, though its slot was open"),
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.deliver(Err(RequestError::new(
                Code::Unavailable,
                "the server stopped before this request was run",
            )));
        }
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyTo").field("slot", &self.slot).finish_non_exhaustive()
    }
}
