//! Linear resizing without antialiasing, to the same levels as OpenCV's `INTER_LINEAR` for 8-bit images. Networks for
//! detection are trained with it, and their scores change in the third digit when a level differs by one.
//!
//! Source: OpenCV, `modules/imgproc/src/resize.cpp`: weights of 11 bits, and rows that are cut by 4 bits before the second
//! pass.

use super::pixels::Pixels;

/// The bits of a weight.
const BITS: i32 = 1 << 11;

/// Which part of an image is resized.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Pixels of the image for each pixel of the result, across and down.
    pub step: (f64, f64),
    /// The place in the image of the result's left upper corner.
    pub origin: (f64, f64),
}

/// The direction of a pass.
#[derive(Debug, Clone, Copy)]
enum Axis {
    Across,
    Down,
}

/// The two neighbours of a new pixel along one axis, and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    places: [Option<usize>; 2],
    weights: [i32; 2],
}

/// Resizes a part of an image to `width` × `height`. What lies beyond the image has the colour `beyond`; without one, the
/// image goes on with the colour of its border.
///
/// It takes [`memory`] bytes beside the image and the result.
pub(super) fn resize(pixels: &Pixels, width: u32, height: u32, part: Part, beyond: Option<&[u8]>) -> Pixels {
    let channels = pixels.channels;
    let across = pairs(Axis::Across, width, pixels.width, part.step.0, part.origin.0, beyond.is_some());
    let down = pairs(Axis::Down, height, pixels.height, part.step.1, part.origin.1, beyond.is_some());
    let line = pixels.width as usize * channels;
    let outside = beyond.map(|color| color.repeat(pixels.width as usize)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(width as usize * height as usize * channels);
    // The rows of the image that the last new row was made from, resized across.
    let mut rows = [Row::default(), Row::default()];
    for pair in &down {
        for (at, place) in pair.places.into_iter().enumerate() {
            if rows[at].place == Some(place) {
                continue;
            }
            if at == 0 && rows[1].place == Some(place) {
                rows.swap(0, 1);
                continue;
            }
            let source = match place {
                Some(place) => &pixels.bytes[place * line..][..line],
                None => &outside,
            };
            rows[at].fill(source, channels, &across, beyond.unwrap_or_default());
            rows[at].place = Some(place);
        }
        let levels = rows[0].levels.iter().zip(&rows[1].levels);
        bytes.extend(levels.map(|(above, below)| {
            let level = ((pair.weights[0] * (above >> 4)) >> 16) + ((pair.weights[1] * (below >> 4)) >> 16);
            ((level + 2) >> 2).clamp(0, 255) as u8
        }));
    }
    Pixels { width, height, channels, bytes }
}

/// The bytes that [`resize`] needs beside the image and the result.
pub(super) fn memory(width: u32, height: u32, channels: usize) -> usize {
    let (width, height) = (width as usize, height as usize);
    2 * width * channels * size_of::<i32>() + (width + height) * size_of::<Pair>()
}

/// A row of the image, resized across: levels times [`BITS`].
#[derive(Debug, Default)]
struct Row {
    /// Its place in the image; the inner `None` is beyond the image. The outer `None` is a row that is not filled.
    place: Option<Option<usize>>,
    levels: Vec<i32>,
}

impl Row {
    fn fill(&mut self, source: &[u8], channels: usize, across: &[Pair], beyond: &[u8]) {
        self.levels.clear();
        for pair in across {
            for channel in 0..channels {
                let level = |place: Option<usize>| match place {
                    Some(place) => i32::from(source[place * channels + channel]),
                    None => i32::from(beyond[channel]),
                };
                let [left, right] = pair.places.map(level);
                self.levels.push(left * pair.weights[0] + right * pair.weights[1]);
            }
        }
    }
}

/// The neighbours of each of `count` new pixels on an axis of `length` pixels.
fn pairs(axis: Axis, count: u32, length: u32, step: f64, origin: f64, is_open: bool) -> Vec<Pair> {
    let last = i64::from(length) - 1;
    let pair = |at: u32| {
        // OpenCV computes the place in FP32.
        let place = ((f64::from(at) + 0.5) * step + origin - 0.5) as f32;
        let (low, part) = (place.floor() as i64, place - place.floor());
        let weight = |part: f32| (part * BITS as f32).round_ties_even() as i32;
        // To the left and above, an image goes on with its border also when there is a colour for what lies beyond.
        if low < 0 || low >= last && !is_open {
            let border = usize::try_from(low.clamp(0, last)).ok();
            // OpenCV takes the border whole across, and in two parts, which are cut apart from each other, down.
            let weights = match axis {
                Axis::Across => [BITS, 0],
                Axis::Down => [weight(1.0 - part), weight(part)],
            };
            return Pair { places: [border; 2], weights };
        }
        let neighbour = |place: i64| usize::try_from(place).ok().filter(|_| place <= last);
        Pair { places: [neighbour(low), neighbour(low + 1)], weights: [weight(1.0 - part), weight(part)] }
    };
    (0..count).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, bytes: Vec<u8>) -> Pixels {
        Pixels { width, height, channels: 1, bytes }
    }

    fn whole(pixels: &Pixels, width: u32, height: u32) -> Part {
        let step = (f64::from(pixels.width) / f64::from(width), f64::from(pixels.height) / f64::from(height));
        Part { step, origin: (0.0, 0.0) }
    }

    #[test]
    fn levels_are_those_of_opencv() {
        // By `cv2.resize` of OpenCV 5.0, of a pattern without regularity.
        let bytes = (0..7u32 * 5).map(|at| (at * at * 37 % 251) as u8).collect();
        let image = gray(7, 5, bytes);
        let small = resize(&image, 3, 2, whole(&image, 3, 2), None);
        assert_eq!(small.bytes, [74, 160, 121, 96, 213, 141]);
        let large = resize(&image, 9, 7, whole(&image, 9, 7), None);
        assert_eq!(
            large.bytes,
            [
                0, 25, 86, 133, 82, 88, 135, 140, 77, 32, 63, 132, 185, 141, 155, 129, 125, 164, 104, 94,
                148, 211, 176, 198, 122, 115, 233, 224, 103, 106, 177, 151, 182, 115, 117, 242, 65, 71, 143,
                223, 206, 107, 108, 138, 152, 62, 124, 180, 210, 201, 139, 137, 137, 110, 143, 210, 210, 167,
                166, 222, 179, 123, 102
            ]
        );
    }

    #[test]
    fn what_lies_beyond_the_image_has_its_colour() {
        let image = gray(2, 2, vec![100; 4]);
        let part = Part { step: (1.0, 1.0), origin: (0.0, 0.0) };
        let wider = resize(&image, 3, 3, part, Some(&[7]));
        assert_eq!(wider.bytes, [100, 100, 7, 100, 100, 7, 7, 7, 7]);
        let part = Part { step: (1.5, 1.5), origin: (0.0, 0.0) };
        let mixed = resize(&image, 2, 2, part, Some(&[0]));
        // The last column lies at 1.75: a quarter of the image's last column, and three of what lies beyond.
        assert_eq!(mixed.bytes, [100, 25, 25, 6]);
        assert_eq!(resize(&image, 2, 2, part, None).bytes, [100; 4]);
    }
}
