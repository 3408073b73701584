//! The result kind `masks`: which pixels of an image belong to an object, or to which class each pixel belongs.

use serde::Deserialize;

use super::detections::{
    self, Coordinates, DetectionDecoder, DetectionsManifest, Order, ScoreActivation, Suppression,
};
use super::{Bounded, Labels};

/// How outputs become masks. `result` of `model.json` with the kind `masks`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasksManifest {
    /// The form of the outputs.
    pub decoder: MaskDecoder,
    /// The output with the detections (`yolo`), or with the classes (`semantic`; default: the only output).
    pub output: Option<String>,
    /// The output with the prototypes of masks, for `yolo`.
    pub prototypes: Option<String>,
    /// Labels of the classes. Default: the class names in the file's metadata, if it has them.
    pub labels: Option<Labels>,
    /// For `yolo`, as for the kind `detections`.
    pub score_threshold: Option<Bounded<f32>>,
    /// For `yolo`, as for the kind `detections`.
    pub iou_threshold: Option<Bounded<f32>>,
    /// For `yolo`: the most objects for an image. Default: 100.
    pub max: Option<Bounded<usize>>,
    /// For `yolo`, as for the kind `detections`.
    pub nms: Option<Suppression>,
    /// For `yolo`, as for the kind `detections`.
    pub activation: Option<ScoreActivation>,
    /// For `yolo`, as for the kind `detections`.
    pub order: Option<Order>,
    /// For `yolo`: the form of a mask. Default: `polygons`.
    pub encoding: Option<MaskEncoding>,
    /// The coordinates for image files. Default: `image`.
    #[serde(default)]
    pub coordinates: Coordinates,
}

/// The form of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskDecoder {
    /// Detections as of the decoder `yolo`, each with a coefficient for each prototype: YOLOv8-seg, YOLO11-seg.
    Yolo,
    /// A score for each class and pixel, or the class of each pixel.
    Semantic,
}

/// The form of an object's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskEncoding {
    /// Outlines, without those of holes.
    Polygons,
    /// Lengths of runs, as COCO's tools read them.
    Rle,
}

impl MasksManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.decoder == MaskDecoder::Yolo {
            let (Some(output), Some(_)) = (&self.output, &self.prototypes) else {
                return Err(
                    "decoder is `yolo`: it needs the names of the two outputs, `output` and `prototypes`"
                        .into(),
                );
            };
            return DetectionsManifest::of_masks(self, output, 1).validate();
        }
        for (field, is_given) in [
            ("prototypes", self.prototypes.is_some()),
            ("score_threshold", self.score_threshold.is_some()),
            ("iou_threshold", self.iou_threshold.is_some()),
            ("max", self.max.is_some()),
            ("nms", self.nms.is_some()),
            ("activation", self.activation.is_some()),
            ("order", self.order.is_some()),
            ("encoding", self.encoding.is_some()),
        ] {
            if is_given {
                return Err(format!("{field} has no meaning for the decoder `semantic`: leave it out"));
            }
        }
        Ok(())
    }
}

impl DetectionsManifest {
    /// The detections that masks belong to, with this number of coefficients for each.
    pub fn of_masks(masks: &MasksManifest, output: &str, coefficients: usize) -> DetectionsManifest {
        DetectionsManifest {
            decoder: DetectionDecoder::Yolo,
            output: Some(output.into()),
            outputs: Default::default(),
            heads: Vec::new(),
            form: None,
            labels: masks.labels.clone(),
            score_threshold: masks.score_threshold.unwrap_or_else(detections::score_threshold),
            iou_threshold: masks.iou_threshold.unwrap_or_else(detections::iou_threshold),
            max: masks.max.unwrap_or(Bounded { default: 100, least: None, most: None }),
            nms: masks.nms,
            activation: masks.activation,
            box_form: None,
            unit: None,
            order: masks.order,
            columns: Vec::new(),
            strides: Vec::new(),
            keypoints: None,
            rotated: false,
            mask_coefficients: coefficients,
            coordinates: masks.coordinates,
        }
    }
}
