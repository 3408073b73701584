//! What the user may set: flags and their environment variables. Finished types only come out; a
//! setting that is wrong is an error, never a fallback.

pub mod container;
pub mod duration;
pub mod fetching;
pub mod flags;
pub mod limits;

pub use fetching::{FetchFlags, Fetching};
pub use flags::{AccessFlags, LogFlags, LogFormat, ReloadFlags, ServeFlags, TlsFlags};
pub use limits::Limits;
