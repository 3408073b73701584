//! The input kind `image`: how a JPEG or PNG file becomes a tensor.

use serde::Deserialize;

use super::checks::within;
use super::kind::InputKind;

/// Pixels of a side of a tensor.
const MOST_SIDE: u32 = 1 << 16;
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
    /// `shorter`: the length in pixels that the shorter side gets.
    pub size: Option<u32>,
    /// `shorter`: the height and width in pixels of the middle part, which is the tensor. Without it, the tensor has the
    /// size of the whole image.
    pub crop: Option<u32>,
    /// `limit`: the least length in pixels of the shorter side.
    pub shortest: Option<u32>,
    /// `limit`, and `shorter` without `crop`: the greatest length in pixels of the longer side. It counts before `size` and
    /// `shortest`.
    pub longest: Option<u32>,
    /// `limit`, and `shorter` without `crop`: each side is stretched to the nearest multiple of this.
    pub multiple: Option<u32>,
    /// Where the image lies when it does not cover the tensor. Default: `center`.
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

/// How an image and its tensor are brought to the same height and width. With [`Resize::Limit`], and [`Resize::Shorter`]
/// without `crop`, the image sets the tensor's size; with the others, the tensor's size is given.
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
    /// Brings the shorter side to `size`, and keeps the aspect ratio.
    Shorter,
    /// Keeps the size, but for sides that are shorter than `shortest` or longer than `longest`. Keeps the aspect ratio.
    Limit,
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
        self.check_sizes()?;
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

impl ImageInput {
    /// Checks the fields that have a meaning with some values of `resize` only.
    fn check_sizes(&self) -> Result<(), String> {
        let ImageInput { size, crop, shortest, longest, multiple, .. } = *self;
        let named = [
            ("size", size),
            ("crop", crop),
            ("shortest", shortest),
            ("longest", longest),
            ("multiple", multiple),
        ];
        named.iter().try_for_each(|(field, value)| within(field, *value, 1, MOST_SIDE))?;
        let is_placed = self.placement != ImagePlacement::Center;
        let (shorter, limit) = (self.resize == Resize::Shorter, self.resize == Resize::Limit);
        let follows = limit || shorter && crop.is_none();
        let used = [
            ("size", size.is_some(), shorter, "`\"resize\": \"shorter\"`"),
            ("crop", crop.is_some(), shorter, "`\"resize\": \"shorter\"`"),
            ("shortest", shortest.is_some(), limit, "`\"resize\": \"limit\"`"),
            ("longest", longest.is_some(), follows, FOLLOWING),
            ("multiple", multiple.is_some(), follows, FOLLOWING),
            ("placement", is_placed, follows || self.resize == Resize::Contain, PLACED),
        ];
        if let Some((field, .., with)) =
            used.iter().find(|(_, is_given, has_meaning, _)| *is_given && !has_meaning)
        {
            return Err(format!("{field} has a meaning only with {with}: leave it out"));
        }
        if shorter && size.is_none() {
            return Err(
                "size is not given: `\"resize\": \"shorter\"` needs the length of the shorter side".into()
            );
        }
        if limit && shortest.or(longest).or(multiple).is_none() {
            return Err(
                "`\"resize\": \"limit\"` needs shortest, longest or multiple: expected at least one".into()
            );
        }
        for (least, length, most, limit) in [
            ("crop", crop, "size", size),
            ("size", size, "longest", longest),
            ("shortest", shortest, "longest", longest),
        ] {
            if let (Some(length), Some(limit)) = (length, limit)
                && length > limit
            {
                return Err(format!("{least} is {length}, but {most} is {limit}: expected at most that"));
            }
        }
        for (field, length) in [("size", size), ("shortest", shortest), ("longest", longest)] {
            if let (Some(length), Some(multiple)) = (length, multiple)
                && length % multiple != 0
            {
                return Err(format!(
                    "{field} is {length}: expected a multiple of {multiple}, as multiple says"
                ));
            }
        }
        Ok(())
    }
}

/// What `longest` and `multiple` go with.
const FOLLOWING: &str = "`\"resize\": \"limit\"`, or with `\"resize\": \"shorter\"` without crop";
/// What `placement` goes with.
const PLACED: &str = "`\"resize\": \"contain\"` or `\"limit\"`, or with `\"shorter\"` without crop";
