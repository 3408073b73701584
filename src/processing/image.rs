//! JPEG and PNG files into image tensors: header first, then pixels, orientation, colour, size,
//! normalisation, layout.
//!
//! The header is read and its size held against the limits (and against what so many bytes can
//! possibly hold) before memory is taken for pixels.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader};
use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use half::f16;

use crate::config::Limits;
use crate::model::manifest::{Background, Color, Filter, ImageInput, Layout, Resize};
use crate::model::{Datatype, Elements, TensorMetadata};
use crate::wire::error::show_shape;
use crate::wire::{Code, RequestError};

/// The media types that [`ImageDecoder`] takes.
pub const MEDIA_TYPES: &[&str] = &["image/jpeg", "image/png"];

/// Deflate cannot expand a byte further than this (zlib's technical notes), and no JPEG scan can
/// say more blocks in a byte.
const MOST_EXPANSION: u64 = 1032;

/// Makes one input's rows from image files.
#[derive(Debug)]
pub struct ImageDecoder {
    spec: ImageInput,
    datatype: Datatype,
    width: u32,
    height: u32,
    max_pixels: u64,
    max_tensor_bytes: usize,
    /// Pixel level to tensor value, a table a channel of the tensor.
    values: Vec<[f32; 256]>,
}

/// An image of 8-bit channels, interleaved; one channel (gray) or three (RGB).
struct Pixels {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

impl ImageDecoder {
    /// Fits a declaration to the input it stands on; the error says what about the two disagrees.
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

    /// Decodes `files`, a row each. They make no more than [`Limits::max_tensor_bytes`], and the buffer
    /// grows with the rows that are there.
    pub fn decode(&self, files: &[Vec<u8>]) -> Result<Elements, RequestError> {
        let row = self.values.len()
            * self.width as usize
            * self.height as usize
            * self.datatype.size().unwrap_or(1);
        if row.saturating_mul(files.len()) > self.max_tensor_bytes {
            let (count, most) = (files.len(), self.max_tensor_bytes);
            let message =
                format!("{count} images make {count} × {row} bytes: the limit is {most}, send fewer");
            return Err(RequestError::new(Code::TooLarge, message));
        }
        let mut rows = Elements::empty(self.datatype);
        for (index, file) in files.iter().enumerate() {
            self.decode_into(file, &mut rows).map_err(|error| {
                RequestError::new(error.code, format!("image {index}: {}", error.message))
            })?;
        }
        Ok(rows)
    }

    /// Appends the image in `file` (a whole JPEG or PNG file) as one row.
    fn decode_into(&self, file: &[u8], row: &mut Elements) -> Result<(), RequestError> {
        let image = read(file, self.max_pixels)?;
        let pixels = flatten(image, self.spec.color, self.spec.background);
        let pixels = self.fit(pixels)?;
        self.normalise(&pixels, row);
        Ok(())
    }

    /// Brings the image to the tensor's width and height.
    fn fit(&self, pixels: Pixels) -> Result<Pixels, RequestError> {
        if (pixels.width, pixels.height) == (self.width, self.height) {
            return Ok(pixels);
        }
        match self.spec.resize {
            Resize::Stretch => resample(pixels, self.width, self.height, self.spec.filter, false),
            Resize::Cover => resample(pixels, self.width, self.height, self.spec.filter, true),
            Resize::Contain => {
                let factor = f64::min(
                    f64::from(self.width) / f64::from(pixels.width),
                    f64::from(self.height) / f64::from(pixels.height),
                );
                let side =
                    |length: u32, most: u32| ((f64::from(length) * factor).round() as u32).clamp(1, most);
                let (width, height) = (side(pixels.width, self.width), side(pixels.height, self.height));
                let inner = resample(pixels, width, height, self.spec.filter, false)?;
                Ok(pad(inner, self.width, self.height, self.spec.background))
            }
        }
    }

    fn normalise(&self, pixels: &Pixels, row: &mut Elements) {
        let channels = pixels.channels;
        // Pixels are RGB; the tensor may want its channels the other way round.
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

/// (level × scale − mean) ÷ std for each of the 256 levels.
fn table(spec: &ImageInput, channel: usize) -> [f32; 256] {
    let pick = |values: &[f32], default| values.get(channel).or(values.first()).copied().unwrap_or(default);
    let (mean, std) = (pick(&spec.mean, 0.0), pick(&spec.std, 1.0));
    std::array::from_fn(|level| (level as f32 * spec.scale - mean) / std)
}

/// Reads header, checks it, then pixels; upright as EXIF says.
fn read(file: &[u8], max_pixels: u64) -> Result<DynamicImage, RequestError> {
    let format = match ::image::guess_format(file) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => format,
        _ => {
            return Err(RequestError::invalid(format!(
                "{} bytes that are neither a JPEG nor a PNG file",
                file.len()
            )));
        }
    };
    let broken = |error: ::image::ImageError| {
        RequestError::invalid(format!("not a readable {format:?} file: {error}"))
    };
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut limits = ::image::Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(8).saturating_add(1 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(RequestError::new(
            Code::TooLarge,
            format!("{width}×{height} are {pixels} pixels: the limit is {max_pixels}"),
        ));
    }
    let bits = match format {
        ImageFormat::Png => png_bits(file),
        _ => 8,
    };
    if pixels * bits / 8 > (file.len() as u64).saturating_mul(MOST_EXPANSION) {
        return Err(RequestError::invalid(format!(
            "the header says {width}×{height}, which {} bytes cannot hold",
            file.len()
        )));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Bits a pixel, from the header that every PNG begins with (its depth at byte 24, its colour type at
/// 25); the decoder only tells what it will make of them.
fn png_bits(file: &[u8]) -> u64 {
    let channels = match file.get(25) {
        Some(2) => 3,
        Some(4) => 2,
        Some(6) => 4,
        _ => 1,
    };
    channels * file.get(24).copied().map_or(8, u64::from)
}

/// Gray or RGB, 8 bits, transparency laid over the background.
fn flatten(image: DynamicImage, color: Color, background: Background) -> Pixels {
    let (width, height) = (image.width(), image.height());
    let image = if image.color().has_alpha() { over(image, background) } else { image };
    let (channels, bytes) = match (color, image) {
        (Color::Gray, DynamicImage::ImageLuma8(image)) => (1, image.into_raw()),
        (Color::Gray, image) if !image.color().has_color() => (1, image.into_luma8().into_raw()),
        (Color::Gray, image) => {
            let rgb = image.into_rgb8().into_raw();
            (1, rgb.as_chunks::<3>().0.iter().map(|pixel| luma(*pixel)).collect())
        }
        (Color::Rgb | Color::Bgr, image) => (3, image.into_rgb8().into_raw()),
    };
    Pixels { width, height, channels, bytes }
}

/// ITU-R BT.601 luma, rounded.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 + 500) / 1000) as u8
}

fn over(image: DynamicImage, background: Background) -> DynamicImage {
    let rgba = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    let base = match background {
        Background::Level(level) => [level; 3],
        Background::Rgb(rgb) => rgb,
        // A drawing on a transparent sheet: the sheet is white under dark strokes, black under light.
        Background::Edge(_) => [contrast(rgba.as_raw()); 3],
    };
    let mut bytes = Vec::with_capacity(rgba.as_raw().len() / 4 * 3);
    for [r, g, b, alpha] in rgba.as_raw().as_chunks::<4>().0 {
        for (top, bottom) in [r, g, b].into_iter().zip(base) {
            let alpha = u32::from(*alpha);
            bytes.push(((u32::from(*top) * alpha + u32::from(bottom) * (255 - alpha) + 127) / 255) as u8);
        }
    }
    let rgb =
        ::image::RgbImage::from_raw(width, height, bytes).expect("three bytes were made for each pixel");
    DynamicImage::ImageRgb8(rgb)
}

/// White when the visible part is dark on the whole, otherwise black.
fn contrast(rgba: &[u8]) -> u8 {
    let (mut weighted, mut weight) = (0u64, 0u64);
    for [r, g, b, alpha] in rgba.as_chunks::<4>().0 {
        weighted += u64::from(luma([*r, *g, *b])) * u64::from(*alpha);
        weight += u64::from(*alpha);
    }
    if weighted < 128 * weight.max(1) { 255 } else { 0 }
}

fn resample(
    mut pixels: Pixels,
    width: u32,
    height: u32,
    filter: Filter,
    crop: bool,
) -> Result<Pixels, RequestError> {
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let mut options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    if crop {
        options = options.fit_into_destination(Some((0.5, 0.5)));
    }
    // By the pixel's type, known here: choosing it at run time would link the code of all thirteen. And of
    // one type of image, the one that can be written: another one for the source would double the code.
    let bytes = match pixels.channels {
        1 => resample_as::<U8>(&mut pixels, width, height, &options),
        _ => resample_as::<U8x3>(&mut pixels, width, height, &options),
    };
    let bytes =
        bytes.map_err(|error| RequestError::invalid(format!("the image cannot be resized: {error}")))?;
    Ok(Pixels { width, height, channels: pixels.channels, bytes })
}

fn resample_as<P: PixelTrait>(
    pixels: &mut Pixels,
    width: u32,
    height: u32,
    options: &ResizeOptions,
) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; width as usize * height as usize * pixels.channels];
    let source = TypedImage::<P>::from_buffer(pixels.width, pixels.height, &mut pixels.bytes)
        .map_err(|error| error.to_string())?;
    let mut target =
        TypedImage::<P>::from_buffer(width, height, &mut bytes).map_err(|error| error.to_string())?;
    Resizer::new().resize_typed(&source, &mut target, options).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Centres the image on a sheet of the background's colour.
fn pad(inner: Pixels, width: u32, height: u32, background: Background) -> Pixels {
    let channels = inner.channels;
    if (inner.width, inner.height) == (width, height) {
        return inner;
    }
    let color: Vec<u8> = match background {
        Background::Level(level) => vec![level; channels],
        Background::Rgb(rgb) if channels == 1 => vec![luma(rgb)],
        Background::Rgb(rgb) => rgb.to_vec(),
        Background::Edge(_) => border_mean(&inner),
    };
    let mut bytes = color.repeat(width as usize * height as usize);
    let (left, top) = ((width - inner.width) as usize / 2, (height - inner.height) as usize / 2);
    let line = inner.width as usize * channels;
    for (y, source) in inner.bytes.chunks_exact(line).enumerate() {
        let start = ((top + y) * width as usize + left) * channels;
        bytes[start..start + line].copy_from_slice(source);
    }
    Pixels { width, height, channels, bytes }
}

/// The mean of the outermost pixels, a value a channel.
fn border_mean(pixels: &Pixels) -> Vec<u8> {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let (mut sums, mut count) = (vec![0u64; pixels.channels], 0u64);
    for (at, pixel) in pixels.bytes.chunks_exact(pixels.channels).enumerate() {
        let (x, y) = (at % width, at / width);
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            sums.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += u64::from(*level));
            count += 1;
        }
    }
    sums.iter().map(|sum| ((sum + count / 2) / count) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let Elements::Fp32(values) = decoder.decode(&[file.to_vec()])? else { panic!() };
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
    fn a_transparent_sheet_is_light_under_dark_strokes_and_dark_under_light_ones() {
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
        // EXIF: one IFD entry, orientation 6 (turn 90° clockwise), behind the JPEG's first marker.
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
    fn a_header_that_lies_is_refused_before_pixels_are_made() {
        let decoder = decoder(r#"{"color":"gray"}"#, [1, 1, 1, 2]).unwrap();
        let mut file = png(::image::GrayImage::new(2, 1));
        // IHDR: width at byte 16, height at 20, the chunk's CRC at 29.
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
            (&two_pixels()[..40], "not a readable Png file"),
        ] {
            let error = decode(&decoder, file).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn a_declaration_that_does_not_fit_the_input_is_refused_at_load() {
        let error = decoder(r#"{"color":"rgb"}"#, [1, 1, 4, 4]).unwrap_err();
        assert!(error.contains("3 channel(s)"), "{error}");
    }

    /// CRC-32 as PNG has it (ISO 3309), bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
