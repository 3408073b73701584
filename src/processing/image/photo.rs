//! Parts of a photograph, cut out and straightened, as PP-OCR prepares lines of text: a quadrilateral becomes an upright
//! image, by a perspective and cubic interpolation, to the levels that OpenCV gives.
//!
//! What belongs here: a file in, files of its parts out. Which parts is decided by results.

use ::image::metadata::Orientation;

use super::pixels::Pixels;
use super::{File, OPENED, Wanted};
use crate::error::RequestError;
use crate::memory::Share;
use crate::model::input::Placement;
use crate::model::manifest::{Background, Color};

/// A part this much higher than wide is turned, if that is wanted.
const TALL: f64 = 1.5;

/// The most pixels of a side of a part.
const MOST_SIDE: f64 = 65_536.0;

/// A photograph, turned upright.
pub struct Photo {
    pixels: Pixels,
    /// How the file is turned.
    placement: Placement,
    /// The memory of the pixels.
    share: Share,
}

impl std::fmt::Debug for Photo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Photo").field("size", &self.placement.size).finish_non_exhaustive()
    }
}

/// How a part is turned after it was cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// By 90° to the left, if it is tall.
    pub if_tall: bool,
    /// By 180°.
    pub around: bool,
}

impl Photo {
    /// Reads a JPEG or PNG file of at most `max_pixels`. `share` is a share of the same request.
    ///
    /// Errors: the file cannot be read or is too large, or the budget is used up.
    pub fn open(file: &[u8], max_pixels: u64, share: &Share) -> Result<Photo, RequestError> {
        let wanted = Wanted { color: Color::Rgb, background: Background::Level(255), max_pixels };
        let opened = share.take_beside(OPENED)?;
        let file = File::open(file, &wanted)?;
        let header = file.header();
        let size = header.upright();
        let bytes = size.0 as usize * size.1 as usize * 3;
        let is_turned = header.orientation != Orientation::NoTransforms;
        let mut share = share.take_beside(header.memory.saturating_add(if is_turned { bytes } else { 0 }))?;
        drop(opened);
        let orientation = header.orientation;
        let pixels = file.read(&wanted)?.upright(orientation);
        share.shrink_to(bytes);
        let placement = Placement { size, orientation, scale: (1.0, 1.0), offset: (0.0, 0.0), tensor: size };
        Ok(Photo { pixels, placement, share })
    }

    /// Cuts out the part whose corners are these: left upper, right upper, right lower, left lower. `stored`: the corners
    /// count the pixels of the file as they are stored, otherwise those of the upright image. Returns a PNG file, and its
    /// memory.
    ///
    /// Errors: the corners are no quadrilateral, or the budget is used up.
    pub fn part(
        &self,
        corners: [[f32; 2]; 4],
        stored: bool,
        turn: Turn,
    ) -> Result<(Vec<u8>, Share), RequestError> {
        let corners = corners.map(|[x, y]| {
            let point = (f64::from(x), f64::from(y));
            if stored { self.placement.upright_of(point) } else { point }
        });
        let [a, b, c, d] = corners;
        let length = |(x, y): (f64, f64), (u, v): (f64, f64)| (x - u).hypot(y - v);
        let side = |one: f64, other: f64| one.max(other).floor().max(1.0);
        let (width, height) = (side(length(a, b), length(c, d)), side(length(a, d), length(b, c)));
        if !(width <= MOST_SIDE && height <= MOST_SIDE) {
            return Err(RequestError::invalid(format!(
                "a part of {width}×{height} pixels is too large to be cut out"
            )));
        }
        let (across, down) = (width as usize, height as usize);
        // The pixels, the turned pixels, and the file.
        let mut share = self.share.take_beside(across.saturating_mul(down).saturating_mul(3 * 3))?;
        let map = Perspective::between([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)], corners);
        let map = map.ok_or_else(|| RequestError::invalid("its corners are no quadrilateral"))?;
        let mut bytes = Vec::with_capacity(across * down * 3);
        for y in 0..down {
            for x in 0..across {
                bytes.extend_from_slice(&self.level(map.point(x as f64, y as f64)));
            }
        }
        let mut part = Pixels { width: across as u32, height: down as u32, channels: 3, bytes };
        if turn.if_tall && height / width >= TALL {
            part = part.upright(Orientation::Rotate270);
        }
        if turn.around {
            part = part.upright(Orientation::Rotate180);
        }
        let file = png(&part)?;
        share.shrink_to(file.len());
        Ok((file, share))
    }

    /// The colour at a point between pixels: cubic convolution as in OpenCV (a = −0.75). Beyond the border, its pixels go on.
    fn level(&self, (x, y): (f64, f64)) -> [u8; 3] {
        let (width, height) = (self.pixels.width as i64, self.pixels.height as i64);
        // OpenCV rounds to 1/32 of a pixel.
        let step = |at: f64| ((at * 32.0).round_ties_even() as i64).clamp(-(1 << 40), 1 << 40);
        let (x, y) = (step(x), step(y));
        let (across, down) = (weights((x & 31) as f32 / 32.0), weights((y & 31) as f32 / 32.0));
        let mut sums = [0.0_f32; 3];
        for (row, weight) in down.iter().enumerate() {
            let at_y = ((y >> 5) - 1 + row as i64).clamp(0, height - 1);
            for (column, other) in across.iter().enumerate() {
                let at_x = ((x >> 5) - 1 + column as i64).clamp(0, width - 1);
                let at = (at_y * width + at_x) as usize * 3;
                for (sum, level) in sums.iter_mut().zip(&self.pixels.bytes[at..at + 3]) {
                    *sum += f32::from(*level) * weight * other;
                }
            }
        }
        sums.map(|sum| sum.round().clamp(0.0, 255.0) as u8)
    }
}

/// The weights of four neighbours for a point at `part` between the two in the middle.
fn weights(part: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let [first, second, third] = [far(part + 1.0), near(part), near(1.0 - part)];
    [first, second, third, 1.0 - first - second - third]
}

/// A map of the plane that keeps lines straight.
struct Perspective([f64; 8]);

impl Perspective {
    /// The map that takes each point of `from` to that of `to`. `None` when there is none, because three points lie on a line.
    fn between(from: [(f64, f64); 4], to: [(f64, f64); 4]) -> Option<Perspective> {
        let mut rows = Vec::with_capacity(8);
        for ((x, y), (u, v)) in from.into_iter().zip(to) {
            rows.push([x, y, 1.0, 0.0, 0.0, 0.0, -x * u, -y * u, u]);
            rows.push([0.0, 0.0, 0.0, x, y, 1.0, -x * v, -y * v, v]);
        }
        // Gauss: each column is cleared with the row that has the largest number in it.
        for column in 0..8 {
            let best =
                (column..8).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
            rows.swap(column, best);
            let pivot = rows[column];
            if pivot[column].abs() < 1e-9 || !pivot[column].is_finite() {
                return None;
            }
            for (at, row) in rows.iter_mut().enumerate() {
                if at != column {
                    let factor = row[column] / pivot[column];
                    row.iter_mut().zip(pivot).for_each(|(value, other)| *value -= factor * other);
                }
            }
        }
        Some(Perspective(std::array::from_fn(|at| rows[at][8] / rows[at][at])))
    }

    fn point(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f, g, h] = self.0;
        let scale = g * x + h * y + 1.0;
        let scale = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        ((a * x + b * y + c) * scale, (d * x + e * y + f) * scale)
    }
}

/// A PNG file of an image, hardly compressed: it is read again at once.
fn png(pixels: &Pixels) -> Result<Vec<u8>, RequestError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixels.width, pixels.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::NoCompression);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels.bytes)?;
        writer.finish()
    });
    written.map_err(|error| RequestError::invalid(format!("a part cannot be stored: {error}")))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    /// A photograph in which each pixel tells its place: red is the column, green the row.
    fn photo(width: u32, height: u32) -> Photo {
        let bytes = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        let pixels = Pixels { width, height, channels: 3, bytes };
        let file = png(&pixels).unwrap();
        Photo::open(&file, 1 << 20, &Share::none(&Budget::new(1 << 24))).unwrap()
    }

    fn cut(photo: &Photo, corners: [[f32; 2]; 4], turn: Turn) -> Pixels {
        let (file, share) = photo.part(corners, true, turn).unwrap();
        assert_eq!(share.bytes(), file.len());
        let wanted = Wanted { color: Color::Rgb, background: Background::Level(0), max_pixels: 1 << 20 };
        File::open(&file, &wanted).unwrap().read(&wanted).unwrap()
    }

    fn pixel(pixels: &Pixels, x: usize, y: usize) -> [u8; 2] {
        let at = (y * pixels.width as usize + x) * 3;
        [pixels.bytes[at], pixels.bytes[at + 1]]
    }

    const AS_IS: Turn = Turn { if_tall: false, around: false };

    #[test]
    fn an_upright_part_has_the_pixels_of_the_photograph() {
        let part = cut(&photo(60, 40), [[10.0, 5.0], [30.0, 5.0], [30.0, 15.0], [10.0, 15.0]], AS_IS);
        assert_eq!((part.width, part.height), (20, 10));
        for (x, y) in [(0, 0), (19, 0), (7, 9)] {
            assert_eq!(pixel(&part, x, y), [10 + x as u8, 5 + y as u8]);
        }
    }

    #[test]
    fn parts_are_turned_when_they_are_tall_or_upside_down() {
        let photo = photo(60, 40);
        let tall = [[10.0, 5.0], [20.0, 5.0], [20.0, 35.0], [10.0, 35.0]];
        let part = cut(&photo, tall, Turn { if_tall: true, around: false });
        assert_eq!((part.width, part.height), (30, 10));
        // Turned to the left: the right side comes to the top.
        assert_eq!(pixel(&part, 0, 0), [19, 5]);
        assert_eq!(pixel(&part, 29, 9), [10, 34]);
        let part = cut(&photo, tall, Turn { if_tall: false, around: true });
        assert_eq!((part.width, pixel(&part, 0, 0)), (10, [19, 34]));
        let flat = [[10.0, 5.0], [20.0, 5.0], [20.0, 15.0], [10.0, 15.0]];
        assert_eq!(pixel(&cut(&photo, flat, Turn { if_tall: true, around: false }), 0, 0), [10, 5]);
    }

    #[test]
    fn a_part_beyond_the_photograph_repeats_its_border_and_one_without_area_is_an_error() {
        let photo = photo(60, 40);
        let part = cut(&photo, [[-5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]], AS_IS);
        assert_eq!((pixel(&part, 0, 0), pixel(&part, 9, 9)), ([0, 0], [4, 4]));
        let error = photo.part([[3.0, 3.0]; 4], true, AS_IS).unwrap_err();
        assert!(error.message.contains("no quadrilateral"), "{error}");
        assert!(photo.part([[0.0, 0.0], [1e9, 0.0], [1e9, 9.0], [0.0, 9.0]], true, AS_IS).is_err());
        assert!(photo.part([[f32::NAN, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]], true, AS_IS).is_err());
    }

    #[test]
    fn a_turned_quadrilateral_is_straightened() {
        // A diamond: its left corner is the left upper one of the text.
        let part = cut(&photo(60, 60), [[10.0, 30.0], [30.0, 10.0], [50.0, 30.0], [30.0, 50.0]], AS_IS);
        assert_eq!((part.width, part.height), (28, 28));
        let [x, y] = pixel(&part, 14, 14);
        assert!(x.abs_diff(30) <= 1 && y.abs_diff(30) <= 1, "{x} {y}");
    }
}
