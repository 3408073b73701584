//! JPEG files. Their segments are followed first, to the end of the image: a file that was cut is refused before its
//! pixels are made, and what decoding takes is known.

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

/// No scan can say more 8 × 8 blocks in a byte.
const MOST_BLOCKS: u64 = 16;

/// Bytes that the decoder takes for each column: coefficients and samples of a row of blocks, of up to four components
/// of up to four rows of blocks.
const COLUMN_BYTES: usize = 640;

/// A file whose segments were followed.
pub(super) struct JpegFile<'f> {
    file: &'f [u8],
    frame: Frame,
    orientation: Orientation,
}

/// What a frame's header says (ITU-T T.81, section B.2.2).
#[derive(Debug, Clone, Copy)]
struct Frame {
    width: u32,
    height: u32,
    components: usize,
    /// All coefficients are held until the last scan: it is progressive, or its components come one after the other.
    in_scans: bool,
}

fn broken(cause: impl std::fmt::Display) -> RequestError {
    RequestError::invalid(format!("not a readable JPEG file: {cause}"))
}

impl<'f> JpegFile<'f> {
    /// Follows the segments.
    pub fn open(file: &'f [u8], wanted: &Wanted) -> Result<JpegFile<'f>, RequestError> {
        let (frame, exif) = follow(file, wanted)?;
        let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        Ok(JpegFile { file, frame, orientation })
    }

    pub fn header(&self) -> Header {
        let Frame { width, height, components, in_scans } = self.frame;
        let (w, h) = (width as usize, height as usize);
        // Sides are rounded up to whole units of up to 4 × 4 blocks.
        let padded = (w + 32) * (h + 32);
        let coefficients = if in_scans { padded * components * size_of::<i16>() } else { 0 };
        Header {
            width,
            height,
            orientation: self.orientation,
            // The file's length for copies of its metadata.
            memory: w * h * self.channels(Color::Rgb)
                + coefficients
                + (w + 32) * COLUMN_BYTES
                + self.file.len(),
        }
    }

    /// Channels of the buffer that is decoded into.
    fn channels(&self, color: Color) -> usize {
        if self.frame.components == 1 { color.channels() } else { 3 }
    }

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
    // Some of its sentences have lines and the file's bytes in them.
    let text = error.to_string();
    broken(text.lines().next().unwrap_or_default())
}

/// Goes from segment to segment, through the scans to the end of the image. Bytes behind that are let be.
fn follow<'f>(file: &'f [u8], wanted: &Wanted) -> Result<(Frame, Option<&'f [u8]>), RequestError> {
    let cut = || broken("it ends before the image does");
    let (mut frame, mut exif, mut scans) = (None::<Frame>, None, 0);
    let mut at = 2;
    loop {
        let (marker, next) = marker_at(file, at).ok_or_else(cut)?;
        at = next;
        match marker {
            // The end, and what has no length: TEM, RST, SOI.
            0xd9 => break,
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = file.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let length = length.ok_or_else(cut)?;
        let segment = file.get(at + 2..at + length.max(2)).ok_or_else(cut)?;
        at += length.max(2);
        match marker {
            // SOF0 to SOF15, without DHT, JPG and DAC.
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

/// The next marker from `at` on, and where it ends. Fill bytes may stand in front of it, and some programs leave
/// others there.
fn marker_at(file: &[u8], at: usize) -> Option<(u8, usize)> {
    let begin = at + file.get(at..)?.iter().position(|byte| *byte == 0xff)?;
    let end = begin + file.get(begin..)?.iter().position(|byte| *byte != 0xff)?;
    match file[end] {
        0 => marker_at_behind(file, end + 1),
        marker => Some((marker, end + 1)),
    }
}

/// The same behind a stuffed byte, without going deeper for each.
fn marker_at_behind(file: &[u8], from: usize) -> Option<(u8, usize)> {
    let pairs = file.get(from..)?.windows(2);
    let place = pairs.enumerate().find(|(_, pair)| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
    Some((place.1[1], from + place.0 + 2))
}

/// Where the coded data of a scan ends: at a marker that is no restart (section B.1.1.5).
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
