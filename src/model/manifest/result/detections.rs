//! The result kind `detections`: objects in an image, each with a box, a class and a score.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::checks::within;
use super::{Bounded, Labels};

/// Detections in one answer.
pub const MOST_DETECTIONS: usize = 3000;
/// Keypoints of one detection.
const MOST_KEYPOINTS: usize = 1024;
/// Entries of `heads` and `strides`.
const MOST_HEADS: usize = 16;
/// Pixels from one cell of a grid to the next.
const MOST_STRIDE: usize = 1 << 12;

/// How outputs become detections. `result` of `model.json` with the kind `detections`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionsManifest {
    /// The form of the outputs.
    pub decoder: DetectionDecoder,
    /// The output, for a decoder that reads one. Default: the only output.
    pub output: Option<String>,
    /// The outputs by their parts, for a decoder that reads several: `logits` and `boxes` (`detr`), or `boxes`,
    /// `scores`, `classes` and `count` (`ssd`).
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// The outputs of each stride, for `anchor_free_heads`.
    #[serde(default)]
    pub heads: Vec<HeadManifest>,
    /// How the heads of `anchor_free_heads` encode boxes and scores.
    pub form: Option<HeadForm>,
    /// Labels of the classes. Default: the class names in the file's metadata, if it has them.
    pub labels: Option<Labels>,
    /// Only detections with a larger score are returned.
    #[serde(default = "score_threshold")]
    pub score_threshold: Bounded<f32>,
    /// Of two detections that overlap more, only the one with the larger score is returned. The overlap is the
    /// intersection divided by the union.
    #[serde(default = "iou_threshold")]
    pub iou_threshold: Bounded<f32>,
    /// The most detections for an image.
    #[serde(default = "max")]
    pub max: Bounded<usize>,
    /// Which detections are compared by their overlap. The default depends on the decoder.
    pub nms: Option<Suppression>,
    /// Applied to the scores. Default: `sigmoid` for `detr`, otherwise `none`.
    pub activation: Option<ScoreActivation>,
    /// What the four numbers of a box are. The default depends on the decoder.
    #[serde(rename = "box")]
    pub box_form: Option<BoxForm>,
    /// The unit of these numbers. The default depends on the decoder.
    pub unit: Option<BoxUnit>,
    /// For `yolo`: which axis has the numbers of an anchor. Default: the axis whose length fits the labels, otherwise
    /// the shorter axis.
    pub order: Option<Order>,
    /// Columns of a row, for `end_to_end`.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Pixels from one cell of a grid to the next, for `yolox`. Default: 8, 16, 32.
    #[serde(default)]
    pub strides: Vec<usize>,
    /// Keypoints of each detection.
    pub keypoints: Option<KeypointsManifest>,
    /// True when the last number of each anchor is the angle of its box.
    #[serde(default)]
    pub rotated: bool,
    /// For `yolo`: numbers of each anchor that belong to masks. They follow the scores of the classes. Default: 0.
    #[serde(default)]
    pub mask_coefficients: usize,
    /// The coordinates for image files. Default: `image`.
    #[serde(default)]
    pub coordinates: Coordinates,
}

pub(super) fn score_threshold() -> Bounded<f32> {
    Bounded { default: 0.25, least: None, most: None }
}

pub(super) fn iou_threshold() -> Bounded<f32> {
    Bounded { default: 0.45, least: None, most: None }
}

fn max() -> Bounded<usize> {
    Bounded { default: 300, least: None, most: None }
}

/// The form of the outputs of a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectionDecoder {
    /// One output, `[N, 4 + classes, anchors]` or its transpose: YOLOv8, YOLO11.
    Yolo,
    /// One output, `[N, anchors, 5 + classes]` or its transpose: YOLOv5, YOLOv7.
    YoloObjectness,
    /// One output, `[N, anchors, 5 + classes]`, in cells of grids: YOLOX.
    Yolox,
    /// One output, `[N, n, 6]`: finished boxes.
    EndToEnd,
    /// `logits` `[N, queries, classes]` and `boxes` `[N, queries, 4]`: DETR, RT-DETR, RF-DETR, D-FINE.
    Detr,
    /// `boxes` `[N, n, 4]`, `scores` `[N, n]`, `classes` `[N, n]` and `count` `[N]`: TensorFlow's detectors, torchvision.
    Ssd,
    /// Several outputs for each stride: SCRFD, YuNet.
    AnchorFreeHeads,
}

/// The outputs of one stride.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadManifest {
    /// Pixels from one cell of the grid to the next.
    pub stride: usize,
    /// The output with the scores of the cells.
    pub scores: String,
    /// The output with a second score for each cell (YuNet).
    pub objectness: Option<String>,
    /// The output with four numbers for each cell.
    pub boxes: String,
    /// The output with two numbers for each keypoint of a cell.
    pub keypoints: Option<String>,
}

/// How the heads of `anchor_free_heads` encode boxes and scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadForm {
    /// Distances from the cell's corner to the four sides, in strides; one or more anchors for each cell.
    Scrfd,
    /// The centre's offset from the cell's corner, and the logarithms of width and height, in strides. The score is
    /// the square root of score × objectness.
    Yunet,
}

/// Which detections are compared by their overlap (non-maximum suppression).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// Only detections of the same class.
    PerClass,
    /// All detections of an image.
    All,
    /// No detections: the model has done it.
    None,
}

/// The function that is applied to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreActivation {
    None,
    /// Every score becomes a probability of its own.
    Sigmoid,
    /// The scores of a query become probabilities. The last class means "no object", and is no result.
    Softmax,
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxForm {
    /// Centre, width and height.
    Cxcywh,
    /// Left, top, right, bottom.
    Xyxy,
    /// Top, left, bottom, right.
    Yxyx,
    /// Left, top, width, height.
    Xywh,
}

/// The unit of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxUnit {
    /// Pixels of the input tensor.
    Pixels,
    /// Parts of the input tensor's width and height, from 0 to 1.
    Normalized,
}

/// Which axis of `[N, a, b]` has the numbers of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `[N, numbers, anchors]`.
    ChannelsFirst,
    /// `[N, anchors, numbers]`.
    ChannelsLast,
}

/// A column of a finished box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    X1,
    Y1,
    X2,
    Y2,
    Cx,
    Cy,
    W,
    H,
    Score,
    Class,
    /// In radians, clockwise.
    Angle,
    /// The row of the request that the box belongs to.
    Batch,
    /// A column that has no meaning here.
    Unused,
}

/// Keypoints of each detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeypointsManifest {
    /// The number of keypoints.
    pub count: usize,
    /// Numbers of each keypoint: x and y, or x, y and a score. Default: 2.
    #[serde(default = "two")]
    pub dimensions: usize,
}

fn two() -> usize {
    2
}

/// The coordinates in answers about image files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// Pixels of the file as it is stored: what the `image` settings did is undone, EXIF orientation too.
    #[default]
    Image,
    /// Pixels of the image as viewers show it, upright as EXIF says.
    Upright,
}

impl DetectionsManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        self.score_threshold.validate("score_threshold", 0.0, 1.0)?;
        self.iou_threshold.validate("iou_threshold", 0.0, 1.0)?;
        self.max.validate("max", 1, MOST_DETECTIONS)?;
        if let Some(keypoints) = self.keypoints {
            within("keypoints.count", Some(keypoints.count), 1, MOST_KEYPOINTS)?;
            within("keypoints.dimensions", Some(keypoints.dimensions), 2, 3)?;
        }
        within("mask_coefficients", Some(self.mask_coefficients), 0, MOST_KEYPOINTS)?;
        within("heads (their number)", Some(self.heads.len()), 0, MOST_HEADS)?;
        within("strides (their number)", Some(self.strides.len()), 0, MOST_HEADS)?;
        for stride in self.strides.iter().chain(self.heads.iter().map(|head| &head.stride)) {
            within("stride", Some(*stride), 1, MOST_STRIDE)?;
        }
        self.check_fields()
    }

    /// Refuses fields that the decoder does not read, and asks for those that it needs.
    fn check_fields(&self) -> Result<(), String> {
        use DetectionDecoder::*;
        let fields: [(&str, bool, &[DetectionDecoder]); 13] = [
            ("output", self.output.is_some(), &[Yolo, YoloObjectness, Yolox, EndToEnd]),
            ("outputs", !self.outputs.is_empty(), &[Detr, Ssd]),
            ("heads", !self.heads.is_empty(), &[AnchorFreeHeads]),
            ("form", self.form.is_some(), &[AnchorFreeHeads]),
            ("activation", self.activation.is_some(), &[Yolo, YoloObjectness, Yolox, Detr, AnchorFreeHeads]),
            ("box", self.box_form.is_some(), &[Yolo, YoloObjectness, Detr, Ssd]),
            ("unit", self.unit.is_some(), &[Yolo, YoloObjectness, EndToEnd, Detr, Ssd]),
            ("order", self.order.is_some(), &[Yolo, YoloObjectness]),
            ("columns", !self.columns.is_empty(), &[EndToEnd]),
            ("strides", !self.strides.is_empty(), &[Yolox]),
            ("keypoints", self.keypoints.is_some(), &[Yolo, YoloObjectness, EndToEnd]),
            ("rotated", self.rotated, &[Yolo, EndToEnd]),
            ("mask_coefficients", self.mask_coefficients > 0, &[Yolo, YoloObjectness]),
        ];
        for (field, is_given, readers) in fields {
            if is_given && !readers.contains(&self.decoder) {
                return Err(format!(
                    "{field} has no meaning for the decoder `{}`: leave it out",
                    self.decoder
                ));
            }
        }
        match self.decoder {
            AnchorFreeHeads if self.heads.is_empty() || self.form.is_none() => Err(
                "decoder is `anchor_free_heads`: it needs `form` (`scrfd` or `yunet`), and `heads` with the \
                     outputs of each stride"
                    .into(),
            ),
            Detr => self.check_parts(&["logits", "boxes"], &[]),
            Ssd => self.check_parts(&["boxes", "scores"], &["classes", "count"]),
            _ if self.activation == Some(ScoreActivation::Softmax) => Err(
                "activation is `softmax`, which only the decoder `detr` has: expected `none` or `sigmoid`"
                    .into(),
            ),
            EndToEnd => self.check_columns(),
            _ => Ok(()),
        }
    }

    fn check_parts(&self, needed: &[&str], possible: &[&str]) -> Result<(), String> {
        let known = || [needed, possible].concat().join("`, `");
        for part in self.outputs.keys() {
            if !needed.contains(&part.as_str()) && !possible.contains(&part.as_str()) {
                return Err(format!("outputs has `{part}`: expected some of `{}`", known()));
            }
        }
        match needed.iter().find(|part| !self.outputs.contains_key(**part)) {
            Some(part) => Err(format!(
                "outputs lacks `{part}`: the decoder `{}` needs the names of the outputs `{}`",
                self.decoder,
                known()
            )),
            None => Ok(()),
        }
    }

    fn check_columns(&self) -> Result<(), String> {
        use Column::*;
        if self.columns.is_empty() {
            return Ok(());
        }
        let count = |column: &Column| self.columns.iter().filter(|other| *other == column).count();
        if let Some(twice) = self.columns.iter().find(|column| **column != Unused && count(column) > 1) {
            return Err(format!("columns has {twice:?} more than once"));
        }
        let has = |all: &[Column]| all.iter().all(|column| count(column) == 1);
        let corners = has(&[X1, Y1, X2, Y2]);
        if corners == has(&[Cx, Cy, W, H]) || !has(&[Score]) {
            return Err(
                "columns needs `score`, and either `x1`, `y1`, `x2`, `y2` or `cx`, `cy`, `w`, `h`".into()
            );
        }
        if self.rotated != has(&[Angle]) || self.rotated && corners {
            return Err(
                "columns has `angle` exactly when `rotated` is true, with `cx`, `cy`, `w`, `h`".into()
            );
        }
        Ok(())
    }
}

impl std::fmt::Display for DetectionDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DetectionDecoder::Yolo => "yolo",
            DetectionDecoder::YoloObjectness => "yolo_objectness",
            DetectionDecoder::Yolox => "yolox",
            DetectionDecoder::EndToEnd => "end_to_end",
            DetectionDecoder::Detr => "detr",
            DetectionDecoder::Ssd => "ssd",
            DetectionDecoder::AnchorFreeHeads => "anchor_free_heads",
        })
    }
}
