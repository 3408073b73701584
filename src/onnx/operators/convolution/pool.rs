//! `AveragePool`, `LpPool` and the values of `MaxPool`: one result for each window of a plane.
//!
//! The loops are kernels.
//!
//! Where the reference evaluator of ONNX contradicts the formulas of the standard, the formulas are followed, as
//! onnxruntime does: `AveragePool` with `ceil_mode` (the reference moves the windows) and `LpPool` with incomplete windows
//! (the reference scales the norm).

use onnxd_kernels::pool::{Pooled, Summed, Windows};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::numbers::filled;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::window::{Axis, Counted, Padding, Window, rows};
use super::{Built, built};

/// The planes of a pool: the axes behind the batch and the channels, for an input of known shape.
#[derive(Debug)]
pub struct Planes {
    /// The windows along each axis.
    pub axes: TVec<Axis>,
    /// The shape of the result.
    pub shape: TVec<usize>,
}

impl Planes {
    /// The planes of an input of this shape, `[batch, channels, …]`.
    pub fn new(window: &Window, shape: &[usize]) -> TractResult<Planes> {
        let (Some(outer), Some(spatial)) = (shape.get(..2), shape.get(2..)) else {
            return Err(TractError::msg(format!("its input has {} axes: expected 3 or more", shape.len())));
        };
        window.check_axes(spatial.len())?;
        let kernel: TVec<usize> = window.kernel.iter().map(|length| *length as usize).collect();
        let axes = window.axes(&kernel, spatial)?;
        for (at, axis) in axes.iter().enumerate() {
            check_same(window, axis, at)?;
        }
        let shape = outer.iter().copied().chain(axes.iter().map(|axis| axis.output)).collect();
        Ok(Planes { axes, shape })
    }

    /// The number of elements of a plane of the input.
    pub fn input_length(&self) -> usize {
        self.axes.iter().map(|axis| axis.input).product()
    }

    /// The windows in the form that the kernels take.
    fn windows(&self) -> Windows {
        let (row, outer) = self.axes.split_last().expect("a plane has an axis");
        let sources = |row: Vec<(usize, usize)>| row.into_iter().map(|(_, source)| source).collect();
        Windows {
            rows: rows(outer).into_iter().map(sources).collect(),
            input: row.input,
            output: row.output,
            stride: row.stride,
            taps: (0..row.kernel).map(|tap| row.span(tap)).collect(),
        }
    }

    /// A tensor with the sum of each window of all planes.
    pub fn sums<T: Real + Summed>(&self, input: &[T]) -> TractResult<Tensor> {
        filled::<T>(&self.shape, |to| {
            T::sums(&self.windows(), input, to);
            Ok(())
        })
    }
}

/// `SAME_*` where the windows leave out two or more elements between them: the standard does not say which, and programs
/// differ.
fn check_same(window: &Window, axis: &Axis, at: usize) -> TractResult<()> {
    let is_same = matches!(window.padding, Padding::SameUpper | Padding::SameLower);
    let used = axis.output.saturating_sub(1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    if is_same && axis.output > 0 && used + 1 < axis.input {
        return Err(TractError::msg(format!(
            "`auto_pad` would have to cut elements off along axis {}, because its stride is longer than its window: use \
             `pads`",
            at + 2
        )));
    }
    Ok(())
}

/// Numbers with an order.
pub trait Ordered: Datum + Pooled + Default {
    /// Whether an element takes the place of the maximum before it. A NaN takes no place, and gives up its own: it is the
    /// maximum only where all elements are NaN.
    fn replaces(self, before: Self) -> bool;
}

macro_rules! ordered_floats {
    ($($type:ty),*) => {$(
        impl Ordered for $type {
            fn replaces(self, before: Self) -> bool {
                self > before || (before.is_nan() && !self.is_nan())
            }
        }
    )*};
}

macro_rules! ordered_integers {
    ($($type:ty),*) => {$(
        impl Ordered for $type {
            fn replaces(self, before: Self) -> bool {
                self > before
            }
        }
    )*};
}

ordered_floats!(f32, f64);
ordered_integers!(i8, u8);

/// A tensor with the largest element of each window.
pub fn maxima<T: Ordered>(planes: &Planes, input: &[T]) -> TractResult<Tensor> {
    filled::<T>(&planes.shape, |to| {
        T::largest(&planes.windows(), input, to);
        Ok(())
    })
}

/// A magnitude to a power.
pub fn power<T: Real>(element: T, exponent: T) -> T {
    let (one, two) = (T::one(), T::one() + T::one());
    if exponent == two {
        element * element
    } else if exponent == one {
        element.abs()
    } else {
        element.abs().powf(exponent)
    }
}

/// The inverse of [`power`].
pub fn root<T: Real>(sum: T, exponent: T) -> T {
    let (one, two) = (T::one(), T::one() + T::one());
    if exponent == two {
        sum.sqrt()
    } else if exponent == one {
        sum
    } else {
        sum.powf(one / exponent)
    }
}

/// One of the two pools of floats.
#[derive(Debug)]
struct Pool {
    window: Window,
    statistic: Statistic,
}

/// What a window becomes.
#[derive(Debug)]
enum Statistic {
    /// The mean of the elements that count.
    Mean(Counted),
    /// The norm with this exponent.
    Norm(f64),
}

/// Builds an `AveragePool` from its node.
pub fn average(attributes: &Attributes) -> Built {
    let (counted, window) = Counted::read(attributes)?;
    built(Pool { window, statistic: Statistic::Mean(counted) })
}

/// Builds an `LpPool` from its node.
pub fn norm(attributes: &Attributes) -> Built {
    let statistic = Statistic::Norm(exponent(attributes)?);
    built(Pool { window: Window::read_with_kernel(attributes)?, statistic })
}

/// The attribute `p`: an integer, or a float in the first version of the operators.
pub fn exponent(attributes: &Attributes) -> TractResult<f64> {
    let exponent = if attributes.version() < 2 {
        attributes.float("p", 2.0)?.into()
    } else {
        attributes.int("p", 2)? as f64
    };
    if exponent.is_nan() || exponent <= 0.0 {
        return Err(attributes.wrong(format!("`p` is {exponent}: expected a positive number")));
    }
    Ok(exponent)
}

/// The kind of a pool's result.
pub fn pooled(window: &Window, input: &Kind) -> TractResult<Kind> {
    if input.rank() < 3 {
        return Err(TractError::msg(format!("its input has {} axes: expected 3 or more", input.rank())));
    }
    let known: Option<TVec<usize>> = input.shape.iter().map(|length| length.to_usize().ok()).collect();
    if let Some(known) = known {
        return Ok(Kind::new(
            input.datum_type,
            Planes::new(window, &known)?.shape.iter().map(|length| length.to_dim()),
        ));
    }
    window.check_axes(input.rank() - 2)?;
    let kernel: TVec<usize> = window.kernel.iter().map(|length| *length as usize).collect();
    let lengths = window.lengths(&kernel, &input.shape[2..])?;
    Ok(Kind::new(input.datum_type, input.shape[..2].iter().cloned().chain(lengths)))
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        match self.statistic {
            Statistic::Mean(_) => "AveragePool",
            Statistic::Norm(_) => "LpPool",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "X")?;
        Ok(tvec![pooled(&self.window, input)?])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl Pool {
    fn compute<T: Real + Summed>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let planes = Planes::new(&self.window, input.shape())?;
        let input = elements::<T>(input)?;
        let output = match self.statistic {
            Statistic::Mean(counted) => {
                let mut sums = planes.sums(input)?;
                divide(&planes, counted, sums.try_as_plain_ram_mut()?.as_slice_mut::<T>()?);
                sums
            }
            Statistic::Norm(exponent) => {
                let exponent = T::of(exponent);
                let powers: Vec<T> = input.iter().map(|element| power(*element, exponent)).collect();
                let mut sums = planes.sums(&powers)?;
                let mut plain = sums.try_as_plain_ram_mut()?;
                plain.as_slice_mut::<T>()?.iter_mut().for_each(|sum| *sum = root(*sum, exponent));
                sums
            }
        };
        Ok(tvec![output])
    }
}

/// Divides each sum by the number of elements that count.
fn divide<T: Real + Summed>(planes: &Planes, counted: Counted, sums: &mut [T]) {
    let counts =
        |axis: &Axis| -> Vec<usize> { (0..axis.output).map(|window| axis.taps(window, counted)).collect() };
    let mut all: Vec<usize> = vec![1];
    for axis in &planes.axes {
        let along = counts(axis);
        all = all.iter().flat_map(|count| along.iter().map(move |more| count * more)).collect();
    }
    let all: Vec<T> = all.iter().map(|count| T::of(*count as f64)).collect();
    T::divide(sums, &all);
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, ints, string};
    use super::*;

    fn row(numbers: &[f32]) -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 1, numbers.len()], numbers).unwrap())
    }

    fn one_to_eleven() -> Option<Tensor> {
        row(&(1..12).map(|number| number as f32).collect::<Vec<_>>())
    }

    fn run(name: &str, attributes: &[tract_onnx::pb::AttributeProto]) -> Vec<f32> {
        let outputs = Trial::new(Domain::Onnx, name, attributes).run(&[one_to_eleven()]).unwrap();
        elements::<f32>(&outputs[0]).unwrap().to_vec()
    }

    #[test]
    fn a_mean_counts_what_count_include_pad_says() {
        let pool =
            [ints("kernel_shape", &[3]), ints("strides", &[2]), ints("pads", &[1, 0]), int("ceil_mode", 1)];
        assert_eq!(run("AveragePool", &pool), [1.5, 3.0, 5.0, 7.0, 9.0, 10.5]);
        let padded = [&pool[..], &[int("count_include_pad", 1)]].concat();
        assert_eq!(run("AveragePool", &padded), [1.0, 3.0, 5.0, 7.0, 9.0, 10.5]);
    }

    #[test]
    fn a_mean_with_dilation_and_ceil_mode_counts_only_what_is_padded() {
        // The last window is 8, 10, 12, 14: of these, 12 is padding, and 14 is outside.
        let pool = [
            ints("kernel_shape", &[4]),
            ints("strides", &[3]),
            ints("dilations", &[2]),
            ints("pads", &[1, 2]),
            int("ceil_mode", 1),
            int("count_include_pad", 1),
        ];
        assert_eq!(run("AveragePool", &pool), [3.0, 6.0, 6.0, 20.0 / 3.0]);
    }

    #[test]
    fn a_norm_is_of_the_elements_that_are_there() {
        let pool = [ints("kernel_shape", &[2]), ints("strides", &[5]), string("auto_pad", "SAME_UPPER")];
        let expected = [5.0_f32.sqrt(), 85.0_f32.sqrt(), 11.0];
        for (result, expected) in run("LpPool", &pool).iter().zip(expected) {
            assert!((result - expected).abs() < 1e-5);
        }
        let cubes = [ints("kernel_shape", &[11]), int("p", 3)];
        assert!((run("LpPool", &cubes)[0] - 4356.0_f32.cbrt()).abs() < 1e-4);
    }

    #[test]
    fn a_window_that_is_too_long_is_an_error() {
        let trial = Trial::new(Domain::Onnx, "AveragePool", &[ints("kernel_shape", &[13])]);
        let error = trial.run(&[one_to_eleven()]).unwrap_err().to_string();
        assert!(error.contains("length 13 along axis 2"), "{error}");
    }

    #[test]
    fn same_padding_with_dilations_is_refused() {
        let attributes =
            [ints("kernel_shape", &[2]), ints("dilations", &[2]), string("auto_pad", "SAME_LOWER")];
        for name in ["MaxPool", "AveragePool", "LpPool"] {
            let error = Trial::new(Domain::Onnx, name, &attributes).run(&[one_to_eleven()]).unwrap_err();
            assert!(error.to_string().contains("use `pads`"), "{error}");
        }
    }

    #[test]
    fn same_padding_that_would_cut_is_refused() {
        let attributes =
            [ints("kernel_shape", &[1]), ints("strides", &[4]), string("auto_pad", "SAME_UPPER")];
        let error = Trial::new(Domain::Onnx, "AveragePool", &attributes).run(&[one_to_eleven()]).unwrap_err();
        assert!(error.to_string().contains("use `pads`"), "{error}");
    }
}
