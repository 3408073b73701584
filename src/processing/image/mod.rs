//! Turns JPEG and PNG files into image tensors. The steps are: header, pixels, colour, size, orientation,
//! normalisation, layout.
//!
//! What belongs here: the steps for one image file. What does not: other kinds of files, and results.
//! Invariants:
//! - The size in the header is compared with the limits, and with the number of pixels that the file's bytes can
//!   hold, before any memory is taken for pixels.
//! - Memory is taken from the budget before it is allocated. An incomplete file is refused.
//!
//! # Memory for decoding
//! The largest number of bytes for each pixel, not counting a few rows:
//!
//! | file | for a gray model | for a colour model |
//! |---|---|---|
//! | PNG of any depth, interlaced or not | 1 | 3 |
//! | the same with transparency, and `"background": "edge"` | 4 | 4 |
//! | JPEG | 3 | 3 |
//! | JPEG that is progressive, or has its components one after the other | 3 + 2 a component | 3 + 2 a component |
//!
//! Resizing needs memory for the result, for an image with the width of the file and the height of the result, and
//! for the weights of the filter. The weights take about 60 to 110 bytes for each column and each row. Turning needs
//! memory for a second copy of the result.

mod fit;
mod jpeg;
mod linear;
pub mod photo;
mod pixels;
mod png;
#[cfg(test)]
mod tests;

use ::image::metadata::Orientation;
use half::f16;

use self::fit::{Fit, MOST_SIDE, follows};
use self::jpeg::JpegFile;
use self::linear::Part;
use self::pixels::{Pixels, background_color, pad, resample, resample_memory, swaps_sides};
use self::png::PngFile;
use super::Allowance;
use crate::config::Limits;
use crate::error::show_shape;
use crate::error::{Code, RequestError};
use crate::model::input::Placement;
use crate::model::manifest::{Background, Color, Filter, ImageInput, ImagePlacement, Layout, Resize};
use crate::model::{Datatype, Elements, Tensor, TensorMetadata};

/// The media types that [`ImageDecoder`] accepts.
pub const MEDIA_TYPES: &[&str] = &["image/jpeg", "image/png"];

/// The first bytes of the files.
const JPEG: &[u8] = &[0xff, 0xd8, 0xff];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The bytes for what is read of a file before its pixels.
const OPENED: usize = 1 << 20;

/// Returns whether the first bytes are those of a JPEG or PNG file. JSON and text never begin with these bytes.
pub fn is_image(file: &[u8]) -> bool {
    file.starts_with(JPEG) || file.starts_with(PNG)
}

/// Makes the rows of one input from image files.
#[derive(Debug)]
pub struct ImageDecoder {
    spec: ImageInput,
    datatype: Datatype,
    /// The sizes (width, height) that the tensor may have. Empty when each image sets its own.
    sheets: Vec<(u32, u32)>,
    max_pixels: u64,
    max_tensor_bytes: usize,
    /// One table for each channel of the tensor: it maps a pixel value (0 to 255) to a tensor value.
    values: Vec<[f32; 256]>,
}

impl ImageDecoder {
    /// Makes a decoder from the declaration in `model.json` and the input that it belongs to. `listed` has the shapes of
    /// the input that `shapes` of `model.json` lists; it is empty when there is no list.
    ///
    /// Errors: a sentence about what does not agree, such as the shape or the datatype.
    pub fn new(
        spec: &ImageInput,
        input: &TensorMetadata,
        listed: &[TensorMetadata],
        limits: &Limits,
    ) -> Result<ImageDecoder, String> {
        if !matches!(input.datatype, Datatype::Uint8 | Datatype::Fp16 | Datatype::Fp32) {
            return Err(wrong(input, "datatype UINT8, FP16 or FP32"));
        }
        let shapes = if listed.is_empty() { std::slice::from_ref(input) } else { listed };
        let mut sheets = Vec::new();
        for shape in shapes {
            match sheet(spec, shape)? {
                Some(sheet) if sheets.contains(&sheet) => {}
                Some(sheet) => sheets.push(sheet),
                None if follows(spec) && listed.is_empty() => {}
                None if follows(spec) => {
                    return Err(wrong(shape, "a fixed height and width in each entry of `shapes`"));
                }
                None => {
                    return Err(wrong(
                        shape,
                        "a fixed height and width, or `shapes` in model.json with those that occur, or \
                         `\"resize\": \"limit\"`, with which they follow the image",
                    ));
                }
            }
        }
        fit::check(spec, &sheets).map_err(|expected| wrong(input, &expected))?;
        let values = (0..spec.color.channels()).map(|channel| table(spec, channel)).collect();
        let (max_pixels, max_tensor_bytes) = (limits.max_image_pixels, limits.max_tensor_bytes);
        let (spec, datatype) = (spec.clone(), input.datatype);
        Ok(ImageDecoder { spec, datatype, sheets, max_pixels, max_tensor_bytes, values })
    }

    /// Decodes `files`, with one row for each file. It returns the tensor, and the placement of each image in its row.
    /// The memory for each file is taken from the budget before the file is read.
    ///
    /// Errors: the rows are larger than [`Limits::max_tensor_bytes`] or not of one size, a file cannot be read or has too
    /// many pixels, the request is no longer wanted, or the budget is used up.
    pub fn decode(
        &self,
        files: &[Vec<u8>],
        allowance: &mut Allowance<'_>,
    ) -> Result<(Tensor, Vec<Placement>), RequestError> {
        let within = |index: usize| move |error: RequestError| error.within(&format!("image {index}"));
        let sheet = match (self.sheets.as_slice(), files) {
            ([only], _) => *only,
            (_, [first, ..]) => self.sheet_of(first, allowance).map_err(within(0))?,
            (_, []) => return Err(RequestError::invalid("there is no image: expected at least one")),
        };
        // On a processor with 32 bits, a size that follows its image may not fit into usize.
        let values = self.values.len().saturating_mul(sheet.0 as usize).saturating_mul(sheet.1 as usize);
        let row = values.saturating_mul(self.datatype.size().unwrap_or(1));
        let bytes = row.saturating_mul(files.len());
        if bytes > self.max_tensor_bytes {
            let (count, most) = (files.len(), self.max_tensor_bytes);
            let message = format!(
                "{count} images make {count} × {row} bytes: the limit is {most}, send fewer or smaller ones"
            );
            return Err(RequestError::new(Code::TooLarge, message));
        }
        allowance.memory.grow(bytes)?;
        let mut rows = Elements::with_capacity(self.datatype, values * files.len());
        let mut placements = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate() {
            (allowance.is_due)()?;
            placements.push(self.decode_into(file, sheet, &mut rows, allowance).map_err(within(index))?);
        }
        let tensor = Tensor::new(self.shape(files.len(), sheet), rows).map_err(RequestError::invalid)?;
        Ok((tensor, placements))
    }

    fn shape(&self, rows: usize, (width, height): (u32, u32)) -> Vec<usize> {
        let (channels, width, height) = (self.values.len(), width as usize, height as usize);
        match self.spec.layout {
            Layout::Nchw => vec![rows, channels, height, width],
            Layout::Nhwc => vec![rows, height, width, channels],
        }
    }

    fn wanted(&self) -> Wanted {
        let ImageInput { color, background, .. } = self.spec;
        Wanted { color, background, max_pixels: self.max_pixels }
    }

    /// The size of the tensor for this file, by the size in its header.
    fn sheet_of(&self, file: &[u8], allowance: &mut Allowance<'_>) -> Result<(u32, u32), RequestError> {
        let _opened = allowance.memory.take_beside(OPENED)?;
        Ok(self.fit_of(&File::open(file, &self.wanted())?.header())?.sheet)
    }

    fn fit_of(&self, header: &Header) -> Result<Fit, RequestError> {
        let mut fit = Fit::new(&self.spec, &self.sheets, header.upright())?;
        if self.is_on_background_first() {
            let (width, height) = header.upright();
            let exact = |side: u32, length: u32| f64::from(side) / f64::from(length);
            let scale = exact(fit.sheet.0, width).min(exact(fit.sheet.1, height));
            fit.scale = (scale, scale);
        }
        Ok(fit)
    }

    /// Decodes `file`, a whole JPEG or PNG file, and appends it to `row` as one row, of the size `sheet`.
    fn decode_into(
        &self,
        file: &[u8],
        sheet: (u32, u32),
        row: &mut Elements,
        allowance: &mut Allowance<'_>,
    ) -> Result<Placement, RequestError> {
        let wanted = self.wanted();
        let opened = allowance.memory.take_beside(OPENED)?;
        let file = File::open(file, &wanted)?;
        let header = file.header();
        let fit = self.fit_of(&header)?;
        if fit.sheet != sheet {
            let (width, height) = fit.sheet;
            return Err(RequestError::invalid(format!(
                "it becomes {width}×{height}, and the first image {}×{}: the images of one request must become equally \
                 large; send this one in another request",
                sheet.0, sheet.1
            )));
        }
        let _taken =
            allowance.memory.take_beside(header.memory.saturating_add(self.fit_memory(&header, &fit)))?;
        drop(opened);
        let pixels = self.fit(file.read(&wanted)?, header.orientation, &fit)?;
        self.normalise(&pixels, row);
        Ok(fit.placement(header.upright(), header.orientation))
    }

    /// Returns the bytes that [`ImageDecoder::fit`] needs besides the pixels that it is given.
    fn fit_memory(&self, header: &Header, fit: &Fit) -> usize {
        let Header { width, height, orientation, .. } = header;
        let channels = self.spec.color.channels();
        let resized = if self.is_linear() {
            let turned = if *orientation == Orientation::NoTransforms { 0 } else { channels };
            let turned = (*width as usize * *height as usize).saturating_mul(turned);
            turned + linear::memory(fit.sheet.0, fit.sheet.1, channels)
        } else {
            let target = turned(fit.inner, *orientation);
            resample_memory((*width, *height), target, channels, self.spec.filter)
        };
        // One copy for the turned image and one for the padded image.
        resized + 2 * fit.sheet.0 as usize * fit.sheet.1 as usize * channels
    }

    /// Brings the image to the width and height of the tensor, upright as EXIF says. The image is resized before it
    /// is turned, because turning needs a second copy, and the resized image is normally smaller.
    fn fit(&self, pixels: Pixels, orientation: Orientation, fit: &Fit) -> Result<Pixels, RequestError> {
        if self.is_linear() {
            return Ok(self.fit_linear(&pixels.upright(orientation), fit));
        }
        let (width, height) = turned(fit.inner, orientation);
        let part = stored_part(fit, turned((pixels.width, pixels.height), orientation), orientation);
        let is_whole = part == [0.0, 0.0, f64::from(pixels.width), f64::from(pixels.height)];
        let resized = if is_whole && (pixels.width, pixels.height) == (width, height) {
            pixels
        } else {
            resample(pixels, width, height, part, &self.spec)?
        };
        Ok(pad(resized.upright(orientation), fit.sheet.0, fit.sheet.1, &self.spec))
    }

    /// Whether images are resized as OpenCV does it.
    fn is_linear(&self) -> bool {
        self.spec.filter == Filter::Bilinear && !self.spec.antialias
    }

    /// Whether an image is put on the background before it is resized. With `contain` at the left upper corner, programs
    /// that use OpenCV do it.
    fn is_on_background_first(&self) -> bool {
        self.is_linear()
            && self.spec.resize == Resize::Contain
            && self.spec.placement == ImagePlacement::TopLeft
    }

    /// Brings an upright image to the width and height of the tensor, to the levels that OpenCV gives.
    fn fit_linear(&self, pixels: &Pixels, fit: &Fit) -> Pixels {
        let (width, height) = fit.sheet;
        let [left, top, ..] = fit.part();
        let part = Part { step: (1.0 / fit.scale.0, 1.0 / fit.scale.1), origin: (left, top) };
        if self.is_on_background_first() {
            let color = background_color(pixels, &self.spec);
            return linear::resize(pixels, width, height, part, Some(&color));
        }
        let inner = linear::resize(pixels, fit.inner.0, fit.inner.1, part, None);
        pad(inner, width, height, &self.spec)
    }

    /// Appends the pixels as tensor values, in the declared layout and order of channels.
    fn normalise(&self, pixels: &Pixels, row: &mut Elements) {
        let channels = pixels.channels;
        // Pixels are RGB; the tensor may need BGR.
        let order: Vec<usize> = match self.spec.color {
            Color::Bgr => vec![2, 1, 0],
            Color::Gray | Color::Rgb => (0..channels).collect(),
        };
        let area = pixels.bytes.len() / channels;
        match self.spec.layout {
            Layout::Nchw => {
                for (table, source) in self.values.iter().zip(order) {
                    let plane = (0..area).map(|at| table[usize::from(pixels.bytes[at * channels + source])]);
                    extend(row, plane);
                }
            }
            Layout::Nhwc => {
                let values = pixels.bytes.chunks_exact(channels).flat_map(|pixel| {
                    let tables = self.values.iter().zip(&order);
                    tables.map(|(table, source)| table[usize::from(pixel[*source])])
                });
                extend(row, values);
            }
        }
    }
}

/// The error for an input that does not go with its `image`.
fn wrong(input: &TensorMetadata, expected: &str) -> String {
    format!(
        "input `{}` has shape {} {}, but its `image` needs {expected}; pin it with `shape` in model.json",
        input.name,
        input.datatype,
        show_shape(&input.shape_i64())
    )
}

/// The width and height of the images in a tensor of this shape; `None` when they are open.
fn sheet(spec: &ImageInput, input: &TensorMetadata) -> Result<Option<(u32, u32)>, String> {
    let (channels, height, width, form) = match (spec.layout, input.shape.as_slice()) {
        (Layout::Nchw, [_, c, h, w]) => (c, h, w, "[batch, channels, height, width]"),
        (Layout::Nhwc, [_, h, w, c]) => (c, h, w, "[batch, height, width, channels]"),
        (Layout::Nchw, _) => return Err(wrong(input, "[batch, channels, height, width]")),
        (Layout::Nhwc, _) => return Err(wrong(input, "[batch, height, width, channels]")),
    };
    if channels.fixed() != Some(spec.color.channels()) {
        let (expected, color) = (spec.color.channels(), spec.color);
        return Err(wrong(input, &format!("{form} with {expected} channel(s) for color {color:?}")));
    }
    let side = |length: usize| u32::try_from(length).ok().filter(|length| (1..=MOST_SIDE).contains(length));
    match (width.fixed(), height.fixed()) {
        (None, None) => Ok(None),
        (Some(width), Some(height)) => match side(width).zip(side(height)) {
            Some(sheet) => Ok(Some(sheet)),
            None => Err(wrong(input, "sides of 1 to 65536")),
        },
        _ => Err(wrong(input, "both height and width, or neither of them, fixed")),
    }
}

/// Width and height as they are stored, of an upright image, and the other way round.
fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    if swaps_sides(orientation) { (height, width) } else { (width, height) }
}

/// The part of the stored image that the tensor shows: left, top, width, height. `size` is that of the upright image.
fn stored_part(fit: &Fit, size: (u32, u32), orientation: Orientation) -> [f64; 4] {
    let [left, top, width, height] = fit.part();
    let placement = fit.placement(size, orientation);
    let (one, other) = (placement.stored((left, top)), placement.stored((left + width, top + height)));
    let (width, height) = turned(size, orientation);
    // Sums of floats may lie a little beyond the image, which the library does not accept.
    let side = |one: f64, other: f64, most: u32| {
        let (begin, end) = (one.min(other).max(0.0), one.max(other).min(f64::from(most)));
        let mut length = end - begin;
        while begin + length > f64::from(most) {
            length = length.next_down();
        }
        (begin, length)
    };
    let ((left, width), (top, height)) = (side(one.0, other.0, width), side(one.1, other.1, height));
    [left, top, width, height]
}

fn extend(row: &mut Elements, values: impl Iterator<Item = f32>) {
    match row {
        Elements::Fp32(v) => v.extend(values),
        Elements::Fp16(v) => v.extend(values.map(f16::from_f32)),
        Elements::Uint8(v) => v.extend(values.map(|value| value.round() as u8)),
        _ => unreachable!("ImageDecoder::new admits UINT8, FP16 and FP32 only"),
    }
}

/// Returns (value × scale − mean) ÷ std for each of the 256 pixel values.
fn table(spec: &ImageInput, channel: usize) -> [f32; 256] {
    let pick = |values: &[f32], default| values.get(channel).or(values.first()).copied().unwrap_or(default);
    let (mean, std) = (pick(&spec.mean, 0.0), pick(&spec.std, 1.0));
    std::array::from_fn(|level| (level as f32 * spec.scale - mean) / std)
}

/// What the reader of a file must know about the model: its colours, its background, and its limit.
struct Wanted {
    color: Color,
    background: Background,
    max_pixels: u64,
}

impl Wanted {
    /// Checks that an image has at least one pixel and at most `max_pixels`.
    fn check_pixels(&self, width: u32, height: u32) -> Result<(), RequestError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(RequestError::invalid(format!("the image is {width}×{height}: it has no pixels")));
        }
        if pixels > self.max_pixels {
            let most = self.max_pixels;
            let message = format!("{width}×{height} are {pixels} pixels: the limit is {most}");
            return Err(RequestError::new(Code::TooLarge, message));
        }
        Ok(())
    }
}

/// What is known about a file before its pixels are decoded.
struct Header {
    width: u32,
    height: u32,
    orientation: Orientation,
    /// The bytes of memory for decoding, including the pixels.
    memory: usize,
}

impl Header {
    /// Width and height of the upright image.
    fn upright(&self) -> (u32, u32) {
        turned((self.width, self.height), self.orientation)
    }
}

/// Makes the error for a header whose size cannot be true for a file of `length` bytes.
fn impossible(width: u32, height: u32, length: usize) -> RequestError {
    RequestError::invalid(format!("the header says {width}×{height}, which {length} bytes cannot hold"))
}

/// A file whose header was read.
enum File<'f> {
    Png(Box<PngFile<'f>>),
    Jpeg(JpegFile<'f>),
}

impl<'f> File<'f> {
    fn open(file: &'f [u8], wanted: &Wanted) -> Result<File<'f>, RequestError> {
        if file.starts_with(PNG) {
            return Ok(File::Png(Box::new(PngFile::open(file, wanted)?)));
        }
        if file.starts_with(JPEG) {
            return Ok(File::Jpeg(JpegFile::open(file, wanted)?));
        }
        let message = format!("{} bytes that are neither a JPEG nor a PNG file", file.len());
        Err(RequestError::invalid(message))
    }

    fn header(&self) -> Header {
        match self {
            File::Png(file) => file.header(),
            File::Jpeg(file) => file.header(),
        }
    }

    fn read(self, wanted: &Wanted) -> Result<Pixels, RequestError> {
        match self {
            File::Png(file) => file.read(wanted),
            File::Jpeg(file) => file.read(wanted),
        }
    }
}
