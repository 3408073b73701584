//! Means and Softmax of 8-bit tensors, of com.microsoft: QLinearAveragePool, QLinearGlobalAveragePool, QLinearSoftmax.

use onnxd_kernels::bytes::Byte;
use onnxd_kernels::pool::Summed;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::convolution::pool::Planes;
use super::super::convolution::window::{Axis, Counted, Window};
use super::super::floats::Real;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::pointwise::{Unit, expect_unit};
use super::product::distances;
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
    /// The sums of the windows of all planes, without zero points, as whole numbers.
    fn sums<T: Real + Summed>(x: &Tensor, zero: i32, planes: &Planes) -> TractResult<Tensor> {
        let numbers: Vec<T> =
            distances(x, x.len(), |_| zero)?.iter().map(|number| T::of(f64::from(*number))).collect();
        Ok(planes.sums(&numbers)?.cast_to::<f32>()?.into_owned())
    }

    /// How many elements of each window of a plane count.
    fn counts(axes: &[Axis], counted: Counted) -> Vec<usize> {
        axes.iter().fold(vec![1], |counts, axis| {
            // onnxruntime counts the whole window, also where it goes beyond the padding (`ceil_mode`).
            let taps = |window: usize| match counted {
                Counted::Padded => axis.kernel,
                Counted::Input => axis.taps(window, counted),
            };
            let along: Vec<usize> = (0..axis.output).map(taps).collect();
            counts.iter().flat_map(|count| along.iter().map(move |more| count * more)).collect()
        })
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
                shape.extend(axes.iter().map(|axis| axis.output));
                let planes = Planes { axes, shape: shape.clone() };
                // Sums of so many bytes are exact in FP32.
                let sums = match kernel.iter().product::<usize>() <= 1 << 16 {
                    true => Pool::sums::<f32>(x, from.zero, &planes)?,
                    false => Pool::sums::<f64>(x, from.zero, &planes)?,
                };
                let counts = Pool::counts(&planes.axes, *counted);
                for plane in elements::<f32>(&sums)?.chunks(counts.len().max(1)) {
                    made.extend(plane.iter().zip(&counts).map(|(sum, count)| {
                        let mean = sum * from.scale / *count as f32;
                        steps.nearest(mean / to.scale + to.zero as f32, 0)
                    }));
                }
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
