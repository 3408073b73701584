//! `Einsum`, with an ellipsis in any operand, repeated labels, and any number of operands.
//!
//! The operands are joined one after the other. A label that no later operand and not the result has is summed as early as
//! possible, and two operands are joined by a product of matrices.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::numbers::{Number, filled, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::equation::{Equation, Label};
use super::labelled::{Labelled, Lengths};
use super::{Built, Elements};

/// `Einsum`.
#[derive(Debug)]
struct Einsum {
    equation: Equation,
}

/// Builds an `Einsum`.
pub fn einsum(attributes: &Attributes) -> Built {
    let equation =
        Equation::read(attributes.string("equation", "")?).map_err(|cause| attributes.wrong(cause))?;
    Ok(Arc::new(Einsum { equation }))
}

/// Whether tract serves an `Einsum`: a product of two operands, in which each label is of both or is kept.
pub fn is_plain_product(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let text = attributes.string("equation", "").map_err(|error| error.to_string())?;
    let equation = Equation::read(text)?;
    let kinds = inputs.each().map_err(|error| error.to_string())?;
    let ranks: Vec<usize> = kinds.iter().map(|kind| kind.rank()).collect();
    let (terms, result) = equation.labels(&ranks)?;
    let [a, b] = &terms[..] else { return Err("it has not two operands".into()) };
    let twice = |labels: &[Label]| labels.iter().enumerate().any(|(at, label)| labels[..at].contains(label));
    let lonely = |one: &[Label], other: &[Label]| {
        one.iter().any(|label| !other.contains(label) && !result.contains(label))
    };
    let is_summed = a.iter().any(|label| b.contains(label) && !result.contains(label));
    let is_plain = text.contains("->") && !text.contains('.') && !twice(a) && !twice(b);
    if !is_plain || lonely(a, b) || lonely(b, a) || !is_summed {
        return Err("it is no plain product of two operands".into());
    }
    for (at, label) in a.iter().enumerate() {
        let lengths = b
            .iter()
            .position(|other| other == label)
            .map(|other| (&kinds[0].shape[at], &kinds[1].shape[other]));
        if lengths.is_some_and(|(a, b)| a != b) {
            return Err("two lengths of a label are not the same".into());
        }
    }
    if kinds.iter().any(|kind| kind.shape.iter().any(|length| *length == TDim::from(0))) {
        return Err("an operand has no elements".into());
    }
    Ok(())
}

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let kinds = inputs.each()?;
        let first = inputs.required(0, "Inputs")?;
        Elements::Numbers.check(first.datum_type)?;
        if kinds.iter().any(|kind| kind.datum_type != first.datum_type) {
            return Err(TractError::msg("its inputs are of different types: expected the same type"));
        }
        let ranks: Vec<usize> = kinds.iter().map(|kind| kind.rank()).collect();
        let (terms, result) = self.equation.labels(&ranks).map_err(TractError::msg)?;
        let mut shape = TVec::new();
        for label in &result {
            let mut length = TDim::from(1);
            for (term, kind) in terms.iter().zip(&kinds) {
                for (_, own) in term.iter().zip(&kind.shape).filter(|(other, _)| *other == label) {
                    length = joined(length, own.clone(), *label)?;
                }
            }
            shape.push(length);
        }
        Ok(tvec![Kind::new(first.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let all = inputs.each()?;
        let datum_type = inputs.required(0, "Inputs")?.datum_type();
        on_numbers!(datum_type, T => Ok(tvec![self.compute::<T>(&all)?]))
    }
}

/// The length of a label that two operands have.
fn joined(a: TDim, b: TDim, label: Label) -> TractResult<TDim> {
    if a == TDim::from(1) {
        return Ok(b);
    }
    match (a.to_usize(), b.to_usize()) {
        (Ok(a), Ok(b)) if a != b && b != 1 => Err(unequal(a, b, label)),
        _ => Ok(a),
    }
}

fn unequal(a: usize, b: usize, label: Label) -> TractError {
    TractError::msg(format!("{label} has the lengths {a} and {b}: expected the same, or 1"))
}

impl Einsum {
    fn compute<T: Number>(&self, inputs: &[&Tensor]) -> TractResult<Tensor> {
        let ranks: Vec<usize> = inputs.iter().map(|input| input.rank()).collect();
        let (terms, result) = self.equation.labels(&ranks).map_err(TractError::msg)?;
        let lengths = lengths_of(&terms, inputs)?;
        let made = result.iter().map(|label| lengths.length(*label)).product::<usize>();
        // The memory of the operands and the result was checked before the run, but not that of products in between.
        let most =
            inputs.iter().map(|input| input.len()).sum::<usize>().max(made).saturating_mul(16).max(1 << 22);
        let mut so_far = Labelled::single(T::ONE);
        for (at, (term, input)) in terms.iter().zip(inputs).enumerate() {
            let is_needed = |label: &Label| {
                result.contains(label) || terms[at + 1..].iter().any(|term| term.contains(label))
            };
            let operand = Labelled::of(elements::<T>(input)?, input.shape(), term, &lengths);
            so_far =
                if at == 0 { operand.reduced(is_needed) } else { so_far.times(operand, is_needed, most)? };
        }
        let shape: Vec<usize> = result.iter().map(|label| lengths.length(*label)).collect();
        let ordered = so_far.gathered(&result, &lengths);
        filled::<T>(&shape, |to| {
            to.copy_from_slice(&ordered);
            Ok(())
        })
    }
}

/// The lengths of all labels.
fn lengths_of(terms: &[Vec<Label>], inputs: &[&Tensor]) -> TractResult<Lengths> {
    let mut lengths: Vec<(Label, usize)> = Vec::new();
    for (label, length) in terms.iter().zip(inputs).flat_map(|(term, input)| term.iter().zip(input.shape())) {
        match lengths.iter_mut().find(|(known, _)| known == label) {
            None => lengths.push((*label, *length)),
            Some((_, known)) if *known == 1 => *known = *length,
            Some((_, known)) if *length == 1 || known == length => {}
            Some((_, known)) => return Err(unequal(*known, *length, *label)),
        }
    }
    Ok(Lengths(lengths))
}
