//! Resizes axis after axis by weighted sums. FP16 and FP32 are computed in FP32, all others in FP64. Integers are rounded,
//! halves to the even one, and limited to the range of their type, as in the reference evaluator; onnxruntime cuts them off.

use std::ops::{AddAssign, Mul};

use tract_onnx::prelude::*;

use super::super::super::operator::elements;
use super::window::{Line, Method, Windows};

/// A float in which sums are computed.
trait Float: Datum + Copy + Mul<Output = Self> + AddAssign {
    fn of(value: f64) -> Self;
}

impl Float for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
}

impl Float for f64 {
    fn of(value: f64) -> f64 {
        value
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
    let weights: Vec<T> = windows.weights.iter().map(|weight| T::of(*weight)).collect();
    let outer = source.len() / (line.input * inner);
    let mut output = vec![T::default(); outer * line.output * inner];
    let parts = source.chunks_exact(line.input * inner).zip(output.chunks_exact_mut(line.output * inner));
    for (source, output) in parts {
        match inner {
            1 => row(source, output, windows, &weights),
            _ => rows(source, output, inner, windows, &weights),
        }
        for at in &windows.outside {
            output[at * inner..][..inner].fill(extrapolation);
        }
    }
    output
}

/// The last axis: each element is a sum.
fn row<T: Float>(source: &[T], output: &mut [T], windows: &Windows, weights: &[T]) {
    if windows.width == 2 {
        let pairs = windows.places.as_chunks::<2>().0.iter().zip(weights.as_chunks::<2>().0);
        for (element, ([left, right], [a, b])) in output.iter_mut().zip(pairs) {
            let mut sum = source[*left] * *a;
            sum += source[*right] * *b;
            *element = sum;
        }
        return;
    }
    let windows = windows.places.chunks_exact(windows.width).zip(weights.chunks_exact(windows.width));
    for (element, (places, weights)) in output.iter_mut().zip(windows) {
        for (place, weight) in places.iter().zip(weights) {
            *element += source[*place] * *weight;
        }
    }
}

/// Another axis: each row is a sum of rows.
fn rows<T: Float>(source: &[T], output: &mut [T], inner: usize, windows: &Windows, weights: &[T]) {
    let windows = windows.places.chunks_exact(windows.width).zip(weights.chunks_exact(windows.width));
    for (row, (places, weights)) in output.chunks_exact_mut(inner).zip(windows) {
        for (place, weight) in places.iter().zip(weights) {
            for (sum, element) in row.iter_mut().zip(&source[place * inner..][..inner]) {
                *sum += *element * *weight;
            }
        }
    }
}
