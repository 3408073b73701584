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

mod jpeg;
mod linear;
mod pixels;
mod png;
#[cfg(test)]
mod tests;

use ::image::metadata::Orientation;
use half::f16;

use self::jpeg::JpegFile;
use self::linear::Part;
use self::pixels::{Pixels, background_color, border, pad, resample, resample_memory, swaps_sides};
use self::png::PngFile;
use super::Allowance;
use crate::config::Limits;
use crate::error::show_shape;
use crate::error::{Code, RequestError};
use crate::model::input::Placement;
use crate::model::manifest::{Background, Color, Filter, ImageInput, ImagePlacement, Layout, Resize};
use crate::model::{Datatype, Elements, TensorMetadata};

/// The media types that [`ImageDecoder`] accepts.
pub const MEDIA_TYPES: &[&str] = &["image/jpeg", "image/png"];

/// The first bytes of the files.
const JPEG: &[u8] = &[0xff, 0xd8, 0xff];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Returns whether the first bytes are those of a JPEG or PNG file. JSON and text never begin with these bytes.
pub fn is_image(file: &[u8]) -> bool {
    file.starts_with(JPEG) || file.starts_with(PNG)
}

/// Makes the rows of one input from image files.
#[derive(Debug)]
pub struct ImageDecoder {
    spec: ImageInput,
    datatype: Datatype,
    width: u32,
    height: u32,
    max_pixels: u64,
    max_tensor_bytes: usize,
    /// One table for each channel of the tensor: it maps a pixel value (0 to 255) to a tensor value.
    values: Vec<[f32; 256]>,
}

impl ImageDecoder {
    /// Makes a decoder from the declaration in `model.json` and the input that it belongs to.
    /// Errors: a sentence about what does not agree, such as the shape or the datatype.
    pub fn new(spec: &ImageInput, input: &TensorMetadata, limits: &Limits) -> Result<ImageDecoder, String> {
        let wrong = |expected: &str| {
            format!(
                "input `{}` has shape {} {}, but its `image` needs {expected}; pin it with `shape` in model.json",
                input.name,
                input.datatype,
                show_shape(&input.shape_i64())
            )
        };
        if !matches!(input.datatype, Datatype::Uint8 | Datatype::Fp16 | Datatype::Fp32) {
            return Err(wrong("datatype UINT8, FP16 or FP32"));
        }
        let fixed: Vec<Option<usize>> = input.shape.iter().map(|dim| dim.fixed()).collect();
        let (channels, height, width) = match (spec.layout, fixed.as_slice()) {
            (Layout::Nchw, [_, Some(c), Some(h), Some(w)]) => (*c, *h, *w),
            (Layout::Nhwc, [_, Some(h), Some(w), Some(c)]) => (*c, *h, *w),
            (Layout::Nchw, _) => {
                return Err(wrong("[batch, channels, height, width], all but the batch fixed"));
            }
            (Layout::Nhwc, _) => {
                return Err(wrong("[batch, height, width, channels], all but the batch fixed"));
            }
        };
        if channels != spec.color.channels() {
            return Err(wrong(&format!("{} channel(s) for color {:?}", spec.color.channels(), spec.color)));
        }
        let side = |length: usize| u32::try_from(length).ok().filter(|length| (1..=1 << 16).contains(length));
        let (Some(width), Some(height)) = (side(width), side(height)) else {
            return Err(wrong("sides of 1 to 65536"));
        };
        let values = (0..channels).map(|channel| table(spec, channel)).collect();
        let (max_pixels, max_tensor_bytes) = (limits.max_image_pixels, limits.max_tensor_bytes);
        let (spec, datatype) = (spec.clone(), input.datatype);
        Ok(ImageDecoder { spec, datatype, width, height, max_pixels, max_tensor_bytes, values })
    }

    /// Decodes `files`, with one row for each file. It returns the elements of all rows, and the placement of each
    /// image in its row. The memory for each file is taken from the budget before the file is read.
    ///
    /// Errors: the rows are larger than [`Limits::max_tensor_bytes`], a file cannot be read or has too many pixels,
    /// the request is no longer wanted, or the budget is used up.
    pub fn decode(
        &self,
        files: &[Vec<u8>],
        allowance: &mut Allowance<'_>,
    ) -> Result<(Elements, Vec<Placement>), RequestError> {
        let values = self.values.len() * self.width as usize * self.height as usize;
        let row = values * self.datatype.size().unwrap_or(1);
        let bytes = row.saturating_mul(files.len());
        if bytes > self.max_tensor_bytes {
            let (count, most) = (files.len(), self.max_tensor_bytes);
            let message =
                format!("{count} images make {count} × {row} bytes: the limit is {most}, send fewer");
            return Err(RequestError::new(Code::TooLarge, message));
        }
        allowance.memory.grow(bytes)?;
        let mut rows = Elements::with_capacity(self.datatype, values * files.len());
        let mut placements = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate() {
            (allowance.is_due)()?;
            let placement = self
                .decode_into(file, &mut rows, allowance)
                .map_err(|error| error.within(&format!("image {index}")))?;
            placements.push(placement);
        }
        Ok((rows, placements))
    }

    /// Decodes `file`, a whole JPEG or PNG file, and appends it to `row` as one row.
    fn decode_into(
        &self,
        file: &[u8],
        row: &mut Elements,
        allowance: &mut Allowance<'_>,
    ) -> Result<Placement, RequestError> {
        let Self { spec, max_pixels, .. } = self;
        let wanted = Wanted { color: spec.color, background: spec.background, max_pixels: *max_pixels };
        // This memory is for the decoder itself, for what it reads before the pixels.
        let opened = allowance.memory.take_beside(1 << 20)?;
        let file = File::open(file, &wanted)?;
        let header = file.header();
        let _taken = allowance.memory.take_beside(header.memory.saturating_add(self.fit_memory(&header)))?;
        drop(opened);
        let pixels = self.fit(file.read(&wanted)?, header.orientation)?;
        self.normalise(&pixels, row);
        Ok(self.placement(header.width, header.height, header.orientation))
    }

    /// Returns where an image of this size lies in the tensor.
    fn placement(&self, width: u32, height: u32, orientation: Orientation) -> Placement {
        let upright = |(a, b): (u32, u32)| if swaps_sides(orientation) { (b, a) } else { (a, b) };
        let size = upright((width, height));
        let tensor = (f64::from(self.width), f64::from(self.height));
        let exact = (tensor.0 / f64::from(size.0), tensor.1 / f64::from(size.1));
        match self.spec.resize {
            Resize::Stretch => Placement { size, orientation, scale: exact, offset: (0.0, 0.0) },
            Resize::Contain => {
                let inner = upright(self.target(width, height, orientation));
                let mut scale =
                    (f64::from(inner.0) / f64::from(size.0), f64::from(inner.1) / f64::from(size.1));
                if self.is_linear() && self.spec.placement == ImagePlacement::TopLeft {
                    scale = (exact.0.min(exact.1), exact.0.min(exact.1));
                }
                let (left, top) = border(inner, (self.width, self.height), self.spec.placement);
                Placement { size, orientation, scale, offset: (f64::from(left), f64::from(top)) }
            }
            Resize::Cover => {
                let scale = f64::max(exact.0, exact.1);
                let offset = |tensor: f64, side: u32| (tensor - f64::from(side) * scale) / 2.0;
                let offset = (offset(tensor.0, size.0), offset(tensor.1, size.1));
                Placement { size, orientation, scale: (scale, scale), offset }
            }
        }
    }

    /// Returns the width and height to which an image is resized, before it is turned upright and cropped.
    fn target(&self, width: u32, height: u32, orientation: Orientation) -> (u32, u32) {
        let swap = |(a, b)| if swaps_sides(orientation) { (b, a) } else { (a, b) };
        if self.spec.resize != Resize::Contain {
            return swap((self.width, self.height));
        }
        let (width, height) = swap((width, height));
        let factor =
            f64::min(f64::from(self.width) / f64::from(width), f64::from(self.height) / f64::from(height));
        let side = |length: u32, most: u32| ((f64::from(length) * factor).round() as u32).clamp(1, most);
        swap((side(width, self.width), side(height, self.height)))
    }

    /// Returns the bytes that [`ImageDecoder::fit`] needs besides the pixels that it is given.
    fn fit_memory(&self, header: &Header) -> usize {
        let Header { width, height, orientation, .. } = header;
        let target = self.target(*width, *height, *orientation);
        let channels = self.spec.color.channels();
        let resized = if self.is_linear() {
            let turned = if *orientation == Orientation::NoTransforms { 0 } else { channels };
            let turned = (*width as usize * *height as usize).saturating_mul(turned);
            turned + linear::memory(self.width, self.height, channels)
        } else {
            resample_memory((*width, *height), target, channels, self.spec.filter)
        };
        // One copy for the turned image and one for the padded image.
        resized + 2 * self.width as usize * self.height as usize * channels
    }

    /// Brings the image to the width and height of the tensor, upright as EXIF says. The image is resized before it
    /// is turned, because turning needs a second copy, and the resized image is normally smaller.
    fn fit(&self, pixels: Pixels, orientation: Orientation) -> Result<Pixels, RequestError> {
        if self.is_linear() {
            return Ok(self.fit_linear(&pixels.upright(orientation)));
        }
        let (width, height) = self.target(pixels.width, pixels.height, orientation);
        let resized = if (pixels.width, pixels.height) == (width, height) {
            pixels
        } else {
            resample(pixels, width, height, &self.spec)?
        };
        Ok(pad(resized.upright(orientation), self.width, self.height, &self.spec))
    }

    /// Whether images are resized as OpenCV does it.
    fn is_linear(&self) -> bool {
        self.spec.filter == Filter::Bilinear && !self.spec.antialias
    }

    /// Brings an upright image to the width and height of the tensor, to the levels that OpenCV gives. At the left upper
    /// corner, the image is put on the background before it is resized, and in the middle after that: so programs that use
    /// OpenCV do it.
    fn fit_linear(&self, pixels: &Pixels) -> Pixels {
        let (width, height) = (self.width, self.height);
        let Placement { scale, offset, .. } =
            self.placement(pixels.width, pixels.height, Orientation::NoTransforms);
        let step = (1.0 / scale.0, 1.0 / scale.1);
        match (self.spec.resize, self.spec.placement) {
            (Resize::Contain, ImagePlacement::TopLeft) => {
                let color = background_color(pixels, &self.spec);
                let part = Part { step, origin: (0.0, 0.0) };
                linear::resize(pixels, width, height, part, Some(&color))
            }
            (Resize::Contain, ImagePlacement::Center) => {
                let (across, down) = self.target(pixels.width, pixels.height, Orientation::NoTransforms);
                let inner = linear::resize(pixels, across, down, Part { step, origin: (0.0, 0.0) }, None);
                pad(inner, width, height, &self.spec)
            }
            (Resize::Stretch | Resize::Cover, _) => {
                let origin = (-offset.0 * step.0, -offset.1 * step.1);
                linear::resize(pixels, width, height, Part { step, origin }, None)
            }
        }
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
