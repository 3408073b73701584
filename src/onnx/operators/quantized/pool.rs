//! Means and Softmax of 8-bit tensors, of com.microsoft: QLinearAveragePool, QLinearGlobalAveragePool, QLinearSoftmax.

use onnxd_kernels::bytes::Byte;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::convolution::window::{Axis, Counted, Window};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::pointwise::{Unit, expect_unit};
use super::steps::{Steps, expect_single, integers, tensor_of, with_bytes};
use super::{Built, built};

/// Builds `QLinearAveragePool`.
pub fn average(attributes: &Attributes) -> Built {
    expect_channels_first(attributes)?;
    let (counted, window) = Counted::read(attributes)?;
    built(Pool { windows: Some((window, counted)) })
}

/// Builds `QLinearGlobalAveragePool`.
pub fn global(attributes: &Attributes) -> Built {
    expect_channels_first(attributes)?;
    built(Pool { windows: None })
}

fn expect_channels_first(attributes: &Attributes) -> TractResult<()> {
    match attributes.flag("channels_last", false)? {
        true => Err(attributes.wrong(
            "`channels_last` is 1: expected 0. onnxruntime's optimiser writes this; save the model without its optimisations",
        )),
        false => Ok(()),
    }
}

/// Means of windows, or of whole planes.
#[derive(Debug)]
struct Pool {
    windows: Option<(Window, Counted)>,
}

impl Pool {
    /// The sums of the windows of a plane, without zero points, and the number of elements of each.
    fn sums(plane: &[i32], axes: &[Axis], counted: Counted) -> Vec<(i32, usize)> {
        let count = axes.iter().map(|axis| axis.output).product();
        let mut sums = Vec::with_capacity(count);
        for at in 0..count {
            // Of the axes so far: the places of a window's elements, and the number of elements that count.
            let (mut places, mut taps, mut rest) = (vec![0], 1, at);
            let mut size = 1;
            for axis in axes.iter().rev() {
                let window = rest % axis.output;
                let inside: Vec<usize> =
                    (0..axis.kernel).filter_map(|tap| axis.inside(window, tap)).collect();
                places =
                    inside.iter().flat_map(|at| places.iter().map(move |place| place + at * size)).collect();
                // onnxruntime counts the whole window, also where it goes beyond the padding (`ceil_mode`).
                taps *= match counted {
                    Counted::Padded => axis.kernel,
                    Counted::Input => axis.taps(window, counted),
                };
                rest /= axis.output;
                size *= axis.input;
            }
            sums.push((places.iter().map(|place| plane[*place]).sum(), taps));
        }
        sums
    }
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        if self.windows.is_some() { "QLinearAveragePool" } else { "QLinearGlobalAveragePool" }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let datum_type = expect_unit(inputs, [0, 1, 2], "X")?;
        expect_single(inputs, 3, 4, "Y")?;
        let x = inputs.required(0, "X")?;
        let [images, channels, lengths @ ..] = &x.shape[..] else {
            return Err(TractError::msg(format!("its input has {} axes: expected 3 or more", x.rank())));
        };
        let mut shape = tvec![images.clone(), channels.clone()];
        match &self.windows {
            None => shape.extend(lengths.iter().map(|_| TDim::from(1))),
            Some((window, _)) => {
                let kernel: Vec<usize> = window.kernel.iter().map(|length| *length as usize).collect();
                window.check_axes(lengths.len())?;
                shape.extend(window.lengths(&kernel, lengths)?);
            }
        }
        Ok(tvec![Kind::new(datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let x = inputs.required(0, "X")?;
        let (from, to) = (Unit::read(inputs, (1, 2), "X")?, Unit::read(inputs, (3, 4), "Y")?);
        let steps = Steps::of(x.datum_type())?;
        let lengths = &x.shape()[2..];
        let size = lengths.iter().product::<usize>();
        let mut shape: TVec<usize> = x.shape()[..2].into();
        let mut made = Vec::new();
        match &self.windows {
            None => {
                let scale = from.scale / (to.scale * size as f32);
                let all = (size as i32).wrapping_mul(from.zero);
                with_bytes!(x.datum_type(), T, {
                    let planes = elements::<T>(x)?.chunks(size.max(1));
                    made.extend(planes.map(|plane| {
                        let sum = T::total(plane).wrapping_sub(all);
                        steps.nearest(sum as f32 * scale, to.zero)
                    }));
                    TractResult::Ok(())
                })?;
                shape.extend(lengths.iter().map(|_| 1));
            }
            Some((window, counted)) => {
                let kernel: Vec<usize> = window.kernel.iter().map(|length| *length as usize).collect();
                let axes = window.axes(&kernel, lengths)?;
                let numbers: Vec<i32> = integers(x)?.iter().map(|integer| integer - from.zero).collect();
                for plane in numbers.chunks(size.max(1)) {
                    made.extend(Pool::sums(plane, &axes, *counted).into_iter().map(|(sum, count)| {
                        let mean = sum as f32 * from.scale / count as f32;
                        steps.nearest(mean / to.scale + to.zero as f32, 0)
                    }));
                }
                shape.extend(axes.iter().map(|axis| axis.output));
            }
        }
        Ok(tvec![tensor_of(steps, &shape, &made)?])
    }
}

/// Builds `QLinearSoftmax`.
pub fn softmax(attributes: &Attributes) -> Built {
    if !attributes.has("opset") {
        return Err(attributes.wrong("the attribute `opset` is missing"));
    }
    let is_of_one_axis = attributes.int("opset", 13)? >= 13;
    let axis = attributes.int("axis", if is_of_one_axis { -1 } else { 1 })?;
    built(Softmax { axis, is_of_one_axis })
}

/// Softmax along one axis, or along the axes from one on.
#[derive(Debug)]
struct Softmax {
    axis: i64,
    is_of_one_axis: bool,
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "QLinearSoftmax"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let x = inputs.required(0, "X")?;
        let datum_type = expect_unit(inputs, [0, 1, 2], "X")?;
        expect_single(inputs, 3, 4, "Y")?;
        let rank = x.rank() as i64;
        if !(-rank..rank).contains(&self.axis) {
            return Err(TractError::msg(format!("`axis` is {}, but its input has {rank} axes", self.axis)));
        }
        Ok(tvec![Kind::new(datum_type, x.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let x = inputs.required(0, "X")?;
        let (from, to) = (Unit::read(inputs, (1, 2), "X")?, Unit::read(inputs, (3, 4), "Y")?);
        let steps = Steps::of(x.datum_type())?;
        let axis = self.axis.rem_euclid(x.rank() as i64) as usize;
        let inner: usize = if self.is_of_one_axis { x.shape()[axis + 1..].iter().product() } else { 1 };
        let length = match self.is_of_one_axis {
            true => x.shape()[axis],
            false => x.shape()[axis..].iter().product(),
        };
        let numbers = integers(x)?;
        // The power for each distance from the largest integer.
        let powers: Vec<f32> =
            (0..=steps.high - steps.low).map(|distance| (-distance as f32 * from.scale).exp()).collect();
        let mut made = vec![0; numbers.len()];
        for start in 0..numbers.len() / length.max(1) {
            let first = start / inner * length * inner + start % inner;
            let places = (0..length).map(|at| first + at * inner);
            let most = places.clone().map(|place| numbers[place]).max().unwrap_or_default();
            let power = |place: usize| powers[(most - numbers[place]) as usize];
            let sum: f32 = places.clone().map(power).sum();
            for place in places {
                made[place] = to.nearest(steps, power(place) / sum);
            }
        }
        Ok(tvec![tensor_of(steps, x.shape(), &made)?])
    }
}
