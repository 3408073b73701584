//! Models before they run: which files they have ([`ModelFiles`]) and where these are found ([`repository`], and one
//! model in the program), what users say about them ([`manifest`]), their inputs and outputs ([`signature`]), and the
//! values of these ([`tensor`]).
//!
//! Not here: code that runs a model, fetches one or uses sockets.

pub mod choices;
mod datatype;
mod embedded;
mod files;
pub mod input;
pub mod manifest;
mod nearby;
pub mod reading;
pub mod repository;
pub mod signature;
pub mod sound;
pub mod tensor;

pub use datatype::Datatype;
pub use embedded::ModelSource;
pub use files::{ModelFiles, Store};
pub use input::{Input, Row};
pub use manifest::Manifest;
pub use signature::{Dim, Signature, TensorMetadata};
pub use tensor::{Elements, Tensor};
