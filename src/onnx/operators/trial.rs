//! Runs one of our operators in a test, and checks what it says about its outputs against what it makes.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, OperatorSetIdProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{InferenceModel, SymbolScope};

use super::attributes::Attributes;
use super::entry::Domain;
use super::operator::{Inputs, Kind, LateLengths};
use super::table;

/// The version of every domain in a trial, unless the test sets another one.
const VERSION: i64 = 24;

/// An integer attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: value, ..Default::default() }
}

/// An attribute with several integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float.into(), f: value, ..Default::default() }
}

/// An attribute with several floats.
pub fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Floats.into(),
        floats: values.to_vec(),
        ..Default::default()
    }
}

/// A string attribute.
pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: value.into(),
        ..Default::default()
    }
}

/// An attribute with several strings.
pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Strings.into(),
        strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
        ..Default::default()
    }
}

/// A list of texts.
pub fn words(values: &[&str]) -> Tensor {
    tensor1(&values.iter().map(ToString::to_string).collect::<Vec<String>>())
}

/// Our operator of a domain, with attributes.
#[derive(Debug, Clone)]
pub struct Trial {
    domain: Domain,
    node: NodeProto,
    version: i64,
}

impl Trial {
    /// Our operator with this name.
    pub fn new(domain: Domain, name: &str, attributes: &[AttributeProto]) -> Trial {
        let node = NodeProto { op_type: name.into(), attribute: attributes.to_vec(), ..Default::default() };
        Trial { domain, node, version: VERSION }
    }

    /// The operator of this version of its domain.
    pub fn version(self, version: i64) -> Trial {
        Trial { version, ..self }
    }

    /// The operator in a node that names so many outputs.
    pub fn outputs(mut self, count: usize) -> Trial {
        self.node.output = (0..count).map(|at| format!("output.{at}")).collect();
        self
    }

    /// Runs the operator. `None` is an input that is left out. Checks that the datatypes and shapes of the result are those
    /// that the operator names before the run, with and without the values of its inputs.
    pub fn run(&self, inputs: &[Option<Tensor>]) -> TractResult<Vec<Tensor>> {
        let domain = match self.domain {
            Domain::Onnx => String::new(),
            other => other.to_string(),
        };
        let import = OperatorSetIdProto { domain: domain.clone(), version: self.version };
        let node = NodeProto { domain, ..self.node.clone() };
        let entry = table::find(self.domain, &node.op_type).expect("the operator has an entry");
        entry.check_attributes(&node)?;
        let framework = tract_onnx::Onnx::default();
        let context = ParsingContext {
            onnx_operator_set_version: self.version,
            framework: &framework,
            model: &ModelProto { opset_import: vec![import], ..Default::default() },
            parent_graphs: vec![],
            model_dir: None,
            template: InferenceModel::default(),
        };
        let attributes = Attributes { context: &context, node: &node };
        let built = entry.own.expect("the operator is ours")(&attributes)?;
        let known: Vec<Option<Kind>> =
            inputs.iter().map(|input| input.clone().map(|tensor| Kind::of(Arc::new(tensor)))).collect();
        let unknown: Vec<Option<Kind>> =
            known.iter().map(|kind| kind.clone().map(|kind| Kind { value: None, ..kind })).collect();
        let (symbols, tensors) =
            (SymbolScope::default(), Inputs(inputs.iter().map(Option::as_ref).collect()));
        let late = LateLengths::new(symbols.clone());
        let known = Inputs(known.iter().map(Option::as_ref).collect());
        let unknown = Inputs(unknown.iter().map(Option::as_ref).collect());
        let operator = built.prepared(&known)?.unwrap_or(built);
        let outputs = operator.run(&tensors)?;
        for kinds in [operator.outputs(&known, &late)?, operator.outputs(&unknown, &late)?] {
            assert_eq!(kinds.len(), outputs.len(), "the number of outputs");
            for (kind, output) in kinds.iter().zip(&outputs) {
                assert_eq!(kind.datum_type, output.datum_type());
                assert_eq!(kind.rank(), output.rank());
                for (length, made) in kind.shape.iter().zip(output.shape()) {
                    assert!(
                        length.to_i64().is_ok_and(|length| length == *made as i64)
                            || length.to_i64().is_err()
                    );
                }
            }
        }
        Ok(outputs.into_iter().collect())
    }
}
