//! One input of a request, between the wire and the engine.
//!
//! [`wire`](crate::wire) decides once what an input is. All later steps match on that, and none of them guesses it from a
//! datatype.

use std::borrow::Cow;

use image::metadata::Orientation;

use super::signature::TensorMetadata;
use super::tensor::{ELEMENT_BYTES, Tensor};

/// What a request gives for one input of the signature.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A tensor that agrees with the signature in datatype and shape.
    Tensor(Tensor),
    /// Files of a media type that the input accepts, one a row, not decoded yet.
    Files(Vec<Vec<u8>>),
    /// Texts, one a row. They should be UTF-8; whoever makes tokens of them checks that.
    Text(Vec<Vec<u8>>),
    /// Nothing: the input is made from the text of another one, whose place in the signature this is.
    FilledBy(usize),
}

/// What later steps must know of a row of a request, beside its values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Row {
    /// For a row that was an image file: where the image lies in the tensor.
    pub placement: Option<Placement>,
    /// For a window of a stream of sound: the place of its first new sample, counted from the stream's begin.
    pub offset: Option<u64>,
}

/// How an image, turned upright, was put into its tensor.
///
/// The pixel (x, y) of the image is at (x × `scale.0` + `offset.0`, y × `scale.1` + `offset.1`) in the tensor. An offset is
/// positive where the tensor has a border around the image, and negative where the image was cropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Width and height of the upright image in pixels.
    pub size: (u32, u32),
    /// How the pixels of the file were turned to get the upright image.
    pub orientation: Orientation,
    /// Tensor pixels for each image pixel, across and down.
    pub scale: (f64, f64),
    /// Tensor pixels.
    pub offset: (f64, f64),
    /// Width and height of the tensor in pixels.
    pub tensor: (u32, u32),
}

impl Placement {
    /// The point of the upright image that is at this point of the tensor. A pixel's left upper corner has the pixel's
    /// column and row as its coordinates.
    pub fn upright(&self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x - self.offset.0) / self.scale.0, (y - self.offset.1) / self.scale.1)
    }

    /// The point of the tensor that shows this point of the upright image.
    pub fn in_tensor(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x * self.scale.0 + self.offset.0, y * self.scale.1 + self.offset.1)
    }

    /// Whether the upright image has the width of the file for its height.
    pub fn swaps_sides(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }

    /// The point of the upright image that is at this point of the file's pixels, as they are stored.
    pub fn upright_of(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (width, height) = (f64::from(self.size.0), f64::from(self.size.1));
        match self.orientation {
            Orientation::NoTransforms => (x, y),
            Orientation::FlipHorizontal => (width - x, y),
            Orientation::Rotate180 => (width - x, height - y),
            Orientation::FlipVertical => (x, height - y),
            Orientation::Rotate90FlipH => (y, x),
            Orientation::Rotate90 => (width - y, x),
            Orientation::Rotate270FlipH => (width - y, height - x),
            Orientation::Rotate270 => (y, height - x),
        }
    }

    /// The point of the file's pixels, as they are stored, that is at this point of the upright image.
    pub fn stored(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (width, height) = (f64::from(self.size.0), f64::from(self.size.1));
        match self.orientation {
            Orientation::NoTransforms => (x, y),
            Orientation::FlipHorizontal => (width - x, y),
            Orientation::Rotate180 => (width - x, height - y),
            Orientation::FlipVertical => (x, height - y),
            Orientation::Rotate90FlipH => (y, x),
            Orientation::Rotate90 => (y, width - x),
            Orientation::Rotate270FlipH => (height - y, width - x),
            Orientation::Rotate270 => (height - y, x),
        }
    }
}

impl Input {
    /// What came, one a row, for an input that accepts files or text.
    pub fn encoded(rows: Vec<Vec<u8>>, input: &TensorMetadata) -> Input {
        if input.takes_text() { Input::Text(rows) } else { Input::Files(rows) }
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        match self {
            Input::Tensor(tensor) => tensor.memory(),
            Input::Files(rows) | Input::Text(rows) => rows.iter().map(|row| ELEMENT_BYTES + row.len()).sum(),
            Input::FilledBy(_) => 0,
        }
    }

    /// The lengths that are known before files are decoded: the tensor's shape, or the number of files or texts.
    pub fn known_shape(&self) -> Cow<'_, [usize]> {
        match self {
            Input::Tensor(tensor) => tensor.shape().into(),
            Input::Files(rows) | Input::Text(rows) => vec![rows.len()].into(),
            Input::FilledBy(_) => Cow::default(),
        }
    }

    /// Files and texts in it. Each of them is work for a worker, however small it is.
    pub fn files(&self) -> usize {
        match self {
            Input::Files(rows) | Input::Text(rows) => rows.len(),
            Input::Tensor(_) | Input::FilledBy(_) => 0,
        }
    }

    /// Adds the rows of `other`. An error says which of the two kinds do not go together.
    pub fn append(&mut self, other: Input) -> Result<(), String> {
        match (self, other) {
            (Input::Tensor(tensor), Input::Tensor(other)) => tensor.append(other),
            (Input::Files(rows), Input::Files(mut other)) | (Input::Text(rows), Input::Text(mut other)) => {
                rows.append(&mut other);
                Ok(())
            }
            (one, other) => Err(format!("{} rows do not go with {}", other.kind(), one.kind())),
        }
    }

    /// Gives back the room that growing left.
    pub fn shrink_to_fit(&mut self) {
        match self {
            Input::Tensor(tensor) => tensor.shrink_to_fit(),
            Input::Files(rows) | Input::Text(rows) => rows.shrink_to_fit(),
            Input::FilledBy(_) => {}
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Input::Tensor(tensor) => tensor.datatype().name(),
            Input::Files(_) | Input::Text(_) => "BYTES",
            Input::FilledBy(_) => "missing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All eight, in the order of their numbers in EXIF.
    const TURNS: [Orientation; 8] = [
        Orientation::NoTransforms,
        Orientation::FlipHorizontal,
        Orientation::Rotate180,
        Orientation::FlipVertical,
        Orientation::Rotate90FlipH,
        Orientation::Rotate90,
        Orientation::Rotate270FlipH,
        Orientation::Rotate270,
    ];

    fn turned(orientation: Orientation) -> Placement {
        // The file is 40 × 30.
        let size = if TURNS[4..].contains(&orientation) { (30, 40) } else { (40, 30) };
        Placement { size, orientation, scale: (2.0, 0.5), offset: (3.0, -7.0), tensor: (64, 64) }
    }

    #[test]
    fn a_point_comes_back_from_the_upright_image_and_from_the_tensor_for_every_turn_of_exif() {
        for (number, orientation) in (1..).zip(TURNS) {
            assert_eq!(Orientation::from_exif(number), Some(orientation));
            let placement = turned(orientation);
            assert_eq!(placement.swaps_sides(), placement.size == (30, 40));
            for point in [(0.0, 0.0), (40.0, 30.0), (7.5, 11.0), (39.0, 0.5)] {
                assert_eq!(placement.stored(placement.upright_of(point)), point, "{orientation:?}");
                let upright = placement.upright_of(point);
                assert_eq!(placement.upright_of(placement.stored(upright)), upright, "{orientation:?}");
                assert_eq!(placement.upright(placement.in_tensor(upright)), upright, "{orientation:?}");
            }
        }
    }

    #[test]
    fn the_first_pixel_of_the_file_is_at_the_corner_that_exif_names() {
        // EXIF 2.32, table "Orientation": where the file's first row and first column are shown.
        let (left, right) = ((0.0, 0.0), (1.0, 0.0));
        let (low_left, low_right) = ((0.0, 1.0), (1.0, 1.0));
        let corners = [left, right, low_right, low_left, left, right, low_right, low_left];
        for (orientation, corner) in TURNS.into_iter().zip(corners) {
            let placement = turned(orientation);
            let (width, height) = (f64::from(placement.size.0), f64::from(placement.size.1));
            let expected = (corner.0 * width, corner.1 * height);
            assert_eq!(placement.upright_of((0.0, 0.0)), expected, "{orientation:?}");
            // From there, the file's rows go across the upright image, or down it after a quarter turn.
            let (x, y) = placement.upright_of((1.0, 0.0));
            let across = ((x - expected.0).abs(), (y - expected.1).abs());
            let is_quarter = placement.swaps_sides();
            assert_eq!(across, if is_quarter { (0.0, 1.0) } else { (1.0, 0.0) }, "{orientation:?}");
        }
    }
}
