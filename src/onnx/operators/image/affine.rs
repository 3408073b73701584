//! `AffineGrid`: the points of an image after an affine map, for `GridSample`.
//!
//! A point is in coordinates from −1 to 1. Where an axis has one element and `align_corners` is set, the standard's formula has
//! no value. Its point is −1, as in the reference evaluator; onnxruntime takes 1.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct AffineGrid {
    corners: Corners,
}

/// What −1 and 1 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corners {
    /// The centres of the first and the last pixel (`align_corners = 1`).
    Centers,
    /// The outer edges of the first and the last pixel.
    Edges,
}

impl Corners {
    /// Reads `align_corners`.
    pub fn read(attributes: &Attributes) -> TractResult<Corners> {
        Ok(if attributes.flag("align_corners", false)? { Corners::Centers } else { Corners::Edges })
    }
}

/// Builds an `AffineGrid` from its node.
pub fn grid(attributes: &Attributes) -> Built {
    built(AffineGrid { corners: Corners::read(attributes)? })
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (theta, size) = (inputs.required(0, "theta")?, inputs.required(1, "size")?);
        expect_float(theta, "theta")?;
        if theta.rank() != 3 || size.rank() != 1 {
            return Err(TractError::msg(format!(
                "its input `theta` has {} axes and `size` {}: expected 3 and 1",
                theta.rank(),
                size.rank()
            )));
        }
        let sizes = size.ints()?;
        let axes = match (theta.shape[1].to_usize(), &sizes, size.shape[0].to_usize()) {
            (Ok(axes), _, _) => axes,
            (_, Some(sizes), _) => sizes.len().saturating_sub(2),
            (_, None, Ok(length)) => length.saturating_sub(2),
            _ => {
                return Err(TractError::msg(
                    "the number of axes of its result is not known: expected 2 or 3",
                ));
            }
        };
        if !(2..=3).contains(&axes) {
            return Err(TractError::msg(format!("it is for {axes} axes: expected 2 or 3")));
        }
        let lengths: TVec<TDim> = match sizes {
            Some(sizes) => checked(&sizes, axes)?.iter().map(|length| length.to_dim()).collect(),
            None => (0..=axes).map(|at| late.length(at)).collect(),
        };
        let shape = lengths.into_iter().chain([axes.to_dim()]);
        Ok(tvec![Kind::new(theta.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

/// The number of images and their lengths, from the values of `size`.
fn checked(sizes: &[i64], axes: usize) -> TractResult<TVec<usize>> {
    let lengths: Option<TVec<usize>> = sizes.iter().map(|length| usize::try_from(*length).ok()).collect();
    match lengths {
        Some(lengths) if lengths.len() == axes + 2 => {
            Ok(lengths[..1].iter().chain(&lengths[2..]).copied().collect())
        }
        _ => Err(invalid(format!(
            "its input `size` is {sizes:?}: expected {} lengths, of the images, their channels and {axes} axes",
            axes + 2
        ))),
    }
}

impl AffineGrid {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (theta, sizes) = (inputs.required(0, "theta")?, ints(inputs.required(1, "size")?)?);
        let axes = theta.shape()[1];
        let lengths = checked(&sizes, axes)?;
        if theta.shape() != [lengths[0], axes, axes + 1] {
            return Err(invalid(format!(
                "its input `theta` has the shape {:?}: expected {:?}",
                theta.shape(),
                [lengths[0], axes, axes + 1]
            )));
        }
        let shape: TVec<usize> = lengths.iter().copied().chain([axes]).collect();
        let mut output = Tensor::zero::<T>(&shape)?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let steps: TVec<Vec<T>> = lengths[1..].iter().map(|length| self.steps(*length)).collect();
        let points: usize = lengths[1..].iter().product();
        let maps = elements::<T>(theta)?.chunks_exact(axes * (axes + 1));
        for (map, points) in maps.zip(plain.as_slice_mut::<T>()?.chunks_exact_mut((points * axes).max(1))) {
            for (number, point) in points.chunks_exact_mut(axes).enumerate() {
                // A map takes the last axis of an image (x) first.
                let mut rest = number;
                let mut from = [T::zero(); 3];
                for (to, steps) in from.iter_mut().zip(steps.iter().rev()) {
                    *to = steps[rest % steps.len()];
                    rest /= steps.len();
                }
                for (to, row) in point.iter_mut().zip(map.chunks_exact(axes + 1)) {
                    *to = row
                        .iter()
                        .zip(&from[..axes])
                        .fold(row[axes], |sum, (factor, at)| sum + *factor * *at);
                }
            }
        }
        Ok(tvec![output])
    }

    /// The coordinates of the pixels along an axis.
    fn steps<T: Real>(&self, length: usize) -> Vec<T> {
        let count = length as f64;
        let step = |at: usize| match self.corners {
            Corners::Centers if length == 1 => -1.0,
            Corners::Centers => 2.0 * at as f64 / (count - 1.0) - 1.0,
            Corners::Edges => (2.0 * at as f64 + 1.0) / count - 1.0,
        };
        (0..length).map(|at| T::of(step(at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    fn run(corners: i64, theta: &[f32], size: &[i64]) -> TractResult<Tensor> {
        let axes = size.len() - 2;
        let theta = Tensor::from_shape(&[1, axes, axes + 1], theta)?;
        let trial = Trial::new(Domain::Onnx, "AffineGrid", &[int("align_corners", corners)]);
        Ok(trial.run(&[Some(theta), Some(tensor1(size))])?.remove(0))
    }

    #[test]
    fn the_identity_gives_the_points_of_the_pixels_as_x_and_y() {
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let edges = run(0, &identity, &[1, 5, 2, 2]).unwrap();
        assert_eq!(edges.shape(), [1, 2, 2, 2]);
        assert_eq!(elements::<f32>(&edges).unwrap(), [-0.5, -0.5, 0.5, -0.5, -0.5, 0.5, 0.5, 0.5]);
        let centers = run(1, &identity, &[1, 5, 1, 3]).unwrap();
        assert_eq!(elements::<f32>(&centers).unwrap(), [-1.0, -1.0, 0.0, -1.0, 1.0, -1.0]);
    }

    #[test]
    fn three_axes_and_a_shift() {
        let map = [0.0, 0.0, 1.0, 10.0, 0.0, 1.0, 0.0, 20.0, 1.0, 0.0, 0.0, 30.0];
        let grid = run(1, &map, &[1, 1, 2, 2, 2]).unwrap();
        assert_eq!(grid.shape(), [1, 2, 2, 2, 3]);
        // The second point is x = 1, y = −1, z = −1.
        assert_eq!(elements::<f32>(&grid).unwrap()[3..6], [9.0, 19.0, 31.0]);
    }

    #[test]
    fn a_negative_length_is_an_error() {
        let error = run(0, &[0.0; 6], &[1, 1, -2, 2]).unwrap_err().to_string();
        assert!(error.contains("its input `size` is [1, 1, -2, 2]"), "{error}");
    }
}
