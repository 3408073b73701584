//! Running requests: a bounded [`queue`] of jobs a model, and a fixed pool of [`worker`]s that take them, prepare their
//! inputs, run them in an [`onnx::Session`](crate::onnx::Session) and reply.
//!
//! What belongs here: who runs when, with whom in one batch, in which order, and until when. What does not: how a model is
//! read or run ([`onnx`](crate::onnx)), and what a request looked like on the wire ([`wire`](crate::wire)).
//!
//! Invariants: each accepted job gets exactly one [`Reply`], also when its worker panics; every channel is bounded; the
//! steps of one sequence run one after the other, in the order in which they came.

pub mod intake;
pub mod mailbox;
pub mod queue;
pub mod reply;
pub mod sequence;
pub mod worker;

pub use mailbox::{Frame, Mailbox};
pub use queue::{Inputs, Job, JobSequence, Queue, SequenceStep};
pub use reply::{Outcome, Outputs, Reply, ReplyTo, Wake};
