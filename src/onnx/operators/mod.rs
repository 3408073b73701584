//! Operators of our own, put in the place of tract's or where tract has none.
//!
//! An operator is an [`Operator`]: what it makes of its inputs' datatypes and shapes, and what it makes
//! of the inputs. [`Own`] is the one place that tells tract about it: shape inference, the typed
//! graph, the run. A new operator is a file here and a line in [`register`].

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

/// Puts ours into tract's register, over its own.
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

/// What is known of a tensor before it is there.
#[derive(Debug, Clone)]
pub struct Kind {
    pub datum_type: DatumType,
    pub shape: TVec<TDim>,
}

/// An operator without state.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The standard's name for it.
    fn name(&self) -> &'static str;

    /// The outputs' datatypes and shapes, or why these inputs cannot be taken.
    fn outputs(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>>;

    /// The same operator made ready for inputs of these kinds, where that is worth something.
    fn prepared(&self, _inputs: &[Kind]) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(None)
    }

    /// All outputs.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

/// What an entry of tract's register gives back.
pub type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An operator for a node, of whose outputs some may be left out.
pub fn built(node: &NodeProto, operator: impl Operator) -> Built {
    let kept = node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(at, _)| at);
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    Ok((expand(Own { operator: Arc::new(operator), inputs, kept: kept.collect() }), Vec::new()))
}

/// An operator of ours as tract sees it.
#[derive(Debug, Clone)]
struct Own {
    operator: Arc<dyn Operator>,
    inputs: usize,
    /// The outputs that the node names.
    kept: TVec<usize>,
}

impl Own {
    fn kinds(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>> {
        let all = self.operator.outputs(inputs)?;
        self.kept
            .iter()
            .map(|at| {
                let kind = all.get(*at).cloned();
                kind.ok_or_else(|| {
                    TractError::msg(format!("it has {} outputs: output {at} is none of them", all.len()))
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
            return Err(TractError::msg("its inputs and outputs are not those of its node"));
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

/// Why a node's attributes do not make an operator.
pub fn wrong(node: &NodeProto, cause: impl fmt::Display) -> TractError {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let name = name.map(String::as_str).unwrap_or_default();
    TractError::msg(format!("`{}` (node `{name}`): {cause}", node.op_type))
}

/// The labels of a classifier's classes.
#[derive(Debug, Clone)]
pub enum Labels {
    Numbers(Vec<i64>),
    Words(Vec<String>),
}

impl Labels {
    /// From the one of the two attributes that is there.
    pub fn read(attributes: &Attributes, numbers: &str, words: &str) -> TractResult<Labels> {
        let (ints, strings) = (attributes.ints(numbers)?, attributes.strings(words)?);
        match (ints.is_empty(), strings.is_empty()) {
            (false, true) => Ok(Labels::Numbers(ints.to_vec())),
            (true, false) => Ok(Labels::Words(strings)),
            _ => Err(attributes.wrong(format!("expected one of `{numbers}` and `{words}`"))),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Labels::Numbers(all) => all.len(),
            Labels::Words(all) => all.len(),
        }
    }

    pub fn datum_type(&self) -> DatumType {
        match self {
            Labels::Numbers(_) => DatumType::I64,
            Labels::Words(_) => DatumType::String,
        }
    }

    /// A tensor of one dimension. Classes are places in the list.
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
