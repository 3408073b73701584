//! Running models: a bounded [`queue`] of jobs, a fixed pool of [`worker`]s, and the [`session`]
//! that each of them runs. Nothing here knows of sockets or JSON; `session` is the only room of the
//! crate that imports tract.

pub mod panic;
pub mod queue;
pub mod session;
pub mod worker;

pub use queue::{Job, Outcome, Queue, Reply, ReplyTo, Wake};
pub use session::{Graph, LoadError, Options, Session};
