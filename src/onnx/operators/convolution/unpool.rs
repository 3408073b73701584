//! `MaxUnpool`: puts each element at its index in a tensor of zeros.
//!
//! An index counts the elements of the result that the attributes give. If the input `output_shape` asks for a larger result,
//! this one is in its corner, as in the reference evaluator. onnxruntime lets the index count the larger one instead.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::num_traits::Zero;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::window::Window;
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct MaxUnpool {
    window: Window,
}

/// Builds a `MaxUnpool` from its node.
pub fn unpool(attributes: &Attributes) -> Built {
    built(MaxUnpool { window: Window::read_with_kernel(attributes)? })
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, indices) = (inputs.required(0, "X")?, inputs.required(1, "I")?);
        if indices.datum_type != DatumType::I64 || indices.rank() != input.rank() {
            return Err(TractError::msg(format!(
                "its input `I` is of type {:?} and has {} axes: expected INT64 and {} axes as in `X`",
                indices.datum_type,
                indices.rank(),
                input.rank()
            )));
        }
        if !matches!(input.datum_type, DatumType::F16 | DatumType::F32 | DatumType::F64) {
            return Err(TractError::msg(format!(
                "its input `X` is of type {:?}: expected floats",
                input.datum_type
            )));
        }
        let inferred = self.inferred(&input.shape)?;
        let shape = match inputs.optional(2) {
            None => inferred,
            Some(wanted) => match wanted.ints()? {
                Some(wanted) => self.wanted(&inferred, &wanted)?,
                None => (0..input.rank()).map(|at| late.length(at)).collect(),
            },
        };
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, indices) = (inputs.required(0, "X")?, inputs.required(1, "I")?);
        let wanted = inputs.optional(2).map(ints).transpose()?;
        Ok(tvec![match input.datum_type() {
            DatumType::F16 => self.compute::<f16>(input, indices, wanted)?,
            DatumType::F32 => self.compute::<f32>(input, indices, wanted)?,
            DatumType::F64 => self.compute::<f64>(input, indices, wanted)?,
            other =>
                return Err(TractError::msg(format!("its input `X` is of type {other:?}: expected floats"))),
        }])
    }
}

impl MaxUnpool {
    /// The shape that the attributes give.
    fn inferred(&self, input: &[TDim]) -> TractResult<TVec<TDim>> {
        let axes = input.len().saturating_sub(2);
        self.window.check_axes(axes)?;
        let length = |(axis, input): (usize, &TDim)| -> TractResult<TDim> {
            let (before, after) = self.window.explicit(axis);
            let kernel = self.window.kernel[axis];
            let length = (input.clone() - 1) * self.window.stride(axis) + (kernel - before - after);
            match length.to_i64() {
                Ok(known) if known < 0 => Err(TractError::msg(format!(
                    "the length of its result along axis {} would be {known}: `pads` is too large",
                    axis + 2
                ))),
                _ => Ok(length),
            }
        };
        let spatial = input[2..].iter().enumerate().map(length);
        input[..2].iter().cloned().map(Ok).chain(spatial).collect()
    }

    /// Checks the shape that the input `output_shape` asks for.
    fn wanted(&self, inferred: &[TDim], wanted: &[i64]) -> TractResult<TVec<TDim>> {
        let fits = |(inferred, wanted): (&TDim, &i64)| {
            *wanted >= 0 && inferred.to_i64().map_or(true, |length| length <= *wanted)
        };
        if wanted.len() != inferred.len() || !inferred.iter().zip(wanted).all(fits) {
            return Err(invalid(format!(
                "its input `output_shape` is {wanted:?}: expected at least {inferred:?}"
            )));
        }
        Ok(wanted.iter().map(|length| length.to_dim()).collect())
    }

    fn compute<T: Datum + Copy + Zero>(
        &self,
        input: &Tensor,
        indices: &Tensor,
        wanted: Option<Vec<i64>>,
    ) -> TractResult<Tensor> {
        if input.shape() != indices.shape() {
            return Err(TractError::msg(format!(
                "its input `X` has the shape {:?} and `I` {:?}: expected the same",
                input.shape(),
                indices.shape()
            )));
        }
        let shape: TVec<TDim> = input.shape().iter().map(|length| length.to_dim()).collect();
        let inferred = self.inferred(&shape)?;
        let known = |shape: &[TDim]| -> TractResult<Vec<usize>> {
            shape.iter().map(|length| Ok(length.to_usize()?)).collect()
        };
        let made = match wanted {
            Some(wanted) => known(&self.wanted(&inferred, &wanted)?)?,
            None => known(&inferred)?,
        };
        let inferred = known(&inferred)?;
        let count: usize = inferred.iter().product();
        let mut output = Tensor::zero::<T>(&made)?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let to = plain.as_slice_mut::<T>()?;
        for (element, index) in elements::<T>(input)?.iter().zip(elements::<i64>(indices)?) {
            let place = usize::try_from(*index).ok().filter(|place| *place < count).ok_or_else(|| {
                TractError::msg(format!(
                    "its input `I` has the index {index}: expected 0 to {}",
                    count.saturating_sub(1)
                ))
            })?;
            to[moved(place, &inferred, &made)] = *element;
        }
        Ok(output)
    }
}

/// The place in a tensor of the shape `to`, of a place in one of the shape `from` that is in its corner.
fn moved(place: usize, from: &[usize], to: &[usize]) -> usize {
    if from == to {
        return place;
    }
    let (mut rest, mut step, mut moved) = (place, 1, 0);
    for (from, to) in from.iter().zip(to).rev() {
        moved += rest % from * step;
        rest /= from;
        step *= to;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, ints as list};
    use super::*;

    fn run(index: i64, wanted: Option<&[i64]>) -> TractResult<Tensor> {
        let attributes = [list("kernel_shape", &[2, 2]), list("strides", &[2, 2])];
        let input = Tensor::from_shape(&[1, 1, 1, 2], &[1.0_f32, 2.0])?;
        let indices = Tensor::from_shape(&[1, 1, 1, 2], &[1, index])?;
        let inputs = [Some(input), Some(indices), wanted.map(tensor1)];
        Ok(Trial::new(Domain::Onnx, "MaxUnpool", &attributes).run(&inputs)?.remove(0))
    }

    #[test]
    fn elements_go_to_their_indices() {
        let output = run(6, None).unwrap();
        assert_eq!(output.shape(), [1, 1, 2, 4]);
        assert_eq!(elements::<f32>(&output).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
    }

    #[test]
    fn a_larger_result_has_the_smaller_one_in_its_corner() {
        let output = run(6, Some(&[1, 1, 3, 5])).unwrap();
        let expected: Vec<f32> = (0..15)
            .map(|at| {
                [(1, 1.0), (7, 2.0)].iter().find(|(place, _)| *place == at).map_or(0.0, |(_, value)| *value)
            })
            .collect();
        assert_eq!(elements::<f32>(&output).unwrap(), expected);
    }

    #[test]
    fn an_index_or_a_shape_that_does_not_fit_is_an_error() {
        assert!(run(8, None).unwrap_err().to_string().contains("expected 0 to 7"));
        assert!(run(-1, None).is_err());
        assert!(run(6, Some(&[1, 1, 2, 3])).unwrap_err().to_string().contains("output_shape"));
    }
}
