//! Our own operators, and which operators of tract are used. Ours replace those of tract, or add operators that tract
//! does not have.
//!
//! An [`Operator`](operator::Operator) says which datatypes and shapes its outputs have, and computes them. [`own`] is the
//! only code that connects operators with tract. Each family of operators is a module with a table of entries
//! ([`table`]). `If` is not an operator of this kind, because it changes the graph; see `control`.
//!
//! A new operator is a file in the module of its family and a line in the family's table. An operator follows the ONNX
//! standard, and onnxruntime where the standard leaves something open. It checks shapes itself: a wrong input is an error,
//! never a panic.

pub mod activation;
pub mod attention;
pub mod attributes;
pub mod axes;
pub mod broadcast;
pub mod control;
mod convolution;
mod curves;
mod documentation;
pub mod entry;
mod error_function;
mod floats;
mod following;
pub mod fused;
mod image;
mod losses;
mod math;
mod ml;
mod normalization;
pub mod numbers;
pub mod operator;
pub mod own;
mod quantized;
mod recurrent;
mod reductions;
mod signal;
mod stretch;
pub mod table;
mod tensors;
mod text;
#[cfg(test)]
pub mod trial;

use std::fmt;

pub use documentation::document;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use crate::error::RequestError;

pub use math::{cast_type, is_bfloat};

/// A node in an error: its operator, and its name or that of its first output.
pub fn title(node: &NodeProto) -> String {
    format!("`{}` (node `{}`)", node.op_type, name_of(node))
}

/// The error for a node. It starts with the node's [`title`], which `cause` may have already.
pub fn wrong(node: &NodeProto, cause: impl fmt::Display) -> TractError {
    let (title, cause) = (title(node), cause.to_string());
    TractError::msg(if cause.starts_with(&title) { cause } else { format!("{title}: {cause}") })
}

/// An error about the values or shapes that this run was given: an error of the request, not of the model.
pub fn invalid(message: impl Into<String>) -> TractError {
    RequestError::invalid(message).into()
}

/// The name of a node, or of its first output.
pub fn name_of(node: &NodeProto) -> &str {
    match node.name.as_str() {
        "" => node.output.iter().find(|name| !name.is_empty()).map_or(&*node.op_type, String::as_str),
        name => name,
    }
}
