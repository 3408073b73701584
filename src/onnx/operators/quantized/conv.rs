//! ConvInteger and QLinearConv: convolutions of 8-bit integers with one, two or more spatial axes.
//!
//! The sums are exact. The input is padded with its zero point. How they are computed is in `sums`.

use std::sync::Arc;

use onnxd_kernels::after::After;
use onnxd_kernels::conv::AXES;
use onnxd_kernels::functions::apply;
use onnxd_kernels::quantize::{Stored, add_whole, scale_sums};
use onnxd_kernels::rows;
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::convolution::fast::{axes, is_cut};
use super::super::convolution::window::{Axis, Window};
use super::super::numbers::filled;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::made::Made;
use super::product::distances;
use super::right::{expect_lines, pick};
use super::steps::{Steps, expect_bytes, floats, integers, scale, with_small, zero};
use super::sums::{Line, Weights, whole_distances};
use super::{Built, built};

/// What the operator makes of the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// ConvInteger: the sums.
    Sums,
    /// QLinearConv: the sums with a bias and a scale, rounded.
    Quantized,
}

/// Builds `ConvInteger`.
pub fn sums(attributes: &Attributes) -> Built {
    conv(attributes, Form::Sums)
}

/// Builds `QLinearConv`.
pub fn quantized(attributes: &Attributes) -> Built {
    conv(attributes, Form::Quantized)
}

fn conv(attributes: &Attributes, form: Form) -> Built {
    let groups = match attributes.int("group", 1)? {
        groups @ 1.. => groups as usize,
        other => return Err(attributes.wrong(format!("`group` is {other}: expected 1 or more"))),
    };
    built(Conv { form, windows: Window::read(attributes)?, groups, weights: None, made: None })
}

#[derive(Debug, Clone)]
struct Conv {
    form: Form,
    windows: Window,
    groups: usize,
    /// The weights, when they are constant.
    weights: Option<Arc<Weights>>,
    /// What ConvInteger makes of its sums, if not the sums themselves.
    made: Option<Made>,
}

impl Conv {
    /// Where the inputs are: the zero point of x, the weights, and their zero point.
    fn places(&self) -> (usize, usize, usize) {
        match self.form {
            Form::Sums => (2, 1, 3),
            Form::Quantized => (2, 3, 5),
        }
    }

    /// The weights `[channels of the output, channels of the input of a group, …]` in the form in which they are multiplied.
    fn weights(&self, w: &Tensor, zero: Option<&Tensor>) -> TractResult<Weights> {
        let channels = w.shape()[0];
        if !channels.is_multiple_of(self.groups) {
            return Err(TractError::msg(format!(
                "the weights have {channels} output channels: expected a multiple of `group`, {}",
                self.groups
            )));
        }
        let zeros = zero.map_or_else(|| Ok(tvec![0]), integers)?;
        let numbers = distances(w, w.shape()[1..].iter().product(), |line| pick(&zeros, line))?;
        let is_dense = w.rank() <= 2 + AXES && !is_cut(&self.windows);
        Ok(Weights::new(&numbers, [channels, w.shape()[1]], self.groups, is_dense))
    }

    /// Checks the lengths of the windows, and returns them.
    fn kernel(&self, w: &[usize]) -> TractResult<TVec<usize>> {
        let given = &self.windows.kernel;
        if !given.is_empty() && !given.iter().copied().eq(w[2..].iter().map(|length| *length as i64)) {
            return Err(TractError::msg(format!(
                "`kernel_shape` is {given:?}: expected {:?}, as the weights have",
                &w[2..]
            )));
        }
        if w.contains(&0) {
            return Err(TractError::msg(format!("the weights have the shape {w:?}: expected elements")));
        }
        Ok(w[2..].into())
    }

    fn check(&self, inputs: &Inputs<Kind>) -> TractResult<()> {
        let (_, w_at, w_zero) = self.places();
        let (x, w) = (inputs.required(0, "x")?, inputs.required(w_at, "w")?);
        expect_bytes(x.datum_type, "x")?;
        expect_bytes(w.datum_type, "w")?;
        if x.rank() < 3 || w.rank() != x.rank() {
            return Err(TractError::msg(format!(
                "the input has {} axes and the weights {}: expected the same number, 3 or more",
                x.rank(),
                w.rank()
            )));
        }
        let channels = w.shape[1].clone() * self.groups;
        if x.shape[1].to_i64().is_ok() && channels.to_i64().is_ok() && x.shape[1] != channels {
            return Err(TractError::msg(format!(
                "the input has {} channels: expected {channels}, as the weights have with `group` {}",
                x.shape[1], self.groups
            )));
        }
        expect_lines(inputs.optional(w_zero), Some(&w.shape[0]), "w_zero_point")?;
        if self.form == Form::Quantized {
            expect_lines(inputs.optional(4), Some(&w.shape[0]), "w_scale")?;
            expect_lines(inputs.optional(8), Some(&w.shape[0]), "B")?;
        }
        Ok(())
    }

    /// The weights, made now if they are not constant. Checks that they fit the input.
    fn fitting_weights(&self, inputs: &Inputs<Tensor>, along: &[Axis]) -> TractResult<Arc<Weights>> {
        let (_, w_at, w_zero) = self.places();
        let (x, w) = (inputs.required(0, "x")?, inputs.required(w_at, "w")?);
        if x.shape()[1] != w.shape()[1] * self.groups {
            return Err(TractError::msg(format!(
                "the input has {} channels: expected {}",
                x.shape()[1],
                w.shape()[1] * self.groups
            )));
        }
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None => Arc::new(self.weights(w, inputs.optional(w_zero))?),
        };
        weights.expect_fitting(along)?;
        Ok(weights)
    }

    /// The zero point of the input.
    fn x_zero(&self, inputs: &Inputs<Tensor>) -> TractResult<i32> {
        zero(inputs.optional(self.places().0), "x_zero_point")
    }

    /// Calls `done` with a channel of the output, where a part of it begins in the output, and the sums of this part, until
    /// all are computed.
    fn run_all(
        &self,
        inputs: &Inputs<Tensor>,
        along: &[Axis],
        done: &mut dyn FnMut(usize, usize, Line),
    ) -> TractResult<()> {
        let weights = self.fitting_weights(inputs, along)?;
        let x_zero = self.x_zero(inputs)?;
        let (x, w) = (inputs.required(0, "x")?, inputs.required(self.places().1, "w")?);
        let positions: usize = along.iter().map(|along| along.output).product();
        if positions == 0 {
            return Ok(());
        }
        weights.run(x, x_zero, along, [w.shape()[0], w.shape()[1], self.groups], done)
    }

    fn requantized(&self, inputs: &Inputs<Tensor>, along: &[Axis], shape: &[usize]) -> TractResult<Tensor> {
        let y_zero = inputs.required(7, "y_zero_point")?;
        let (steps, y_zero) = (Steps::of(y_zero.datum_type())?, zero(Some(y_zero), "y_zero_point")?);
        let x_scale = scale(inputs.required(1, "x_scale")?, "x_scale")?;
        let y_scale = scale(inputs.required(6, "y_scale")?, "y_scale")?;
        let scales = floats(inputs.required(4, "w_scale")?)?;
        let scales: TVec<f32> = scales.iter().map(|scale| x_scale * scale / y_scale).collect();
        let bias = inputs.optional(8).map_or(Ok(&[0_i32][..]), elements::<i32>)?;
        with_small!(steps.datum_type, T, {
            filled::<T>(shape, |made| {
                self.run_all(inputs, along, &mut |channel, start, line| {
                    let (scale, bias) = (pick(&scales, channel), pick(bias, channel));
                    match line {
                        Line::Whole(line) => {
                            let to = &mut made[start..start + line.len()];
                            T::round_sums(line, to, bias, scale, y_zero, steps.range());
                        }
                        Line::Integers(line) => {
                            let to = &mut made[start..start + line.len()];
                            T::round_integers(line, to, bias, scale, y_zero, steps.range());
                        }
                    }
                })
            })
        })
    }

    /// The numbers that are made of the sums.
    fn numbers(
        &self,
        made: &Made,
        inputs: &Inputs<Tensor>,
        along: &[Axis],
        shape: &[usize],
    ) -> TractResult<Tensor> {
        let (inputs, factor) = &Made::apart(Some(made), inputs);
        let factor = Made::factor(*factor)?;
        let finish = |channel: usize, to: &mut [f32]| {
            rows::scale(to, &[factor * pick(&made.factors, channel)]);
            rows::shift(to, &[pick(&made.offsets, channel)]);
            made.then.iter().for_each(|function| apply(*function, to));
        };
        let positions: usize = shape[2..].iter().product();
        let weights = self.fitting_weights(inputs, along)?;
        if let Some(filters) = weights.single() {
            // The sums are where the numbers will be.
            let numbers = whole_distances(inputs.required(0, "x")?, self.x_zero(inputs)?)?;
            let numbers = elements::<f32>(&numbers)?;
            return written(shape, |to| {
                filters.run(&axes(along), numbers, to, After::default());
                let lines = to.chunks_mut(positions.max(1)).enumerate();
                lines.for_each(|(line, to)| finish(line % shape[1], to));
            });
        }
        filled::<f32>(shape, |to| {
            self.run_all(inputs, along, &mut |channel, start, line| {
                let to = &mut to[start..start + line.len()];
                match line {
                    Line::Whole(line) => to.copy_from_slice(line),
                    Line::Integers(line) => scale_sums(line, to, 1.0, &[1.0], None),
                }
                finish(channel, to);
            })
        })
    }
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Sums => "ConvInteger",
            Form::Quantized => "QLinearConv",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (inputs, _) = &Made::apart(self.made.as_ref(), inputs);
        self.check(inputs)?;
        let (x, w) = (inputs.required(0, "x")?, inputs.required(self.places().1, "w")?);
        let lengths: Option<Vec<usize>> = w.shape.iter().map(|length| length.to_usize().ok()).collect();
        let lengths = lengths
            .ok_or_else(|| TractError::msg("the shape of the weights is open: expected a fixed one"))?;
        let mut shape: TVec<TDim> = tvec![x.shape[0].clone(), w.shape[0].clone()];
        shape.extend(self.windows.lengths(&self.kernel(&lengths)?, &x.shape[2..])?);
        let datum_type = match self.form {
            Form::Sums if self.made.is_some() => DatumType::F32,
            Form::Sums => DatumType::I32,
            Form::Quantized => Steps::of(inputs.required(7, "y_zero_point")?.datum_type)?.datum_type,
        };
        Ok(tvec![Kind::new(datum_type, shape)])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        self.check(inputs)?;
        let (_, w_at, w_zero) = self.places();
        let Some(w) = &inputs.required(w_at, "w")?.value else { return Ok(None) };
        let zero = match inputs.optional(w_zero).map(|zero| &zero.value) {
            Some(None) => return Ok(None),
            Some(Some(zero)) => Some(&**zero),
            None => None,
        };
        let weights = Some(Arc::new(self.weights(w, zero)?));
        Ok(Some(Arc::new(Conv { weights, ..self.clone() })))
    }

    fn then(&self, step: &Step) -> Option<Arc<dyn Operator>> {
        let channels = self.weights.as_ref()?.channels();
        // Only a plain addition: another order of the roundings would move numbers to other steps where they are quantized next.
        let is_plain = match (step, &self.made) {
            (Step::Scale { factors, .. }, Some(made)) => {
                factors.iter().all(|factor| *factor == 1.0) && made.offsets == [0.0]
            }
            _ => true,
        };
        if self.form != Form::Sums || !is_plain {
            return None;
        }
        let made = Some(Made::with(self.made.as_ref(), step, 1, channels)?);
        Some(Arc::new(Conv { made, ..self.clone() }))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, w) = (inputs.required(0, "x")?, inputs.required(self.places().1, "w")?);
        let along = self.windows.axes(&self.kernel(w.shape())?, &x.shape()[2..])?;
        let shape: TVec<usize> =
            [x.shape()[0], w.shape()[0]].into_iter().chain(along.iter().map(|along| along.output)).collect();
        if self.form == Form::Quantized {
            return Ok(tvec![self.requantized(inputs, &along, &shape)?]);
        }
        if let Some(made) = &self.made {
            return Ok(tvec![self.numbers(made, inputs, &along, &shape)?]);
        }
        Ok(tvec![filled::<i32>(&shape, |made| {
            self.run_all(inputs, &along, &mut |_, start, line| {
                let to = &mut made[start..start + line.len()];
                match line {
                    Line::Whole(line) => add_whole(line, to),
                    Line::Integers(line) => to.copy_from_slice(line),
                }
            })
        })?])
    }
}
