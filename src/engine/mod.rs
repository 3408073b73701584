//! Running models: a bounded [`queue`] of jobs, a fixed pool of [`worker`]s, and the [`session`]
//! that each of them runs. Nothing here knows of sockets or JSON; `session` is the only room of the
//! crate that imports tract.

pub mod intake;
pub mod mailbox;
pub mod panic;
pub mod queue;
pub mod reply;
pub mod sequence;
pub mod session;
pub mod worker;

pub use mailbox::{Frame, Mailbox};
pub use queue::{Inputs, Job, Queue, Step};
pub use reply::{Outcome, Reply, ReplyTo, Wake};
pub use sequence::Sequence;
pub use session::{Graph, LoadError, Options, Session};
