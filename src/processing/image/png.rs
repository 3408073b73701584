//! Reads PNG files row by row. Each row is converted to 8-bit pixels in the model's channels at once, so the image is
//! never in memory in the form of the file.
//!
//! What belongs here: the PNG format. What does not: resizing and turning (`pixels`). Invariant: the file is read to
//! its end, so an incomplete file is refused.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Reader, Transformations};

use super::pixels::{Pixels, Store, base};
use super::{Header, Wanted};
use crate::error::RequestError;

/// The largest factor by which Deflate can expand a byte (zlib's technical notes).
const MOST_EXPANSION: u64 = 1032;

/// The bytes that the decoder needs for itself: the window for decompression, and the chunks before the pixels.
const FIXED: usize = 512 << 10;

/// The positions of the pixels in each pass of an interlaced file: first column, first row, column step, row step
/// (PNG, section 8.2). A file that is not interlaced has one pass.
const ADAM7: [(usize, usize, usize, usize); 7] =
    [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
const WHOLE: [(usize, usize, usize, usize); 1] = [(0, 0, 1, 1)];

/// A PNG file whose header was read.
pub(super) struct PngFile<'f> {
    reader: Reader<Cursor<&'f [u8]>>,
    store: Store,
    orientation: Orientation,
}

fn broken(error: DecodingError) -> RequestError {
    RequestError::invalid(format!("not a readable PNG file: {error}"))
}

impl<'f> PngFile<'f> {
    /// Reads the chunks before the pixels.
    ///
    /// Errors: the file is not a PNG file, or it has too many pixels.
    pub fn open(file: &'f [u8], wanted: &Wanted) -> Result<PngFile<'f>, RequestError> {
        let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits { bytes: FIXED / 2 });
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let header = decoder.read_header_info().map_err(broken)?;
        let (width, height) = (header.width, header.height);
        wanted.check_pixels(width, height)?;
        let raw = u64::from(height).saturating_mul(header.raw_row_length() as u64 - 1);
        if raw > (file.len() as u64).saturating_mul(MOST_EXPANSION) {
            return Err(super::impossible(width, height, file.len()));
        }
        decoder.set_transformations(Transformations::EXPAND);
        let reader = decoder.read_info().map_err(broken)?;
        let has_alpha = matches!(reader.output_color_type().0, ColorType::GrayscaleAlpha | ColorType::Rgba);
        let exif = reader.info().exif_metadata.as_deref();
        let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        Ok(PngFile { reader, store: Store::of(wanted.color, wanted.background, has_alpha), orientation })
    }

    /// Returns the size of the image, its orientation, and the memory for decoding.
    pub fn header(&self) -> Header {
        let info = self.reader.info();
        let (width, height) = (info.width, info.height);
        let row = self.reader.output_line_size(width).unwrap_or(usize::MAX);
        Header {
            width,
            height,
            orientation: self.orientation,
            // Memory for three rows: the row that is being decoded, the previous row, and the row that is returned.
            memory: (width as usize * height as usize * self.store.channels())
                .saturating_add(row.saturating_mul(4))
                .saturating_add(FIXED),
        }
    }

    /// Reads all pixels, then the rest of the file to its end.
    ///
    /// Errors: the file is broken or incomplete.
    pub fn read(mut self, wanted: &Wanted) -> Result<Pixels, RequestError> {
        let info = self.reader.info();
        let (width, height) = (info.width, info.height);
        let passes: &[_] = if info.interlaced { &ADAM7 } else { &WHOLE };
        let (store, base) = (self.store, base(wanted.background));
        let (columns, channels) = (width as usize, store.channels());
        let mut bytes = vec![0; columns * height as usize * channels];
        let read = read_of(self.reader.output_color_type());
        for &(first_x, first_y, step_x, step_y) in passes.iter().filter(|pass| pass.0 < columns) {
            for y in (first_y..height as usize).step_by(step_y) {
                let row = self.reader.next_row().map_err(broken)?;
                let row =
                    row.ok_or_else(|| RequestError::invalid("not a readable PNG file: a row is missing"))?;
                let line = &mut bytes[y * columns * channels..(y + 1) * columns * channels];
                let places = line.chunks_exact_mut(channels).skip(first_x).step_by(step_x);
                for (place, sample) in places.zip(row.data().chunks_exact(read.size)) {
                    store.put(place, (read.pixel)(sample), base);
                }
            }
        }
        self.reader.finish().map_err(broken)?;
        Ok(store.finish(width, height, bytes, wanted.color))
    }
}

/// The position of a pixel in a row: the bytes of a pixel, and the function that reads it as RGBA.
struct Read {
    size: usize,
    pixel: fn(&[u8]) -> [u8; 4],
}

/// Returns how to read a pixel. With `EXPAND`, rows have no palette and at least 8 bits for each channel.
fn read_of((color, depth): (ColorType, BitDepth)) -> Read {
    /// Converts 16 bits to 8 bits, rounded.
    fn narrow(s: &[u8], at: usize) -> u8 {
        ((u32::from(u16::from_be_bytes([s[2 * at], s[2 * at + 1]])) + 128) / 257) as u8
    }
    let is_wide = depth == BitDepth::Sixteen;
    match (color, is_wide) {
        (ColorType::Grayscale | ColorType::Indexed, false) => {
            Read { size: 1, pixel: |s| [s[0], s[0], s[0], 255] }
        }
        (ColorType::GrayscaleAlpha, false) => Read { size: 2, pixel: |s| [s[0], s[0], s[0], s[1]] },
        (ColorType::Rgb, false) => Read { size: 3, pixel: |s| [s[0], s[1], s[2], 255] },
        (ColorType::Rgba, false) => Read { size: 4, pixel: |s| [s[0], s[1], s[2], s[3]] },
        (ColorType::Grayscale | ColorType::Indexed, true) => Read {
            size: 2,
            pixel: |s| {
                let level = narrow(s, 0);
                [level, level, level, 255]
            },
        },
        (ColorType::GrayscaleAlpha, true) => Read {
            size: 4,
            pixel: |s| {
                let level = narrow(s, 0);
                [level, level, level, narrow(s, 1)]
            },
        },
        (ColorType::Rgb, true) => {
            Read { size: 6, pixel: |s| [narrow(s, 0), narrow(s, 1), narrow(s, 2), 255] }
        }
        (ColorType::Rgba, true) => {
            Read { size: 8, pixel: |s| [narrow(s, 0), narrow(s, 1), narrow(s, 2), narrow(s, 3)] }
        }
    }
}
