//! Code that both uploads of images (`pack`) and downloads of models (`fetch`) need: the HTTP agent, digests and
//! progress. What is specific to registries or to models does not belong here.
//!
//! Invariant: this module knows nothing about images, registries or models.

pub mod agent;
pub mod digest;
pub mod progress;

pub use digest::Digest;
pub use progress::Progress;
