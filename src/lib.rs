//! onnxd
#![forbid(unsafe_code)]
pub mod config;
pub mod engine;
pub mod inference;
pub mod model;
pub mod processing;
pub mod wire;
