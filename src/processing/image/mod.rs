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
mod pixels;
mod png;

use ::image::metadata::Orientation;
use half::f16;

use self::jpeg::JpegFile;
use self::pixels::{Pixels, border, pad, resample, resample_memory, swaps_sides};
use self::png::PngFile;
use super::Allowance;
use crate::config::Limits;
use crate::error::show_shape;
use crate::error::{Code, RequestError};
use crate::model::input::Placement;
use crate::model::manifest::{Background, Color, ImageInput, Layout, Resize};
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
            Resize::Stretch => Placement { size, scale: exact, offset: (0.0, 0.0) },
            Resize::Contain => {
                let inner = upright(self.target(width, height, orientation));
                let scale = (f64::from(inner.0) / f64::from(size.0), f64::from(inner.1) / f64::from(size.1));
                let (left, top) = border(inner, (self.width, self.height));
                Placement { size, scale, offset: (f64::from(left), f64::from(top)) }
            }
            Resize::Cover => {
                let scale = f64::max(exact.0, exact.1);
                let offset = |tensor: f64, side: u32| (tensor - f64::from(side) * scale) / 2.0;
                let offset = (offset(tensor.0, size.0), offset(tensor.1, size.1));
                Placement { size, scale: (scale, scale), offset }
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
        let resized = resample_memory((*width, *height), target, channels, self.spec.filter);
        // One copy for the turned image and one for the padded image.
        resized + 2 * self.width as usize * self.height as usize * channels
    }

    /// Brings the image to the width and height of the tensor, upright as EXIF says. The image is resized before it
    /// is turned, because turning needs a second copy, and the resized image is normally smaller.
    fn fit(&self, pixels: Pixels, orientation: Orientation) -> Result<Pixels, RequestError> {
        let (width, height) = self.target(pixels.width, pixels.height, orientation);
        let resized = if (pixels.width, pixels.height) == (width, height) {
            pixels
        } else {
            resample(pixels, width, height, self.spec.filter, self.spec.resize == Resize::Cover)?
        };
        Ok(pad(resized.upright(orientation), self.width, self.height, self.spec.background))
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::memory::{Budget, Share};
    use crate::model::{Dim, Manifest};

    fn decoder(image: &str, shape: [usize; 4]) -> Result<ImageDecoder, String> {
        let manifest = Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#)).unwrap();
        let shape = shape.map(Dim::Fixed).to_vec();
        let input = TensorMetadata {
            name: "x".into(),
            datatype: Datatype::Fp32,
            shape,
            accepts: MEDIA_TYPES,
            filled_by: None,
        };
        ImageDecoder::new(
            manifest.inputs[0].image.as_ref().unwrap(),
            &input,
            &Limits { max_image_pixels: 1_000_000, ..Limits::default() },
        )
    }

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.into().write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    fn decode(decoder: &ImageDecoder, file: &[u8]) -> Result<Vec<f32>, RequestError> {
        let mut memory = Share::none(&Budget::unbounded());
        let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
        let (Elements::Fp32(values), _) = decoder.decode(&[file.to_vec()], &mut allowance)? else { panic!() };
        Ok(values)
    }

    fn two_pixels() -> Vec<u8> {
        png(::image::RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap())
    }

    #[test]
    fn layout_and_colour_order_are_as_declared() {
        let nchw = decoder(r#"{"color":"rgb"}"#, [1, 3, 1, 2]).unwrap();
        assert_eq!(decode(&nchw, &two_pixels()).unwrap(), [10.0, 40.0, 20.0, 50.0, 30.0, 60.0]);
        let nhwc = decoder(r#"{"color":"bgr","layout":"NHWC"}"#, [1, 1, 2, 3]).unwrap();
        assert_eq!(decode(&nhwc, &two_pixels()).unwrap(), [30.0, 20.0, 10.0, 60.0, 50.0, 40.0]);
        let gray = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
        assert_eq!(decode(&gray, &two_pixels()).unwrap(), [18.0, 48.0]);
    }

    #[test]
    fn values_are_scaled_then_centred_then_divided_by_channel() {
        let spec = r#"{"color":"rgb","scale":0.5,"mean":[1,2,3],"std":[2,4,8]}"#;
        let decoder = decoder(spec, [1, 3, 1, 2]).unwrap();
        assert_eq!(decode(&decoder, &two_pixels()).unwrap(), [2.0, 9.5, 2.0, 5.75, 1.5, 3.375]);
    }

    #[test]
    fn contain_pads_and_cover_crops() {
        let file = png(::image::GrayImage::from_raw(2, 1, vec![100, 200]).unwrap());
        let contain = decoder(r#"{"color":"gray","resize":"contain","background":7}"#, [1, 1, 4, 2]).unwrap();
        assert_eq!(decode(&contain, &file).unwrap(), [7.0, 7.0, 100.0, 200.0, 7.0, 7.0, 7.0, 7.0]);
        let edge =
            decoder(r#"{"color":"gray","resize":"contain","background":"edge"}"#, [1, 1, 2, 2]).unwrap();
        assert_eq!(decode(&edge, &file).unwrap(), [100.0, 200.0, 150.0, 150.0]);
        let file = png(::image::GrayImage::from_raw(4, 2, vec![1, 9, 9, 1, 1, 9, 9, 1]).unwrap());
        let cover = decoder(r#"{"color":"gray","resize":"cover","filter":"nearest"}"#, [1, 1, 1, 1]).unwrap();
        assert_eq!(decode(&cover, &file).unwrap(), [9.0]);
    }

    #[test]
    fn decoding_returns_the_placement_of_each_image() {
        let file = png(::image::GrayImage::new(40, 20));
        let placement = |spec: &str| {
            let decoder = decoder(spec, [1, 1, 20, 10]).unwrap();
            let mut memory = Share::none(&Budget::unbounded());
            let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
            decoder.decode(std::slice::from_ref(&file), &mut allowance).unwrap().1[0]
        };
        let expected = |scale, offset| Placement { size: (40, 20), scale, offset };
        assert_eq!(placement(r#"{"color":"gray"}"#), expected((0.25, 1.0), (0.0, 0.0)));
        // The image becomes 10 × 5 pixels, with 7 empty rows above and 8 below.
        let contain = placement(r#"{"color":"gray","resize":"contain"}"#);
        assert_eq!(contain, expected((0.25, 0.25), (0.0, 7.0)));
        // The image becomes 40 × 20 pixels, and only the 10 columns in the middle are kept.
        let cover = placement(r#"{"color":"gray","resize":"cover"}"#);
        assert_eq!(cover, expected((1.0, 1.0), (-15.0, 0.0)));
    }

    #[test]
    fn a_transparent_background_is_white_for_a_dark_image_and_black_for_a_light_one() {
        for (stroke, sheet) in [(0, 255.0), (255, 0.0)] {
            let file =
                png(::image::RgbaImage::from_raw(2, 1, vec![stroke, stroke, stroke, 255, 0, 0, 0, 0])
                    .unwrap());
            let decoder = decoder(r#"{"color":"gray","background":"edge"}"#, [1, 1, 1, 2]).unwrap();
            assert_eq!(decode(&decoder, &file).unwrap(), [f32::from(stroke), sheet]);
        }
    }

    #[test]
    fn exif_orientation_is_honoured() {
        let image = ::image::RgbImage::from_fn(16, 8, |x, _| ::image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
        let mut jpeg = Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        // EXIF with one IFD entry, orientation 6 (turn 90° clockwise). It is put after the first marker of the JPEG.
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut file = jpeg.into_inner();
        let mut segment = vec![0xff, 0xe1, 0, (tiff.len() + 8) as u8];
        segment.extend_from_slice(b"Exif\0\0");
        segment.extend_from_slice(tiff);
        file.splice(2..2, segment);
        let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 16, 8]).unwrap();
        let values = decode(&decoder, &file).unwrap();
        assert!(values[0] < 32.0 && values[16 * 8 - 1] > 223.0, "{} {}", values[0], values[16 * 8 - 1]);
    }

    #[test]
    fn a_header_with_an_impossible_size_is_refused_before_decoding() {
        let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
        let mut file = png(::image::GrayImage::new(2, 1));
        // In IHDR, the width is at byte 16, the height at byte 20, and the chunk's CRC at byte 29.
        for (width, height, code, part) in [
            (50_000u32, 50_000u32, Code::TooLarge, "50000×50000 are 2500000000 pixels"),
            (1000, 1000, Code::InvalidRequest, "cannot hold"),
        ] {
            file[16..20].copy_from_slice(&width.to_be_bytes());
            file[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32(&file[12..29]);
            file[29..33].copy_from_slice(&crc.to_be_bytes());
            let error = decode(&decoder, &file).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
        for (file, part) in [
            (&b"GIF89a not ours"[..], "neither a JPEG nor a PNG"),
            (&two_pixels()[..40], "not a readable PNG file"),
        ] {
            let error = decode(&decoder, file).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn an_image_that_can_never_fit_in_memory_is_too_large_and_not_retried() {
        let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
        let mut memory = Share::none(&Budget::new((1 << 20) + 1000));
        memory.grow(2000).unwrap();
        let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
        let error = decoder.decode(&[two_pixels()], &mut allowance).unwrap_err();
        assert_eq!(error.code, Code::TooLarge, "{error}");
    }

    #[test]
    fn a_declaration_that_does_not_fit_the_input_is_refused_at_load() {
        let error = decoder(r#"{"color":"rgb"}"#, [1, 1, 4, 4]).unwrap_err();
        assert!(error.contains("3 channel(s)"), "{error}");
    }

    /// Computes the CRC-32 of PNG (ISO 3309), bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
