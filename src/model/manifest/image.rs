//! The input kind `image`: how a JPEG or PNG file becomes a tensor.

use serde::Deserialize;

use super::kind::InputKind;

/// The largest absolute value of `scale`, `mean` and `std`.
const MOST_LEVEL: f32 = 1e6;

/// How an image file becomes a tensor: value = (pixel × scale − mean) ÷ std. A pixel is a number from 0 to 255.
/// `inputs[].image` of `model.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// The channels of the tensor, and their order. Default: `rgb`.
    #[serde(default)]
    pub color: Color,
    /// How the image is fitted to the tensor's height and width. Default: `stretch`.
    #[serde(default)]
    pub resize: Resize,
    /// Where the image lies when it does not cover the tensor (`contain`). Default: `center`.
    #[serde(default)]
    pub placement: ImagePlacement,
    /// How pixels are interpolated. Default: `bilinear`.
    #[serde(default)]
    pub filter: Filter,
    /// Whether a filter reads a larger area when the image is made smaller, as in Pillow. False is as in OpenCV.
    /// Default: true.
    #[serde(default = "yes")]
    pub antialias: bool,
    /// The colour of the area that the image does not cover (`contain`), and behind transparent pixels. Default: 0.
    #[serde(default)]
    pub background: Background,
    /// The factor for every pixel. Default: 1, pixels stay 0–255.
    #[serde(default = "one")]
    pub scale: f32,
    /// One value for all channels, or one value per channel in the order of `color`. Default: 0.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// One value for all channels, or one value per channel in the order of `color`. Default: 1.
    #[serde(default)]
    pub std: Vec<f32>,
    /// The order of the tensor's dimensions. Default: `NCHW`.
    #[serde(default)]
    pub layout: Layout,
}

fn one() -> f32 {
    1.0
}

fn yes() -> bool {
    true
}

/// The channels of an image tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Luma by ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), as in OpenCV and Pillow.
    Gray,
    #[default]
    Rgb,
    Bgr,
}

impl Color {
    /// The length of the tensor's channel dimension.
    pub fn channels(self) -> usize {
        match self {
            Color::Gray => 1,
            Color::Rgb | Color::Bgr => 3,
        }
    }
}

/// How an image is fitted to the tensor's height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Shows the whole image. Keeps the aspect ratio, and puts the image on the background.
    Contain,
    /// Covers the whole tensor. Keeps the aspect ratio, cuts the same amount off two opposite sides.
    Cover,
    /// Covers the whole tensor with the whole image. Does not keep the aspect ratio.
    #[default]
    Stretch,
}

/// Where an image lies that does not cover its tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePlacement {
    /// In the middle, with a border on two opposite sides.
    #[default]
    Center,
    /// At the left upper corner.
    TopLeft,
}

/// How pixels are interpolated. When an image is made smaller, every filter but `nearest` reads a larger area
/// (antialiasing), as in Pillow, unless `antialias` is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos3,
}

/// The colour where the image does not cover the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Background {
    /// The same value for all channels, 0–255.
    Level(u8),
    /// Red, green, blue, each 0–255.
    Rgb([u8; 3]),
    /// The mean colour of the image's own border, so that the padding adds no visible edge.
    Edge(EdgeWord),
}

impl Default for Background {
    fn default() -> Self {
        Background::Level(0)
    }
}

/// The word `edge`, the only word that a background can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeWord {
    Edge,
}

/// The order of an image tensor's dimensions: N rows, C channels, H height, W width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Layout {
    #[default]
    #[serde(rename = "NCHW")]
    Nchw,
    #[serde(rename = "NHWC")]
    Nhwc,
}

impl InputKind for ImageInput {
    fn validate(&self) -> Result<(), String> {
        let channels = self.color.channels();
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !matches!(values.len(), 0 | 1) && values.len() != channels {
                return Err(format!(
                    "{field} has {} values: give one, or one a channel ({channels})",
                    values.len()
                ));
            }
        }
        if self.placement != ImagePlacement::Center && self.resize != Resize::Contain {
            return Err("placement has a meaning only with `\"resize\": \"contain\"`: leave it out".into());
        }
        if self.std.contains(&0.0) {
            return Err("std holds 0, but values are divided by it: expected a number other than 0".into());
        }
        for (field, values) in [("scale", &vec![self.scale]), ("mean", &self.mean), ("std", &self.std)] {
            if let Some(wrong) = values.iter().find(|value| !value.is_finite() || value.abs() > MOST_LEVEL) {
                return Err(format!("{field} holds {wrong}: expected -{MOST_LEVEL:e} to {MOST_LEVEL:e}"));
            }
        }
        Ok(())
    }
}
