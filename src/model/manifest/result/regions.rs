//! The result kind `regions`: places of text in an image, from a map of probabilities (differentiable binarization, DB).

use serde::Deserialize;

use super::{Bounded, Coordinates};

/// Regions in one answer.
pub const MOST_REGIONS: usize = 10_000;

/// How a map of probabilities becomes regions. `result` of `model.json` with the kind `regions`. The defaults are those
/// of PP-OCR.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionsManifest {
    /// The output with the map, `[N, 1, height, width]` or `[N, height, width]`. Default: the only output.
    pub output: Option<String>,
    /// A pixel belongs to a region when its probability is larger.
    #[serde(default = "threshold")]
    pub threshold: Bounded<f32>,
    /// Only regions with at least this score are returned. The score is the mean probability in the region's rectangle.
    #[serde(default = "score_threshold")]
    pub score_threshold: Bounded<f32>,
    /// How far a region's rectangle is moved outwards: by area × this ÷ perimeter.
    #[serde(default = "unclip_ratio")]
    pub unclip_ratio: Bounded<f32>,
    /// Whether a pixel also counts when its neighbour on the left, above or between these counts (a dilation with 2 × 2
    /// pixels). RapidOCR does this. Default: false.
    #[serde(default)]
    pub dilation: bool,
    /// The least length of a rectangle's shorter side, in pixels of the map.
    #[serde(default = "min_size")]
    pub min_size: f32,
    /// The most regions for an image.
    #[serde(default = "max")]
    pub max: Bounded<usize>,
    /// The coordinates for image files. Default: `image`.
    #[serde(default)]
    pub coordinates: Coordinates,
}

fn threshold() -> Bounded<f32> {
    Bounded { default: 0.3, least: None, most: None }
}

fn score_threshold() -> Bounded<f32> {
    Bounded { default: 0.6, least: None, most: None }
}

fn unclip_ratio() -> Bounded<f32> {
    Bounded { default: 1.5, least: None, most: None }
}

fn min_size() -> f32 {
    3.0
}

fn max() -> Bounded<usize> {
    Bounded { default: 1000, least: None, most: None }
}

impl RegionsManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        self.threshold.validate("threshold", 0.0, 1.0)?;
        self.score_threshold.validate("score_threshold", 0.0, 1.0)?;
        self.unclip_ratio.validate("unclip_ratio", 0.0, 100.0)?;
        self.max.validate("max", 1, MOST_REGIONS)?;
        super::super::checks::within("min_size", Some(self.min_size), 0.0, 10_000.0)
    }
}
