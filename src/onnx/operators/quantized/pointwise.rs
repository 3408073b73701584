//! Operators of com.microsoft on each element of 8-bit tensors with one scale each: QLinearAdd, QLinearMul, QLinearWhere,
//! QLinearSigmoid, QLinearLeakyRelu and QLinearConcat.
//!
//! They compute what onnxruntime computes, to the order of the operations: QLinearAdd and QLinearMul add the zero point
//! before the rounding, the others after it. What depends on one element is computed once for each of its 256 values.

use onnxd_kernels::bytes::{Byte, Join};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;

use super::super::attributes::Attributes;
use super::super::axes::axis;
use super::super::broadcast::joined;
use super::super::numbers::filled;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::right::place;
use super::steps::{Steps, expect_bytes, expect_single, integers, scale, tensor_of, with_bytes, zero};
use super::{Built, built};

/// A scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero: i32,
}

impl Unit {
    /// Reads a scale and a zero point that may be left out. `name` is that of the tensor.
    pub fn read(inputs: &Inputs<Tensor>, at: (usize, usize), name: &str) -> TractResult<Unit> {
        // The names are only written for an error.
        let given = inputs.optional(at.0).ok_or_else(|| {
            TractError::msg(format!("its input {} (`{name}_scale`, counted from 0) is missing", at.0))
        })?;
        let scale = scale(given, format_args!("{name}_scale"))?;
        Ok(Unit { scale, zero: zero(inputs.optional(at.1), format_args!("{name}_zero_point"))? })
    }

    /// The number that an integer stands for.
    pub fn number(self, integer: i32) -> f32 {
        (integer - self.zero) as f32 * self.scale
    }

    /// The nearest integer for a number.
    pub fn nearest(self, steps: Steps, number: f32) -> i32 {
        steps.nearest(number / self.scale, self.zero)
    }
}

/// A function of one 8-bit integer, for all its values.
pub struct Lookup {
    low: i32,
    results: Vec<i32>,
}

impl Lookup {
    /// Computes all results.
    pub fn new(steps: Steps, function: impl Fn(i32) -> i32) -> Lookup {
        Lookup { low: steps.low, results: (steps.low..=steps.high).map(function).collect() }
    }

    /// The result for an integer.
    #[inline(always)]
    pub fn get(&self, integer: i32) -> i32 {
        self.results[(integer - self.low) as usize]
    }

    /// The results for all elements of a tensor.
    pub fn tensor(&self, from: &Tensor) -> TractResult<Tensor> {
        with_bytes!(from.datum_type(), T, {
            let table: [T; 256] = std::array::from_fn(|at| self.results[at] as T);
            let integers = elements::<T>(from)?;
            filled::<T>(from.shape(), |to| {
                T::look_up(&table, integers, to);
                Ok(())
            })
        })
    }
}

/// Checks the type of a tensor, and that its scale and zero point have one element. Returns the type.
pub fn expect_unit(inputs: &Inputs<Kind>, at: [usize; 3], name: &str) -> TractResult<DatumType> {
    let tensor = inputs.required(at[0], name)?;
    expect_bytes(tensor.datum_type, name)?;
    expect_single(inputs, at[1], at[2], name)?;
    if let Some(zero) = inputs.optional(at[2])
        && zero.datum_type != tensor.datum_type
    {
        return Err(TractError::msg(format!(
            "`{name}` is of type {:?}, its zero point of type {:?}: expected the same",
            tensor.datum_type, zero.datum_type
        )));
    }
    Ok(tensor.datum_type)
}

/// Builds `QLinearAdd`.
pub fn add(_: &Attributes) -> Built {
    built(Binary::Add)
}

/// Builds `QLinearMul`.
pub fn mul(_: &Attributes) -> Built {
    built(Binary::Mul)
}

/// A function of two tensors that are broadcast.
#[derive(Debug, Clone, Copy)]
enum Binary {
    Add,
    Mul,
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "QLinearAdd",
            Binary::Mul => "QLinearMul",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let a = expect_unit(inputs, [0, 1, 2], "A")?;
        if expect_unit(inputs, [3, 4, 5], "B")? != a {
            return Err(TractError::msg("`A` and `B` have different types: expected the same"));
        }
        expect_single(inputs, 6, 7, "C")?;
        let shapes = [inputs.required(0, "A")?.shape.clone(), inputs.required(3, "B")?.shape.clone()];
        Ok(tvec![Kind::new(a, multi_broadcast(&shapes)?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(3, "B")?);
        let (unit_a, unit_b) = (Unit::read(inputs, (1, 2), "A")?, Unit::read(inputs, (4, 5), "B")?);
        let unit = Unit::read(inputs, (6, 7), "C")?;
        let (ratio_a, ratio_b) = (unit_a.scale / unit.scale, unit_b.scale / unit.scale);
        let fixed = unit.zero as f32 - (ratio_a * unit_a.zero as f32 + ratio_b * unit_b.zero as f32);
        let ratio = unit_a.scale * unit_b.scale / unit.scale;
        let join = match self {
            Binary::Add => Join::Sum { a: ratio_a, b: ratio_b, offset: fixed },
            Binary::Mul => {
                Join::Product { zeros: (unit_a.zero, unit_b.zero), factor: ratio, offset: unit.zero as f32 }
            }
        };
        Ok(tvec![with_bytes!(a.datum_type(), T, {
            joined::<T>(a, b, |a, b, to| Byte::join(join, a, b, to))
        })?])
    }
}

/// Builds `QLinearWhere`.
pub fn choose(_: &Attributes) -> Built {
    built(Choose)
}

#[derive(Debug)]
struct Choose;

impl Operator for Choose {
    fn name(&self) -> &'static str {
        "QLinearWhere"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let condition = inputs.required(0, "condition")?;
        if condition.datum_type != DatumType::Bool {
            return Err(TractError::msg(format!(
                "`condition` is of type {:?}: expected BOOL",
                condition.datum_type
            )));
        }
        let x = expect_unit(inputs, [1, 2, 3], "X")?;
        if expect_unit(inputs, [4, 5, 6], "Y")? != x {
            return Err(TractError::msg("`X` and `Y` have different types: expected the same"));
        }
        expect_single(inputs, 7, 8, "Z")?;
        let shape = |at| TractResult::Ok(inputs.required(at, "an input")?.shape.clone());
        Ok(tvec![Kind::new(x, multi_broadcast(&[shape(0)?, shape(1)?, shape(4)?])?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, y) = (inputs.required(1, "X")?, inputs.required(4, "Y")?);
        let condition = inputs.required(0, "condition")?;
        let unit = Unit::read(inputs, (7, 8), "Z")?;
        let steps = Steps::of(x.datum_type())?;
        let table = |from: Unit| Lookup::new(steps, |integer| unit.nearest(steps, from.number(integer)));
        let (from_x, from_y) =
            (table(Unit::read(inputs, (2, 3), "X")?), table(Unit::read(inputs, (5, 6), "Y")?));
        let shapes: [TVec<usize>; 3] = [condition.shape().into(), x.shape().into(), y.shape().into()];
        let shape = multi_broadcast(&shapes)?;
        let (is_x, x, y) = (elements::<bool>(condition)?, integers(x)?, integers(y)?);
        let [of_condition, of_x, of_y] = &shapes;
        let element = |at| match is_x[place(at, &shape, of_condition)] {
            true => from_x.get(x[place(at, &shape, of_x)]),
            false => from_y.get(y[place(at, &shape, of_y)]),
        };
        let made: Vec<i32> = (0..shape.iter().product()).map(element).collect();
        Ok(tvec![tensor_of(steps, &shape, &made)?])
    }
}

/// Builds `QLinearSigmoid`.
pub fn sigmoid(_: &Attributes) -> Built {
    built(Activation::Sigmoid)
}

/// Builds `QLinearLeakyRelu`.
pub fn leaky_relu(attributes: &Attributes) -> Built {
    built(Activation::LeakyRelu(attributes.float("alpha", 0.01)?))
}

/// A function of a number.
#[derive(Debug, Clone, Copy)]
enum Activation {
    Sigmoid,
    LeakyRelu(f32),
}

impl Activation {
    fn of(self, number: f32) -> f32 {
        match self {
            Activation::Sigmoid => 1.0 / (1.0 + (-number).exp()),
            Activation::LeakyRelu(alpha) if number < 0.0 => number * alpha,
            Activation::LeakyRelu(_) => number,
        }
    }
}

impl Operator for Activation {
    fn name(&self) -> &'static str {
        match self {
            Activation::Sigmoid => "QLinearSigmoid",
            Activation::LeakyRelu(_) => "QLinearLeakyRelu",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let datum_type = expect_unit(inputs, [0, 1, 2], "X")?;
        expect_single(inputs, 3, 4, "Y")?;
        Ok(tvec![Kind::new(datum_type, inputs.required(0, "X")?.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let x = inputs.required(0, "X")?;
        let (from, to) = (Unit::read(inputs, (1, 2), "X")?, Unit::read(inputs, (3, 4), "Y")?);
        let steps = Steps::of(x.datum_type())?;
        let table = Lookup::new(steps, |integer| to.nearest(steps, self.of(from.number(integer))));
        Ok(tvec![table.tensor(x)?])
    }
}

/// Builds `QLinearConcat`.
pub fn concat(attributes: &Attributes) -> Built {
    if !attributes.has("axis") {
        return Err(attributes.wrong("the attribute `axis` is missing"));
    }
    built(Concat { axis: attributes.int("axis", 0)? })
}

/// Joins tensors with different scales along an axis.
#[derive(Debug)]
struct Concat {
    axis: i64,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "QLinearConcat"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        if inputs.len() < 5 || !(inputs.len() - 2).is_multiple_of(3) {
            return Err(TractError::msg(format!(
                "it has {} inputs: expected two, and three for each tensor",
                inputs.len()
            )));
        }
        expect_single(inputs, 0, 1, "Y")?;
        let datum_type = Steps::of(inputs.required(1, "Y_zero_point")?.datum_type)?.datum_type;
        let first = inputs.required(2, "an input")?;
        let axis = axis(self.axis, first.rank())?;
        let mut shape = first.shape.clone();
        shape[axis] = 0.into();
        for at in (2..inputs.len()).step_by(3) {
            let tensor = inputs.required(at, "an input")?;
            if expect_unit(inputs, [at, at + 1, at + 2], "an input")? != datum_type {
                return Err(TractError::msg("its tensors have different types: expected the same"));
            }
            let others = |shape: &[TDim]| {
                let others = shape.iter().enumerate().filter(|(at, _)| *at != axis);
                others.map(|(_, length)| length.clone()).collect::<Vec<TDim>>()
            };
            if tensor.rank() != shape.len() || others(&tensor.shape) != others(&shape) {
                return Err(TractError::msg(format!(
                    "its tensors have the shapes {:?} and {:?}: expected the same lengths beside axis {axis}",
                    first.shape, tensor.shape
                )));
            }
            shape[axis] = shape[axis].clone() + &tensor.shape[axis];
        }
        Ok(tvec![Kind::new(datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let unit = Unit::read(inputs, (0, 1), "Y")?;
        let steps = Steps::of(inputs.required(1, "Y_zero_point")?.datum_type())?;
        let axis = axis(self.axis, inputs.required(2, "an input")?.rank())?;
        let mut parts = Vec::new();
        for at in (2..inputs.len()).step_by(3) {
            let tensor = inputs.required(at, "an input")?;
            let from = Unit::read(inputs, (at + 1, at + 2), "an input")?;
            if from == unit {
                parts.push(tensor.clone());
                continue;
            }
            let table = Lookup::new(steps, |integer| unit.nearest(steps, from.number(integer)));
            parts.push(table.tensor(tensor)?);
        }
        Ok(tvec![Tensor::stack_tensors(axis, &parts)?])
    }
}
