//! What sending images and fetching models have in common: the HTTP agent, digests, and how far a
//! transfer is.

pub mod agent;
pub mod digest;
pub mod progress;

pub use digest::Digest;
pub use progress::Progress;
