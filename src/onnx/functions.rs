//! Functions that the file itself defines ("model-local functions"). Each call is replaced by the nodes of the function before
//! anything else looks at the graph.
//!
//! What belongs here: finding calls, and renaming and copying nodes. What does not: what nodes mean.
//!
//! # Invariants
//! - Afterwards the file has no call of a function, also in the graphs inside nodes.
//! - A value inside a function gets a name that nothing else in the file has, in each call another one.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::external::graphs;
use super::operators::title;

/// The most nodes that calls are replaced by. Functions that call functions can grow beyond all limits.
const MOST_NODES: usize = 1_000_000;

/// The domain and the name of a function.
type Key = (String, String);

/// A function, and the default values of its attributes.
#[derive(Clone, Copy)]
struct Function<'f> {
    proto: &'f FunctionProto,
    defaults: &'f [AttributeProto],
}

/// Replaces all calls of functions by their nodes. `defaults` are the default values of attributes, for each function. The error
/// says what is wrong with a call or a function.
pub(super) fn inline_functions(
    model: &mut ModelProto,
    defaults: &[Vec<AttributeProto>],
) -> Result<(), String> {
    let functions = std::mem::take(&mut model.functions);
    let Some(graph) = model.graph.as_mut().filter(|_| !functions.is_empty()) else { return Ok(()) };
    let mut by_key: HashMap<Key, Vec<Function>> = HashMap::new();
    for (at, function) in functions.iter().enumerate() {
        let domain = function.domain.as_deref().unwrap_or_default();
        by_key
            .entry(key(domain, function.name.as_deref().unwrap_or_default()))
            .or_default()
            .push(Function { proto: function, defaults: defaults.get(at).map_or(&[], Vec::as_slice) });
    }
    let mut inliner =
        Inliner { functions: by_key, mark: mark(graph), calls: 0, nodes: 0, within: Vec::new() };
    inliner.graph(graph)?;
    // Functions say themselves which operator sets they use.
    for import in functions.iter().flat_map(|function| &function.opset_import) {
        if !model.opset_import.iter().any(|known| same(&known.domain) == same(&import.domain)) {
            model.opset_import.push(import.clone());
        }
    }
    Ok(())
}

/// The domain of ONNX has two names.
fn same(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn key(domain: &str, name: &str) -> Key {
    (same(domain).to_owned(), name.to_owned())
}

/// A string that is in no name of the graph.
fn mark(graph: &GraphProto) -> String {
    let mut mark = "#".to_owned();
    let nodes = graphs(Some(graph)).into_iter().flat_map(|graph| &graph.node);
    for name in nodes.flat_map(|node| node.input.iter().chain(&node.output).chain([&node.name])) {
        while name.contains(&mark) {
            mark.push('#');
        }
    }
    mark
}

struct Inliner<'f> {
    functions: HashMap<Key, Vec<Function<'f>>>,
    mark: String,
    /// The number of calls so far.
    calls: usize,
    /// The number of nodes so far.
    nodes: usize,
    /// The functions whose nodes are being copied, the innermost last.
    within: Vec<Key>,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), String> {
        graph.node = self.expanded(std::mem::take(&mut graph.node))?;
        Ok(())
    }

    /// The nodes with all calls among them and inside them replaced.
    fn expanded(&mut self, nodes: Vec<NodeProto>) -> Result<Vec<NodeProto>, String> {
        let mut all = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for attribute in &mut node.attribute {
                for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(graph)?;
                }
            }
            match self.functions.get(&key(&node.domain, &node.op_type)).map(Vec::as_slice) {
                None => all.push(node),
                Some(&[function]) => all.extend(self.call(&node, function)?),
                Some(_) => {
                    return Err(format!("{}: the file defines this function more than once", title(&node)));
                }
            }
        }
        Ok(all)
    }

    /// The nodes of a call.
    fn call(&mut self, node: &NodeProto, function: Function) -> Result<Vec<NodeProto>, String> {
        let key = key(&node.domain, &node.op_type);
        if self.within.contains(&key) {
            return Err(format!("{}: the function calls itself", title(node)));
        }
        self.calls += 1;
        self.nodes += function.proto.node.len();
        if self.nodes > MOST_NODES {
            return Err(format!("its functions have more than {MOST_NODES} nodes together"));
        }
        let names = Names::of(node, function.proto, format!("{}{}{}/", node.op_type, self.mark, self.calls))?;
        let mut nodes = function.proto.node.clone();
        for inner in &mut nodes {
            bind(inner, node, function)?;
            names.rename(inner);
        }
        nodes.extend(names.passed_on(node, function.proto));
        self.within.push(key);
        let nodes = self.expanded(nodes);
        self.within.pop();
        nodes
    }
}

/// The new names of the values of a function in one call.
struct Names<'n> {
    /// The names of inputs and outputs.
    known: HashMap<&'n str, String>,
    /// What stands before all other names.
    prefix: String,
}

impl<'n> Names<'n> {
    fn of(node: &NodeProto, function: &'n FunctionProto, prefix: String) -> Result<Names<'n>, String> {
        let (inputs, outputs) = (&function.input, &function.output);
        if node.input.len() > inputs.len() || node.output.len() > outputs.len() {
            return Err(format!(
                "{} has {} inputs and {} outputs, but the function has {} and {}",
                title(node),
                node.input.len(),
                node.output.len(),
                inputs.len(),
                outputs.len()
            ));
        }
        let mut known = HashMap::new();
        for (name, outer) in outputs.iter().zip(&node.output).filter(|(_, outer)| !outer.is_empty()) {
            known.insert(name.as_str(), outer.clone());
        }
        // An input that the call leaves out has no name inside either. An input that is also an output keeps its outer name.
        for (at, name) in inputs.iter().enumerate() {
            known.insert(name.as_str(), node.input.get(at).cloned().unwrap_or_default());
        }
        Ok(Names { known, prefix })
    }

    fn new_name(&self, name: &mut String) {
        if let Some(known) = self.known.get(name.as_str()) {
            name.clone_from(known);
        } else if !name.is_empty() {
            name.insert_str(0, &self.prefix);
        }
    }

    /// Renames a node and all values that it names, also in the graphs inside it.
    fn rename(&self, node: &mut NodeProto) {
        if !node.name.is_empty() {
            node.name.insert_str(0, &self.prefix);
        }
        for name in node.input.iter_mut().chain(&mut node.output) {
            self.new_name(name);
        }
        for attribute in &mut node.attribute {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.rename_graph(graph);
            }
        }
    }

    fn rename_graph(&self, graph: &mut GraphProto) {
        let values = graph.input.iter_mut().chain(&mut graph.output).map(|value| &mut value.name);
        let tensors = graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
        let sparse = graph.sparse_initializer.iter_mut().filter_map(|tensor| tensor.values.as_mut());
        for name in values.chain(tensors).chain(sparse.map(|tensor| &mut tensor.name)) {
            self.new_name(name);
        }
        for node in &mut graph.node {
            self.rename(node);
        }
    }

    /// Nodes that give an output the value of an input, if the function returns an input as it is.
    fn passed_on(&self, node: &NodeProto, function: &FunctionProto) -> Vec<NodeProto> {
        let outputs = function.output.iter().zip(&node.output);
        let passed = outputs.filter(|(name, outer)| function.input.contains(name) && !outer.is_empty());
        let identity = |(name, outer): (&String, &String)| NodeProto {
            op_type: "Identity".into(),
            input: vec![self.known[name.as_str()].clone()],
            output: vec![outer.clone()],
            ..NodeProto::default()
        };
        passed.map(identity).collect()
    }
}

/// Gives the attributes of a node inside a function the values that the call has.
fn bind(inner: &mut NodeProto, call: &NodeProto, function: Function) -> Result<(), String> {
    let mut bound = Vec::with_capacity(inner.attribute.len());
    for mut attribute in std::mem::take(&mut inner.attribute) {
        if attribute.ref_attr_name.is_empty() {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                for node in &mut graph.node {
                    bind(node, call, function)?;
                }
            }
            bound.push(attribute);
            continue;
        }
        let mut all = call.attribute.iter().chain(function.defaults);
        let given = all.find(|given| given.name == attribute.ref_attr_name);
        match given {
            Some(given) => bound.push(AttributeProto { name: attribute.name, ..given.clone() }),
            // Without a value and without a default, the attribute is left out.
            None if function.proto.attribute.contains(&attribute.ref_attr_name) => {}
            None => {
                return Err(format!(
                    "{}: the attribute `{}` is not there, and the function has no such attribute with a default",
                    title(call),
                    attribute.ref_attr_name
                ));
            }
        }
    }
    inner.attribute = bound;
    Ok(())
}
