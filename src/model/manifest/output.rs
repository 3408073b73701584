//! One entry of `outputs`. Each kind of result has a file of its own: `embedding.rs`, `classification.rs`.
//!
//! A new kind is a new file, its fields in [`OutputManifest`] and a line in `OutputManifest::validate`.

use serde::Deserialize;

use super::checks::datatype;
use super::classification::{self, Activation};
use super::embedding::{Normalize, Pooling};
use crate::model::tensor::Datatype;

/// What `model.json` says about one output of the ONNX file. The server applies `pooling`, `normalize` and
/// `activation` in this order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    /// The output's name in the ONNX file.
    pub name: String,
    /// The datatype, for readers. It must be that of the ONNX file.
    #[serde(default, deserialize_with = "datatype")]
    pub datatype: Option<Datatype>,
    /// Makes one vector of the vectors of each row.
    pub pooling: Option<Pooling>,
    /// Scales each vector along the last axis.
    pub normalize: Option<Normalize>,
    /// Applied along the last axis.
    pub activation: Option<Activation>,
    /// A text file beside `model.json`: one label per line, in the order of the last axis.
    pub labels: Option<String>,
    /// Answer with this many best classes in place of the tensor. A request can ask for another number.
    pub classification: Option<usize>,
}

impl OutputManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        classification::check(&self.name, self.classification)
    }
}
