//! Images with 8-bit channels. They are made from the content of files, and turned, resized and padded.
//!
//! What belongs here: pixels in memory. What does not: file formats (`jpeg`, `png`) and tensors. Invariant: `bytes`
//! has `width × height × channels` bytes, row by row.

use ::image::metadata::Orientation;
use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::error::RequestError;
use crate::model::manifest::{Background, Color, Filter, ImageInput, ImagePlacement};

/// An image with 8-bit channels, interleaved. It has one channel (gray) or three (RGB).
pub(super) struct Pixels {
    pub width: u32,
    pub height: u32,
    pub channels: usize,
    /// The pixels row by row, from the top left: `width × height × channels` bytes.
    pub bytes: Vec<u8>,
}

/// The form in which the pixels of a file are stored while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Gray,
    Rgb,
    /// With transparency, until all pixels are read: the colour of the background depends on the whole image.
    Rgba,
}

impl Store {
    /// Chooses the form for an image with or without transparency.
    pub fn of(color: Color, background: Background, has_alpha: bool) -> Store {
        match (color, background) {
            (_, Background::Edge(_)) if has_alpha => Store::Rgba,
            (Color::Gray, _) => Store::Gray,
            (Color::Rgb | Color::Bgr, _) => Store::Rgb,
        }
    }

    /// Returns the number of bytes for each pixel.
    pub fn channels(self) -> usize {
        match self {
            Store::Gray => 1,
            Store::Rgb => 3,
            Store::Rgba => 4,
        }
    }

    /// Writes a pixel to `place`, which has one byte for each channel. Without [`Store::Rgba`], a transparent pixel
    /// is mixed with the colour `base`.
    pub fn put(self, place: &mut [u8], [r, g, b, alpha]: [u8; 4], base: [u8; 3]) {
        match self {
            Store::Rgba => place.copy_from_slice(&[r, g, b, alpha]),
            Store::Rgb => place.copy_from_slice(&over([r, g, b, alpha], base)),
            Store::Gray => place[0] = luma(over([r, g, b, alpha], base)),
        }
    }

    /// Makes the image in the model's channels. An image with transparency is drawn over a background: white if the
    /// image is mostly dark, black if it is mostly light. This happens in the same memory.
    pub fn finish(self, width: u32, height: u32, mut bytes: Vec<u8>, color: Color) -> Pixels {
        let channels = color.channels();
        if self == Store::Rgba {
            let base = [contrast(&bytes); 3];
            let store = Store::of(color, Background::Level(0), true);
            for at in 0..bytes.len() / 4 {
                let pixel = [bytes[at * 4], bytes[at * 4 + 1], bytes[at * 4 + 2], bytes[at * 4 + 3]];
                store.put(&mut bytes[at * channels..(at + 1) * channels], pixel, base);
            }
            bytes.truncate(bytes.len() / 4 * channels);
        }
        Pixels { width, height, channels, bytes }
    }
}

/// Returns the colour behind a transparent image. It is used when that colour does not depend on the image.
pub(super) fn base(background: Background) -> [u8; 3] {
    match background {
        Background::Level(level) => [level; 3],
        Background::Rgb(rgb) => rgb,
        Background::Edge(_) => [0; 3],
    }
}

/// Returns the brightness of a colour (luma of ITU-R BT.601), rounded.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 + 500) / 1000) as u8
}

fn over([r, g, b, alpha]: [u8; 4], base: [u8; 3]) -> [u8; 3] {
    if alpha == 255 {
        return [r, g, b];
    }
    let alpha = u32::from(alpha);
    let mix = |top: u8, bottom: u8| {
        ((u32::from(top) * alpha + u32::from(bottom) * (255 - alpha) + 127) / 255) as u8
    };
    [mix(r, base[0]), mix(g, base[1]), mix(b, base[2])]
}

/// Returns white (255) if the visible part of the image is mostly dark, otherwise black (0).
fn contrast(rgba: &[u8]) -> u8 {
    let (mut weighted, mut weight) = (0u64, 0u64);
    for [r, g, b, alpha] in rgba.as_chunks::<4>().0 {
        weighted += u64::from(luma([*r, *g, *b])) * u64::from(*alpha);
        weight += u64::from(*alpha);
    }
    if weighted < 128 * weight.max(1) { 255 } else { 0 }
}

/// Returns whether this orientation swaps width and height.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

impl Pixels {
    /// Turns the image as EXIF says, into a new buffer.
    pub fn upright(self, orientation: Orientation) -> Pixels {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        let Pixels { width, height, channels, bytes } = self;
        let (w, h) = (width as usize, height as usize);
        let (new_width, new_height) = if swaps_sides(orientation) { (h, w) } else { (w, h) };
        let mut turned = Vec::with_capacity(bytes.len());
        for y in 0..new_height {
            for x in 0..new_width {
                // The pixel for (x, y) in the turned image is at (from_x, from_y) in the file.
                let (from_x, from_y) = match orientation {
                    Orientation::NoTransforms => (x, y),
                    Orientation::FlipHorizontal => (w - 1 - x, y),
                    Orientation::Rotate180 => (w - 1 - x, h - 1 - y),
                    Orientation::FlipVertical => (x, h - 1 - y),
                    Orientation::Rotate90FlipH => (y, x),
                    Orientation::Rotate90 => (y, h - 1 - x),
                    Orientation::Rotate270FlipH => (w - 1 - y, h - 1 - x),
                    Orientation::Rotate270 => (w - 1 - y, x),
                };
                let at = (from_y * w + from_x) * channels;
                turned.extend_from_slice(&bytes[at..at + channels]);
            }
        }
        Pixels { width: new_width as u32, height: new_height as u32, channels, bytes: turned }
    }
}

/// Returns the bytes that [`resample`] needs besides the image that it is given: the result, an image between the two
/// passes, and the weights of both passes.
pub(super) fn resample_memory(from: (u32, u32), to: (u32, u32), channels: usize, filter: Filter) -> usize {
    let sides = [from.0, from.1, to.0, to.1].map(|side| side as usize);
    let support = match filter {
        Filter::Nearest => 0,
        Filter::Bilinear => 1,
        Filter::Bicubic => 2,
        Filter::Lanczos3 => 3,
    };
    let between = if support == 0 { 0 } else { sides[0] * sides[3] };
    // Each weight is an f64 and an i16. A side has as many groups of weights as the longer of its two lengths.
    let weights = |from: usize, to: usize| (2 * support + 3) * from.max(to) * 12 + to * 32;
    (sides[2] * sides[3] + between) * channels + weights(sides[0], sides[2]) + weights(sides[1], sides[3])
}

/// Resizes a part of an image (left, top, width, height) to `width` × `height` with the filter of `spec`. Filters read beyond
/// the part, so that it has the same pixels as it has in the whole image when that is resized.
pub(super) fn resample(
    mut pixels: Pixels,
    width: u32,
    height: u32,
    [left, top, across, down]: [f64; 4],
    spec: &ImageInput,
) -> Result<Pixels, RequestError> {
    let with: fn(FilterType) -> ResizeAlg = match spec.antialias {
        true => ResizeAlg::Convolution,
        false => ResizeAlg::Interpolation,
    };
    let algorithm = match spec.filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => with(FilterType::Bilinear),
        Filter::Bicubic => with(FilterType::CatmullRom),
        Filter::Lanczos3 => with(FilterType::Lanczos3),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false).crop(left, top, across, down);
    // The pixel type is chosen here by the number of channels. The library can choose it at run time, but then the
    // code for all thirteen types would be linked. Source and result have the same image type, because a second type
    // would double the code.
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

/// Returns the number of columns on the left and of rows above an image that lies on a larger one.
pub(super) fn border(inner: (u32, u32), sheet: (u32, u32), placement: ImagePlacement) -> (u32, u32) {
    match placement {
        ImagePlacement::Center => ((sheet.0 - inner.0) / 2, (sheet.1 - inner.1) / 2),
        ImagePlacement::TopLeft => (0, 0),
    }
}

/// Returns the colour around an image, one value for each channel.
pub(super) fn background_color(inner: &Pixels, spec: &ImageInput) -> Vec<u8> {
    match spec.background {
        Background::Level(level) => vec![level; inner.channels],
        Background::Rgb(rgb) if inner.channels == 1 => vec![luma(rgb)],
        Background::Rgb(rgb) => rgb.to_vec(),
        Background::Edge(_) => border_mean(inner),
    }
}

/// Puts the image on a larger image of the background's colour.
pub(super) fn pad(inner: Pixels, width: u32, height: u32, spec: &ImageInput) -> Pixels {
    let channels = inner.channels;
    if (inner.width, inner.height) == (width, height) {
        return inner;
    }
    let mut bytes = background_color(&inner, spec).repeat(width as usize * height as usize);
    let (left, top) = border((inner.width, inner.height), (width, height), spec.placement);
    let (left, top) = (left as usize, top as usize);
    let line = inner.width as usize * channels;
    for (y, source) in inner.bytes.chunks_exact(line).enumerate() {
        let start = ((top + y) * width as usize + left) * channels;
        bytes[start..start + line].copy_from_slice(source);
    }
    Pixels { width, height, channels, bytes }
}

/// Returns the mean of the outermost pixels, one value for each channel.
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
