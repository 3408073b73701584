//! `MaxRoiPool`: the maxima of the cells of regions. A region's corners are rounded to pixels.
//!
//! As in onnxruntime, a cell without pixels is 0, and a NaN is the maximum only where all pixels are NaN.

use std::ops::Range;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct MaxRoiPool {
    /// The number of cells of a region: rows and columns.
    cells: [usize; 2],
    scale: f32,
}

/// Builds a `MaxRoiPool` from its node.
pub fn pool(attributes: &Attributes) -> Built {
    let cells = attributes.ints("pooled_shape")?;
    let [rows, columns] = cells else {
        return Err(attributes.wrong(format!("`pooled_shape` is {cells:?}: expected 2 lengths")));
    };
    let scale = attributes.float("spatial_scale", 1.0)?;
    built(MaxRoiPool { cells: [cell_count(attributes, *rows)?, cell_count(attributes, *columns)?], scale })
}

/// Checks a number of cells along an axis.
pub fn cell_count(attributes: &Attributes, count: i64) -> TractResult<usize> {
    match u16::try_from(count) {
        Ok(count) if count > 0 => Ok(count.into()),
        _ => Err(attributes.wrong(format!("a region has {count} cells along an axis: expected 1 to 65535"))),
    }
}

/// The kind of the result: `[regions, channels, rows, columns]`.
pub fn pooled(input: &Kind, regions: &Kind, numbers: usize, cells: [usize; 2]) -> TractResult<Kind> {
    expect_float(input, "X")?;
    if input.rank() != 4 || regions.rank() != 2 || regions.datum_type != input.datum_type {
        return Err(TractError::msg(format!(
            "its input `X` has {} axes and `rois` {} and the type {:?}: expected 4, 2 and {:?}",
            input.rank(),
            regions.rank(),
            regions.datum_type,
            input.datum_type
        )));
    }
    if regions.shape[1].to_usize().is_ok_and(|length| length != numbers) {
        return Err(TractError::msg(format!(
            "its input `rois` has {} numbers for a region: expected {numbers}",
            regions.shape[1]
        )));
    }
    let shape = [regions.shape[0].clone(), input.shape[1].clone(), cells[0].to_dim(), cells[1].to_dim()];
    Ok(Kind::new(input.datum_type, shape))
}

impl Operator for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        Ok(tvec![pooled(inputs.required(0, "X")?, inputs.required(1, "rois")?, 5, self.cells)?])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl MaxRoiPool {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, regions) = (inputs.required(0, "X")?, inputs.required(1, "rois")?);
        let ([batches, channels, height, width], [count, 5]) = (input.shape(), regions.shape()) else {
            return Err(TractError::msg(format!(
                "its input `X` has the shape {:?} and `rois` {:?}: expected 4 axes and [regions, 5]",
                input.shape(),
                regions.shape()
            )));
        };
        let [rows, columns] = self.cells;
        let mut output = Vec::with_capacity(count * channels * rows * columns);
        let pixels = elements::<T>(input)?;
        for region in elements::<T>(regions)?.chunks_exact(5) {
            let batch = region[0].to_i64().and_then(|batch| usize::try_from(batch).ok());
            let batch = batch.filter(|batch| batch < batches).ok_or_else(|| {
                TractError::msg(format!(
                    "a region is of image {:?}: expected 0 to {}",
                    region[0],
                    *batches as i64 - 1
                ))
            })?;
            let scaled = |at: usize| (region[at] * T::of(self.scale.into())).round();
            let across = cells(scaled(1), scaled(3), columns, *width);
            let down = cells(scaled(2), scaled(4), rows, *height);
            for channel in 0..*channels {
                let plane = &pixels[(batch * channels + channel) * height * width..][..height * width];
                for rows in &down {
                    output.extend(across.iter().map(|columns| largest(plane, *width, rows, columns)));
                }
            }
        }
        Ok(tvec![Tensor::from_shape(&[*count, *channels, rows, columns], &output)?])
    }
}

/// The pixels of each cell along an axis.
fn cells<T: Real>(from: T, to: T, count: usize, length: usize) -> Vec<Range<usize>> {
    let cell = (to - from + T::one()).max(T::one()) / T::of(count as f64);
    let clamp = |at: T| at.max(T::zero()).min(T::of(length as f64)).to_usize().unwrap_or(0);
    let number = |at: usize| T::of(at as f64);
    (0..count)
        .map(|at| clamp((number(at) * cell).floor() + from)..clamp((number(at + 1) * cell).ceil() + from))
        .collect()
}

/// The largest pixel of a cell.
fn largest<T: Real>(plane: &[T], width: usize, rows: &Range<usize>, columns: &Range<usize>) -> T {
    if rows.is_empty() || columns.is_empty() {
        return T::zero();
    }
    let pixels = rows.clone().flat_map(|row| &plane[row * width..][columns.clone()]);
    pixels.copied().fold(T::nan(), |most, pixel| if pixel > most || most.is_nan() { pixel } else { most })
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, ints};
    use super::*;

    fn run(region: [f32; 5]) -> TractResult<Vec<f32>> {
        let numbers: Vec<f32> = (0..16).map(|at| at as f32).collect();
        let inputs =
            [Some(Tensor::from_shape(&[1, 1, 4, 4], &numbers)?), Some(Tensor::from_shape(&[1, 5], &region)?)];
        let attributes = [ints("pooled_shape", &[2, 2]), float("spatial_scale", 0.5)];
        let outputs = Trial::new(Domain::Onnx, "MaxRoiPool", &attributes).run(&inputs)?;
        Ok(elements::<f32>(&outputs[0])?.to_vec())
    }

    #[test]
    fn a_region_is_cut_into_cells() {
        assert_eq!(run([0.0, 0.0, 0.0, 6.0, 6.0]).unwrap(), [5.0, 7.0, 13.0, 15.0]);
        assert_eq!(
            run([0.0, 4.0, 4.0, 40.0, 40.0]).unwrap(),
            [15.0, 0.0, 0.0, 0.0],
            "cells outside have no pixels"
        );
        assert_eq!(run([0.0, 1e30, 1e30, 1e35, 1e35]).unwrap(), [0.0; 4]);
    }

    #[test]
    fn an_image_that_is_not_there_is_an_error() {
        assert!(run([1.0, 0.0, 0.0, 6.0, 6.0]).unwrap_err().to_string().contains("expected 0 to 0"));
        assert!(run([-1.0, 0.0, 0.0, 6.0, 6.0]).is_err());
        assert!(run([f32::NAN, 0.0, 0.0, 6.0, 6.0]).is_err());
    }
}
