//! `RoiAlign`: the mean or the maximum of points in the cells of regions, interpolated between pixels.
//!
//! In the mode `max`, the maximum is over the weighted pixels around the points, not over the interpolated points. So it is in
//! onnxruntime and in the reference evaluator, and models were trained with it.
//!
//! A region comes from a client. So the number of its points may be huge; but points outside of the image are not visited, and
//! inside there are at most two for each pixel and axis, or as many as the attribute `sampling_ratio` says.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::region::{cell_count, pooled};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct RoiAlign {
    /// The number of cells of a region: rows and columns.
    cells: [usize; 2],
    /// Points along each axis of a cell. `None`: one for each pixel.
    points: Option<u16>,
    scale: f32,
    origin: Origin,
    mode: Mode,
}

/// Where the coordinates of regions start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// At the edge of the first pixel (`half_pixel`).
    Edge,
    /// At the centre of the first pixel. A region has at least the length 1.
    Center,
}

/// What the points of a cell become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Mean,
    Most,
}

/// Builds a `RoiAlign` from its node.
pub fn align(attributes: &Attributes) -> Built {
    // Before version 16, coordinates started at the centre.
    let default = if attributes.version() < 16 { "output_half_pixel" } else { "half_pixel" };
    let origin = match attributes.string("coordinate_transformation_mode", default)? {
        "half_pixel" => Origin::Edge,
        "output_half_pixel" => Origin::Center,
        other => {
            return Err(attributes.wrong(format!(
                "`coordinate_transformation_mode` is {other}: expected half_pixel or output_half_pixel"
            )));
        }
    };
    let mode = match attributes.string("mode", "avg")? {
        "avg" => Mode::Mean,
        "max" => Mode::Most,
        other => return Err(attributes.wrong(format!("`mode` is {other}: expected avg or max"))),
    };
    let cells = [
        cell_count(attributes, attributes.int("output_height", 1)?)?,
        cell_count(attributes, attributes.int("output_width", 1)?)?,
    ];
    let ratio = attributes.int("sampling_ratio", 0)?;
    let points = u16::try_from(ratio)
        .map_err(|_| attributes.wrong(format!("`sampling_ratio` is {ratio}: expected 0 to {}", u16::MAX)))?;
    let points = Some(points).filter(|points| *points > 0);
    built(RoiAlign { cells, points, scale: attributes.float("spatial_scale", 1.0)?, origin, mode })
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let images = inputs.required(2, "batch_indices")?;
        if images.datum_type != DatumType::I64 || images.rank() != 1 {
            return Err(TractError::msg(format!(
                "its input `batch_indices` is of type {:?} and has {} axes: expected INT64 and 1",
                images.datum_type,
                images.rank()
            )));
        }
        Ok(tvec![pooled(inputs.required(0, "X")?, inputs.required(1, "rois")?, 4, self.cells)?])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

/// A point along one axis: the pixels before and after it, and their weights.
#[derive(Debug, Clone, Copy)]
struct Point<T> {
    pixels: [usize; 2],
    weights: [T; 2],
}

/// The points of a cell along one axis.
#[derive(Debug)]
struct Points<T> {
    /// Those inside the image.
    inside: Vec<Point<T>>,
    /// The number of all.
    count: f64,
}

impl RoiAlign {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, regions) = (inputs.required(0, "X")?, inputs.required(1, "rois")?);
        let images = elements::<i64>(inputs.required(2, "batch_indices")?)?;
        let ([batches, channels, height, width], [count, 4]) = (input.shape(), regions.shape()) else {
            return Err(TractError::msg(format!(
                "its input `X` has the shape {:?} and `rois` {:?}: expected 4 axes and [regions, 4]",
                input.shape(),
                regions.shape()
            )));
        };
        if images.len() != *count {
            return Err(TractError::msg(format!(
                "its input `rois` has {count} regions and `batch_indices` {}: expected the same",
                images.len()
            )));
        }
        let pixels = elements::<T>(input)?;
        let mut output = Vec::with_capacity(count * channels * self.cells[0] * self.cells[1]);
        for (region, image) in elements::<T>(regions)?.chunks_exact(4).zip(images) {
            let image = usize::try_from(*image).ok().filter(|image| image < batches).ok_or_else(|| {
                TractError::msg(format!(
                    "its input `batch_indices` has {image}: expected 0 to {}",
                    *batches as i64 - 1
                ))
            })?;
            let across = self.points(region[0], region[2], self.cells[1], *width);
            let down = self.points(region[1], region[3], self.cells[0], *height);
            for channel in 0..*channels {
                let plane = &pixels[(image * channels + channel) * height * width..][..height * width];
                for down in &down {
                    output.extend(across.iter().map(|across| self.of_cell(plane, *width, down, across)));
                }
            }
        }
        Ok(tvec![Tensor::from_shape(&[*count, *channels, self.cells[0], self.cells[1]], &output)?])
    }

    /// The points of each cell along an axis, for a region from `from` to `to`.
    fn points<T: Real>(&self, from: T, to: T, cells: usize, length: usize) -> Vec<Points<T>> {
        let scale = T::of(self.scale.into());
        let offset = if self.origin == Origin::Edge { T::of(0.5) } else { T::zero() };
        let (from, to) = (from * scale - offset, to * scale - offset);
        let size = if self.origin == Origin::Edge { to - from } else { (to - from).max(T::one()) };
        let cell = size / T::of(cells as f64);
        let count = match self.points {
            Some(points) => T::of(points.into()),
            None => cell.ceil().max(T::zero()),
        };
        let count = if count.is_finite() { count } else { T::zero() };
        let of_cell = |at: usize| {
            let start = from + T::of(at as f64) * cell;
            let step = cell / count;
            // From here on, points are computed one by one. Those before are outside of the image.
            let first =
                if step > T::zero() { ((-T::one() - start) / step - T::one()).floor() } else { T::zero() };
            let mut number = first.max(T::zero());
            let mut inside = Vec::new();
            while number < count {
                let place = start + (number + T::of(0.5)) * cell / count;
                if place > T::of(length as f64) && step > T::zero() || place.is_nan() {
                    break;
                }
                inside.extend(point(place, length));
                if number + T::one() == number {
                    break;
                }
                number += T::one();
            }
            Points { inside, count: count.to_f64().unwrap_or(0.0) }
        };
        (0..cells).map(of_cell).collect()
    }

    fn of_cell<T: Real>(&self, plane: &[T], width: usize, down: &Points<T>, across: &Points<T>) -> T {
        let weighted = |y: &Point<T>, x: &Point<T>, row: usize, column: usize| {
            plane[y.pixels[row] * width + x.pixels[column]] * (y.weights[row] * x.weights[column])
        };
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let pairs = down.inside.iter().flat_map(|y| across.inside.iter().map(move |x| (y, x)));
        match self.mode {
            Mode::Mean => {
                let sum: T = pairs
                    .map(|(y, x)| {
                        corners.iter().map(|(row, column)| weighted(y, x, *row, *column)).sum::<T>()
                    })
                    .sum();
                sum / T::of((down.count * across.count).max(1.0))
            }
            Mode::Most => {
                let larger = |most: T, number: T| if number > most || most.is_nan() { number } else { most };
                let most = pairs
                    .flat_map(|(y, x)| corners.iter().map(move |(row, column)| weighted(y, x, *row, *column)))
                    .fold(T::nan(), larger);
                // A point outside of the image is 0, and so is a cell without points.
                let all = down.inside.len() as f64 * across.inside.len() as f64;
                if all == 0.0 || all < down.count * across.count { larger(most, T::zero()) } else { most }
            }
        }
    }
}

/// The pixels around a place. `None` when it is outside of the image.
fn point<T: Real>(place: T, length: usize) -> Option<Point<T>> {
    if !(place >= -T::one() && place <= T::of(length as f64)) || length == 0 {
        return None;
    }
    let place = place.max(T::zero());
    let low = place.to_usize()?;
    if low + 1 >= length {
        return Some(Point { pixels: [length - 1; 2], weights: [T::one(), T::zero()] });
    }
    let after = place - T::of(low as f64);
    Some(Point { pixels: [low, low + 1], weights: [T::one() - after, after] })
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, string};
    use super::*;

    fn run(
        region: [f32; 4],
        image: i64,
        attributes: &[tract_onnx::pb::AttributeProto],
    ) -> TractResult<Vec<f32>> {
        let numbers: Vec<f32> = (0..16).map(|at| at as f32).collect();
        let inputs = [
            Some(Tensor::from_shape(&[1, 1, 4, 4], &numbers)?),
            Some(Tensor::from_shape(&[1, 4], &region)?),
            Some(tensor1(&[image])),
        ];
        let outputs = Trial::new(Domain::Onnx, "RoiAlign", attributes).run(&inputs)?;
        Ok(elements::<f32>(&outputs[0])?.to_vec())
    }

    #[test]
    fn a_cell_is_the_mean_of_its_points() {
        let two = [int("output_height", 2), int("output_width", 2)];
        assert_eq!(run([0.0, 0.0, 4.0, 4.0], 0, &two).unwrap(), [2.5, 4.5, 10.5, 12.5]);
        let center = string("coordinate_transformation_mode", "output_half_pixel");
        assert_eq!(
            run([1.0, 1.0, 1.0, 1.0], 0, &[center]).unwrap(),
            [7.5],
            "a region has at least the length 1"
        );
        let old = Trial::new(Domain::Onnx, "RoiAlign", &two).version(10);
        let input = Tensor::from_shape(&[1, 1, 2, 2], &[0.0_f32, 1.0, 2.0, 3.0]).unwrap();
        let region = Tensor::from_shape(&[1, 4], &[0.0_f32, 0.0, 1.0, 1.0]).unwrap();
        let output = old.run(&[Some(input), Some(region), Some(tensor1(&[0_i64]))]).unwrap();
        assert_eq!(
            elements::<f32>(&output[0]).unwrap(),
            [0.75, 1.25, 1.75, 2.25],
            "coordinates from the centre"
        );
        assert_eq!(run([3.0, 3.0, 1.0, 1.0], 0, &two).unwrap(), [0.0; 4], "a region without points is 0");
    }

    #[test]
    fn the_maximum_is_of_weighted_pixels() {
        let max = [string("mode", "max"), int("sampling_ratio", 1)];
        // The point is between 5, 6, 9 and 10.
        assert_eq!(run([0.0, 0.0, 4.0, 4.0], 0, &max).unwrap(), [2.5]);
    }

    #[test]
    fn a_huge_region_takes_no_longer_than_a_large_one() {
        assert_eq!(run([-1e30, -1e30, 1e30, 1e30], 0, &[]).unwrap(), [0.0]);
        assert!(run([-1e6, -1e6, 1e6, 1e6], 0, &[]).unwrap()[0] < 1e-3);
        assert!(run([f32::NAN, 0.0, f32::INFINITY, 2.0], 0, &[]).is_ok());
    }

    #[test]
    fn an_image_that_is_not_there_is_an_error() {
        assert!(run([0.0; 4], 1, &[]).unwrap_err().to_string().contains("expected 0 to 0"));
        assert!(run([0.0; 4], -1, &[]).is_err());
    }
}
