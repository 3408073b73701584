//! Makes tract's typed graph of an ONNX graph, for given types and shapes of its inputs ("lowering").
//!
//! The nodes are put into the typed graph one after the other, in the order of the file. So the types, the numbers of axes
//! and all values that can be known are known for each node when it is put in. That decides what serves the node: tract's
//! operator, one of ours, or nothing, which is an error that names the node.
//!
//! What belongs here: the walk over the nodes and the names of values. What does not: which operator serves which node
//! ([`operators::table`](super::operators::table)), and optimising the graph (`plan`).
//!
//! # Invariants
//! - A node is served only in a form that its table entry honours.
//! - A value that depends only on constants is a constant in the typed graph, up to a size.

mod control;
mod engine;
mod flex;
mod fold;
mod fused;
mod half;
mod loops;
mod optionals;
mod parts;
mod repeat;
pub mod rewrite;
mod scan;
mod sequences;
mod serve;
mod sizes;
#[cfg(test)]
pub(super) mod tests;
mod unroll;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::{SymbolScope, TypedOp};

use super::operators::attributes::Attributes;
use super::operators::table;
use super::operators::{title, wrong};
use super::source::Source;

/// What a name in the file stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A tensor.
    Tensor(OutletId),
    /// A list of tensors whose length is known.
    Sequence(Vec<Value>),
    /// An optional value that is absent.
    Absent,
}

/// What an input of a body is given.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few, and only while a graph is made")]
pub enum Given {
    /// A tensor of this type and shape in each run.
    Tensor(TypedFact),
    /// Always the same value.
    Constant(Arc<Tensor>),
}

/// The typed graph of a body, for example a branch of `If`.
#[derive(Debug, Clone)]
pub struct BodyGraph {
    /// The graph. Its inputs are those that are given as tensors, and then the captured ones. No output is a symbolic integer
    /// (`TDim`).
    pub graph: TypedModel,
    /// The outer tensors that the body reads, in the order of its last inputs.
    pub captured: Vec<OutletId>,
    /// For each output: whether it is FP16 in the file. It is FP32 in the graph.
    pub halves: Vec<bool>,
}

impl BodyGraph {
    /// The type and shape of an output, as the file has it.
    pub fn output_fact(&self, at: usize) -> TractResult<TypedFact> {
        let mut fact = self.graph.output_fact(at)?.without_value();
        if self.halves[at] {
            fact.datum_type = DatumType::F16;
        }
        Ok(fact)
    }
}

/// A graph that is being made.
#[derive(Debug)]
struct Frame {
    graph: TypedModel,
    /// The names of values, the innermost scope last.
    scopes: Vec<HashMap<String, Value>>,
    captured: Vec<OutletId>,
    /// The names of nodes that are in use.
    names: HashSet<String>,
    /// The FP32 tensors that belong to FP16 tensors.
    wide: HashMap<OutletId, half::Wide>,
    /// The FP32 tensors that are computed from FP16 values only.
    of_halves: HashSet<OutletId>,
}

/// The making of a typed graph.
pub struct Lowering<'a> {
    source: &'a Source,
    context: ParsingContext<'a>,
    symbols: SymbolScope,
    /// The graph, and inside it the bodies that are being made, the innermost last.
    frames: Vec<Frame>,
    /// The most bytes of one tensor in a run.
    max_tensor_bytes: usize,
}

/// Makes the typed graph of a file. `symbols` owns the symbols in the facts of the inputs. Each input has a fact, or a
/// constant that replaces it. No tensor of a run may have more than `max_tensor_bytes`.
pub fn lower(
    source: &Source,
    symbols: &SymbolScope,
    inputs: &[(String, TypedFact)],
    constants: &[(String, Arc<Tensor>)],
    max_tensor_bytes: usize,
) -> TractResult<TypedModel> {
    let graph = source.graph();
    let context = source.context(symbols);
    let mut lowering =
        Lowering { source, context, symbols: symbols.clone(), frames: Vec::new(), max_tensor_bytes };
    lowering.push_frame();
    for (name, fact) in inputs {
        let mut fact = fact.clone();
        if let Some(shape) = fact.shape.as_concrete().filter(|shape| shape.contains(&0)) {
            // There is only one tensor without elements of this shape: its value is known.
            fact.konst = Some(Tensor::zero_dt(fact.datum_type, shape)?.into_arc_tensor());
        }
        let outlet = lowering.frame().graph.add_source(name.clone(), fact)?;
        lowering.frame().names.insert(name.clone());
        lowering.bind(name, Value::Tensor(outlet));
    }
    for (name, value) in constants {
        let outlet = lowering.constant(name, value.clone())?;
        lowering.bind(name, Value::Tensor(outlet));
    }
    let outputs = lowering.nodes(graph)?;
    let outlets = tensors(graph, &outputs)
        .map_err(|error| error.context("the protocol has only tensors: remove this output from the graph"))?;
    let outlets: Vec<OutletId> =
        outlets.into_iter().map(|outlet| lowering.as_integers(outlet)).collect::<TractResult<_>>()?;
    let mut typed = lowering.pop_frame().graph;
    typed.select_output_outlets(&outlets)?;
    Ok(typed)
}

/// The outputs of a graph as tensors.
fn tensors(graph: &GraphProto, outputs: &[Value]) -> TractResult<Vec<OutletId>> {
    let tensor = |(value, info): (&Value, &tract_onnx::pb::ValueInfoProto)| match value {
        Value::Tensor(outlet) => Ok(*outlet),
        Value::Sequence(_) => Err(TractError::msg(format!("output `{}` is a sequence", info.name))),
        Value::Absent => {
            Err(TractError::msg(format!("output `{}` is an optional that is absent", info.name)))
        }
    };
    outputs.iter().zip(&graph.output).map(tensor).collect()
}

impl<'a> Lowering<'a> {
    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("there is a frame while a graph is made")
    }

    fn push_frame(&mut self) {
        let graph = TypedModel { symbols: self.symbols.clone(), ..TypedModel::default() };
        let scopes = vec![HashMap::new()];
        self.frames.push(Frame {
            graph,
            scopes,
            captured: Vec::new(),
            names: HashSet::new(),
            wide: HashMap::new(),
            of_halves: HashSet::new(),
        });
    }

    fn pop_frame(&mut self) -> Frame {
        self.frames.pop().expect("there is a frame while a graph is made")
    }

    /// The symbols of this graph. A new symbol must come from here.
    pub fn symbols(&self) -> &SymbolScope {
        &self.symbols
    }

    /// The attributes of a node.
    pub fn attributes<'n>(&'n self, node: &'n NodeProto) -> Attributes<'n> {
        Attributes { context: &self.context, node }
    }

    /// Gives a value a name in the innermost scope.
    pub fn bind(&mut self, name: &str, value: Value) {
        let scope = self.frame().scopes.last_mut().expect("a frame has a scope");
        scope.insert(name.to_owned(), value);
    }

    /// The value with this name, here or in a graph around this one.
    pub fn value(&mut self, name: &str) -> TractResult<Value> {
        let found = self.find(self.frames.len() - 1, name)?;
        found.ok_or_else(|| TractError::msg(format!("nothing makes the value `{name}`")))
    }

    fn find(&mut self, frame: usize, name: &str) -> TractResult<Option<Value>> {
        if let Some(value) = self.frames[frame].scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return Ok(Some(value.clone()));
        }
        if frame == 0 {
            return Ok(None);
        }
        let Some(outer) = self.find(frame - 1, name)? else { return Ok(None) };
        let inner = self.capture(frame, name, &outer)?;
        self.frames[frame].scopes[0].insert(name.to_owned(), inner.clone());
        Ok(Some(inner))
    }

    /// Makes a value of the frame around this one available in this one.
    fn capture(&mut self, frame: usize, name: &str, outer: &Value) -> TractResult<Value> {
        Ok(match outer {
            Value::Absent => Value::Absent,
            Value::Sequence(all) => Value::Sequence(
                all.iter().map(|one| self.capture(frame, name, one)).collect::<TractResult<_>>()?,
            ),
            Value::Tensor(outlet) => {
                let fact = self.frames[frame - 1].graph.outlet_fact(*outlet)?.clone();
                Value::Tensor(match fact.konst {
                    Some(konst) => {
                        let name = self.unique_in(frame, name);
                        self.frames[frame].graph.add_const(name, konst)?
                    }
                    None => {
                        let outer = self.wide_in(frame - 1, *outlet)?;
                        self.frames[frame].captured.push(outer);
                        self.source_in(frame, name, &fact.without_value())?
                    }
                })
            }
        })
    }

    /// A name for a node of the typed graph that is not in use.
    pub fn unique(&mut self, name: &str) -> String {
        self.unique_in(self.frames.len() - 1, name)
    }

    fn unique_in(&mut self, frame: usize, name: &str) -> String {
        let names = &mut self.frames[frame].names;
        let mut unique = name.to_owned();
        let mut number = 1;
        while !names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}.{number}");
        }
        unique
    }

    /// The inputs of a node as values, in the standard's order; `None` for one that is left out.
    pub fn inputs(&mut self, node: &NodeProto) -> TractResult<Vec<Option<Value>>> {
        let value = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => self.value(name).map(|value| Some(value).filter(|value| *value != Value::Absent)),
        };
        node.input.iter().map(value).collect()
    }

    /// An input of a node that must be there and be a tensor. `name` is its name in the standard.
    pub fn required(&mut self, node: &NodeProto, at: usize, name: &str) -> TractResult<OutletId> {
        match self.inputs(node)?.get(at) {
            Some(Some(value)) => self.tensor(value),
            _ => Err(TractError::msg(format!("its input {at} (`{name}`, counted from 0) is missing"))),
        }
    }

    /// A tensor among values.
    pub fn tensor(&self, value: &Value) -> TractResult<OutletId> {
        match value {
            Value::Tensor(outlet) => Ok(*outlet),
            Value::Sequence(_) => Err(TractError::msg("an input is a sequence: expected a tensor")),
            Value::Absent => {
                Err(TractError::msg("an input is an optional that is absent: expected a tensor"))
            }
        }
    }

    /// What is known about a tensor.
    pub fn fact(&self, outlet: OutletId) -> TractResult<&TypedFact> {
        self.frames.last().expect("there is a frame while a graph is made").graph.outlet_fact(outlet)
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, value: Arc<Tensor>) -> TractResult<OutletId> {
        let name = self.unique(name);
        self.frame().graph.add_const(name, value)
    }

    /// Adds an operator of tract. Its outputs are constants if its inputs are and its outputs are not too large.
    pub fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        self.wire_in(self.frames.len() - 1, name, op, inputs)
    }

    fn wire_in(
        &mut self,
        frame: usize,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let op: Box<dyn TypedOp> = op.into();
        let graph = &self.frames[frame].graph;
        let facts: Vec<&TypedFact> =
            inputs.iter().map(|outlet| graph.outlet_fact(*outlet)).collect::<TractResult<_>>()?;
        let Some(outputs) = fold::folded(&*op, &facts)? else {
            let name = self.unique_in(frame, name);
            return self.frames[frame].graph.wire_node(name, op, inputs);
        };
        let constant = |output: TValue| {
            let name = self.unique_in(frame, name);
            self.frames[frame].graph.add_const(name, output.into_arc_tensor())
        };
        outputs.into_iter().map(constant).collect()
    }

    /// The same tensor with symbolic integers (`TDim`) as `I64`. Between iterations or branches, the type must not depend on
    /// what is known before the run.
    fn without_symbols(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if self.fact(outlet)?.datum_type != TDim::datum_type() {
            return Ok(outlet);
        }
        Ok(self.wire("sizes", cast(i64::datum_type()), &[outlet])?[0])
    }

    /// Puts the nodes of a graph here, with its inputs bound to `inputs`, and returns its outputs.
    pub fn inline(&mut self, graph: &'a GraphProto, inputs: Vec<Value>) -> TractResult<Vec<Value>> {
        self.frame().scopes.push(HashMap::new());
        for (input, value) in graph.input.iter().zip(inputs) {
            self.bind(&input.name, value);
        }
        let outputs = self.nodes(graph);
        self.frame().scopes.pop();
        outputs
    }

    /// Makes a typed graph of its own of a body. `inputs` are what the body's inputs are given, in order.
    ///
    /// Errors: an output of the body is not a tensor.
    pub fn body(&mut self, graph: &'a GraphProto, inputs: &[Given]) -> TractResult<BodyGraph> {
        self.apart(|lowering| {
            let made = lowering.body_nodes(graph, inputs)?;
            tensors(graph, &made)?.into_iter().map(|outlet| lowering.without_symbols(outlet)).collect()
        })
    }

    /// Makes a typed graph of its own. `make` puts its nodes there, and returns its outputs.
    fn apart(
        &mut self,
        make: impl FnOnce(&mut Self) -> TractResult<Vec<OutletId>>,
    ) -> TractResult<BodyGraph> {
        self.push_frame();
        let made = make(self).and_then(|made| {
            let wide: TractResult<Vec<OutletId>> = made.iter().map(|outlet| self.wide(*outlet)).collect();
            Ok((made, wide?))
        });
        let Frame { mut graph, captured, .. } = self.pop_frame();
        let (made, wide) = made?;
        let is_half = |outlet: &OutletId| Ok(graph.outlet_fact(*outlet)?.datum_type == DatumType::F16);
        let halves = made.iter().map(is_half).collect::<TractResult<_>>()?;
        graph.select_output_outlets(&wide)?;
        Ok(BodyGraph { graph, captured, halves })
    }

    fn body_nodes(&mut self, graph: &'a GraphProto, inputs: &[Given]) -> TractResult<Vec<Value>> {
        if graph.input.len() != inputs.len() {
            return Err(TractError::msg(format!(
                "the body has {} inputs: expected {}",
                graph.input.len(),
                inputs.len()
            )));
        }
        for (input, given) in graph.input.iter().zip(inputs) {
            let outlet = match given {
                Given::Tensor(fact) => self.source(&input.name, fact)?,
                Given::Constant(value) => self.constant(&input.name, value.clone())?,
            };
            self.bind(&input.name, Value::Tensor(outlet));
        }
        self.nodes(graph)
    }

    /// Puts the initializers and nodes of a graph into the innermost frame, and returns the graph's outputs.
    fn nodes(&mut self, graph: &'a GraphProto) -> TractResult<Vec<Value>> {
        for (name, value) in self.source.weights_of(graph, &self.context)? {
            if !self.frame().scopes.last().expect("a frame has a scope").contains_key(&name) {
                let outlet = self.constant(&name, value)?;
                self.bind(&name, Value::Tensor(outlet));
            }
        }
        for node in &graph.node {
            let outputs = self.node(node)?;
            let names = node.output.iter().filter(|name| !name.is_empty());
            if names.clone().count() > outputs.len() {
                return Err(wrong(node, format!("it has {} outputs", outputs.len())));
            }
            for (name, value) in names.zip(outputs) {
                self.bind(name, value);
            }
        }
        graph.output.iter().map(|output| self.value(&output.name)).collect()
    }

    /// Puts a node into the graph, and returns the outputs that it names.
    fn node(&mut self, node: &'a NodeProto) -> TractResult<Vec<Value>> {
        let in_node =
            |error: TractError| match error.to_string().starts_with(&*format!("`{}` (node", node.op_type)) {
                true => error,
                false => error.context(title(node)),
            };
        let entry = table::of(node).ok_or_else(|| wrong(node, "it is not supported"))?;
        if entry.is_rewritten {
            let outputs = rewrite::put(self, node, entry).map_err(in_node)?;
            // Outputs without a name at the end may be left out.
            let named = node.output.iter().map(|name| !name.is_empty()).chain(std::iter::repeat(false));
            return Ok(outputs
                .into_iter()
                .zip(named)
                .filter(|(_, named)| *named)
                .map(|(output, _)| output)
                .collect());
        }
        if let Some(value) = optionals::passed_on(self, node)? {
            return Ok(vec![value]);
        }
        let outlets = self.operator(node, entry).map_err(in_node)?;
        let outlets = self.without_late_sizes(outlets)?;
        Ok(outlets.into_iter().map(Value::Tensor).collect())
    }
}
