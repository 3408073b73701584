//! The way back: each accepted request gets exactly one reply, whatever becomes of its job. `tests/loom` checks this
//! together with the wake-up.

use std::sync::Arc;

use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Row, Tensor};
use crate::sync::{Sender, TrySendError};

/// What comes back for a job.
#[derive(Debug)]
pub struct Reply {
    /// The slot that the connection gave the request.
    pub slot: u64,
    /// Boxed: every connection's channel has room for all its slots from the start.
    pub outcome: Box<Outcome>,
    /// The memory that the outcome takes.
    pub share: Share,
}

/// What a model gave for a request, or why it gave nothing.
pub type Outcome = Result<Outputs, RequestError>;

/// The results of a request.
#[derive(Debug, Default, PartialEq)]
pub struct Outputs {
    /// In the signature's order.
    pub tensors: Vec<Tensor>,
    /// What is known of the request's rows; empty when nothing is.
    pub rows: Vec<Row>,
}

/// Rouses whoever waits for replies. Called after a reply was put into its channel.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// Where one reply goes. Consumed by [`ReplyTo::send`]; when it is dropped unsent, the connection is
/// told so: every accepted request gets exactly one reply.
pub struct ReplyTo {
    slot: u64,
    replies: Option<Sender<Reply>>,
    waker: Arc<dyn Wake>,
    share: Share,
}

impl ReplyTo {
    /// `replies` must have room for every slot that is open at once; `share` is the memory of the request, and later of
    /// its outcome.
    pub fn new(slot: u64, replies: Sender<Reply>, waker: Arc<dyn Wake>, share: Share) -> ReplyTo {
        ReplyTo { slot, replies: Some(replies), waker, share }
    }

    /// The memory that the request takes on its way.
    pub fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    /// The slot that the reply is for.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    pub fn send(mut self, outcome: Outcome) {
        self.deliver(outcome);
    }

    fn deliver(&mut self, outcome: Outcome) {
        let Some(replies) = self.replies.take() else { return };
        let share = self.share.take();
        match replies.try_send(Reply { slot: self.slot, outcome: Box::new(outcome), share }) {
            Ok(()) => self.waker.wake(),
            // The connection is gone, and with it whoever asked.
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => log::error!("a reply found no room, though its slot was open"),
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        self.deliver(Err(RequestError::new(
            Code::Unavailable,
            "the server stopped before this request was run",
        )));
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyTo").field("slot", &self.slot).finish_non_exhaustive()
    }
}
