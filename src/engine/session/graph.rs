//! Reading ONNX files: parsing, operators that tract lacks, and the inputs as the file has them.

use std::path::Path;

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceModel};

use super::convert::{chain, datatype_of, dim_of};
use super::{LoadError, guarded};
use crate::model::{Datatype, Dim, TensorMetadata};

/// An ONNX file, parsed; not planned for any shapes yet.
#[derive(Debug)]
pub struct Graph {
    pub(super) model: InferenceModel,
    pub(super) inputs: Vec<TensorMetadata>,
    pub(super) output_names: Vec<String>,
}

impl Graph {
    /// Reads and parses a file.
    pub fn read(path: &Path) -> Result<Graph, LoadError> {
        guarded("reading the model", || Graph::try_read(path))
    }

    fn try_read(path: &Path) -> Result<Graph, LoadError> {
        let failed = |error: TractError| LoadError {
            what: "reading the model",
            cause: chain(&error),
            advice: Some(
                "expected an ONNX file; a truncated download or a Git LFS pointer gives this".into(),
            ),
        };
        // The files' own notes on shapes clash often with what is pinned, and all of them follow
        // from the inputs.
        let onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let proto = onnx.proto_model_for_path(path).map_err(failed)?;
        let graph = proto.graph.as_ref().ok_or_else(|| LoadError {
            what: "reading the model",
            cause: "the file holds no graph".into(),
            advice: Some("expected an ONNX file".into()),
        })?;
        let unknown = unknown_operators(graph, &onnx);
        if !unknown.is_empty() {
            return Err(LoadError {
                what: "reading the model",
                cause: format!("the engine has no operator {}", unknown.join(", ")),
                advice: Some("export the model without it, or cut the graph before it".into()),
            });
        }
        let folder = path.parent().and_then(Path::to_str);
        let parsed = onnx.parse(&proto, folder).map_err(failed)?;
        if !parsed.unresolved_inputs.is_empty() {
            return Err(LoadError {
                what: "reading the model",
                cause: format!(
                    "nodes use values that nothing makes: {}",
                    parsed.unresolved_inputs.join(", ")
                ),
                advice: None,
            });
        }
        let model = parsed.model;
        let inputs = model.input_outlets().map_err(failed)?.to_vec();
        let inputs = inputs
            .iter()
            .map(|outlet| {
                let name = model.node(outlet.node).name.clone();
                input_metadata(name, model.outlet_fact(*outlet).map_err(failed)?)
            })
            .collect::<Result<_, _>>()?;
        let output_names = graph.output.iter().map(|output| output.name.clone()).collect();
        Ok(Graph { model, inputs, output_names })
    }

    /// Inputs as the file declares them.
    pub fn inputs(&self) -> &[TensorMetadata] {
        &self.inputs
    }
}

fn input_metadata(name: String, fact: &InferenceFact) -> Result<TensorMetadata, LoadError> {
    let wrong = |cause: String, advice: &str| LoadError {
        what: "reading the inputs",
        cause,
        advice: Some(advice.into()),
    };
    let Some(datum_type) = fact.datum_type.concretize() else {
        return Err(wrong(format!("input `{name}` has no datatype"), "export the model with typed inputs"));
    };
    let Some(datatype) = datatype_of(datum_type).filter(|datatype| *datatype != Datatype::Bytes) else {
        return Err(wrong(
            format!("input `{name}` is of type {datum_type:?}"),
            "the engine takes numbers and booleans",
        ));
    };
    if fact.shape.concretize().is_none() && fact.shape.dims().any(|dim| dim.concretize().is_none()) {
        log::debug!("input `{name}`: some dimensions have no name");
    }
    let shape =
        fact.shape.dims().map(|dim| dim.concretize().map_or(Dim::Open(None), |dim| dim_of(&dim))).collect();
    Ok(TensorMetadata { name, datatype, shape, accepts: &[], filled_by: None })
}

/// The files that hold the model's large tensors, when they are not in the ONNX file itself (ONNX, "external
/// data"): paths below the file's folder, each once.
pub fn data_files(path: &Path) -> Result<Vec<String>, LoadError> {
    guarded("reading the model", || {
        let proto = onnx().proto_model_for_path(path).map_err(|error| LoadError {
            what: "reading the model",
            cause: chain(&error),
            advice: None,
        })?;
        let mut locations = Vec::new();
        for graph in graphs(proto.graph.as_ref()) {
            let constants = graph.node.iter().flat_map(|node| &node.attribute);
            let constants = constants.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
            for tensor in graph.initializer.iter().chain(constants) {
                let location = tensor.external_data.iter().find(|entry| entry.key == "location");
                locations.extend(location.map(|entry| entry.value.clone()));
            }
        }
        locations.sort();
        locations.dedup();
        Ok(locations)
    })
}

/// A graph and all graphs inside its nodes.
fn graphs(graph: Option<&pb::GraphProto>) -> Vec<&pb::GraphProto> {
    let mut all: Vec<&pb::GraphProto> = graph.into_iter().collect();
    let mut at = 0;
    while let Some(graph) = all.get(at).copied() {
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        all.extend(attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)));
        at += 1;
    }
    all
}

/// Operators of the graph and its sub-graphs that tract has not registered, each once, with the name
/// of a node that uses it.
fn unknown_operators(graph: &pb::GraphProto, onnx: &tract_onnx::Onnx) -> Vec<String> {
    let mut unknown: Vec<(String, String)> = Vec::new();
    for graph in graphs(Some(graph)) {
        for node in &graph.node {
            let known = onnx.op_register.0.contains_key(&node.op_type);
            if !known && !unknown.iter().any(|(operator, _)| *operator == node.op_type) {
                let name =
                    if node.name.is_empty() { node.output.first().cloned() } else { Some(node.name.clone()) };
                unknown.push((node.op_type.clone(), name.unwrap_or_default()));
            }
        }
    }
    unknown.iter().map(|(operator, node)| format!("`{operator}` (node `{node}`)")).collect()
}
