//! onnxd
#![forbid(unsafe_code)]
pub mod cli;
pub mod config;
pub mod engine;
pub mod inference;
pub mod model;
pub mod net;
pub mod ops;
pub mod processing;
pub mod server;
pub mod service;
pub mod wire;
