//! Several grids, each with outputs of its own for scores, boxes and keypoints: the face detectors SCRFD and YuNet.

use super::Head;
use super::candidates::Candidates;
use super::shape::Shape;
use crate::model::manifest::{HeadForm, ScoreActivation};
use crate::processing::results::activation::sigmoid;
use crate::processing::results::view::{View, show};

/// How the outputs are read.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorFreeRule {
    pub form: HeadForm,
    pub activation: ScoreActivation,
    pub strides: Vec<StrideRule>,
}

/// One grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrideRule {
    pub stride: usize,
    pub columns: usize,
    pub rows: usize,
}

/// The outputs of one grid: one value for each.
#[derive(Debug, Clone, Copy)]
pub struct Parts<T> {
    pub scores: T,
    pub objectness: Option<T>,
    pub boxes: T,
    pub keypoints: Option<T>,
}

impl<T> Parts<T> {
    /// Applies a function to each.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Parts<U> {
        Parts {
            scores: change(self.scores),
            objectness: self.objectness.map(&mut change),
            boxes: change(self.boxes),
            keypoints: self.keypoints.map(&mut change),
        }
    }
}

impl StrideRule {
    fn cells(&self) -> usize {
        self.columns * self.rows
    }

    /// Checks the shapes of the grid's outputs, in which some lengths may be unknown. An output may have no axis of
    /// rows; it then belongs to one image.
    fn check(&self, parts: Parts<&[Option<usize>]>) -> Result<(), String> {
        let wrong = |part: &str, shape: &[Option<usize>], numbers: &str| {
            Err(format!(
                "stride {}: the shape of `{part}` is {}: expected [N, anchors, {numbers}] or [anchors, {numbers}], with \
                 the same number of anchors in each output: one or more for each of {} × {} cells",
                self.stride,
                show(shape),
                self.columns,
                self.rows
            ))
        };
        let is_one = |length: Option<usize>| length.is_none_or(|length| length == 1);
        let anchors = match parts.scores {
            [.., anchors, last] if is_one(*last) => *anchors,
            _ => return wrong("scores", parts.scores, "1"),
        };
        if parts.scores.len() > 3
            || anchors.is_some_and(|count| count == 0 || !count.is_multiple_of(self.cells()))
        {
            return wrong("scores", parts.scores, "1");
        }
        let rank = parts.scores.len();
        let same = |shape: &[Option<usize>], fits: &dyn Fn(usize) -> bool| match shape {
            [.., count, last] => {
                shape.len() == rank
                    && (count.is_none() || anchors.is_none() || *count == anchors)
                    && last.is_none_or(fits)
            }
            _ => false,
        };
        if !same(parts.boxes, &|last| last == 4) {
            return wrong("boxes", parts.boxes, "4");
        }
        match (parts.objectness, parts.keypoints) {
            (Some(shape), _) if !same(shape, &|last| last == 1) => wrong("objectness", shape, "1"),
            (_, Some(shape)) if !same(shape, &|last| last > 0 && last.is_multiple_of(2)) => {
                wrong("keypoints", shape, "2 for each keypoint")
            }
            _ => Ok(()),
        }
    }
}

impl AnchorFreeRule {
    /// Checks the shapes of all outputs.
    pub fn check(&self, parts: &[Parts<&[Option<usize>]>]) -> Result<(), String> {
        self.strides.iter().zip(parts).try_for_each(|(stride, parts)| stride.check(*parts))
    }

    /// Reads one row of the outputs, which are in the order of the strides.
    pub fn bind<'a>(&'a self, parts: &[Parts<View<'a>>], row: usize) -> Result<AnchorFree<'a>, String> {
        let mut grids = Vec::with_capacity(parts.len());
        let mut first = 0;
        for (stride, parts) in self.strides.iter().zip(parts) {
            let shapes = parts.map(|part| part.known_shape());
            stride.check(Parts {
                scores: &shapes.scores,
                objectness: shapes.objectness.as_deref(),
                boxes: &shapes.boxes,
                keypoints: shapes.keypoints.as_deref(),
            })?;
            let parts = parts.map(|part| if part.shape().len() == 3 { part.row(row) } else { part });
            let anchors = parts.scores.values().len();
            grids.push(BoundGrid { stride: *stride, parts: parts.map(|part| part.values()), anchors, first });
            first += anchors;
        }
        Ok(AnchorFree { rule: self, grids })
    }
}

/// One row of the outputs of a grid.
#[derive(Debug)]
struct BoundGrid<'a> {
    stride: StrideRule,
    parts: Parts<&'a [f32]>,
    anchors: usize,
    /// The place of its first anchor among those of all grids.
    first: usize,
}

/// One row of the outputs.
#[derive(Debug)]
pub struct AnchorFree<'a> {
    rule: &'a AnchorFreeRule,
    grids: Vec<BoundGrid<'a>>,
}

impl AnchorFree<'_> {
    /// The grid of a place, the anchor in it, and the corner of the anchor's cell: column and row.
    fn anchor(&self, place: u32) -> (&BoundGrid<'_>, usize, [f32; 2]) {
        let grid = self.grids.iter().rev().find(|grid| grid.first <= place as usize);
        let grid = grid.expect("a place comes from a grid");
        let anchor = place as usize - grid.first;
        let cell = anchor / (grid.anchors / grid.stride.cells());
        let corner = [(cell % grid.stride.columns) as f32, (cell / grid.stride.columns) as f32];
        (grid, anchor, corner)
    }
}

impl Head for AnchorFree<'_> {
    fn find(&self, candidates: &mut Candidates) {
        let active = |score: f32| match self.rule.activation {
            ScoreActivation::Sigmoid => sigmoid(score),
            _ => score,
        };
        for grid in &self.grids {
            for anchor in 0..grid.anchors {
                let mut score = active(grid.parts.scores[anchor]);
                if let Some(objectness) = grid.parts.objectness {
                    // As in OpenCV's FaceDetectorYN; NaN stays NaN.
                    score = (score.clamp(0.0, 1.0) * active(objectness[anchor]).clamp(0.0, 1.0)).sqrt();
                }
                candidates.offer(score, 0, (grid.first + anchor) as u32);
            }
        }
    }

    fn shape(&self, place: u32) -> Shape {
        let (grid, anchor, corner) = self.anchor(place);
        let stride = grid.stride.stride as f32;
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| grid.parts.boxes[anchor * 4 + at]);
        let [x, y] = corner;
        Shape::Upright(match self.rule.form {
            HeadForm::Scrfd => [x - a, y - b, x + c, y + d].map(|side| side * stride),
            HeadForm::Yunet => {
                let (x, y) = (x + a, y + b);
                let (half_width, half_height) = (c.exp() / 2.0, d.exp() / 2.0);
                [x - half_width, y - half_height, x + half_width, y + half_height].map(|side| side * stride)
            }
        })
    }

    fn keypoints(&self, place: u32) -> Vec<Vec<f32>> {
        let (grid, anchor, corner) = self.anchor(place);
        let Some(keypoints) = grid.parts.keypoints else { return Vec::new() };
        let stride = grid.stride.stride as f32;
        let numbers = keypoints.len() / grid.anchors;
        let point = |offset: &[f32; 2]| [0, 1].map(|axis| (corner[axis] + offset[axis]) * stride).to_vec();
        keypoints[anchor * numbers..][..numbers].as_chunks::<2>().0.iter().map(point).collect()
    }
}
