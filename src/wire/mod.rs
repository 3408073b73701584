//! The formats on the wire: Open Inference Protocol v2 (OIP) in JSON and binary, TensorFlow Serving's row form, forms
//! with files, DeepStack's forms and answers, and errors.
//!
//! What belongs here: pure functions from bytes to an [`InferRequest`] and from an [`InferResponse`] to bytes. What
//! does not: I/O, threads, tract, and decoding of files.
//!
//! Invariant: a request that comes out of this module agrees with the model's signature, and its memory comes from
//! the budget.
//!
//! Sources: the pages of the Open Inference Protocol on REST and on binary data define field names, datatypes and
//! layout. An extension of onnxd is marked with "(ours)" where it is defined.

mod agreement;
pub mod decode;
pub mod deepstack;
pub mod elements;
mod envelope;
pub mod event;
pub mod example;
mod few;
pub mod form;
pub mod metadata;
mod raw;
pub mod request;
pub mod response;
mod rows;

pub use request::{Answers, Defaults, Form, Framing, InferRequest, Rejected, SequenceParameters, Stream};
pub use response::{InferResponse, OutputTensor, ResultJson, StreamParameters};
