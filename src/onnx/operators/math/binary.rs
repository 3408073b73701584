//! Operators with two operands that are broadcast: the part that is the same for all of them.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::axis;
use super::super::broadcast;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, Elements, own_name};

/// The type of the result's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// That of the operands.
    Same,
    /// BOOL.
    Truth,
}

/// An operator with two operands.
#[derive(Debug)]
pub struct Binary {
    name: &'static str,
    takes: Elements,
    outcome: Outcome,
    /// Computes the result. Operands of FP16 come as FP32.
    compute: fn(&Tensor, &Tensor) -> TractResult<Tensor>,
    /// Before version 7: the first axis of the first operand that belongs to an axis of the second.
    begin: Option<i64>,
}

impl Binary {
    /// Builds the operator of a node.
    pub fn built(
        attributes: &Attributes,
        takes: Elements,
        outcome: Outcome,
        compute: fn(&Tensor, &Tensor) -> TractResult<Tensor>,
    ) -> Built {
        let begin = if attributes.has("axis") { Some(attributes.int("axis", 0)?) } else { None };
        Ok(Arc::new(Binary { name: own_name(attributes)?, takes, outcome, compute, begin }))
    }

    /// How many axes of length 1 follow the second operand's axes.
    fn behind(&self, a: usize, b: usize) -> TractResult<usize> {
        let Some(begin) = self.begin else { return Ok(0) };
        let used = axis(begin, a)? + b;
        a.checked_sub(used).ok_or_else(|| {
            TractError::msg(format!("`axis` is {begin}: the second input's {b} axes do not fit into {a}"))
        })
    }
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        self.takes.check(a.datum_type)?;
        if a.datum_type != b.datum_type {
            return Err(TractError::msg(format!(
                "its inputs are of types {:?} and {:?}: expected the same type",
                a.datum_type, b.datum_type
            )));
        }
        let behind = self.behind(a.rank(), b.rank())?;
        let b = Kind::new(b.datum_type, b.shape.iter().cloned().chain((0..behind).map(|_| 1.into())));
        let datum_type = match self.outcome {
            Outcome::Same => a.datum_type,
            Outcome::Truth => DatumType::Bool,
        };
        Ok(tvec![Kind::new(datum_type, broadcast::shape(&[a, &b])?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        let behind = self.behind(a.rank(), b.rank())?;
        if behind == 0 {
            return Ok(tvec![(self.compute)(a, b)?]);
        }
        let shape: TVec<usize> = b.shape().iter().copied().chain(std::iter::repeat_n(1, behind)).collect();
        Ok(tvec![(self.compute)(a, &b.clone().into_shape(&shape)?)?])
    }
}
