//! Operators with one operand whose elements are computed one by one.
//!
//! FP16 is computed in FP32.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::error_function::erf;
use super::super::numbers::{Number, mapped, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::binary::Outcome;
use super::{Built, Elements, own_name};

/// An operator with one operand.
#[derive(Debug)]
pub struct Unary {
    name: &'static str,
    takes: Elements,
    outcome: Outcome,
    compute: Compute,
}

/// Computes the result. An operand of FP16 comes as FP32.
#[derive(Debug, Clone, Copy)]
enum Compute {
    /// Of a tensor.
    Tensor(fn(&Tensor) -> TractResult<Tensor>),
    /// A function of one element, in FP32 and in FP64.
    Real(fn(f32) -> f32, fn(f64) -> f64),
}

impl Unary {
    /// Builds the operator of a node.
    pub fn built(
        attributes: &Attributes,
        takes: Elements,
        outcome: Outcome,
        compute: fn(&Tensor) -> TractResult<Tensor>,
    ) -> Built {
        let compute = Compute::Tensor(compute);
        Ok(Arc::new(Unary { name: own_name(attributes)?, takes, outcome, compute }))
    }
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        self.takes.check(input.datum_type)?;
        let datum_type = match self.outcome {
            Outcome::Same => input.datum_type,
            Outcome::Truth => DatumType::Bool,
        };
        Ok(tvec![Kind::new(datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let output = match (self.compute, input.datum_type()) {
            (Compute::Tensor(compute), _) => compute(input),
            (Compute::Real(single, _), DatumType::F32) => mapped::<f32, f32>(input, |x| single(*x)),
            (Compute::Real(_, double), _) => mapped::<f64, f64>(input, |x| double(*x)),
        };
        Ok(tvec![output?])
    }
}

/// Builds `Abs`, `Neg` or `Sign`, which also take integers.
pub fn signed(attributes: &Attributes) -> Built {
    let compute: fn(&Tensor) -> TractResult<Tensor> = match &*attributes.node.op_type {
        "Abs" => |input| on_numbers!(input.datum_type(), T => mapped::<T, T>(input, |x| x.magnitude())),
        "Neg" => |input| on_numbers!(input.datum_type(), T => mapped::<T, T>(input, |x| negative(*x))),
        _ => |input| on_numbers!(input.datum_type(), T => mapped::<T, T>(input, |x| sign(*x))),
    };
    Unary::built(attributes, Elements::Numbers, Outcome::Same, compute)
}

/// The negative number. The negative of 0 is −0 in floating point, so this is not 0 − x.
fn negative<T: Number>(x: T) -> T {
    if x == T::ZERO { x.times(T::ZERO.minus(T::ONE)) } else { T::ZERO.minus(x) }
}

/// −1, 0 or 1; NaN of NaN.
fn sign<T: Number>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        T::ZERO.minus(T::ONE)
    } else {
        // 0, −0 or NaN. The sign of −0 is 0.
        x.plus(T::ZERO)
    }
}

macro_rules! both {
    ($name:ident) => {
        Compute::Real(f32::$name, f64::$name)
    };
}

/// Builds a function of real numbers.
pub fn real(attributes: &Attributes) -> Built {
    let compute = match &*attributes.node.op_type {
        "Acos" => both!(acos),
        "Acosh" => both!(acosh),
        "Asin" => both!(asin),
        "Asinh" => both!(asinh),
        "Atan" => both!(atan),
        "Atanh" => both!(atanh),
        "Ceil" => both!(ceil),
        "Cos" => both!(cos),
        "Cosh" => both!(cosh),
        "Erf" => Compute::Real(|x| erf(x.into()) as f32, erf),
        "Exp" => both!(exp),
        "Floor" => both!(floor),
        "Log" => both!(ln),
        "Reciprocal" => Compute::Real(|x| 1.0 / x, |x| 1.0 / x),
        "Round" => both!(round_ties_even),
        "Sin" => both!(sin),
        "Sinh" => both!(sinh),
        "Sqrt" => both!(sqrt),
        "Tan" => both!(tan),
        _ => return Err(attributes.wrong("it is no function of real numbers")),
    };
    Ok(Arc::new(Unary {
        name: own_name(attributes)?,
        takes: Elements::Floats,
        outcome: Outcome::Same,
        compute,
    }))
}
