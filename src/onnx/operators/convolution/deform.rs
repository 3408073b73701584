//! `DeformConv`: a convolution whose taps are moved by offsets, in two dimensions.
//!
//! An element between the pixels of the input is interpolated between its four neighbours; pixels outside are 0.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::conv::group;
use super::window::{Axis, Window, kernel};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct DeformConv {
    window: Window,
    group: usize,
    /// The groups of channels that share their offsets.
    offset_group: usize,
}

/// Builds a `DeformConv` from its node.
pub fn deform(attributes: &Attributes) -> Built {
    let offset_group = attributes.int("offset_group", 1)?;
    let offset_group = usize::try_from(offset_group).ok().filter(|group| *group > 0);
    let offset_group =
        offset_group.ok_or_else(|| attributes.wrong("`offset_group` is not positive: expected 1 or more"))?;
    built(DeformConv { window: Window::read(attributes)?, group: group(attributes)?, offset_group })
}

impl Operator for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, weights) = (inputs.required(0, "X")?, inputs.required(1, "W")?);
        let names = ["X", "W", "offset", "B", "mask"];
        inputs.required(2, "offset")?;
        for (at, name) in names.into_iter().enumerate() {
            let Some(kind) = inputs.optional(at) else { continue };
            expect_float(kind, name)?;
            let axes = if name == "B" { 1 } else { 4 };
            if kind.datum_type != input.datum_type || kind.rank() != axes {
                return Err(TractError::msg(format!(
                    "its input `{name}` is of type {:?} and has {} axes: expected {:?} and {axes} axes (only \
                     two-dimensional windows are supported)",
                    kind.datum_type,
                    kind.rank(),
                    input.datum_type
                )));
            }
        }
        let lengths = self.window.lengths(&kernel(&self.window, &weights.shape)?, &input.shape[2..])?;
        let shape = [input.shape[0].clone(), weights.shape[0].clone()].into_iter().chain(lengths);
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

/// The inputs of a run, checked.
struct Run<'a, T> {
    input: &'a [T],
    weights: &'a [T],
    offset: &'a [T],
    bias: Option<&'a [T]>,
    mask: Option<&'a [T]>,
    axes: TVec<Axis>,
    /// Channels of the input and of the result.
    channels: (usize, usize),
    group: usize,
    offset_group: usize,
}

impl DeformConv {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, weights) = (inputs.required(0, "X")?, inputs.required(1, "W")?);
        let offset = inputs.required(2, "offset")?;
        let lengths: TVec<TDim> = weights.shape().iter().map(|length| length.to_dim()).collect();
        let axes = self.window.axes(&kernel(&self.window, &lengths)?, &input.shape()[2..])?;
        let (batch, read, made) = (input.shape()[0], input.shape()[1], weights.shape()[0]);
        if read != weights.shape()[1] * self.group || made % self.group != 0 || read % self.offset_group != 0
        {
            return Err(TractError::msg(format!(
                "its input has {read} channels and its weights the shape {:?}: they do not fit `group` {} and \
                 `offset_group` {}",
                weights.shape(),
                self.group,
                self.offset_group
            )));
        }
        let taps = self.offset_group * axes[0].kernel * axes[1].kernel;
        let bias = inputs.optional(3);
        let mask = inputs.optional(4);
        let expected = [
            ("offset", Some(offset), vec![batch, 2 * taps, axes[0].output, axes[1].output]),
            ("B", bias, vec![made]),
            ("mask", mask, vec![batch, taps, axes[0].output, axes[1].output]),
        ];
        for (name, tensor, shape) in &expected {
            if let Some(tensor) = tensor
                && tensor.shape() != &shape[..]
            {
                return Err(TractError::msg(format!(
                    "its input `{name}` has the shape {:?}: expected {shape:?}",
                    tensor.shape()
                )));
            }
        }
        let run = Run {
            input: elements::<T>(input)?,
            weights: elements(weights)?,
            offset: elements(offset)?,
            bias: bias.map(elements).transpose()?,
            mask: mask.map(elements).transpose()?,
            channels: (read, made),
            group: self.group,
            offset_group: self.offset_group,
            axes,
        };
        let mut output = Tensor::zero::<T>(&[batch, made, run.axes[0].output, run.axes[1].output])?;
        run.all(batch, output.try_as_plain_ram_mut()?.as_slice_mut()?);
        Ok(tvec![output])
    }
}

impl<T: Real> Run<'_, T> {
    fn all(&self, batch: usize, output: &mut [T]) {
        let (rows, row) = (self.axes[0].output, self.axes[1].output);
        let taps = self.axes[0].kernel * self.axes[1].kernel;
        // The elements that a row of results needs: [channels of the input, taps, row].
        let mut needed = vec![T::zero(); self.channels.0 * taps * row];
        for item in 0..batch {
            for at in 0..rows {
                self.gather(item, at, &mut needed);
                for channel in 0..self.channels.1 {
                    let to = &mut output[((item * self.channels.1 + channel) * rows + at) * row..][..row];
                    self.multiply(channel, &needed, to);
                }
            }
        }
    }

    /// Computes what the row `at` of results needs of the input.
    fn gather(&self, item: usize, at: usize, needed: &mut [T]) {
        let [high, wide] = &self.axes[..] else { return };
        let (taps, row, shared) =
            (high.kernel * wide.kernel, wide.output, self.channels.0 / self.offset_group);
        let size = high.input * wide.input;
        for group in 0..self.offset_group {
            for tap in 0..taps {
                let number = (item * self.offset_group + group) * taps + tap;
                let place = |plane: usize, column: usize| (plane * high.output + at) * row + column;
                for column in 0..row {
                    let moved = |axis: &Axis, window, tap, plane| {
                        T::of(axis.place(window, tap) as f64) + self.offset[place(plane, column)]
                    };
                    let y = moved(high, at, tap / wide.kernel, 2 * number);
                    let x = moved(wide, column, tap % wide.kernel, 2 * number + 1);
                    let mut pixels = neighbours(y, x, high.input, wide.input);
                    if let Some(mask) = self.mask {
                        pixels.iter_mut().for_each(|(_, weight)| *weight *= mask[place(number, column)]);
                    }
                    for local in 0..shared {
                        let channel = group * shared + local;
                        let plane = &self.input[(item * self.channels.0 + channel) * size..][..size];
                        needed[(channel * taps + tap) * row + column] = pixels
                            .iter()
                            .map(|(place, weight)| place.map_or(T::zero(), |place| plane[place] * *weight))
                            .sum();
                    }
                }
            }
        }
    }

    /// Computes a row of a channel of the result.
    fn multiply(&self, channel: usize, needed: &[T], to: &mut [T]) {
        let taps = self.axes[0].kernel * self.axes[1].kernel;
        let (read, made) = (self.channels.0 / self.group, self.channels.1 / self.group);
        let weights = &self.weights[channel * read * taps..][..read * taps];
        if let Some(bias) = self.bias {
            to.fill(bias[channel]);
        }
        let first = channel / made * read * taps;
        for (at, weight) in weights.iter().enumerate() {
            let from = &needed[(first + at) * to.len()..];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += *from * *weight);
        }
    }
}

/// The four pixels around a point of a plane and their weights. `None` is a pixel outside, which is 0.
fn neighbours<T: Real>(y: T, x: T, height: usize, width: usize) -> [(Option<usize>, T); 4] {
    // A point that is far outside has no pixels; it must not become an index.
    let is_near = |at: T, length: usize| at > -T::one() && at < T::of(length as f64);
    if !is_near(y, height) || !is_near(x, width) {
        let is_number = !(y.is_nan() || x.is_nan());
        let weight = if is_number { T::zero() } else { T::nan() };
        return [(None, weight); 4];
    }
    let (top, left) = (y.floor(), x.floor());
    let (down, right) = (y - top, x - left);
    let whole = |number: T| number.to_i64().unwrap_or(-1);
    let pixel = |row: i64, column: i64| {
        let row = usize::try_from(row).ok().filter(|row| *row < height)?;
        let column = usize::try_from(column).ok().filter(|column| *column < width)?;
        Some(row * width + column)
    };
    let (row, column, one) = (whole(top), whole(left), T::one());
    [
        (pixel(row, column), (one - down) * (one - right)),
        (pixel(row, column + 1), (one - down) * right),
        (pixel(row + 1, column), down * (one - right)),
        (pixel(row + 1, column + 1), down * right),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, ints};
    use super::*;

    fn run(offset: f32, mask: Option<f32>) -> Vec<f32> {
        let numbers: Vec<f32> = (0..9).map(|at| at as f32).collect();
        let inputs = [
            Some(Tensor::from_shape(&[1, 1, 3, 3], &numbers).unwrap()),
            Some(Tensor::from_shape(&[1, 1, 2, 2], &[1.0_f32; 4]).unwrap()),
            Some(Tensor::from_shape(&[1, 8, 2, 2], &[offset; 32]).unwrap()),
            Some(tensor1(&[100.0_f32])),
            mask.map(|mask| Tensor::from_shape(&[1, 4, 2, 2], &[mask; 16]).unwrap()),
        ];
        let outputs =
            Trial::new(Domain::Onnx, "DeformConv", &[ints("kernel_shape", &[2, 2])]).run(&inputs).unwrap();
        elements::<f32>(&outputs[0]).unwrap().to_vec()
    }

    #[test]
    fn without_offsets_it_is_a_convolution() {
        assert_eq!(run(0.0, None), [108.0, 112.0, 120.0, 124.0]);
        assert_eq!(run(0.0, Some(0.5)), [104.0, 106.0, 110.0, 112.0]);
    }

    #[test]
    fn an_offset_moves_the_taps_and_outside_is_zero() {
        // At (0.5, 0.5): 2, 2.5 | 3.5, 4 inside, and the last row and column half outside.
        assert_eq!(run(0.5, None)[0], 100.0 + 2.0 + 3.0 + 5.0 + 6.0);
        assert_eq!(run(2.0, None), [108.0, 100.0, 100.0, 100.0]);
        assert_eq!(run(1e30, None), [100.0; 4]);
    }
}
