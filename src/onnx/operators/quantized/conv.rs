//! ConvInteger and QLinearConv: convolutions of 8-bit integers with one, two or more spatial axes.
//!
//! The sums are exact. The input is padded with its zero point.
//!
//! A sum of integers in FP32 is exact as long as no partial sum exceeds 2²⁴. So the float kernels compute the sums where the
//! weights keep them that small, a part of the channels at a time if necessary. Otherwise the elements under the windows are
//! copied into the rows of a matrix (a part of the output at a time, so that the copies stay small), which is multiplied
//! with the weights.

use std::ops::Range;
use std::sync::Arc;

use onnxd_kernels::after::After;
use onnxd_kernels::conv::{AXES, Filters};
use onnxd_kernels::integer::Matrix;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::convolution::fast::{axes, expect_fitting, is_cut};
use super::super::convolution::window::{Axis, Window};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::product::distances;
use super::right::{expect_lines, pick};
use super::steps::{Steps, expect_bytes, floats, integers, scale, tensor_of, zero};
use super::{Built, built};

/// The most elements of the copies.
const COPIES: usize = 1 << 18;

/// Integers up to this size, and sums of them, are exact in FP32.
const EXACT: i64 = 1 << 24;

/// The largest distance of a number of 8 bits from its zero point.
const FARTHEST: i64 = 255;

/// The weights, without their zero points.
#[derive(Debug)]
enum Weights {
    /// Filters for parts of the channels of the input, whose sums are exact in FP32.
    Floats(Vec<(Range<usize>, Filters)>),
    /// For each group, a matrix with a column for each channel of the output.
    Integers(Vec<Matrix>),
}

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
    built(Conv { form, windows: Window::read(attributes)?, groups, weights: None })
}

#[derive(Debug, Clone)]
struct Conv {
    form: Form,
    windows: Window,
    groups: usize,
    /// The weights, when they are constant.
    weights: Option<Arc<Weights>>,
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
        let zeros = zero.map_or_else(|| Ok(vec![0]), integers)?;
        let (width, rows) = (w.shape()[1..].iter().product::<usize>(), channels / self.groups);
        let numbers = distances(w, width, |line| pick(&zeros, line))?;
        let read = w.shape()[1];
        if w.rank() <= 2 + AXES
            && !is_cut(&self.windows)
            && let Some(parts) = exact_parts(&numbers, channels, read)
            && (parts.len() == 1 || self.groups == 1)
        {
            let taps = width / read;
            let part = |part: Range<usize>| {
                let lines = numbers.chunks_exact(width);
                let lines = lines.flat_map(|line| &line[part.start * taps..part.end * taps]);
                let weights: Vec<f32> = lines.map(|number| f32::from(*number)).collect();
                let filters = Filters::new(self.groups, channels, part.len(), &weights, None);
                (part, filters)
            };
            return Ok(Weights::Floats(parts.into_iter().map(part).collect()));
        }
        let group = |at: usize| {
            let numbers = &numbers[at * rows * width..(at + 1) * rows * width];
            Matrix::for_bytes(width, rows, |k, row| numbers[row * width + k])
        };
        Ok(Weights::Integers((0..self.groups).map(group).collect()))
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

    /// The sums for an image and a group, a part of the output positions at a time. `x` is the group's input.
    fn group(
        &self,
        x: &[i16],
        along: &[Axis],
        (weights, width): (&Matrix, usize),
        mut done: impl FnMut(Range<usize>, &[i32]),
    ) {
        let positions: usize = along.iter().map(|along| along.output).product();
        let most = (COPIES / width.max(1)).max(16);
        let mut columns = Vec::new();
        let mut start = 0;
        while start < positions {
            let part = start..positions.min(start + most);
            columns.clear();
            columns.resize(width * part.len(), 0);
            copy_windows(x, along, part.clone(), &mut columns);
            let sums = weights.product(&turned(&columns, part.len()));
            start = part.end;
            done(part, &turned(&sums, weights.width()));
        }
    }

    /// Calls `done` with channels of the output and the sums of a part of their positions, until all are computed.
    fn run_all(
        &self,
        inputs: &Inputs<Tensor>,
        along: &[Axis],
        mut done: impl FnMut(usize, usize, usize, &[i32]),
    ) -> TractResult<()> {
        let (x_zero, w_at, w_zero) = self.places();
        let (x, w) = (inputs.required(0, "x")?, inputs.required(w_at, "w")?);
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None => Arc::new(self.weights(w, inputs.optional(w_zero))?),
        };
        if x.shape()[1] != w.shape()[1] * self.groups {
            return Err(TractError::msg(format!(
                "the input has {} channels: expected {}",
                x.shape()[1],
                w.shape()[1] * self.groups
            )));
        }
        let x_zero = zero(inputs.optional(x_zero), "x_zero_point")?;
        let numbers = distances(x, 1, |_| x_zero)?;
        let size = x.shape()[2..].iter().product::<usize>() * w.shape()[1];
        let channels = w.shape()[0] / self.groups;
        let positions: usize = along.iter().map(|along| along.output).product();
        if positions == 0 {
            return Ok(());
        }
        let matrices = match &*weights {
            Weights::Floats(parts) => {
                for (_, filters) in parts {
                    expect_fitting(filters, &axes(along))?;
                }
                let plane = size / w.shape()[1];
                let numbers: Vec<f32> = numbers.iter().map(|number| f32::from(*number)).collect();
                let images = numbers.chunks_exact((size * self.groups).max(1)).take(x.shape()[0]);
                for (image, numbers) in images.enumerate() {
                    let sums = sums_of_parts(parts, along, numbers, plane, w.shape()[0] * positions);
                    for (channel, line) in sums.chunks(positions).enumerate() {
                        done(image, channel, 0, line);
                    }
                }
                return Ok(());
            }
            Weights::Integers(matrices) => matrices,
        };
        let width = w.shape()[1..].iter().product();
        for image in 0..x.shape()[0] {
            for (group, weights) in matrices.iter().enumerate() {
                let at = (image * self.groups + group) * size;
                self.group(&numbers[at..at + size], along, (weights, width), |part, sums| {
                    for (row, line) in sums.chunks(part.len()).enumerate() {
                        done(image, group * channels + row, part.start, line);
                    }
                });
            }
        }
        Ok(())
    }

    fn requantized(&self, inputs: &Inputs<Tensor>, along: &[Axis], shape: &[usize]) -> TractResult<Tensor> {
        let y_zero = inputs.required(7, "y_zero_point")?;
        let (steps, y_zero) = (Steps::of(y_zero.datum_type())?, zero(Some(y_zero), "y_zero_point")?);
        let x_scale = scale(inputs.required(1, "x_scale")?, "x_scale")?;
        let y_scale = scale(inputs.required(6, "y_scale")?, "y_scale")?;
        let scales = floats(inputs.required(4, "w_scale")?)?;
        let scales: Vec<f32> = scales.iter().map(|scale| x_scale * scale / y_scale).collect();
        let bias = inputs.optional(8).map_or(Ok(&[0_i32][..]), elements::<i32>)?;
        let positions: usize = shape[2..].iter().product();
        let mut made = vec![0; shape.iter().product()];
        self.run_all(inputs, along, |image, channel, start, line| {
            let at = (image * shape[1] + channel) * positions + start;
            let (scale, bias) = (pick(&scales, channel), pick(bias, channel));
            for (to, sum) in made[at..at + line.len()].iter_mut().zip(line) {
                *to = steps.nearest(sum.wrapping_add(bias) as f32 * scale, y_zero);
            }
        })?;
        tensor_of(steps, shape, &made)
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
        self.check(inputs)?;
        let (x, w) = (inputs.required(0, "x")?, inputs.required(self.places().1, "w")?);
        let lengths: Option<Vec<usize>> = w.shape.iter().map(|length| length.to_usize().ok()).collect();
        let lengths = lengths
            .ok_or_else(|| TractError::msg("the shape of the weights is open: expected a fixed one"))?;
        let mut shape: TVec<TDim> = tvec![x.shape[0].clone(), w.shape[0].clone()];
        shape.extend(self.windows.lengths(&self.kernel(&lengths)?, &x.shape[2..])?);
        let datum_type = match self.form {
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

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, w) = (inputs.required(0, "x")?, inputs.required(self.places().1, "w")?);
        let along = self.windows.axes(&self.kernel(w.shape())?, &x.shape()[2..])?;
        let shape: TVec<usize> =
            [x.shape()[0], w.shape()[0]].into_iter().chain(along.iter().map(|along| along.output)).collect();
        if self.form == Form::Quantized {
            return Ok(tvec![self.requantized(inputs, &along, &shape)?]);
        }
        let positions: usize = shape[2..].iter().product();
        let mut made = vec![0; shape.iter().product()];
        self.run_all(inputs, &along, |image, channel, start, line| {
            let at = (image * shape[1] + channel) * positions + start;
            made[at..at + line.len()].copy_from_slice(line);
        })?;
        Ok(tvec![Tensor::from_shape(&shape, &made)?])
    }
}

/// Divides the channels of the input into parts whose sums in FP32 are exact. `None`: one channel alone has sums that are
/// too large.
fn exact_parts(numbers: &[i16], made: usize, read: usize) -> Option<Vec<Range<usize>>> {
    let width = numbers.len() / made.max(1);
    let taps = width / read.max(1);
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut sums = vec![0_i64; made];
    for channel in 0..read {
        let size = |row: usize| -> i64 {
            let taps = &numbers[row * width + channel * taps..][..taps];
            taps.iter().map(|number| i64::from(*number).abs()).sum()
        };
        let sizes: Vec<i64> = (0..made).map(size).collect();
        let most = |sums: &[i64]| sums.iter().max().copied().unwrap_or(0) * FARTHEST;
        if most(&sizes) > EXACT {
            return None;
        }
        sums.iter_mut().zip(&sizes).for_each(|(sum, size)| *sum += size);
        if most(&sums) > EXACT {
            parts.push(start..channel);
            (start, sums) = (channel, sizes);
        }
    }
    parts.push(start..read);
    Some(parts)
}

/// The sums of one image: those of all parts of the channels, added as integers.
fn sums_of_parts(
    parts: &[(Range<usize>, Filters)],
    along: &[Axis],
    numbers: &[f32],
    plane: usize,
    count: usize,
) -> Vec<i32> {
    let mut sums = vec![0_i32; count];
    let mut floats = vec![0.0; count];
    for (channels, filters) in parts {
        let numbers = match parts.len() {
            1 => numbers,
            _ => &numbers[channels.start * plane..channels.end * plane],
        };
        filters.run(&axes(along), numbers, &mut floats, After::default());
        for (sum, float) in sums.iter_mut().zip(&floats) {
            *sum = sum.wrapping_add(*float as i32);
        }
    }
    sums
}

/// A matrix with rows of this width, with its axes exchanged.
fn turned<T: Copy>(matrix: &[T], width: usize) -> Vec<T> {
    (0..width).flat_map(|column| matrix.iter().skip(column).step_by(width.max(1)).copied()).collect()
}

/// Copies what is under the windows at these positions of the output: a line for each channel and element of a window.
/// `columns` has zeros.
fn copy_windows(x: &[i16], along: &[Axis], part: Range<usize>, columns: &mut [i16]) {
    let Some((last, outer)) = along.split_last() else { return };
    let size: usize = along.iter().map(|along| along.input).product();
    let taps: usize = along.iter().map(|along| along.kernel).product();
    for (line, to) in columns.chunks_mut(part.len()).enumerate() {
        let channel = &x[line / taps * size..(line / taps + 1) * size];
        let tap = line % taps;
        let (span, place) = last.span(tap % last.kernel);
        for row in part.start / last.output..part.end.div_ceil(last.output) {
            let Some(start) = input_row(outer, row, tap / last.kernel) else { continue };
            // The windows of this row that are in the part and not padding.
            let base = row * last.output;
            let from = span.start.max(part.start.saturating_sub(base));
            let until = span.end.min(part.end - base);
            if from >= until {
                continue;
            }
            let to = &mut to[base + from - part.start..base + until - part.start];
            let input = &channel[start * last.input + place + (from - span.start) * last.stride..];
            if last.stride == 1 {
                to.copy_from_slice(&input[..to.len()]);
            } else {
                for (to, number) in to.iter_mut().zip(input.iter().step_by(last.stride)) {
                    *to = *number;
                }
            }
        }
    }
}

/// The row of the input under element `tap` of the windows in a row of the output; both count over all axes but the last.
/// `None`: it is padding.
fn input_row(outer: &[Axis], mut row: usize, mut tap: usize) -> Option<usize> {
    let (mut place, mut size) = (0, 1);
    for axis in outer.iter().rev() {
        place += axis.inside(row % axis.output, tap % axis.kernel)? * size;
        size *= axis.input;
        row /= axis.output;
        tap /= axis.kernel;
    }
    Some(place)
}
