//! What the user may set: flags, their environment variables, and limits.
//!
//! Other modules get finished types from here, never text that they must parse. A wrong setting is an error; it is
//! never replaced by a default.

pub mod container;
pub mod duration;
pub mod fetching;
pub mod flags;
pub mod limit;
pub mod limits;

pub use fetching::{FetchFlags, Fetching};
pub use flags::{AccessFlags, LogFlags, LogFormat, ReloadFlags, ServeFlags, TlsFlags};
pub use limits::Limits;
