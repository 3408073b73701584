//! `MaxPool`, with the indices of the maxima.
//!
//! The standard does not say what a NaN does. Here it is the maximum only where all elements of a window are NaN: so it is
//! in onnxruntime and in the reference evaluator, up to the order of the elements. The maximum of a window without elements is NaN, or the least
//! integer, and its index is −1.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::pool::{Ordered, Planes, maxima, pooled};
use super::window::{Axis, Window};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct MaxPool {
    window: Window,
    indices: Indices,
}

/// Whether the node has the output `Indices`, and the order of the elements that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indices {
    /// It has no such output.
    None,
    /// The last axis changes fastest.
    RowMajor,
    /// The first axis behind the channels changes fastest.
    ColumnMajor,
}

/// Builds a `MaxPool` from its node.
pub fn max(attributes: &Attributes) -> Built {
    let indices =
        match (attributes.node.output.get(1).map(String::as_str), attributes.int("storage_order", 0)?) {
            (None | Some(""), 0 | 1) => Indices::None,
            (_, 0) => Indices::RowMajor,
            (_, 1) => Indices::ColumnMajor,
            (_, other) => {
                return Err(attributes.wrong(format!("`storage_order` is {other}: expected 0 or 1")));
            }
        };
    built(MaxPool { window: Window::read_with_elements(attributes)?, indices })
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        if !matches!(
            input.datum_type,
            DatumType::F16 | DatumType::F32 | DatumType::F64 | DatumType::I8 | DatumType::U8
        ) {
            return Err(TractError::msg(format!(
                "its input `X` is of type {:?}: expected FP16, FP32, FP64, INT8 or UINT8",
                input.datum_type
            )));
        }
        let values = pooled(&self.window, input)?;
        let indices = Kind::new(DatumType::I64, values.shape.clone());
        Ok(if self.indices == Indices::None { tvec![values] } else { tvec![values, indices] })
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        match input.datum_type() {
            DatumType::F16 => {
                let wide = input.cast_to::<f32>()?;
                let mut outputs = self.compute::<f32>(&wide)?;
                outputs[0] = outputs[0].cast_to::<f16>()?.into_owned();
                Ok(outputs)
            }
            DatumType::F32 => self.compute::<f32>(input),
            DatumType::F64 => self.compute::<f64>(input),
            DatumType::I8 => self.compute::<i8>(input),
            DatumType::U8 => self.compute::<u8>(input),
            other => Err(TractError::msg(format!("its input is of type {other:?}"))),
        }
    }
}

impl MaxPool {
    fn compute<T: Ordered>(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let planes = Planes::new(&self.window, input.shape())?;
        let input = elements::<T>(input)?;
        if self.indices == Indices::None {
            return Ok(tvec![maxima(&planes, input)?]);
        }
        let count = planes.shape.iter().product();
        let (mut values, mut indices) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let size = planes.input_length();
        let order = columns(&planes.axes);
        for (number, plane) in input.chunks_exact(size.max(1)).enumerate() {
            visit(&planes.axes, |places| {
                let (value, place) = largest(plane, places);
                values.push(value);
                indices.push(place.map_or(-1, |place| {
                    let place = if self.indices == Indices::ColumnMajor { order[place] } else { place };
                    (number * size + place) as i64
                }));
            });
        }
        values.resize(count, T::NONE);
        indices.resize(count, -1);
        Ok(tvec![Tensor::from_shape(&planes.shape, &values)?, Tensor::from_shape(&planes.shape, &indices)?])
    }
}

/// The first of the largest elements at these places, and its place.
fn largest<T: Ordered>(plane: &[T], places: &[usize]) -> (T, Option<usize>) {
    let Some(first) = places.first() else { return (T::NONE, None) };
    let start = (plane[*first], Some(*first));
    places[1..].iter().fold(start, |most, place| {
        let element = plane[*place];
        if element.replaces(most.0) { (element, Some(*place)) } else { most }
    })
}

/// Calls `each` with the places of every window in a plane, in row-major order.
fn visit(axes: &[Axis], mut each: impl FnMut(&[usize])) {
    let windows: usize = axes.iter().map(|axis| axis.output).product();
    let (mut places, mut next) = (Vec::new(), Vec::new());
    for window in 0..windows {
        places.clear();
        places.push(0);
        let mut below = windows;
        for axis in axes {
            below /= axis.output;
            let at = window / below % axis.output;
            next.clear();
            for place in &places {
                let taps = (0..axis.kernel).filter_map(|tap| axis.inside(at, tap));
                next.extend(taps.map(|tap| place * axis.input + tap));
            }
            std::mem::swap(&mut places, &mut next);
        }
        each(&places);
    }
}

/// For each place in row-major order, its place in column-major order.
fn columns(axes: &[Axis]) -> Vec<usize> {
    let mut order = vec![0];
    let mut step = 1;
    for axis in axes {
        order = order.iter().flat_map(|place| (0..axis.input).map(move |at| place + at * step)).collect();
        step *= axis.input;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, ints};
    use super::*;

    #[test]
    fn nan_is_the_maximum_only_where_all_elements_are_nan() {
        let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
        let input = Tensor::from_shape(&[1, 1, 8], &[1.0, nan, nan, nan, low, low, nan, 5.0]).unwrap();
        let attributes = [ints("kernel_shape", &[2]), ints("strides", &[2])];
        let trial = Trial::new(Domain::Onnx, "MaxPool", &attributes);
        for trial in [trial.clone(), trial.outputs(2)] {
            let outputs = trial.run(&[Some(input.clone())]).unwrap();
            let values = elements::<f32>(&outputs[0]).unwrap();
            assert!(
                values[0] == 1.0 && values[1].is_nan() && values[2] == low && values[3] == 5.0,
                "{values:?}"
            );
            if let Some(indices) = outputs.get(1) {
                assert_eq!(elements::<i64>(indices).unwrap(), [0, 2, 4, 7]);
            }
        }
    }

    #[test]
    fn indices_count_all_planes_in_both_orders() {
        let numbers: Vec<u8> = (0..12).collect();
        let input = Tensor::from_shape(&[1, 2, 2, 3], &numbers).unwrap();
        let attributes = [ints("kernel_shape", &[2, 2]), int("storage_order", 1)];
        let both = |attributes: &[_]| {
            let trial = Trial::new(Domain::Onnx, "MaxPool", attributes).outputs(2);
            trial.run(&[Some(input.clone())]).unwrap()
        };
        let (rows, columns) = (both(&attributes[..1]), both(&attributes));
        assert_eq!(elements::<u8>(&rows[0]).unwrap(), [4, 5, 10, 11]);
        assert_eq!(elements::<i64>(&rows[1]).unwrap(), [4, 5, 10, 11]);
        assert_eq!(elements::<i64>(&columns[1]).unwrap(), [3, 5, 9, 11]);
    }

    #[test]
    fn a_large_window_in_three_dimensions_gives_the_same_with_and_without_indices() {
        let numbers: Vec<f64> = (0..2 * 5 * 6 * 7).map(|at| f64::from(at * 7919 % 211)).collect();
        let input = Tensor::from_shape(&[2, 1, 5, 6, 7], &numbers).unwrap();
        let attributes = [
            ints("kernel_shape", &[3, 2, 3]),
            ints("strides", &[2, 1, 3]),
            ints("dilations", &[1, 3, 2]),
            ints("pads", &[2, 1, 0, 1, 1, 2]),
            int("ceil_mode", 1),
        ];
        let trial = Trial::new(Domain::Onnx, "MaxPool", &attributes);
        let (fast, slow) = (
            trial.run(&[Some(input.clone())]).unwrap(),
            trial.outputs(2).run(&[Some(input.clone())]).unwrap(),
        );
        assert_eq!(fast[0], slow[0]);
        let (values, indices) = (elements::<f64>(&slow[0]).unwrap(), elements::<i64>(&slow[1]).unwrap());
        assert!(values.iter().zip(indices).all(|(value, index)| numbers[*index as usize] == *value));
    }

    #[test]
    fn a_window_in_the_padding_alone_is_an_error() {
        let input = Some(Tensor::from_shape(&[1, 1, 2], &[1_f32, 2.0]).unwrap());
        let attributes = [ints("kernel_shape", &[2]), ints("pads", &[0, 2])];
        for name in ["MaxPool", "AveragePool"] {
            let error =
                Trial::new(Domain::Onnx, name, &attributes).run(std::slice::from_ref(&input)).unwrap_err();
            assert!(error.to_string().contains("less than the window's length, which is 2"), "{error}");
        }
        let [kernel, pads] = attributes;
        let counted = [kernel, pads, int("count_include_pad", 1)];
        let output = Trial::new(Domain::Onnx, "AveragePool", &counted).run(&[input]).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [1.5, 1.0, 0.0]);
    }
}
