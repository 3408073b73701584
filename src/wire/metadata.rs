//! What OIP's metadata endpoints answer: the server, and a model's inputs and outputs.

use serde::Serialize;

use crate::model::{Signature, TensorMetadata};

#[derive(Serialize)]
struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

/// `GET /v2`.
pub fn server() -> String {
    let server = Server {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["classification", "binary_tensor_data"],
    };
    serde_json::to_string(&server).expect("strings always serialize")
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    versions: Vec<&'a str>,
    platform: &'static str,
    inputs: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters<'a>>,
}

/// Beside the tensor (ours).
#[derive(Serialize)]
struct Parameters<'a> {
    /// Media types taken in the tensor's place.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    accepts: &'a [&'a str],
    /// The input whose text this tensor is made of, when text comes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    filled_by: Option<&'a str>,
}

/// `GET /v2/models/{m}`: of all versions that are served, and the signature of one. Shapes have -1 for an open
/// dimension.
pub fn model(name: &str, versions: Vec<&str>, signature: &Signature) -> String {
    let list =
        |tensors| <[TensorMetadata]>::iter(tensors).map(|tensor| describe(tensor, signature)).collect();
    let model = Model {
        name,
        versions,
        platform: "onnx_tract",
        inputs: list(&signature.inputs),
        outputs: list(&signature.outputs),
    };
    serde_json::to_string(&model).expect("strings and numbers always serialize")
}

fn describe<'a>(metadata: &'a TensorMetadata, signature: &'a Signature) -> Tensor<'a> {
    let filled_by = metadata.filled_by.map(|source| signature.inputs[source].name.as_str());
    let is_plain = metadata.accepts.is_empty() && filled_by.is_none();
    Tensor {
        name: &metadata.name,
        datatype: metadata.datatype.name(),
        shape: metadata.shape_i64(),
        parameters: (!is_plain).then_some(Parameters { accepts: metadata.accepts, filled_by }),
    }
}
