//! `GridSample`: an image at the points of a grid, interpolated between its pixels. Any number of axes.
//!
//! It follows the reference evaluator, also for cubic interpolation in three dimensions, which onnxruntime does not have.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::affine::Corners;
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct GridSample {
    mode: Mode,
    outside: Outside,
    corners: Corners,
}

/// How a point is computed from pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The nearest pixel; the even one of two.
    Nearest,
    /// Between the nearest 2 pixels along each axis.
    Linear,
    /// Between the nearest 4 pixels along each axis.
    Cubic,
}

/// What is outside of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    /// The nearest pixel.
    Border,
    /// The image, mirrored at its border.
    Reflection,
}

/// Builds a `GridSample` from its node.
pub fn sample(attributes: &Attributes) -> Built {
    let mode = match attributes.string("mode", "linear")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        other => {
            return Err(attributes.wrong(format!("`mode` is {other}: expected linear, nearest or cubic")));
        }
    };
    let outside = match attributes.string("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => {
            return Err(
                attributes.wrong(format!("`padding_mode` is {other}: expected zeros, border or reflection"))
            );
        }
    };
    built(GridSample { mode, outside, corners: Corners::read(attributes)? })
}

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, grid) = (inputs.required(0, "X")?, inputs.required(1, "grid")?);
        expect_float(input, "X")?;
        expect_float(grid, "grid")?;
        if input.rank() < 3 || grid.rank() != input.rank() {
            return Err(TractError::msg(format!(
                "its input `X` has {} axes and `grid` {}: expected 3 or more, and the same number",
                input.rank(),
                grid.rank()
            )));
        }
        let points = &grid.shape[1..grid.rank() - 1];
        Ok(tvec![Kind::new(input.datum_type, input.shape[..2].iter().chain(points).cloned())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl GridSample {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, grid) = (inputs.required(0, "X")?, inputs.required(1, "grid")?);
        let (batch, channels, lengths) = (input.shape()[0], input.shape()[1], &input.shape()[2..]);
        let (first, last) = (grid.shape()[0], grid.shape()[grid.rank() - 1]);
        if first != batch || last != lengths.len() {
            return Err(TractError::msg(format!(
                "its input `X` has the shape {:?} and `grid` {:?}: expected the same batch, and {} numbers for a point",
                input.shape(),
                grid.shape(),
                lengths.len()
            )));
        }
        let shape: TVec<usize> =
            input.shape()[..2].iter().chain(&grid.shape()[1..grid.rank() - 1]).copied().collect();
        let size: usize = lengths.iter().product();
        let points: usize = shape[2..].iter().product();
        let mut output = Tensor::zero::<T>(&shape)?;
        if points > 0 && output.len() > 0 && size == 0 {
            return Err(TractError::msg("its input `X` has no pixels: expected one or more"));
        }
        let grid = grid.cast_to::<T>()?;
        let (grid, pixels) = (elements::<T>(&grid)?, elements::<T>(input)?);
        let mut plain = output.try_as_plain_ram_mut()?;
        let results = plain.as_slice_mut::<T>()?;
        let mut taps = Vec::new();
        for (number, point) in grid.chunks_exact(lengths.len()).enumerate() {
            let (item, at) = (number / points, number % points);
            self.taps(point, lengths, &mut taps);
            for channel in item * channels..(item + 1) * channels {
                let plane = &pixels[channel * size..][..size];
                let sum = taps.iter().map(|(place, weight)| plane[*place] * *weight).sum();
                results[channel * points + at] = sum;
            }
        }
        Ok(tvec![output])
    }

    /// The pixels of a point and their weights.
    fn taps<T: Real>(&self, point: &[T], lengths: &[usize], taps: &mut Vec<(usize, T)>) {
        taps.clear();
        taps.push((0, T::one()));
        // A point has the last axis first.
        for (number, length) in point.iter().rev().zip(lengths) {
            let along = self.along(*number, *length);
            let before = std::mem::take(taps);
            for (place, weight) in before {
                taps.extend(along.iter().map(|(pixel, more)| (place * length + pixel, weight * *more)));
            }
        }
    }

    /// The pixels along an axis and their weights.
    fn along<T: Real>(&self, number: T, length: usize) -> TVec<(usize, T)> {
        let border = Border::new(self.corners, length);
        let place = border.denormalized(number);
        let place = if self.mode == Mode::Nearest { rounded(place) } else { place };
        let place = if border.contains(place) { place } else { self.moved(place, &border) };
        // A place that is so far outside has no pixels; a NaN has all its weights NaN.
        let place = place.max(T::of(-1e6)).min(T::of(1e6 + length as f64));
        let low = place.floor();
        let from = low.to_i64().unwrap_or(0);
        let part = place - low;
        let weights: TVec<(i64, T)> = match self.mode {
            Mode::Nearest => tvec![(from, T::one())],
            Mode::Linear => tvec![(from, T::one() - part), (from + 1, part)],
            Mode::Cubic => (from - 1..).zip(cubic(part)).collect(),
        };
        let pixel = |(at, weight)| self.pixel(at, &border).map(|at| (at, weight));
        weights.into_iter().filter_map(pixel).collect()
    }

    /// A place outside of the border, moved into it. Without a rule it stays.
    fn moved<T: Real>(&self, place: T, border: &Border) -> T {
        match self.outside {
            Outside::Zeros => place,
            Outside::Border => place.max(T::zero()).min(T::of(border.length as f64 - 1.0)),
            Outside::Reflection => T::of(border.reflected(place.to_f64().unwrap_or(f64::NAN))),
        }
    }

    /// The pixel that stands for one that may be outside. `None` for 0.
    fn pixel(&self, at: i64, border: &Border) -> Option<usize> {
        let last = border.length as i64 - 1;
        match self.outside {
            Outside::Zeros if !(0..=last).contains(&at) => None,
            Outside::Reflection => Some((border.reflected(at as f64) as i64).clamp(0, last) as usize),
            _ => Some(at.clamp(0, last) as usize),
        }
    }
}

/// The ends of an axis, in pixels.
struct Border {
    length: usize,
    from: f64,
    to: f64,
    corners: Corners,
}

impl Border {
    fn new(corners: Corners, length: usize) -> Border {
        let (from, to) = match corners {
            Corners::Centers => (0.0, length as f64 - 1.0),
            Corners::Edges => (-0.5, length as f64 - 0.5),
        };
        Border { length, from, to, corners }
    }

    /// The place in pixels of a coordinate from −1 to 1.
    fn denormalized<T: Real>(&self, number: T) -> T {
        let (length, one, two) = (T::of(self.length as f64), T::one(), T::of(2.0));
        match self.corners {
            Corners::Centers => (number + one) / two * (length - one),
            Corners::Edges => ((number + one) * length - one) / two,
        }
    }

    fn contains<T: Real>(&self, place: T) -> bool {
        place >= T::of(self.from) && place <= T::of(self.to)
    }

    /// The place that mirrors this one, inside the border.
    fn reflected(&self, place: f64) -> f64 {
        let range = self.to - self.from;
        if (self.from..=self.to).contains(&place) {
            return place;
        }
        if range <= 0.0 || !place.is_finite() {
            return self.from.max(0.0);
        }
        let beyond = if place < self.from { self.from - place } else { place - self.to };
        let (times, rest) = ((beyond / range).floor(), beyond % range);
        let is_even = times % 2.0 == 0.0;
        if (place < self.from) == is_even { self.from + rest } else { self.to - rest }
    }
}

/// The nearest integer; the even one of two.
fn rounded<T: Real>(number: T) -> T {
    T::of(number.to_f64().unwrap_or(f64::NAN).round_ties_even())
}

/// The weights of four pixels around a part of the way between the second and the third.
fn cubic<T: Real>(part: T) -> [T; 4] {
    let alpha = T::of(-0.75);
    let [one, two, three, four, five, eight] = [1.0, 2.0, 3.0, 4.0, 5.0, 8.0].map(T::of);
    let far = |at: T| ((alpha * at - five * alpha) * at + eight * alpha) * at - four * alpha;
    let near = |at: T| ((alpha + two) * at - (alpha + three)) * at * at + one;
    [far(part + one), near(part), near(one - part), far(two - part)]
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, string};
    use super::*;

    /// The results of a row of the pixels 1, 2, 3, 4 at these points.
    fn run(mode: &str, outside: &str, corners: i64, points: &[f32]) -> Vec<f32> {
        let attributes =
            [string("mode", mode), string("padding_mode", outside), int("align_corners", corners)];
        let inputs = [
            Some(Tensor::from_shape(&[1, 1, 4], &[1.0_f32, 2.0, 3.0, 4.0]).unwrap()),
            Some(Tensor::from_shape(&[1, points.len(), 1], points).unwrap()),
        ];
        let outputs = Trial::new(Domain::Onnx, "GridSample", &attributes).run(&inputs).unwrap();
        elements::<f32>(&outputs[0]).unwrap().to_vec()
    }

    #[test]
    fn points_between_pixels() {
        assert_eq!(run("linear", "zeros", 1, &[-1.0, 0.0, 1.0, 1.5]), [1.0, 2.5, 4.0, 1.0]);
        assert_eq!(run("linear", "zeros", 0, &[-1.0, 0.0, 1.0]), [0.5, 2.5, 2.0]);
        assert_eq!(
            run("nearest", "zeros", 0, &[0.0, 0.5, -2.0]),
            [3.0, 3.0, 0.0],
            "the even one of two pixels"
        );
        assert_eq!(run("cubic", "border", 1, &[0.0]), [2.5]);
    }

    #[test]
    fn points_outside() {
        assert_eq!(run("linear", "border", 0, &[-3.0, 9.0, f32::INFINITY]), [1.0, 4.0, 4.0]);
        assert_eq!(run("linear", "reflection", 1, &[-1.0 - 2.0 / 3.0, 1.0 + 4.0 / 3.0]), [2.0, 2.0]);
        assert_eq!(run("nearest", "reflection", 0, &[-1.5, 1e30]).len(), 2);
        assert!(
            run("linear", "zeros", 0, &[f32::NAN])[0].is_nan()
                || run("linear", "zeros", 0, &[f32::NAN])[0] == 0.0
        );
    }

    #[test]
    fn two_axes_take_x_first() {
        let inputs = [
            Some(Tensor::from_shape(&[1, 1, 2, 3], &[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap()),
            Some(Tensor::from_shape(&[1, 1, 1, 2], &[1.0_f32, -1.0]).unwrap()),
        ];
        let outputs =
            Trial::new(Domain::Onnx, "GridSample", &[int("align_corners", 1)]).run(&inputs).unwrap();
        assert_eq!(elements::<f32>(&outputs[0]).unwrap(), [2.0]);
    }
}
