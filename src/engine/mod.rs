//! Runs requests: each model has a bounded [`queue`] of jobs and a fixed number of [`worker`]s. A worker takes
//! jobs, prepares their inputs, runs them in an [`onnx::Session`](crate::onnx::Session) and sends the replies. A short
//! job may run in the thread of its conversation instead ([`guest`]).
//!
//! This module decides when a job runs, which jobs run together in a batch, in which order, and until which
//! deadline. It does not read or run models ([`onnx`](crate::onnx)), and it does not know the format of a request
//! ([`wire`](crate::wire)).
//!
//! Invariants: each accepted job gets exactly one [`Reply`], also when its worker panics; every channel is
//! bounded; at most as many jobs or batches run at the same time as there are workers; the steps of one sequence run one
//! after the other, in the order in which they arrived.

pub mod executor;
pub mod guest;
pub mod intake;
pub mod mailbox;
pub mod places;
pub mod queue;
pub mod reply;
pub mod runs;
pub mod sequence;
pub mod worker;

pub use guest::{Guest, Guests};
pub use mailbox::{Frame, Mailbox};
pub use queue::{Inputs, Job, JobSequence, Queue, SequenceStep};
pub use reply::{Outcome, Outputs, Reply, ReplyTo, Wake};
