//! The result kind `regions`: places of text from a map of probabilities (differentiable binarization, DB). Connected
//! pixels above the threshold become the smallest rectangle around them, which is then moved outwards, because the map
//! shows text smaller than it is. The steps and defaults are those of PP-OCR.

mod pieces;
mod rectangle;

use serde::Serialize;

use super::coordinates::Frame;
use super::settings::Wish;
use super::view::{View, show};
use super::{Declared, Made, Sources};
use crate::model::manifest::{Coordinates, RegionsManifest};
use pieces::{mask, pieces};
use rectangle::{Rectangle, hull};

/// One region of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Region {
    /// Left upper corner, right upper, right lower, left lower, as in the tensor's image.
    pub polygon: [[f32; 2]; 4],
    /// The mean probability in the rectangle.
    pub score: f32,
}

/// The settings of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    pub pixel: f32,
    pub score: f32,
    pub unclip_ratio: f32,
    pub max: usize,
}

/// Makes regions of an output.
#[derive(Debug)]
pub struct Regions {
    min_size: f32,
    dilation: bool,
    coordinates: Coordinates,
    wish: Wish,
}

impl Regions {
    /// Makes the decoder that `spec` describes, and the place of its output in `outputs`.
    ///
    /// Errors: the output is no map.
    pub fn new(spec: &RegionsManifest, outputs: &[Declared]) -> Result<(Regions, Vec<usize>), String> {
        let mut sources = Sources::new(outputs);
        let output = sources.one(spec.output.as_deref())?;
        sources.checked(output, check)?;
        let wish = Wish::new()
            .number("threshold", spec.threshold, 0.0, 1.0)
            .number("score_threshold", spec.score_threshold, 0.0, 1.0)
            .number("unclip_ratio", spec.unclip_ratio, 0.0, 100.0)
            .count("max", spec.max);
        let regions =
            Regions { min_size: spec.min_size, dilation: spec.dilation, coordinates: spec.coordinates, wish };
        Ok((regions, sources.into_places()))
    }

    /// What a request can set.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The coordinates of answers about image files.
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// The most bytes of the lists of one row: for each pixel a sum, whether it was seen, and its place in the list of
    /// those whose neighbours are still to be looked at.
    pub fn memory(map: View<'_>) -> usize {
        let pixels: usize = map.shape().iter().skip(1).product();
        pixels.saturating_mul(size_of::<f64>() + size_of::<usize>() + 1)
    }

    /// The number of rows of the output.
    pub fn rows(&self, output: View<'_>) -> Result<usize, String> {
        check(&output.known_shape())?;
        Ok(output.shape()[0])
    }

    /// The regions of one row, in the order in which their first pixels appear, row by row.
    pub fn of_row(
        &self,
        output: View<'_>,
        row: usize,
        frame: &Frame,
        thresholds: Thresholds,
    ) -> Result<Made<Vec<Region>>, String> {
        let [.., height, width] = output.shape() else { return Err("the output is no map".into()) };
        let map = Map::new(*width, output.row(row).values());
        let scale = match frame.canvas() {
            Some(canvas) => [canvas[0] as f32 / *width as f32, canvas[1] as f32 / *height as f32],
            None => [1.0, 1.0],
        };
        let mut found = Vec::new();
        for outline in pieces(mask(map.values, *width, thresholds.pixel, self.dilation), *width) {
            if found.len() == thresholds.max {
                break;
            }
            let rectangle = Rectangle::around(&hull(outline));
            if rectangle.shorter_side() < self.min_size {
                continue;
            }
            let score = map.mean(&rectangle.corners());
            if score < thresholds.score {
                continue;
            }
            let wider = rectangle.unclipped(thresholds.unclip_ratio);
            if wider.shorter_side() < self.min_size + 2.0 {
                continue;
            }
            let place = |[x, y]: [f32; 2]| {
                let (x, y) = (x.clamp(0.0, *width as f32), y.clamp(0.0, *height as f32));
                frame.inside([x * scale[0], y * scale[1]])
            };
            found.push(Region { polygon: wider.corners().map(place), score });
        }
        Ok(Made { answer: found, non_finite: map.non_finite })
    }
}

fn check(shape: &[Option<usize>]) -> Result<(), String> {
    match shape {
        [_, Some(1) | None, _, _] | [_, _, _] => Ok(()),
        _ => {
            Err(format!("the shape is {}: expected [N, 1, height, width] or [N, height, width]", show(shape)))
        }
    }
}

/// A map of probabilities, and the sums that make the mean of an area fast.
struct Map<'a> {
    width: usize,
    values: &'a [f32],
    /// For each row of the map, the sum of the numbers before each column: `width + 1` sums.
    sums: Vec<f64>,
    non_finite: usize,
}

impl<'a> Map<'a> {
    fn new(width: usize, values: &'a [f32]) -> Map<'a> {
        let mut sums = Vec::with_capacity(values.len() + values.len().checked_div(width).unwrap_or(0));
        let mut non_finite = 0;
        for row in values.chunks_exact(width.max(1)) {
            let mut sum = 0.0;
            sums.push(sum);
            for value in row {
                if value.is_finite() {
                    sum += f64::from(*value);
                } else {
                    non_finite += 1;
                }
                sums.push(sum);
            }
        }
        Map { width, values, sums, non_finite }
    }

    /// The mean of the pixels in a convex area and on its border. As in PP-OCR, corners are cut to whole pixels first, and
    /// a pixel is on the border when its centre is at most half a pixel away.
    fn mean(&self, corners: &[[f32; 2]; 4]) -> f32 {
        let height = self.values.len() / self.width;
        let corners = corners.map(|corner| corner.map(|side| (side + 1e-3).floor()));
        let rows = corners.map(|[_, y]| y);
        let first = rows.iter().copied().fold(f32::INFINITY, f32::min);
        let last = rows.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let [top, bottom] = [first, last].map(|row| row.clamp(0.0, (height - 1) as f32) as usize);
        let (mut sum, mut count) = (0.0, 0);
        for y in top..=bottom {
            let near = [-0.5, 0.0, 0.5].map(|off| span(&corners, (y as f32 + off).clamp(first, last)));
            let spans = near.into_iter().flatten();
            let Some((left, right)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { continue };
            let most = (self.width - 1) as f32;
            let [left, right] = [left, right].map(|x| x.round().clamp(0.0, most) as usize);
            let sums = &self.sums[y * (self.width + 1)..][..self.width + 1];
            sum += sums[right + 1] - sums[left];
            count += right + 1 - left;
        }
        if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
    }
}

/// Where the line at `y` enters and leaves a convex area.
fn span(corners: &[[f32; 2]; 4], y: f32) -> Option<(f32, f32)> {
    let (mut left, mut right) = (f32::INFINITY, f32::NEG_INFINITY);
    for at in 0..4 {
        let ([x1, y1], [x2, y2]) = (corners[at], corners[(at + 1) % 4]);
        if y < y1.min(y2) || y > y1.max(y2) {
            continue;
        }
        let ends = match y1 == y2 {
            true => [x1, x2],
            false => [x1 + (x2 - x1) * (y - y1) / (y2 - y1); 2],
        };
        left = left.min(ends[0]).min(ends[1]);
        right = right.max(ends[0]).max(ends[1]);
    }
    (left <= right).then_some((left, right))
}
