//! The words on the wire: Open Inference Protocol v2 in JSON and binary, TensorFlow Serving's row
//! form, and errors. Pure functions from bytes to [`InferRequest`] and from [`InferResponse`] to
//! bytes: no I/O, no threads, no tract.
//!
//! Sources: the Open Inference Protocol's REST and binary-data pages for field names, datatypes and
//! layout; what is ours is said to be so where it is defined.

mod agreement;
pub mod decode;
pub mod elements;
mod envelope;
pub mod example;
mod few;
pub mod form;
pub mod metadata;
pub mod request;
pub mod response;
mod rows;

pub use request::{Defaults, Form, Framing, InferRequest, Rejected, SequenceParameters, Stream};
pub use response::{InferResponse, OutputTensor, StreamParameters};
