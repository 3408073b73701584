//! Resizes axis after axis by weighted sums. FP16 and FP32 are computed in FP32, all others in FP64. Integers are rounded,
//! halves to the even one, and limited to the range of their type, as in the reference evaluator; onnxruntime cuts them off.

use onnxd_kernels::blend::{self as kernels, Weights};
use tract_onnx::prelude::*;

use super::super::super::operator::elements;
use super::window::{Line, Method, Windows};

/// A float in which sums are computed.
trait Float: Datum + Copy {
    fn of(value: f64) -> Self;

    /// Writes the weighted sums along an axis of `input` places with `inner` elements behind each.
    fn blend(windows: &Windows, from: &[Self], to: &mut [Self], input: usize, inner: usize);
}

impl Float for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }

    fn blend(windows: &Windows, from: &[f32], to: &mut [f32], input: usize, inner: usize) {
        let weights: Vec<f32> = windows.weights.iter().map(|weight| *weight as f32).collect();
        let weights = Weights { width: windows.width, places: &windows.places, weights: &weights };
        kernels::blend(weights, from, to, input, inner);
    }
}

impl Float for f64 {
    fn of(value: f64) -> f64 {
        value
    }

    fn blend(windows: &Windows, from: &[f64], to: &mut [f64], input: usize, inner: usize) {
        let size = windows.places.len() / windows.width * inner;
        for (from, to) in from.chunks_exact(input * inner).zip(to.chunks_exact_mut(size)) {
            let windows =
                windows.places.chunks_exact(windows.width).zip(windows.weights.chunks_exact(windows.width));
            for (row, (places, weights)) in to.chunks_exact_mut(inner).zip(windows) {
                for (place, weight) in places.iter().zip(weights) {
                    let from = &from[place * inner..][..inner];
                    row.iter_mut().zip(from).for_each(|(sum, element)| *sum += element * weight);
                }
            }
        }
    }
}

/// The input with its `lines` resized, in the given shape.
pub fn blended(
    input: &Tensor,
    shape: &[usize],
    lines: &[(usize, Line)],
    method: &Method,
    extrapolation: f64,
) -> TractResult<Tensor> {
    let output = match input.datum_type() {
        DatumType::F16 | DatumType::F32 => in_float::<f32>(input, shape, lines, method, extrapolation)?,
        DatumType::F64 => in_float::<f64>(input, shape, lines, method, extrapolation)?,
        _ => {
            let mut output = in_float::<f64>(input, shape, lines, method, extrapolation)?;
            let mut plain = output.try_as_plain_ram_mut()?;
            plain.as_slice_mut::<f64>()?.iter_mut().for_each(|value| *value = value.round_ties_even());
            output
        }
    };
    Ok(output.cast_to_dt(input.datum_type())?.into_owned())
}

fn in_float<T: Float>(
    input: &Tensor,
    shape: &[usize],
    lines: &[(usize, Line)],
    method: &Method,
    extrapolation: f64,
) -> TractResult<Tensor> {
    let input = input.cast_to::<T>()?;
    let mut current: Option<Vec<T>> = None;
    let mut lengths: TVec<usize> = input.shape().into();
    // The last axis first: it is the slow one, and an enlarged image has fewer rows before its other axes are resized.
    for (axis, line) in lines.iter().rev() {
        let source = match &current {
            Some(current) => current,
            None => elements::<T>(&input)?,
        };
        let inner = lengths[axis + 1..].iter().product();
        let next = along(source, inner, line, &Windows::of(line, method), T::of(extrapolation));
        lengths[*axis] = line.output;
        current = Some(next);
    }
    match current {
        Some(current) => Tensor::from_shape(shape, &current),
        None => Ok(input.into_owned()),
    }
}

/// Resizes one axis of a tensor with `inner` elements behind each place of this axis.
fn along<T: Float>(source: &[T], inner: usize, line: &Line, windows: &Windows, extrapolation: T) -> Vec<T> {
    let outer = source.len() / (line.input * inner);
    let mut output = vec![T::default(); outer * line.output * inner];
    T::blend(windows, source, &mut output, line.input, inner);
    if !windows.outside.is_empty() {
        for output in output.chunks_exact_mut(line.output * inner) {
            for at in &windows.outside {
                output[at * inner..][..inner].fill(extrapolation);
            }
        }
    }
    output
}
