//! The result kind `detections`: objects in an image. Each decoder has a file of its own; what follows is the same for
//! all: candidates in the order of their scores, non-maximum suppression, labels, and the pixels of the image.
//!
//! What belongs here: numbers of outputs in, detections out. What does not: images and tensors.
//!
//! Invariant: the time grows with the size of the outputs, and with candidates × detections. It does not grow with
//! the square of the candidates.

mod anchor_free;
mod candidates;
mod detr;
mod end_to_end;
mod overlap;
mod rule;
mod shape;
mod ssd;
mod yolo;

use serde::Serialize;

use super::coordinates::{Canvas, Frame, around};
use super::settings::{Settled, Wish};
use super::view::View;
use super::{Declared, Made};
use crate::model::manifest::{Coordinates, DetectionsManifest, Suppression};
use candidates::{Candidate, Candidates};
use overlap::Suppressor;
use rule::Rule;
use shape::Shape;

pub use shape::canvas_is_unknown;

/// One row of the outputs, as a decoder reads it.
trait Head {
    /// Offers every place of the outputs with its best score, or with the score of every class.
    fn find(&self, candidates: &mut Candidates);

    /// The box of a place, in pixels of the input tensor.
    fn shape(&self, place: u32) -> Shape;

    /// The keypoints of a place: x and y in pixels of the input tensor, and maybe a score.
    fn keypoints(&self, _place: u32) -> Vec<Vec<f32>> {
        Vec::new()
    }

    /// The coefficients of a place for the prototypes of masks.
    fn coefficients(&self, _place: u32) -> Vec<f32> {
        Vec::new()
    }
}

/// One object in an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// The label of its class, if there are labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub class_id: u32,
    pub score: f32,
    /// Left, top, right, bottom. For a turned box: of the smallest upright box around it.
    #[serde(rename = "box")]
    pub sides: [f32; 4],
    /// The corners of a turned box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corners: Option<[[f32; 2]; 4]>,
    /// x, y, and maybe a score, for each keypoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keypoints: Vec<Vec<f32>>,
}

/// The thresholds of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    pub score: f32,
    pub overlap: f32,
    pub max: usize,
}

impl Thresholds {
    /// The thresholds among the settings of a request.
    pub fn of(settled: &Settled) -> Thresholds {
        Thresholds { score: settled.numbers[0], overlap: settled.numbers[1], max: settled.counts[0] }
    }
}

/// A detection, and what its mask is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub detection: Detection,
    /// Left, top, right, bottom in pixels of the input tensor.
    pub bounds: [f32; 4],
    /// Its coefficients for the prototypes of masks; empty when it has none.
    pub coefficients: Vec<f32>,
}

/// Makes detections of outputs.
#[derive(Debug)]
pub struct Detections {
    rule: Rule,
    /// What the rule is made of, when each request has its own width and height.
    open: Option<Box<(DetectionsManifest, Vec<Declared>)>>,
    suppression: Suppression,
    labels: Vec<String>,
    coordinates: Coordinates,
    wish: Wish,
}

impl Detections {
    /// Makes the decoder that `spec` describes. `canvas` is the width and height of the input tensor.
    /// Returns also the places in `outputs` of the outputs that it reads, in its order.
    ///
    /// Errors: the outputs have shapes that the decoder cannot read.
    pub fn new(
        spec: &DetectionsManifest,
        outputs: &[Declared],
        labels: Vec<String>,
        canvas: Canvas,
    ) -> Result<(Detections, Vec<usize>), String> {
        let classes = Some(labels.len()).filter(|count| *count > 0);
        let (rule, sources) = Rule::new(spec, outputs, classes, canvas.at_load())?;
        let suppression = spec.nms.unwrap_or_else(|| rule.usual_suppression());
        let wish = Wish::new()
            .number("score_threshold", spec.score_threshold, 0.0, 1.0)
            .number("iou_threshold", spec.iou_threshold, 0.0, 1.0)
            .count("max", spec.max);
        let open = matches!(canvas, Canvas::Open { .. }).then(|| Box::new((spec.clone(), outputs.to_vec())));
        Ok((Detections { rule, open, suppression, labels, coordinates: spec.coordinates, wish }, sources))
    }

    /// The thresholds that a request can set.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The labels of the classes; empty when there are none.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether it finds faces: its only label says so, or it has none and is of a form that is made for faces.
    pub fn finds_faces(&self) -> bool {
        match self.labels.as_slice() {
            [only] => only.eq_ignore_ascii_case("face"),
            [] => matches!(self.rule, Rule::AnchorFree(..)),
            _ => false,
        }
    }

    /// The coordinates of answers about image files.
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// The most bytes of the lists of candidates of one row, and of the boxes that are kept.
    pub fn memory(&self, outputs: &[View<'_>]) -> usize {
        self.rule.places(outputs).saturating_mul(size_of::<Candidate>() + size_of::<Shape>())
    }

    /// The number of rows of the outputs; `None` when their shapes do not say it.
    ///
    /// Errors: the outputs do not have the same number.
    pub fn rows(&self, outputs: &[View<'_>]) -> Result<Option<usize>, String> {
        self.rule.rows(outputs)
    }

    /// The detections of one row. `outputs` are those that the decoder reads, in its order.
    ///
    /// Errors: the outputs have other shapes than the decoder can read.
    pub fn of_row(
        &self,
        outputs: &[View<'_>],
        row: usize,
        frame: &Frame,
        thresholds: Thresholds,
    ) -> Result<Made<Vec<Detection>>, String> {
        let Made { answer, non_finite } = self.found(outputs, row, frame, thresholds)?;
        Ok(Made { answer: answer.into_iter().map(|found| found.detection).collect(), non_finite })
    }

    /// The detections of one row, with what masks are made from.
    pub fn found(
        &self,
        outputs: &[View<'_>],
        row: usize,
        frame: &Frame,
        thresholds: Thresholds,
    ) -> Result<Made<Vec<Found>>, String> {
        let own = self.rule_for(frame.canvas())?;
        let head = own.as_ref().unwrap_or(&self.rule).head(outputs, row)?;
        let mut candidates = Candidates::above(thresholds.score);
        head.find(&mut candidates);
        let mut non_finite = candidates.non_finite;
        let mut ranking = candidates.into_ranking();
        ranking.retain(|candidate| {
            let is_finite = head.shape(candidate.place).is_finite();
            non_finite += usize::from(!is_finite);
            is_finite
        });
        let mut suppressor = Suppressor::new(thresholds.overlap, self.suppression);
        let mut found = Vec::new();
        while found.len() < thresholds.max
            && let Some(candidate) = ranking.next()
        {
            let shape = head.shape(candidate.place);
            if suppressor.keeps(&candidate, &shape) {
                found.push(Found {
                    detection: self.detection(&candidate, &shape, &*head, frame),
                    bounds: shape.bounds(),
                    coefficients: head.coefficients(candidate.place),
                });
            }
        }
        Ok(Made { answer: found, non_finite })
    }

    /// The rule for a request with its own width and height; `None` when all requests have the same.
    fn rule_for(&self, canvas: Option<[usize; 2]>) -> Result<Option<Rule>, String> {
        let Some((spec, outputs)) = self.open.as_deref() else { return Ok(None) };
        let classes = Some(self.labels.len()).filter(|count| *count > 0);
        Rule::new(spec, outputs, classes, canvas).map(|(rule, _)| Some(rule))
    }

    fn detection(&self, candidate: &Candidate, shape: &Shape, head: &dyn Head, frame: &Frame) -> Detection {
        let corners = shape.corners().map(|corners| corners.map(|corner| frame.point(corner)));
        let sides = match &corners {
            Some(corners) => around(corners),
            None => frame.sides(shape.bounds()),
        };
        let keypoints = head.keypoints(candidate.place).into_iter();
        Detection {
            label: self.labels.get(candidate.class as usize).cloned(),
            class_id: candidate.class,
            score: candidate.score,
            sides,
            corners,
            keypoints: keypoints.map(|point| moved(point, frame)).collect(),
        }
    }
}

/// A keypoint in the coordinates of the answer.
fn moved(mut point: Vec<f32>, frame: &Frame) -> Vec<f32> {
    if let [x, y, ..] = point.as_mut_slice() {
        [*x, *y] = frame.point([*x, *y]);
    }
    point
}
