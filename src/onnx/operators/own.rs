//! The connection between our operators and tract: [`Own`] is an [`Operator`] as a node of tract's typed graph.

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::{
    EvalContext, EvalOp, Op, StaticName, SymbolScope, SymbolValues, TypedOp,
};

use super::invalid;
use super::operator::{Inputs, Kind, LateLengths, Operator, Quantization, Step, elements};

/// One of our operators, in the form that tract needs.
#[derive(Debug, Clone)]
pub struct Own {
    operator: Arc<dyn Operator>,
    /// For each input of the node in the file: whether it is there. tract knows only those that are.
    present: TVec<bool>,
    /// The indices of the outputs that the node names.
    kept: TVec<usize>,
    late: Arc<LateLengths>,
}

impl Own {
    /// Wraps an operator for the inputs and outputs that the node names.
    pub fn new(node: &NodeProto, operator: Arc<dyn Operator>, scope: &SymbolScope) -> Own {
        let mut present: TVec<bool> = node.input.iter().map(|name| !name.is_empty()).collect();
        while present.last() == Some(&false) {
            present.pop();
        }
        let kept = node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(at, _)| at);
        let late = Arc::new(LateLengths::new(scope.clone()));
        Own { operator, present, kept: kept.collect(), late }
    }

    /// Wraps an operator with one input and one output that is not a node of the file.
    pub fn of_one(operator: Arc<dyn Operator>, scope: &SymbolScope) -> Own {
        let late = Arc::new(LateLengths::new(scope.clone()));
        Own { operator, present: tvec![true], kept: tvec![0], late }
    }

    /// The same operator, prepared for these inputs.
    pub fn prepared(&self, facts: &[&TypedFact]) -> TractResult<Own> {
        let kinds = kinds_of(facts)?;
        let prepared = self.operator.prepared(&self.inputs(kinds.iter())?)?;
        Ok(Own { operator: prepared.unwrap_or_else(|| self.operator.clone()), ..self.clone() })
    }

    /// Leaves out the inputs that the operator does not read. `inputs` has those of the node; the others remain.
    pub fn without_unread(mut self, inputs: &[OutletId]) -> (Own, TVec<OutletId>) {
        let mut outlets = inputs.iter();
        let mut read = tvec![];
        for (at, is_there) in self.present.iter_mut().enumerate().filter(|(_, is_there)| **is_there) {
            let outlet = outlets.next();
            *is_there = self.operator.needs(at);
            read.extend(outlet.copied().filter(|_| *is_there));
        }
        (self, read)
    }

    /// What the operator does, if it is nothing but a step on its first input, and has no other input that is not constant.
    pub fn as_step(&self, facts: &[&TypedFact]) -> Option<Step> {
        let kinds = kinds_of(facts).ok()?;
        if self.kept[..] != [0] || kinds.iter().skip(1).any(|kind| kind.value.is_none()) {
            return None;
        }
        self.operator.as_step(&self.inputs(kinds.iter()).ok()?)
    }

    /// The operator in a faster form, whose results differ in the last bits.
    pub fn faster(&self) -> Option<Own> {
        Some(Own { operator: self.operator.faster()?, ..self.clone() })
    }

    /// How the operator converts between FP32 and integers, if it does only that and the scale is constant.
    pub fn quantization(&self, facts: &[&TypedFact]) -> Option<Quantization> {
        let kinds = kinds_of(facts).ok()?;
        self.operator.quantization(&self.inputs(kinds.iter()).ok()?)
    }

    /// The axis of the result for whose places the operator can do [`Step::Scale`].
    pub fn channel_axis(&self) -> usize {
        self.operator.channel_axis()
    }

    /// The operator with a step after it. `None`: it cannot do the step.
    pub fn then(&self, step: &Step) -> Option<Own> {
        let operator = self.operator.then(step).filter(|_| self.kept[..] == [0])?;
        let more = matches!(step, Step::Add | Step::Times).then_some(true);
        Some(Own { operator, present: self.present.iter().copied().chain(more).collect(), ..self.clone() })
    }

    /// The bytes of weights that the operator itself holds.
    pub fn weight_bytes(&self) -> usize {
        self.operator.weight_bytes()
    }

    /// True when two runs with the same inputs differ.
    pub fn is_random(&self) -> bool {
        self.operator.is_random()
    }

    /// Puts the inputs at their places in the standard's order.
    fn inputs<'a, T>(&self, mut present: impl ExactSizeIterator<Item = &'a T>) -> TractResult<Inputs<'a, T>> {
        if self.present.iter().filter(|is_there| **is_there).count() != present.len() {
            return Err(TractError::msg("the number of inputs is not that of the node"));
        }
        let next = |is_there: &bool| if *is_there { present.next() } else { None };
        Ok(Inputs(self.present.iter().map(next).collect()))
    }

    /// The datatypes and shapes of the outputs that the node names.
    pub fn kinds(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>> {
        let all = self.operator.outputs(&self.inputs(inputs.iter())?, &self.late)?;
        // tract panics when it is given a negative length.
        if let Some(kind) = all
            .iter()
            .find(|kind| kind.shape.iter().any(|length| length.to_i64().is_ok_and(|length| length < 0)))
        {
            return Err(invalid(format!(
                "its output has the shape {:?}: expected lengths of 0 or more",
                kind.shape
            )));
        }
        let kept = self.kept.iter().map(|at| {
            all.get(*at).cloned().ok_or_else(|| {
                TractError::msg(format!(
                    "it has {} outputs, but the node names output {at} (counted from 0)",
                    all.len()
                ))
            })
        });
        kept.collect()
    }

    /// The outputs for these constant inputs, of which the first has sizes with symbols. `None` when the operator cannot
    /// keep the symbols.
    pub fn of_sizes(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        let has_sizes = inputs.first().is_some_and(|first| first.datum_type() == TDim::datum_type());
        match has_sizes && self.operator.keeps_symbols() {
            true => self.run(inputs).map(Some),
            false => Ok(None),
        }
    }

    /// The most bytes of the outputs for these inputs. It does not make them.
    pub fn bytes(&self, symbols: &SymbolValues, inputs: &[TValue]) -> TractResult<u128> {
        let inputs = concrete(symbols, inputs)?;
        let kinds: Vec<Kind> = inputs.iter().map(|input| Kind::of(input.clone().into_arc_tensor())).collect();
        let mut bytes = 0_u128;
        for kind in self.kinds(&kinds)? {
            let Some(count) = kind.count() else {
                return self.operator.most_bytes(&self.inputs(inputs.iter().map(|input| &**input))?);
            };
            bytes += count as u128 * kind.datum_type.size_of() as u128;
        }
        Ok(bytes)
    }

    /// The most bytes of text in `count` texts that it makes of these inputs.
    pub fn most_text(&self, inputs: &[TValue], count: u128) -> TractResult<u128> {
        Ok(self.operator.most_text(&self.inputs(inputs.iter().map(|input| &**input))?, count))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let inputs = self.inputs(inputs.iter().map(|input| &**input))?;
        let mut all: TVec<Option<Tensor>> = self.operator.run(&inputs)?.into_iter().map(Some).collect();
        let kept = self.kept.iter().map(|at| {
            let output = all.get_mut(*at).and_then(Option::take);
            output.map(IntoTValue::into_tvalue).ok_or_else(|| TractError::msg("an output is missing"))
        });
        kept.collect()
    }
}

/// Replaces sizes with symbols (`TDim`) by integers.
///
/// Errors: the value of a symbol is not known.
fn concrete(symbols: &SymbolValues, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
    let concrete = |input: &TValue| -> TractResult<TValue> {
        if input.datum_type() != TDim::datum_type() {
            return Ok(input.clone());
        }
        let plain = input.try_as_plain_ram()?;
        let sizes = plain.as_slice::<TDim>()?.iter().map(|size| Ok(size.eval(symbols).to_i64()?));
        let sizes: Vec<i64> = sizes.collect::<TractResult<_>>()?;
        Ok(Tensor::from_shape(input.shape(), &sizes)?.into_tvalue())
    };
    inputs.iter().map(concrete).collect()
}

/// What a [`Kind`] says, of tract's facts.
pub fn kinds_of(facts: &[&TypedFact]) -> TractResult<Vec<Kind>> {
    let kind = |fact: &&TypedFact| -> TractResult<Kind> {
        let is_size = fact.datum_type == TDim::datum_type();
        let datum_type = if is_size { i64::datum_type() } else { fact.datum_type };
        let value = match &fact.konst {
            Some(sizes) if is_size => sizes.cast_to::<i64>().ok().map(|sizes| Arc::new(sizes.into_owned())),
            other => other.clone(),
        };
        let sizes = match (&value, &fact.konst) {
            (None, Some(sizes)) => Some(elements::<TDim>(sizes)?.iter().cloned().collect()),
            _ => None,
        };
        Ok(Kind { datum_type, shape: fact.shape.iter().cloned().collect(), value, sizes })
    };
    facts.iter().map(kind).collect()
}

impl PartialEq for Own {
    fn eq(&self, other: &Own) -> bool {
        Arc::ptr_eq(&self.operator, &other.operator)
            && self.kept == other.kept
            && self.present == other.present
    }
}

impl Eq for Own {}

impl Op for Own {
    fn name(&self) -> StaticName {
        self.operator.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        !self.late.is_empty()
    }

    op_as_typed_op!();
}

impl EvalOp for Own {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let sizes = inputs.iter().any(|input| input.datum_type() == TDim::datum_type());
        let inputs =
            if sizes { Cow::Owned(concrete(context.symbols, &inputs)?) } else { Cow::Borrowed(&inputs) };
        self.run(&inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        if self.is_random() {
            return Ok(None);
        }
        // Before a run, the values of symbols are not known.
        let Ok(inputs) = concrete(&SymbolValues::default(), &inputs) else { return Ok(None) };
        self.run(&inputs).map(Some)
    }
}

impl TypedOp for Own {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let kinds = self.kinds(&kinds_of(inputs)?)?;
        Ok(kinds.into_iter().map(|kind| TypedFact::dt_shape(kind.datum_type, kind.shape)).collect())
    }

    as_op!();
}
