//! An ONNX file from which plans are made: its nodes, its weights, and our operators with their attributes.
//!
//! What belongs here: everything that all plans of a model share. What does not: reading from disk (`external`), and
//! shapes (`lower`, `plan`).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{self, GraphProto, ModelProto, NodeProto, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::translate_inference_fact;
use tract_onnx::tract_hir::internal::{InferenceFact, InferenceModel, SymbolScope};

use super::convert::chain;
use super::external::{DataReader, graphs};
use super::narrow;
use super::operators::attributes::Attributes;
use super::operators::entry::Domain;
use super::operators::operator::Operator;
use super::operators::table;
use super::operators::wrong;
use super::order;
use super::sparse;
use super::tensors;

/// Our operators by the address of their node, or why they cannot be made.
type Operators = HashMap<usize, Result<Arc<dyn Operator>, String>>;

/// An ONNX file whose weights are loaded. All plans of a model share it.
pub(super) struct Source {
    /// The file, without the tensors that are in `weights`.
    proto: ModelProto,
    folder: PathBuf,
    /// Reads tensors from files. It has no operators: ours and those of tract are in `operators` and `lower`.
    onnx: tract_onnx::Onnx,
    /// The initializers of the graph, by name.
    weights: HashMap<String, Arc<Tensor>>,
    /// Our operators by the address of their node, so that all plans share what an operator has made of its attributes.
    /// The nodes never move, because `proto` is not changed any more.
    operators: Operators,
}

impl Source {
    /// Loads the weights. `proto` must have a graph.
    ///
    /// Errors: a tensor cannot be loaded.
    pub fn new(mut proto: ModelProto, folder: PathBuf) -> TractResult<Source> {
        let onnx = tract_onnx::Onnx { provider: Arc::new(DataReader), ..Default::default() };
        let graph = proto.graph.get_or_insert_default();
        sparse::constants_to_initializers(graph);
        order::sort(graph);
        narrow::prepare(graph);
        graph.output.iter().try_for_each(|output| narrow::check("output", output))?;
        let tensors = std::mem::take(&mut graph.initializer);
        let mut source = Source { proto, folder, onnx, weights: HashMap::new(), operators: HashMap::new() };
        let symbols = SymbolScope::default();
        let context = source.context(&symbols);
        let load = |tensor: &pb::TensorProto| {
            let value = tensors::load(&context, tensor)
                .map_err(|error| error.context(format!("`{}`", tensor.name)))?;
            Ok((tensor.name.clone(), value.into_arc_tensor()))
        };
        let mut weights = tensors.iter().map(load).collect::<TractResult<HashMap<_, _>>>()?;
        weights.extend(sparse::tensors(source.graph(), &context)?);
        source.weights = weights;
        Ok(source)
    }

    /// Makes our operators.
    ///
    /// Errors: a node has attributes that are not supported.
    pub fn make_operators(&mut self) -> TractResult<()> {
        self.operators = operators(self, &self.context(&SymbolScope::default()))?;
        Ok(())
    }

    /// The graph of the file.
    pub fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("new() takes a file with a graph")
    }

    /// What tract's functions need to read a node. `symbols` owns the symbols of the graph that is made.
    pub fn context(&self, symbols: &SymbolScope) -> ParsingContext<'_> {
        let ours = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let import = self.proto.opset_import.iter().find(|import| ours(&import.domain));
        ParsingContext {
            onnx_operator_set_version: import.map_or(0, |import| import.version),
            framework: &self.onnx,
            model: &self.proto,
            parent_graphs: vec![self.graph()],
            model_dir: self.folder.to_str(),
            template: InferenceModel { symbols: symbols.clone(), ..InferenceModel::default() },
        }
    }

    /// The inputs of the graph that have no initializer: name, type and shape as the file declares them.
    ///
    /// Errors: an input is not a tensor, or has no type.
    pub fn inputs(&self, symbols: &SymbolScope) -> TractResult<Vec<(String, InferenceFact)>> {
        let context = self.context(symbols);
        let inputs = self.graph().input.iter().filter(|input| !self.weights.contains_key(&input.name));
        let fact = |input: &pb::ValueInfoProto| {
            narrow::check("input", input)?;
            let value = input.r#type.as_ref().and_then(|declared| declared.value.as_ref());
            let value = value.ok_or_else(|| {
                TractError::msg(format!(
                    "input `{}` has no type, or is no tensor: the protocol has only tensors",
                    input.name
                ))
            })?;
            #[allow(irrefutable_let_patterns, reason = "tract reads only this kind")]
            let type_proto::Value::TensorType(tensor) = value else { unreachable!() };
            Ok((input.name.clone(), translate_inference_fact(&context, tensor, true)?))
        };
        inputs.map(fact).collect()
    }

    /// The initializers of the graph, or of a graph inside it.
    pub fn weights_of(
        &self,
        graph: &GraphProto,
        context: &ParsingContext,
    ) -> TractResult<Vec<(String, Arc<Tensor>)>> {
        if std::ptr::eq(graph, self.graph()) {
            let mut weights: Vec<_> =
                self.weights.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            // The order of a hash map differs from run to run. Plans must not.
            weights.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(weights);
        }
        let load = |tensor: &pb::TensorProto| {
            Ok((tensor.name.clone(), tensors::load(context, tensor)?.into_arc_tensor()))
        };
        let mut weights: Vec<_> = graph.initializer.iter().map(load).collect::<TractResult<_>>()?;
        weights.extend(sparse::tensors(graph, context)?);
        Ok(weights)
    }

    /// Our operator for a node. `None` when we have none.
    pub fn operator(&self, node: &NodeProto) -> Option<TractResult<Arc<dyn Operator>>> {
        let operator = self.operators.get(&address(node))?;
        Some(operator.clone().map_err(TractError::msg))
    }

    /// The nodes of the graph and its sub-graphs whose domain is not served. Each domain is listed once.
    pub fn unknown_domains(&self) -> Vec<&NodeProto> {
        let mut unknown: Vec<&NodeProto> = Vec::new();
        for node in graphs(Some(self.graph())).into_iter().flat_map(|graph| &graph.node) {
            let is_listed = unknown.iter().any(|other| other.domain == node.domain);
            if Domain::named(&node.domain).is_none() && !is_listed {
                unknown.push(node);
            }
        }
        unknown
    }

    /// The operators of the graph and its sub-graphs that nothing serves. Each is listed once, with a node that uses it.
    pub fn unknown_operators(&self) -> Vec<&NodeProto> {
        let mut unknown: Vec<&NodeProto> = Vec::new();
        for node in graphs(Some(self.graph())).into_iter().flat_map(|graph| &graph.node) {
            if table::of(node).is_none() && !unknown.iter().any(|other| other.op_type == node.op_type) {
                unknown.push(node);
            }
        }
        unknown
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Source({} nodes, {} weights)", self.graph().node.len(), self.weights.len())
    }
}

fn address(node: &NodeProto) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Makes our operators. If tract can serve a node too, an error is kept until it is known that tract does not.
fn operators(source: &Source, context: &ParsingContext) -> TractResult<Operators> {
    let mut operators = HashMap::new();
    for node in graphs(Some(source.graph())).into_iter().flat_map(|graph| &graph.node) {
        let Some(entry) = table::of(node) else { continue };
        entry.check_attributes(node)?;
        let Some(build) = entry.own else { continue };
        let operator = build(&Attributes { context, node }).map_err(|error| chain(&error));
        if let (Err(cause), None) = (&operator, entry.engine) {
            return Err(wrong(node, cause));
        }
        operators.insert(address(node), operator);
    }
    Ok(operators)
}
