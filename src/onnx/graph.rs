//! Reads ONNX files: parsing, operators that tract lacks, operators that are left out, and the inputs as the file
//! declares them.
//!
//! What belongs here: everything that is known before shapes are chosen. What does not: plans (`plan`) and reading
//! from disk (`external`). Invariant: a [`Graph`] has only operators that can be run.

use std::path::Path;
use std::sync::Arc;

use tract_onnx::pb::{self, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{InferenceFact, SymbolScope};

use super::convert::{chain, datatype_of, dim_of};
use super::external::OnnxFile;
use super::functions::inline_functions;
use super::operators::title;
use super::source::Source;
use super::{LoadError, guarded};
use crate::model::{Dim, TensorMetadata};

/// A parsed ONNX file. It has no plans yet.
#[derive(Debug)]
pub struct Graph {
    /// The nodes and weights.
    pub(super) source: Arc<Source>,
    /// The inputs as the file declares them.
    pub(super) inputs: Vec<TensorMetadata>,
    /// The names of the outputs, in the file's order.
    pub(super) output_names: Vec<String>,
    class_labels: Vec<ClassLabels>,
    /// The notes of whoever made the file: pairs of a name and a text.
    metadata: Vec<(String, String)>,
}

/// The names of the classes in the columns of an output, as the ONNX file gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassLabels {
    /// The name of the output.
    pub output: String,
    /// One label for each column, in order.
    pub labels: Vec<String>,
}

impl Graph {
    /// Reads and parses an ONNX file and its files of external data.
    ///
    /// Errors: a file is missing or malformed, or the graph has an operator that is not supported.
    pub fn read(path: &Path) -> Result<Graph, LoadError> {
        Graph::of(OnnxFile::read(path)?)
    }

    /// Parses an ONNX file that was read, and reads its files of external data.
    ///
    /// Errors: as in [`Graph::read`].
    pub fn of(file: OnnxFile) -> Result<Graph, LoadError> {
        guarded("reading the model", || Graph::try_of(file))
    }

    fn try_of(file: OnnxFile) -> Result<Graph, LoadError> {
        let failed = |error: TractError| LoadError {
            what: "reading the model",
            cause: chain(&error),
            advice: Some(
                "expected an ONNX file; a truncated download or a Git LFS pointer gives this".into(),
            ),
        };
        file.check_data_files()?;
        let OnnxFile { mut proto, folder, defaults } = file;
        let metadata = std::mem::take(&mut proto.metadata_props);
        let metadata = metadata.into_iter().map(|entry| (entry.key, entry.value)).collect();
        inline_functions(&mut proto, &defaults).map_err(|cause| LoadError {
            what: "reading the model",
            cause,
            advice: Some(
                "write the model again without functions, with `onnx.inliner.inline_local_functions`".into(),
            ),
        })?;
        let class_labels = proto.graph.as_mut().map(leave_out_zip_maps).unwrap_or_default();
        if proto.graph.is_none() {
            return Err(LoadError {
                what: "reading the model",
                cause: "the file holds no graph".into(),
                advice: Some("expected an ONNX file".into()),
            });
        }
        let mut source = Source::new(proto, folder).map_err(failed)?;
        source.make_operators().map_err(|error| LoadError {
            what: "reading the model",
            cause: chain(&error),
            advice: None,
        })?;
        check_domains(&source)?;
        let unknown = source.unknown_operators();
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.iter().map(|node| title(node)).collect();
            return Err(LoadError {
                what: "reading the model",
                cause: format!("the engine has no operator {}", names.join(", ")),
                advice: Some(advice(unknown[0]).into()),
            });
        }
        let inputs = source
            .inputs(&SymbolScope::default())
            .map_err(failed)?
            .into_iter()
            .map(|(name, fact)| input_metadata(name, &fact))
            .collect::<Result<_, _>>()?;
        let graph = source.graph();
        let output_names = graph.output.iter().map(|output| output.name.clone()).collect();
        Ok(Graph { source: Arc::new(source), inputs, output_names, class_labels, metadata })
    }

    /// Returns the class labels that the file gives for its outputs.
    pub fn class_labels(&self) -> &[ClassLabels] {
        &self.class_labels
    }

    /// Returns a text of the file's metadata (ONNX, `metadata_props`). Exporters leave there what the graph does not say.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
    }

    /// Returns the inputs as the file declares them.
    pub fn inputs(&self) -> &[TensorMetadata] {
        &self.inputs
    }
}

/// Checks that all nodes are of domains that are served. tract looks only at the names of operators, so a node of another
/// domain could be taken for an operator of ONNX.
fn check_domains(source: &Source) -> Result<(), LoadError> {
    let unknown = source.unknown_domains();
    if unknown.is_empty() {
        return Ok(());
    }
    let list: Vec<String> =
        unknown.iter().map(|node| format!("{} is of the domain `{}`", title(node), node.domain)).collect();
    Err(LoadError {
        what: "reading the model",
        cause: format!(
            "{}: expected an operator of ai.onnx, ai.onnx.ml or com.microsoft, or a function that the file defines",
            list.join(", ")
        ),
        advice: Some("export the model with operators of ONNX, or with the function in the file".into()),
    })
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
    let Some(datatype) = datatype_of(datum_type) else {
        return Err(wrong(
            format!("input `{name}` is of type {datum_type:?}"),
            "expected numbers, booleans or strings",
        ));
    };
    if fact.shape.concretize().is_none() && fact.shape.dims().any(|dim| dim.concretize().is_none()) {
        log::debug!("input `{name}`: some dimensions have no name");
    }
    let shape =
        fact.shape.dims().map(|dim| dim.concretize().map_or(Dim::Open(None), |dim| dim_of(&dim))).collect();
    Ok(TensorMetadata { name, datatype, shape, accepts: &[], filled_by: None })
}

/// Removes `ZipMap` operators and serves the tensor in front of them. Classifiers from scikit-learn end with a
/// `ZipMap`: it turns a tensor of scores `[rows, classes]` into a list of dictionaries, and the protocol has no
/// datatype for that. The output keeps its name, and the keys of the dictionaries become its labels.
fn leave_out_zip_maps(graph: &mut pb::GraphProto) -> Vec<ClassLabels> {
    let mut all = Vec::new();
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap") {
        let numbers = node.attribute.iter().find(|attribute| attribute.name == "classlabels_int64s");
        let words = node.attribute.iter().find(|attribute| attribute.name == "classlabels_strings");
        let mut labels: Vec<String> =
            numbers.iter().flat_map(|attribute| &attribute.ints).map(i64::to_string).collect();
        labels.extend(
            words
                .iter()
                .flat_map(|attribute| &attribute.strings)
                .map(|word| String::from_utf8_lossy(word).into_owned()),
        );
        let output = node.output.first().cloned().unwrap_or_default();
        if graph.output.iter().any(|declared| declared.name == output) {
            all.push(ClassLabels { output, labels });
        }
        "Identity".clone_into(&mut node.op_type);
        node.domain.clear();
        node.attribute.clear();
    }
    all
}

/// Returns what the owner can do about an operator that is missing.
fn advice(node: &NodeProto) -> &'static str {
    match (&*node.domain, &*node.op_type) {
        ("com.microsoft", _) => {
            "the file was rewritten for onnxruntime alone: serve the model from before its optimizer, or quantize in the \
             QDQ format (quant_format=QuantFormat.QDQ)"
        }
        (_, "DictVectorizer") => {
            "its input is a map, and the protocol has tensors only: train the model on columns, with a OneHotEncoder in a \
             ColumnTransformer"
        }
        _ => "export the model without it, or cut the graph before it",
    }
}
