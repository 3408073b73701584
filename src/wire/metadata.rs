//! The answers of OIP's metadata endpoints: the server, and the inputs and outputs of a model.
//!
//! What belongs here: the JSON of these answers. What does not: HTTP. Source: the Open Inference Protocol's REST API.

use serde::Serialize;

use crate::model::{Signature, TensorMetadata};

#[derive(Serialize)]
struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

/// Returns the JSON for `GET /v2`: name and version of the server, and its extensions.
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
    /// The answers that are made of the outputs. An extension of onnxd.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters<'a>>,
}

/// The parameters of a tensor in the metadata. They are an extension of onnxd and not part of OIP.
#[derive(Serialize)]
struct Parameters<'a> {
    /// The media types of files that a client may send in place of the tensor.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    accepts: &'a [&'a str],
    /// The input whose text fills this tensor, when the client sends text.
    #[serde(skip_serializing_if = "Option::is_none")]
    filled_by: Option<&'a str>,
}

/// Returns the JSON for `GET /v2/models/{m}`: all served versions, and the inputs and outputs of one version. Shapes
/// have -1 for an open dimension. `result` describes the answers that are made of the outputs.
pub fn model(
    name: &str,
    versions: Vec<&str>,
    signature: &Signature,
    result: Option<serde_json::Value>,
) -> String {
    let list =
        |tensors| <[TensorMetadata]>::iter(tensors).map(|tensor| describe(tensor, signature)).collect();
    let model = Model {
        name,
        versions,
        platform: "onnx_tract",
        inputs: list(&signature.inputs),
        outputs: list(&signature.outputs),
        result,
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
