//! Operators that contain graphs, or that are known before the run. They are not operators of the typed graph:
//! [`lower`](super::super::lower) has the code that puts them there.

use super::entry::Entry;

/// What is served.
pub const TABLE: &[Entry] = &[Entry::onnx("If", &["then_branch", "else_branch"]).rewritten()];
