//! Models as files and as words: where they lie ([`repository`]; one is in the program), what is said about them
//! ([`manifest`]), what they take and give ([`signature`]) and the values themselves ([`tensor`]).
//! Nothing here runs a model or knows of sockets.

mod embedded;
pub mod input;
pub mod manifest;
mod nearby;
pub mod reading;
pub mod repository;
pub mod signature;
pub mod tensor;

pub use embedded::{ModelSource, Store};
pub use input::{Input, Row};
pub use manifest::Manifest;
pub use repository::ModelFiles;
pub use signature::{Dim, Signature, TensorMetadata};
pub use tensor::{Datatype, Elements, Tensor};
