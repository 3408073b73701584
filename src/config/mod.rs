//! What the user may set, as finished types.
pub mod limits;
pub use limits::Limits;
