//! Small models that are made here, loaded as files are, and run.

mod branches;
pub mod functions;
mod fused;
mod loops;
mod scans;
mod sequences;
mod shapes;
mod texts;

use std::sync::Arc;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

use super::super::external::OnnxFile;
use super::super::{Graph, Item, Options, Session};
use crate::memory::{Budget, Share};
use crate::model::{Elements, Tensor};

/// A node without a name.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { op_type: op.into(), input: strings(inputs), output: strings(outputs), ..Default::default() }
}

/// A node with attributes.
pub fn node_with(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute: attributes, ..node(op, inputs, outputs) }
}

/// A node that makes a tensor of integers.
pub fn numbers(output: &str, shape: &[i64], values: &[i64]) -> NodeProto {
    let tensor = TensorProto {
        dims: shape.to_vec(),
        data_type: DataType::Int64.into(),
        int64_data: values.to_vec(),
        ..Default::default()
    };
    constant(output, tensor)
}

/// A node that makes a tensor of 8-bit integers.
pub fn bytes(output: &str, shape: &[i64], values: &[i32]) -> NodeProto {
    let tensor = TensorProto {
        dims: shape.to_vec(),
        data_type: DataType::Int8.into(),
        int32_data: values.to_vec(),
        ..Default::default()
    };
    constant(output, tensor)
}

/// A node that makes a tensor of floats.
pub fn floats(output: &str, shape: &[i64], values: &[f32]) -> NodeProto {
    constant(output, float_tensor(shape, values))
}

/// A tensor of floats as in a file.
pub fn float_tensor(shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type: DataType::Float.into(),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn constant(output: &str, tensor: TensorProto) -> NodeProto {
    let value = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor.into(),
        t: Some(tensor),
        ..Default::default()
    };
    node_with("Constant", &[], &[output], vec![value])
}

/// An attribute that is a graph.
pub fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph.into(),
        g: Some(graph),
        ..Default::default()
    }
}

/// A graph inside a node. Its inputs and outputs have no types.
pub fn inner(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    let value = |name: &&str| ValueInfoProto { name: (*name).into(), ..Default::default() };
    GraphProto {
        node: nodes,
        input: inputs.iter().map(value).collect(),
        output: outputs.iter().map(value).collect(),
        ..Default::default()
    }
}

/// An input of a model: `x: float[N,3]`, where the type is `float`, `half`, `int64`, `string` or `bool`.
fn input(text: &str) -> ValueInfoProto {
    let (name, kind) = text.split_once(": ").expect("a name and a type");
    let (kind, shape) = kind.split_once('[').expect("a shape");
    let dims = shape.trim_end_matches(']').split(',').filter(|dim| !dim.is_empty());
    let dim = dims.map(|dim| {
        let value =
            dim.parse().map_or_else(|_| dimension::Value::DimParam(dim.into()), dimension::Value::DimValue);
        Dimension { value: Some(value), ..Default::default() }
    });
    let kind = match kind {
        "float" => DataType::Float,
        "half" => DataType::Float16,
        "int64" => DataType::Int64,
        "string" => DataType::String,
        _ => DataType::Bool,
    };
    let tensor =
        type_proto::Tensor { elem_type: kind.into(), shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// A model that can be changed before it is loaded.
#[derive(Debug, Clone)]
pub struct Model(pub ModelProto);

impl Model {
    /// A model with these inputs (see [`input`]), nodes and outputs.
    pub fn new(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> Model {
        let mut graph = inner(&[], nodes, outputs);
        graph.input = inputs.iter().map(|text| input(text)).collect();
        let import = OperatorSetIdProto { domain: String::new(), version: 17 };
        Model(ModelProto { graph: Some(graph), opset_import: vec![import], ..Default::default() })
    }

    pub fn load(&self) -> Result<Session, String> {
        let file = OnnxFile { proto: self.0.clone(), folder: Default::default(), defaults: vec![] };
        let options = Options { max_tensor_bytes: 1 << 20, ..Options::default() };
        let graph = Graph::of(file).map_err(|error| error.to_string())?;
        Ok(Session::load(&graph, &options).map_err(|error| error.to_string())?.0)
    }

    /// Loads the model, which must fail, and returns the error.
    pub fn refused(&self) -> String {
        self.load().expect_err("the model must not load")
    }

    /// Loads the model and runs it.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        run(&self.load()?, inputs, &Budget::unbounded())
    }
}

/// Runs a session.
pub fn run(session: &Session, inputs: &[Tensor], budget: &Arc<Budget>) -> Result<Vec<Tensor>, String> {
    let family = session.family_of(inputs).map_err(|error| error.message)?;
    let item = Item { tensors: inputs.to_vec(), states: vec![] };
    let result = session.runner().run(family, &item, &mut Share::none(budget));
    result.map(|item| item.tensors).map_err(|error| error.message)
}

/// A tensor of floats.
pub fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), Elements::Fp32(values.to_vec())).unwrap()
}

/// A tensor of integers.
pub fn i(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(shape.to_vec(), Elements::Int64(values.to_vec())).unwrap()
}

/// A tensor of texts.
pub fn s(shape: &[usize], values: &[&str]) -> Tensor {
    let values = values.iter().map(|text| text.as_bytes().to_vec()).collect();
    Tensor::new(shape.to_vec(), Elements::Bytes(values)).unwrap()
}

/// A truth value.
pub fn b(value: bool) -> Tensor {
    Tensor::new(vec![], Elements::Bool(vec![value])).unwrap()
}
