//! Our own operators. They replace those of tract, or add operators that tract does not have.
//!
//! An [`Operator`] says which datatypes and shapes its outputs have, and computes them. [`Own`] is the only code that
//! connects operators with tract: shape inference, the typed graph and the run. `If` is not an [`Operator`], because it
//! changes the graph; see `branch`.
//!
//! A new operator is a file here and a line in [`register`]. An operator follows the ONNX standard, and onnxruntime where
//! the standard leaves something open. It checks shapes itself: a wrong input is an error, never a panic.

mod attributes;
mod branch;
mod features;
mod linear;
mod lookup;
mod transform;
mod trees;

use std::fmt;
use std::sync::Arc;

use attributes::Attributes;
use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::{as_op, op_as_typed_op, op_out_of_plan};
use tract_onnx::tract_hir::infer::rules::{InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::{
    EvalContext, EvalOp, Expansion, InferenceOp, Op, StaticName, TypedOp, expand,
};

/// Adds our operators to tract's register. They replace its operators with the same names.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("If", branch::branch);
    onnx.op_register.insert("ArrayFeatureExtractor", lookup::extractor);
    onnx.op_register.insert("LabelEncoder", lookup::encoder);
    onnx.op_register.insert("Binarizer", features::binarizer);
    onnx.op_register.insert("Imputer", features::imputer);
    onnx.op_register.insert("Normalizer", features::normalizer);
    onnx.op_register.insert("Scaler", features::scaler);
    onnx.op_register.insert("LinearClassifier", linear::classifier);
    onnx.op_register.insert("LinearRegressor", linear::regressor);
    onnx.op_register.insert("TreeEnsembleClassifier", trees::classifier);
    onnx.op_register.insert("TreeEnsembleRegressor", trees::regressor);
    onnx.op_register.insert("TreeEnsemble", trees::ensemble);
}

/// What is known about a tensor before the run.
#[derive(Debug, Clone)]
pub struct Kind {
    /// The type of the elements.
    pub datum_type: DatumType,
    /// The lengths of the axes; open ones are symbols.
    pub shape: TVec<TDim>,
}

/// An operator that keeps nothing from one run to the next.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The name in the ONNX standard.
    fn name(&self) -> &'static str;

    /// The datatypes and shapes of all outputs. The error says what is wrong with the inputs and what was expected.
    fn outputs(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>>;

    /// The same operator, prepared for inputs of these kinds. `None`: this operator runs as it is.
    fn prepared(&self, _inputs: &[Kind]) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(None)
    }

    /// Computes all outputs.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

/// The only input. It is an error when there are none or several.
pub fn single(inputs: &[Kind]) -> TractResult<&Kind> {
    match inputs {
        [input] => Ok(input),
        _ => Err(TractError::msg(format!("it has {} inputs: expected 1", inputs.len()))),
    }
}

/// The operator for a node, and the names of outer tensors that it reads. Functions in tract's register return this.
pub type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Wraps an operator for tract. Outputs that the node does not name are dropped.
pub fn built(node: &NodeProto, operator: impl Operator) -> Built {
    let kept = node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(at, _)| at);
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    Ok((expand(Own { operator: Arc::new(operator), inputs, kept: kept.collect() }), Vec::new()))
}

/// One of our operators, in the form that tract needs.
#[derive(Debug, Clone)]
struct Own {
    operator: Arc<dyn Operator>,
    /// The number of inputs of the node.
    inputs: usize,
    /// The indices of the outputs that the node names.
    kept: TVec<usize>,
}

impl Own {
    /// The datatypes and shapes of the outputs that the node names.
    fn kinds(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>> {
        let all = self.operator.outputs(inputs)?;
        self.kept
            .iter()
            .map(|at| {
                let kind = all.get(*at).cloned();
                kind.ok_or_else(|| {
                    TractError::msg(format!(
                        "it has {} outputs, but the node names output {at} (counted from 0)",
                        all.len()
                    ))
                })
            })
            .collect()
    }
}

impl PartialEq for Own {
    fn eq(&self, other: &Own) -> bool {
        Arc::ptr_eq(&self.operator, &other.operator) && self.kept == other.kept
    }
}

impl Eq for Own {}

impl Expansion for Own {
    fn name(&self) -> StaticName {
        self.operator.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.kept.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        if inputs.len() != self.inputs || outputs.len() != self.kept.len() {
            return Err(TractError::msg("the numbers of inputs and outputs are not those of the node"));
        }
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let inputs: Vec<Kind> = types
                    .iter()
                    .zip(shapes)
                    .map(|(datum_type, shape)| Kind { datum_type: *datum_type, shape })
                    .collect();
                for (output, kind) in outputs.iter().zip(self.kinds(&inputs)?) {
                    solver.equals(&output.datum_type, kind.datum_type)?;
                    solver.equals(&output.shape, kind.shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let facts: Vec<&TypedFact> =
            inputs.iter().map(|input| model.outlet_fact(*input)).collect::<TractResult<_>>()?;
        let operator = self.operator.prepared(&kinds_of(&facts))?.unwrap_or_else(|| self.operator.clone());
        model.wire_node(prefix, Own { operator, ..self.clone() }, inputs)
    }
}

fn kinds_of(facts: &[&TypedFact]) -> Vec<Kind> {
    let kind =
        |fact: &&TypedFact| Kind { datum_type: fact.datum_type, shape: fact.shape.iter().cloned().collect() };
    facts.iter().map(kind).collect()
}

impl Op for Own {
    fn name(&self) -> StaticName {
        self.operator.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Own {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs: TVec<&Tensor> = inputs.iter().map(|input| &**input).collect();
        let mut all: TVec<Option<Tensor>> = self.operator.run(&inputs)?.into_iter().map(Some).collect();
        self.kept
            .iter()
            .map(|at| {
                let output = all.get_mut(*at).and_then(Option::take);
                output.map(IntoTValue::into_tvalue).ok_or_else(|| TractError::msg("an output is missing"))
            })
            .collect()
    }
}

impl TypedOp for Own {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let kinds = self.kinds(&kinds_of(inputs))?;
        Ok(kinds.into_iter().map(|kind| TypedFact::dt_shape(kind.datum_type, kind.shape)).collect())
    }

    as_op!();
}

/// The error for wrong attributes. It starts with the operator and the name of the node (or of its first output).
pub fn wrong(node: &NodeProto, cause: impl fmt::Display) -> TractError {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let name = name.map(String::as_str).unwrap_or_default();
    TractError::msg(format!("`{}` (node `{name}`): {cause}", node.op_type))
}

/// The labels of a classifier's classes.
#[derive(Debug, Clone)]
pub enum Labels {
    /// Integers.
    Numbers(Vec<i64>),
    /// Strings.
    Words(Vec<String>),
}

impl Labels {
    /// Reads the labels from one of two attributes. It is an error when both are there, or none.
    pub fn read(attributes: &Attributes, numbers: &str, words: &str) -> TractResult<Labels> {
        let (ints, strings) = (attributes.ints(numbers)?, attributes.strings(words)?);
        match (ints.is_empty(), strings.is_empty()) {
            (false, true) => Ok(Labels::Numbers(ints.to_vec())),
            (true, false) => Ok(Labels::Words(strings)),
            _ => Err(attributes.wrong(format!("expected one of `{numbers}` and `{words}`"))),
        }
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Numbers(all) => all.len(),
            Labels::Words(all) => all.len(),
        }
    }

    /// The type of the tensor that [`Labels::of`] makes.
    pub fn datum_type(&self) -> DatumType {
        match self {
            Labels::Numbers(_) => DatumType::I64,
            Labels::Words(_) => DatumType::String,
        }
    }

    /// The labels of the given classes, `[classes.len()]`. A class is an index in the list of labels.
    pub fn of(&self, classes: &[usize]) -> TractResult<Tensor> {
        let missing = || TractError::msg("a class has no label");
        Ok(match self {
            Labels::Numbers(all) => {
                let labels: Option<Vec<i64>> = classes.iter().map(|class| all.get(*class).copied()).collect();
                tensor1(&labels.ok_or_else(missing)?)
            }
            Labels::Words(all) => {
                let labels: Option<Vec<String>> =
                    classes.iter().map(|class| all.get(*class).cloned()).collect();
                tensor1(&labels.ok_or_else(missing)?)
            }
        })
    }
}
