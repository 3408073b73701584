//! Reads JPEG files. It first goes through the segments of the file to the end of the image. So an incomplete file is
//! refused before its pixels are decoded, and the memory for decoding is known.
//!
//! What belongs here: the JPEG format (ITU-T T.81). What does not: resizing and turning (`pixels`). Invariant: pixels
//! are decoded only after the header was checked against the limits.

use ::image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::pixels::{Pixels, luma};
use super::{Header, Wanted};
use crate::error::RequestError;
use crate::model::manifest::Color;

/// A scan can describe at most this many blocks of 8 × 8 pixels in one byte.
const MOST_BLOCKS: u64 = 16;

/// The bytes that the decoder needs for each column: the coefficients and samples of one row of blocks. A row has up
/// to four components, and each component has up to four rows of blocks.
const COLUMN_BYTES: usize = 640;

/// A JPEG file whose segments were checked.
pub(super) struct JpegFile<'f> {
    file: &'f [u8],
    frame: Frame,
    orientation: Orientation,
}

/// The content of a frame header (ITU-T T.81, section B.2.2).
#[derive(Debug, Clone, Copy)]
struct Frame {
    width: u32,
    height: u32,
    components: usize,
    /// Whether all coefficients stay in memory until the last scan. This is so when the file is progressive, or when
    /// each component has its own scan.
    in_scans: bool,
}

fn broken(cause: impl std::fmt::Display) -> RequestError {
    RequestError::invalid(format!("not a readable JPEG file: {cause}"))
}

impl<'f> JpegFile<'f> {
    /// Goes through the segments and reads the header.
    ///
    /// Errors: the file is not a whole JPEG file, or it has too many pixels.
    pub fn open(file: &'f [u8], wanted: &Wanted) -> Result<JpegFile<'f>, RequestError> {
        let (frame, exif) = follow(file, wanted)?;
        let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        Ok(JpegFile { file, frame, orientation })
    }

    /// Returns the size of the image, its orientation, and the memory for decoding.
    pub fn header(&self) -> Header {
        let Frame { width, height, components, in_scans } = self.frame;
        let (w, h) = (width as usize, height as usize);
        // Width and height are rounded up to whole units of up to 4 × 4 blocks.
        let padded = (w + 32) * (h + 32);
        let coefficients = if in_scans { padded * components * size_of::<i16>() } else { 0 };
        Header {
            width,
            height,
            orientation: self.orientation,
            // The length of the file is added for copies of its metadata.
            memory: w * h * self.channels(Color::Rgb)
                + coefficients
                + (w + 32) * COLUMN_BYTES
                + self.file.len(),
        }
    }

    /// Returns the number of channels of the buffer that receives the decoded pixels.
    fn channels(&self, color: Color) -> usize {
        if self.frame.components == 1 { color.channels() } else { 3 }
    }

    /// Decodes the pixels.
    ///
    /// Errors: the coded data is broken.
    pub fn read(self, wanted: &Wanted) -> Result<Pixels, RequestError> {
        let Frame { width, height, components, .. } = self.frame;
        let area = width as usize * height as usize;
        let is_gray = components == 1;
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(usize::MAX)
            .set_max_height(usize::MAX)
            .jpeg_set_out_colorspace(if is_gray { ColorSpace::Luma } else { ColorSpace::RGB });
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(self.file), options);
        decoder.decode_headers().map_err(readable)?;
        if decoder.dimensions() != Some((width as usize, height as usize)) {
            return Err(broken("it has more than one frame header"));
        }
        let channels = wanted.color.channels();
        let mut bytes = vec![0; area * self.channels(wanted.color)];
        let decoded = if is_gray { area } else { area * 3 };
        if decoder.output_buffer_size() != Some(decoded) {
            return Err(broken("its components are of no known colours"));
        }
        decoder.decode_into(&mut bytes[..decoded]).map_err(readable)?;
        match (is_gray, channels) {
            (true, 3) => {
                for at in (0..area).rev() {
                    let level = bytes[at];
                    bytes[at * 3..at * 3 + 3].fill(level);
                }
            }
            (false, 1) => {
                for at in 0..area {
                    bytes[at] = luma([bytes[at * 3], bytes[at * 3 + 1], bytes[at * 3 + 2]]);
                }
                bytes.truncate(area);
            }
            _ => {}
        }
        Ok(Pixels { width, height, channels, bytes })
    }
}

fn readable(error: DecodeErrors) -> RequestError {
    // Some messages of the decoder contain line breaks and bytes of the file.
    let text = error.to_string();
    broken(text.lines().next().unwrap_or_default())
}

/// Goes from segment to segment, through all scans, to the end of the image. Bytes after the end are ignored. It
/// returns the frame header and the EXIF segment, if there is one.
fn follow<'f>(file: &'f [u8], wanted: &Wanted) -> Result<(Frame, Option<&'f [u8]>), RequestError> {
    let cut = || broken("it ends before the image does");
    let (mut frame, mut exif, mut scans) = (None::<Frame>, None, 0);
    let mut at = 2;
    loop {
        let (marker, next) = marker_at(file, at).ok_or_else(cut)?;
        at = next;
        match marker {
            // EOI is the end of the image. TEM, RST and SOI have no length.
            0xd9 => break,
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = file.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let length = length.ok_or_else(cut)?;
        let segment = file.get(at + 2..at + length.max(2)).ok_or_else(cut)?;
        at += length.max(2);
        match marker {
            // The markers SOF0 to SOF15. DHT, JPG and DAC are in the same range but are not frames.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let read = frame_of(marker, segment)?;
                wanted.check_pixels(read.width, read.height)?;
                let blocks = u64::from(read.width.div_ceil(8)) * u64::from(read.height.div_ceil(8));
                if blocks > (file.len() as u64).saturating_mul(MOST_BLOCKS) {
                    return Err(super::impossible(read.width, read.height, file.len()));
                }
                if frame.replace(read).is_some() {
                    return Err(broken("it has more than one frame header"));
                }
            }
            0xe1 => exif = exif.or(segment.strip_prefix(b"Exif\0\0")),
            0xda => {
                let frame = frame.as_mut().ok_or_else(|| broken("a scan comes before the frame's header"))?;
                frame.in_scans |=
                    segment.first().is_some_and(|count| usize::from(*count) != frame.components);
                scans += 1;
                at = scan_end(file, at).ok_or_else(cut)?;
            }
            _ => {}
        }
    }
    match frame {
        Some(frame) if scans > 0 => Ok((frame, exif)),
        _ => Err(broken("it holds no image")),
    }
}

/// Finds the next marker from `at` on, and returns it with the position after it. Fill bytes may stand before a
/// marker, and some programs leave other bytes there.
fn marker_at(file: &[u8], at: usize) -> Option<(u8, usize)> {
    let begin = at + file.get(at..)?.iter().position(|byte| *byte == 0xff)?;
    let end = begin + file.get(begin..)?.iter().position(|byte| *byte != 0xff)?;
    match file[end] {
        0 => marker_at_behind(file, end + 1),
        marker => Some((marker, end + 1)),
    }
}

/// Does the same after a stuffed byte. It uses a loop and not recursion, so a long row of stuffed bytes cannot
/// overflow the stack.
fn marker_at_behind(file: &[u8], from: usize) -> Option<(u8, usize)> {
    let pairs = file.get(from..)?.windows(2);
    let place = pairs.enumerate().find(|(_, pair)| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
    Some((place.1[1], from + place.0 + 2))
}

/// Returns the end of a scan's coded data: the next marker that is not a restart marker (section B.1.1.5).
fn scan_end(file: &[u8], at: usize) -> Option<usize> {
    let mut pairs = file.get(at..)?.windows(2).enumerate();
    let end = pairs.find(|(_, pair)| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7));
    end.map(|(offset, _)| at + offset)
}

fn frame_of(marker: u8, segment: &[u8]) -> Result<Frame, RequestError> {
    let [_, h1, h2, w1, w2, components, ..] = segment else {
        return Err(broken("its frame's header is short"));
    };
    Ok(Frame {
        width: u32::from(u16::from_be_bytes([*w1, *w2])),
        height: u32::from(u16::from_be_bytes([*h1, *h2])),
        components: usize::from(*components),
        in_scans: matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce),
    })
}
