//! Products of matrices of 8-bit integers: MatMulInteger and QLinearMatMul of ai.onnx, MatMulIntegerToFloat and
//! DynamicQuantizeMatMul of com.microsoft.
//!
//! The sums are exact. A scale or zero point of the left matrix is one number or one for each row; that of the right matrix
//! is one number or one for each column.

use std::sync::Arc;

use onnxd_kernels::functions::apply;
use onnxd_kernels::quantize::{self, Stored};
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::numbers::filled;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::dynamic::{BYTE, quantization};
use super::made::Made;
use super::product::distances;
use super::right::{Right, expect_lines, pick, product_shape};
use super::steps::{Steps, expect_bytes, floats, integers, with_small};
use super::{Built, built};

/// Which operator it is. They differ in the order of their inputs and in what they make of the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// MatMulInteger: the sums.
    Sums,
    /// QLinearMatMul: the sums with a scale, rounded.
    Quantized,
    /// MatMulIntegerToFloat: the sums with a scale and a bias.
    Floats,
    /// DynamicQuantizeMatMul: as `Floats`, with a left matrix that is quantized first.
    Dynamic,
}

/// Where the inputs are. `None`: the operator has no such input.
struct Places {
    a_scale: Option<usize>,
    a_zero: Option<usize>,
    b: usize,
    b_scale: Option<usize>,
    b_zero: usize,
    bias: Option<usize>,
}

impl Form {
    fn places(self) -> Places {
        let (a_scale, a_zero, b, b_scale, b_zero, bias) = match self {
            Form::Sums => (None, Some(2), 1, None, 3, None),
            Form::Quantized => (Some(1), Some(2), 3, Some(4), 5, None),
            Form::Floats => (Some(2), Some(4), 1, Some(3), 5, Some(6)),
            Form::Dynamic => (None, None, 1, Some(2), 3, Some(4)),
        };
        Places { a_scale, a_zero, b, b_scale, b_zero, bias }
    }
}

/// Builds `MatMulInteger`.
pub fn sums(_: &Attributes) -> Built {
    built(MatMul::of(Form::Sums))
}

/// Builds `QLinearMatMul`.
pub fn quantized(_: &Attributes) -> Built {
    built(MatMul::of(Form::Quantized))
}

/// Builds `MatMulIntegerToFloat`.
pub fn to_float(_: &Attributes) -> Built {
    built(MatMul::of(Form::Floats))
}

/// Builds `DynamicQuantizeMatMul`.
pub fn dynamic(_: &Attributes) -> Built {
    built(MatMul::of(Form::Dynamic))
}

#[derive(Debug, Clone)]
struct MatMul {
    form: Form,
    /// The right matrices, when they are constant.
    right: Option<Arc<Right>>,
    /// The number of axes of the result, when it is known.
    rank: usize,
    /// What MatMulInteger makes of its sums, if not the sums themselves.
    made: Option<Made>,
}

/// The sums of a product, and its last two lengths.
struct Sums {
    sums: Vec<i32>,
    rows: usize,
    columns: usize,
}

impl MatMul {
    fn of(form: Form) -> MatMul {
        MatMul { form, right: None, rank: 0, made: None }
    }

    /// The numbers that are made of sums.
    fn numbers(&self, made: &Made, sums: &Sums, factor: Option<&Tensor>) -> TractResult<Vec<f32>> {
        let factor = Made::factor(factor)?;
        let mut numbers = vec![0.0; sums.sums.len()];
        let width = sums.columns.max(1);
        for (line, to) in sums.sums.chunks(width).zip(numbers.chunks_mut(width)) {
            quantize::scale_sums(line, to, factor, &made.factors, Some(&made.offsets));
            made.then.iter().for_each(|function| apply(*function, to));
        }
        Ok(numbers)
    }

    fn check(&self, inputs: &Inputs<Kind>) -> TractResult<()> {
        let places = self.form.places();
        let (a, b) = (inputs.required(0, "A")?, inputs.required(places.b, "B")?);
        match self.form {
            Form::Dynamic if a.datum_type != DatumType::F32 => {
                return Err(TractError::msg(format!("`A` is of type {:?}: expected F32", a.datum_type)));
            }
            Form::Dynamic => {}
            _ => expect_bytes(a.datum_type, "A")?,
        }
        expect_bytes(b.datum_type, "B")?;
        let rows = a.shape.iter().rev().nth(1);
        let columns = if b.rank() > 1 { b.shape.last() } else { None };
        let optional = |at: Option<usize>| at.and_then(|at| inputs.optional(at));
        for (lines, name) in [(places.a_scale, "a_scale"), (places.a_zero, "a_zero_point")] {
            expect_lines(optional(lines), rows, name)?;
        }
        for (lines, name) in [(places.b_scale, "b_scale"), (Some(places.b_zero), "b_zero_point")] {
            expect_lines(optional(lines), columns, name)?;
        }
        expect_lines(optional(places.bias), columns, "bias")
    }

    fn sums(&self, left: &[i16], inputs: &Inputs<Tensor>) -> TractResult<Sums> {
        let places = self.form.places();
        let (a, b) = (inputs.required(0, "A")?, inputs.required(places.b, "B")?);
        let made;
        let right = match &self.right {
            Some(right) => right,
            None => {
                made = Arc::new(Right::of(b, inputs.optional(places.b_zero))?);
                &made
            }
        };
        let rows = a.shape().iter().rev().nth(1).copied().unwrap_or(1);
        let columns = right.columns();
        Ok(Sums { sums: right.times(left, a.shape())?, rows, columns })
    }

    /// The left matrix without its zero points.
    fn left(&self, inputs: &Inputs<Tensor>) -> TractResult<Vec<i16>> {
        let a = inputs.required(0, "A")?;
        let zeros = self.form.places().a_zero.and_then(|at| inputs.optional(at));
        let zeros = zeros.map_or_else(|| Ok(tvec![0]), integers)?;
        let (rows, width) = (a.shape().iter().rev().nth(1), a.shape().last());
        let rows = *rows.unwrap_or(&1);
        distances(a, *width.unwrap_or(&1), |line| pick(&zeros, line % rows.max(1)))
    }

    /// The sums with scales for the rows and columns, and a bias for the columns.
    fn scaled(&self, sums: &Sums, rows: &[f32], inputs: &Inputs<Tensor>) -> TractResult<Vec<f32>> {
        let places = self.form.places();
        let columns = floats(inputs.required(places.b_scale.unwrap_or_default(), "b_scale")?)?;
        let bias = places.bias.and_then(|at| inputs.optional(at)).map(floats).transpose()?;
        let mut made = vec![0.0; sums.sums.len()];
        let width = sums.columns.max(1);
        for (at, (line, to)) in sums.sums.chunks(width).zip(made.chunks_mut(width)).enumerate() {
            quantize::scale_sums(line, to, pick(rows, at % sums.rows), &columns, bias.as_deref());
        }
        Ok(made)
    }

    fn requantized(&self, sums: &Sums, shape: &[usize], inputs: &Inputs<Tensor>) -> TractResult<Tensor> {
        let zero = inputs.required(7, "y_zero_point")?;
        let (steps, zeros) = (Steps::of(zero.datum_type())?, integers(zero)?);
        let (a, b) = (floats(inputs.required(1, "a_scale")?)?, floats(inputs.required(4, "b_scale")?)?);
        let y = floats(inputs.required(6, "y_scale")?)?;
        with_small!(steps.datum_type, T, {
            filled::<T>(shape, |made| {
                let width = sums.columns.max(1);
                for (at, (line, to)) in sums.sums.chunks(width).zip(made.chunks_mut(width)).enumerate() {
                    let row = at % sums.rows;
                    let (a, y, zero) = (pick(&a, row), pick(&y, row), pick(&zeros, row));
                    let scales: TVec<f32> = b.iter().map(|b| a * b / y).collect();
                    T::requantize(line, to, &scales, zero, steps.range());
                }
                Ok(())
            })
        })
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Sums => "MatMulInteger",
            Form::Quantized => "QLinearMatMul",
            Form::Floats => "MatMulIntegerToFloat",
            Form::Dynamic => "DynamicQuantizeMatMul",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (inputs, _) = &Made::apart(self.made.as_ref(), inputs);
        self.check(inputs)?;
        let (a, b) = (inputs.required(0, "A")?, inputs.required(self.form.places().b, "B")?);
        let datum_type = match self.form {
            Form::Sums if self.made.is_none() => DatumType::I32,
            Form::Quantized => {
                let rows = a.shape.iter().rev().nth(1);
                expect_lines(inputs.optional(6), rows, "y_scale")?;
                expect_lines(inputs.optional(7), rows, "y_zero_point")?;
                Steps::of(inputs.required(7, "y_zero_point")?.datum_type)?.datum_type
            }
            Form::Sums | Form::Floats | Form::Dynamic => DatumType::F32,
        };
        Ok(tvec![Kind::new(datum_type, product_shape(&a.shape, &b.shape)?)])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        let places = self.form.places();
        let zero = inputs.optional(places.b_zero);
        let zero = match zero.map(|zero| &zero.value) {
            Some(None) => return Ok(None),
            Some(Some(zero)) => Some(&**zero),
            None => None,
        };
        let Some(b) = &inputs.required(places.b, "B")?.value else { return Ok(None) };
        let right = Some(Arc::new(Right::of(b, zero)?));
        let rank =
            product_shape(&inputs.required(0, "A")?.shape, &inputs.required(places.b, "B")?.shape)?.len();
        Ok(Some(Arc::new(MatMul { right, rank, ..self.clone() })))
    }

    fn channel_axis(&self) -> usize {
        self.rank.saturating_sub(1)
    }

    fn then(&self, step: &Step) -> Option<Arc<dyn Operator>> {
        let channels = self.right.as_ref()?.columns();
        if self.form != Form::Sums || self.rank < 2 {
            return None;
        }
        let made = Some(Made::with(self.made.as_ref(), step, self.channel_axis(), channels)?);
        Some(Arc::new(MatMul { made, ..self.clone() }))
    }

    fn weight_bytes(&self) -> usize {
        self.right.as_ref().map_or(0, |right| right.bytes())
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (inputs, factor) = &Made::apart(self.made.as_ref(), inputs);
        let (a, b) = (inputs.required(0, "A")?, inputs.required(self.form.places().b, "B")?);
        let shape = product_shape(a.shape(), b.shape())?;
        let (left, rows) = match self.form {
            Form::Dynamic => {
                let numbers = elements::<f32>(a)?;
                let found = quantization(numbers);
                let mut left = vec![0; numbers.len()];
                quantize::distances(numbers, &mut left, found.scale, found.zero, BYTE.range());
                (left, tvec![found.scale])
            }
            Form::Floats => (self.left(inputs)?, floats(inputs.required(2, "a_scale")?)?),
            _ => (self.left(inputs)?, tvec![]),
        };
        let sums = self.sums(&left, inputs)?;
        if let Some(made) = &self.made {
            return Ok(tvec![Tensor::from_shape(&shape, &self.numbers(made, &sums, *factor)?)?]);
        }
        Ok(tvec![match self.form {
            Form::Sums => Tensor::from_shape(&shape, &sums.sums)?,
            Form::Quantized => self.requantized(&sums, &shape, inputs)?,
            Form::Floats | Form::Dynamic => Tensor::from_shape(&shape, &self.scaled(&sums, &rows, inputs)?)?,
        }])
    }
}
