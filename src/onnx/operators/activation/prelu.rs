//! `PRelu`: elements below 0 are multiplied by a slope, which is broadcast to the shape of the input.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::stretch::{Along, stretched};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct PRelu {
    /// Before version 7, a slope with one axis belongs to the channels (axis 1).
    of_channels: bool,
}

/// Builds a `PRelu` from its node.
pub fn prelu(attributes: &Attributes) -> Built {
    built(PRelu { of_channels: (1..7).contains(&attributes.version()) })
}

impl Operator for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, slope) = (inputs.required(0, "X")?, inputs.required(1, "slope")?);
        if !input.datum_type.is_number() || input.datum_type != slope.datum_type {
            return Err(TractError::msg(format!(
                "its inputs are of types {:?} and {:?}: expected numbers of one type",
                input.datum_type, slope.datum_type
            )));
        }
        let one = slope.count() == Some(1);
        if slope.rank() > input.rank() && !one {
            return Err(TractError::msg(format!(
                "its slope has {} axes and its input {}: expected not more than the input",
                slope.rank(),
                input.rank()
            )));
        }
        let suffix = input.shape.iter().rev().zip(slope.shape.iter().rev());
        if !one && !self.of_channels {
            for (length, own) in suffix {
                if let (Ok(length), Ok(own)) = (length.to_usize(), own.to_usize())
                    && own != 1
                    && own != length
                {
                    return Err(TractError::msg(format!(
                        "its slope has the shape {:?} and its input {:?}: the slope must be broadcast to the input",
                        slope.shape, input.shape
                    )));
                }
            }
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, slope) = (inputs.required(0, "X")?, inputs.required(1, "slope")?);
        let slope = self.placed(slope, input.rank())?;
        match input.datum_type() {
            DatumType::F16 | DatumType::F32 => floats::<f32>(input, &slope),
            DatumType::F64 => floats::<f64>(input, &slope),
            DatumType::I8 => integers::<i8>(input, &slope, i8::wrapping_mul),
            DatumType::I16 => integers::<i16>(input, &slope, i16::wrapping_mul),
            DatumType::I32 => integers::<i32>(input, &slope, i32::wrapping_mul),
            DatumType::I64 => integers::<i64>(input, &slope, i64::wrapping_mul),
            // Unsigned integers are never below 0.
            _ => Ok(tvec![input.clone()]),
        }
    }
}

impl PRelu {
    /// The slope with the axes at the end of those of the input.
    fn placed(&self, slope: &Tensor, rank: usize) -> TractResult<Tensor> {
        let slope = slope.clone();
        if slope.len() == 1 {
            return slope.into_shape(&[]);
        }
        if self.of_channels && slope.rank() == 1 && rank > 2 {
            let mut shape = vec![1; rank - 1];
            shape[0] = slope.len();
            return slope.into_shape(&shape);
        }
        Ok(slope)
    }
}

fn floats<T: Real>(input: &Tensor, slope: &Tensor) -> TractResult<TVec<Tensor>> {
    let slope = stretched(&*wide::<T>(slope)?, input.shape())?;
    let mut output = wide::<T>(input)?.into_owned();
    let mut plain = output.try_as_plain_ram_mut()?;
    multiply(plain.as_slice_mut::<T>()?, Along::new(elements::<T>(&slope)?), |x, slope| x * slope);
    Ok(tvec![rounded(output, input.datum_type())?])
}

fn integers<T: Datum + Copy + PartialOrd + Default>(
    input: &Tensor,
    slope: &Tensor,
    times: impl Fn(T, T) -> T,
) -> TractResult<TVec<Tensor>> {
    let slope = stretched(slope, input.shape())?;
    let mut output = input.clone();
    let mut plain = output.try_as_plain_ram_mut()?;
    multiply(plain.as_slice_mut::<T>()?, Along::new(elements::<T>(&slope)?), times);
    Ok(tvec![output])
}

fn multiply<T: Copy + PartialOrd + Default>(values: &mut [T], slopes: Along<T>, times: impl Fn(T, T) -> T) {
    let zero = T::default();
    slopes.pair(values, |x, slope| if x < zero { times(x, slope) } else { x });
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::Trial;
    use super::*;

    fn run(input: &[usize], slope: &[usize], version: i64) -> TractResult<Vec<f32>> {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count(input)).map(|at| -1.0 - at as f32).collect();
        let slopes: Vec<f32> = (0..count(slope)).map(|at| 1.0 + at as f32).collect();
        let inputs = [
            Some(Tensor::from_shape(input, &values).unwrap()),
            Some(Tensor::from_shape(slope, &slopes).unwrap()),
        ];
        let output = Trial::new(Domain::Onnx, "PRelu", &[]).version(version).run(&inputs)?;
        Ok(elements::<f32>(&output[0])?.to_vec())
    }

    #[test]
    fn the_slope_is_broadcast_to_the_input() {
        assert_eq!(run(&[2, 2], &[2], 16).unwrap(), [-1.0, -4.0, -3.0, -8.0]);
        assert_eq!(run(&[2, 2], &[2, 1], 16).unwrap(), [-1.0, -2.0, -6.0, -8.0]);
        assert_eq!(run(&[2, 2], &[1, 1, 1], 16).unwrap(), [-1.0, -2.0, -3.0, -4.0]);
        assert_eq!(run(&[1, 2, 2], &[2, 1], 16).unwrap(), [-1.0, -2.0, -6.0, -8.0]);
        assert!(run(&[2, 3], &[2], 16).unwrap_err().to_string().contains("broadcast"));
    }

    #[test]
    fn the_slope_of_old_versions_belongs_to_the_channels() {
        assert_eq!(run(&[1, 2, 2], &[2], 6).unwrap(), [-1.0, -2.0, -6.0, -8.0]);
    }

    #[test]
    fn integers_and_nan() {
        let trial = Trial::new(Domain::Onnx, "PRelu", &[]);
        let output = trial.run(&[Some(tensor1(&[-3_i32, 3])), Some(tensor1(&[2_i32]))]).unwrap();
        assert_eq!(elements::<i32>(&output[0]).unwrap(), [-6, 3]);
        let output = trial.run(&[Some(tensor1(&[f32::NAN])), Some(tensor1(&[2_f32]))]).unwrap();
        assert!(elements::<f32>(&output[0]).unwrap()[0].is_nan());
    }
}
