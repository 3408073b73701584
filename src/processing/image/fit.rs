//! Where an image lies in its tensor, and how large the tensor is.
//!
//! What belongs here: sizes and places, from `model.json` and the size of an image. What does not: pixels.
//!
//! Sizes are width and height. They are those of the upright image.

use ::image::metadata::Orientation;

use super::pixels::border;
use crate::error::{Code, RequestError};
use crate::model::input::Placement;
use crate::model::manifest::{ImageInput, ImagePlacement, Resize};

/// The longest side of a tensor in pixels.
pub(super) const MOST_SIDE: u32 = 1 << 16;

/// A listed size that shows an image at most this much smaller is as good as the best one.
const TOLERANCE: f64 = 0.95;

/// How an image is brought into a tensor. The pixel (x, y) of the image is at (x × `scale.0` + `offset.0`, y × `scale.1` +
/// `offset.1`) in the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    /// The size of the tensor.
    pub sheet: (u32, u32),
    /// The size in the tensor of the part of the image that it shows.
    pub inner: (u32, u32),
    /// Tensor pixels for each image pixel, across and down.
    pub scale: (f64, f64),
    /// Tensor pixels. It is negative where the image is cut off.
    pub offset: (f64, f64),
}

impl Fit {
    /// Fits an image with `size`. `sheets` are the sizes that the tensor may have; empty when it may have any.
    ///
    /// Errors: the tensor would have sides that are too long.
    pub fn new(spec: &ImageInput, sheets: &[(u32, u32)], size: (u32, u32)) -> Result<Fit, RequestError> {
        let ratio = |to: (u32, u32)| (part(to.0, size.0), part(to.1, size.1));
        let fit = |sheet, inner, offset: (f64, f64)| Fit { sheet, inner, scale: ratio(inner), offset };
        Ok(match (spec.resize, spec.crop) {
            (Resize::Stretch, _) => {
                let sheet = best(sheets, size, TOLERANCE);
                fit(sheet, sheet, (0.0, 0.0))
            }
            (Resize::Contain, _) => {
                let sheet = best(sheets, size, TOLERANCE);
                let inner = within(size, sheet, f64::INFINITY);
                fit(sheet, inner, offset(inner, sheet, spec))
            }
            (Resize::Cover, _) => {
                let sheet = best(sheets, size, TOLERANCE);
                let (across, down) = ratio(sheet);
                let scale = f64::max(across, down);
                let offset = |side: u32, length: u32| (f64::from(side) - f64::from(length) * scale) / 2.0;
                let offset = (offset(sheet.0, size.0), offset(sheet.1, size.1));
                Fit { sheet, inner: sheet, scale: (scale, scale), offset }
            }
            (Resize::Shorter, Some(crop)) => {
                let (width, height) = wanted(spec, size);
                let scale = (width as f64 / f64::from(size.0), height as f64 / f64::from(size.1));
                // As torchvision rounds it.
                let offset = |side: u64| -((side as f64 - f64::from(crop)) / 2.0).round_ties_even();
                let sheet = (crop, crop);
                Fit { sheet, inner: sheet, scale, offset: (offset(width), offset(height)) }
            }
            (Resize::Shorter | Resize::Limit, _) => {
                let wanted = sides(wanted(spec, size), size)?;
                if sheets.is_empty() {
                    return Ok(fit(wanted, wanted, (0.0, 0.0)));
                }
                let sheet = best(sheets, wanted, 1.0);
                let inner = within(wanted, sheet, 1.0);
                fit(sheet, inner, offset(inner, sheet, spec))
            }
        })
    }

    /// The same for results, of an image with `size`.
    pub fn placement(&self, size: (u32, u32), orientation: Orientation) -> Placement {
        let Fit { sheet, scale, offset, .. } = *self;
        Placement { size, orientation, scale, offset, tensor: sheet }
    }

    /// The part of the image that the tensor shows: left, top, width, height, in pixels of the image.
    pub fn part(&self) -> [f64; 4] {
        let begin = |offset: f64, scale: f64| (-offset).max(0.0) / scale;
        let Fit { inner, scale, offset, .. } = self;
        [
            begin(offset.0, scale.0),
            begin(offset.1, scale.1),
            f64::from(inner.0) / scale.0,
            f64::from(inner.1) / scale.1,
        ]
    }
}

fn part(of: u32, whole: u32) -> f64 {
    f64::from(of) / f64::from(whole)
}

/// The place on a sheet of an image that is not larger.
fn offset(inner: (u32, u32), sheet: (u32, u32), spec: &ImageInput) -> (f64, f64) {
    let (left, top) = border(inner, sheet, spec.placement);
    (f64::from(left), f64::from(top))
}

/// The size of an image that keeps the ratio of its sides, fills a sheet in one direction, and is at most `most` times as
/// large as before.
fn within(size: (u32, u32), sheet: (u32, u32), most: f64) -> (u32, u32) {
    let factor = part(sheet.0, size.0).min(part(sheet.1, size.1)).min(most);
    let side = |length: u32, most: u32| ((f64::from(length) * factor).round() as u32).clamp(1, most);
    (side(size.0, sheet.0), side(size.1, sheet.1))
}

/// The sheet that shows an image largest, but not larger than it is. Of those that show it nearly as large (`tolerance`),
/// the one with the fewest pixels.
fn best(sheets: &[(u32, u32)], size: (u32, u32), tolerance: f64) -> (u32, u32) {
    let shown = |sheet: &(u32, u32)| part(sheet.0, size.0).min(part(sheet.1, size.1)).min(1.0);
    let largest = sheets.iter().map(shown).fold(0.0, f64::max);
    let good = sheets.iter().filter(|sheet| shown(sheet) >= largest * tolerance);
    let area = |sheet: &&(u32, u32)| u64::from(sheet.0) * u64::from(sheet.1);
    *good.min_by_key(area).expect("a tensor without a list of sizes is only for images that set its size")
}

/// The size to which `resize` brings an image that sets the size of its tensor.
fn wanted(spec: &ImageInput, (width, height): (u32, u32)) -> (u64, u64) {
    let (shorter, longer) = (u64::from(width.min(height)), u64::from(width.max(height)));
    // Parts of pixels are cut off, as torchvision and PP-OCR do it.
    let with_shorter = |side: u32| (u64::from(side), u64::from(side) * longer / shorter);
    let (mut short, mut long) = match (spec.size, spec.shortest) {
        (Some(size), _) => with_shorter(size),
        (None, Some(least)) if u64::from(least) > shorter => with_shorter(least),
        (None, _) => (shorter, longer),
    };
    if let Some(most) = spec.longest.map(u64::from).filter(|most| *most < long) {
        (short, long) = ((most * short / long).max(1), most);
    }
    if let Some(multiple) = spec.multiple.map(u64::from) {
        (short, long) = (rounded(short, multiple), rounded(long, multiple));
    }
    if width <= height { (short, long) } else { (long, short) }
}

/// The nearest multiple that is not 0. Of two, the even one, as Python rounds.
fn rounded(side: u64, multiple: u64) -> u64 {
    let (whole, rest) = (side / multiple, side % multiple);
    let is_more = 2 * rest > multiple || 2 * rest == multiple && whole % 2 == 1;
    multiple * (whole + u64::from(is_more)).max(1)
}

fn sides(wanted: (u64, u64), size: (u32, u32)) -> Result<(u32, u32), RequestError> {
    let side = |length: u64| u32::try_from(length).ok().filter(|length| *length <= MOST_SIDE);
    side(wanted.0).zip(side(wanted.1)).ok_or_else(|| {
        let message = format!(
            "an image of {}×{} would become {}×{}: a side has at most {MOST_SIDE} pixels",
            size.0, size.1, wanted.0, wanted.1
        );
        RequestError::new(Code::TooLarge, message)
    })
}

/// Whether the size of the image sets the size of the tensor.
pub(super) fn follows(spec: &ImageInput) -> bool {
    matches!(spec.resize, Resize::Limit | Resize::Shorter) && spec.crop.is_none()
}

/// Checks that `placement` and `crop` agree with the sizes that the tensor may have.
pub(super) fn check(spec: &ImageInput, sheets: &[(u32, u32)]) -> Result<(), String> {
    if let Some(crop) = spec.crop
        && sheets != [(crop, crop)]
    {
        return Err(format!("height and width {crop}, as image.crop says"));
    }
    if sheets.is_empty() && spec.placement != ImagePlacement::Center {
        return Err(
            "no image.placement: the tensor has the size of its image, so that there is no other place"
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Manifest;

    fn spec(image: &str) -> ImageInput {
        let manifest = Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#));
        manifest.unwrap().inputs[0].image.clone().unwrap()
    }

    fn sheet(image: &str, size: (u32, u32)) -> (u32, u32) {
        Fit::new(&spec(image), &[], size).unwrap().sheet
    }

    #[test]
    fn a_size_that_follows_the_image_is_that_of_pp_ocr_and_torchvision() {
        // By PP-OCR's DetResizeForTest with limit_type min and max.
        let least = r#"{"resize":"limit","shortest":736,"multiple":32}"#;
        assert_eq!(sheet(least, (960, 736)), (960, 736));
        assert_eq!(sheet(least, (640, 480)), (992, 736));
        assert_eq!(sheet(least, (480, 641)), (736, 992));
        assert_eq!(sheet(least, (1000, 1008)), (992, 1024), "a half is rounded to an even multiple");
        let most = r#"{"resize":"limit","longest":960,"multiple":32}"#;
        assert_eq!(sheet(most, (1920, 1080)), (960, 544));
        assert_eq!(sheet(most, (100, 10)), (96, 32));
        // By torchvision's Resize(800, max_size=1333).
        let shorter = r#"{"resize":"shorter","size":800,"longest":1333}"#;
        assert_eq!(sheet(shorter, (640, 480)), (1066, 800));
        assert_eq!(sheet(shorter, (480, 1000)), (640, 1333));
        assert_eq!(sheet(shorter, (3, 100_000)), (1, 1333));
    }

    #[test]
    fn a_tensor_that_would_be_too_long_is_an_error_with_its_size() {
        let error = Fit::new(&spec(r#"{"resize":"shorter","size":800}"#), &[], (10, 100_000)).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        assert!(error.message.contains("10×100000 would become 800×8000000"), "{error}");
    }

    #[test]
    fn the_middle_is_where_torchvision_crops_it() {
        // By Resize(256) and CenterCrop(224): 256 × 384 leaves 80 above, and 256 × 341 leaves 58 (58.5 is even at 58).
        let fit = |size| Fit::new(&spec(r#"{"resize":"shorter","size":256,"crop":224}"#), &[], size).unwrap();
        assert_eq!((fit((200, 300)).offset, fit((200, 300)).sheet), ((-16.0, -80.0), (224, 224)));
        assert_eq!(fit((300, 400)).offset, (-16.0, -58.0));
        assert_eq!(fit((200, 300)).part(), [12.5, 62.5, 175.0, 175.0]);
        assert_eq!(fit((1, 25_000_000)).sheet, (224, 224), "the long side is never made");
    }

    #[test]
    fn the_listed_size_that_shows_the_image_best_is_taken() {
        let sheets = [(640, 640), (640, 384), (384, 640), (320, 320)];
        let of = |image: &str, size| Fit::new(&spec(image), &sheets, size).unwrap();
        for image in [r#"{"resize":"contain"}"#, r#"{"resize":"cover"}"#, "{}"] {
            assert_eq!(of(image, (1920, 1080)).sheet, (640, 384), "{image}");
            assert_eq!(of(image, (1080, 1920)).sheet, (384, 640), "{image}");
            assert_eq!(of(image, (1000, 1000)).sheet, (640, 640), "{image}");
            assert_eq!(of(image, (100, 300)).sheet, (320, 320), "{image}");
            assert_eq!(of(image, (330, 10)).sheet, (320, 320), "0.97 of its size: {image}");
            assert_eq!(of(image, (340, 10)).sheet, (640, 384), "not 0.94 of its size: {image}");
        }
        let limit = r#"{"resize":"limit","longest":960,"multiple":32}"#;
        let fit = of(limit, (330, 100));
        assert_eq!((fit.sheet, fit.inner, fit.offset), ((320, 320), (320, 96), (0.0, 112.0)));
        let fit = of(limit, (640, 480));
        assert_eq!((fit.sheet, fit.inner, fit.scale), ((640, 640), (640, 480), (1.0, 1.0)), "the next size");
        let fit = of(limit, (4000, 3000));
        assert_eq!(
            (fit.sheet, fit.inner),
            ((640, 640), (640, 469)),
            "the largest, when none is large enough"
        );
    }
}
