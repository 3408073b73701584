//! From pixels of the input tensor to pixels of the image that was received.

use crate::model::input::Placement;
use crate::model::manifest::Coordinates;

/// What the coordinates of an answer count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Pixels of the received file, as they are stored.
    Image,
    /// Pixels of the received file, turned upright as EXIF says.
    Upright,
    /// Pixels of the tensor that the request brought.
    Tensor,
}

impl Counted {
    /// Its name in replies.
    pub fn name(self) -> &'static str {
        match self {
            Counted::Image => "image",
            Counted::Upright => "upright",
            Counted::Tensor => "tensor",
        }
    }
}

/// What is known of the width and height of the input tensor for images when a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canvas {
    /// Every request has this size.
    Fixed([usize; 2]),
    /// Each request has its own size. `like` is one that is possible: the outputs are checked with it at load.
    Open { like: [usize; 2] },
    /// There is no input for images.
    Unknown,
}

impl Canvas {
    /// The size with which outputs are checked at load.
    pub fn at_load(self) -> Option<[usize; 2]> {
        match self {
            Canvas::Fixed(size) | Canvas::Open { like: size } => Some(size),
            Canvas::Unknown => None,
        }
    }
}

/// Turns points of the input tensor into points of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Where the image lies in the tensor; `None` when the request brought a tensor.
    placement: Option<Placement>,
    coordinates: Coordinates,
    canvas: Option<[usize; 2]>,
}

impl Frame {
    /// The frame of one row. `canvas` is the width and height of the input tensor, where they are known.
    pub fn new(placement: Option<Placement>, coordinates: Coordinates, canvas: Option<[usize; 2]>) -> Frame {
        Frame { placement, coordinates, canvas }
    }

    /// The width and height of the input tensor for images; `None` when there is none.
    pub fn canvas(&self) -> Option<[usize; 2]> {
        self.canvas
    }

    /// What the coordinates count.
    pub fn counted(&self) -> Counted {
        match (self.placement, self.coordinates) {
            (None, _) => Counted::Tensor,
            (Some(_), Coordinates::Image) => Counted::Image,
            (Some(_), Coordinates::Upright) => Counted::Upright,
        }
    }

    /// A point. It may lie outside the image.
    pub fn point(&self, point: [f32; 2]) -> [f32; 2] {
        let Some(placement) = &self.placement else { return point };
        self.turned(placement, placement.upright(wide(point)))
    }

    /// The point of the image that is nearest to a point.
    pub fn inside(&self, point: [f32; 2]) -> [f32; 2] {
        let Some(placement) = &self.placement else { return point };
        let (x, y) = placement.upright(wide(point));
        let (width, height) = (f64::from(placement.size.0), f64::from(placement.size.1));
        self.turned(placement, (x.clamp(0.0, width), y.clamp(0.0, height)))
    }

    /// The width and height of the image in these coordinates; `None` when the request brought a tensor.
    pub fn size(&self) -> Option<[usize; 2]> {
        let placement = self.placement?;
        let (width, height) = (placement.size.0 as usize, placement.size.1 as usize);
        Some(match self.coordinates {
            Coordinates::Image if placement.swaps_sides() => [height, width],
            _ => [width, height],
        })
    }

    /// The point of the input tensor that shows a point of the answer.
    pub fn source(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let Some(placement) = &self.placement else { return [x, y] };
        let upright = match self.coordinates {
            Coordinates::Image => placement.upright_of(wide([x, y])),
            Coordinates::Upright => wide([x, y]),
        };
        let (x, y) = placement.in_tensor(upright);
        [x as f32, y as f32]
    }

    /// The sides of an upright box: left, top, right, bottom. The box is cut off at the sides of an image.
    pub fn sides(&self, [left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
        if self.placement.is_none() {
            return [left, top, right, bottom];
        }
        around(&[self.inside([left, top]), self.inside([right, bottom])])
    }

    fn turned(&self, placement: &Placement, upright: (f64, f64)) -> [f32; 2] {
        let (x, y) = match self.coordinates {
            Coordinates::Image => placement.stored(upright),
            Coordinates::Upright => upright,
        };
        [x as f32, y as f32]
    }
}

/// Left, top, right, bottom of the smallest upright box around points.
pub fn around(points: &[[f32; 2]]) -> [f32; 4] {
    let mut sides = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
    for [x, y] in points {
        sides = [sides[0].min(*x), sides[1].min(*y), sides[2].max(*x), sides[3].max(*y)];
    }
    sides
}

fn wide([x, y]: [f32; 2]) -> (f64, f64) {
    (f64::from(x), f64::from(y))
}

#[cfg(test)]
mod tests {
    use image::metadata::Orientation;

    use super::*;

    #[test]
    fn a_box_is_in_the_pixels_of_the_file_for_every_orientation() {
        // The file is 40 × 20. The box has the file's left upper corner, 6 wide and 4 high.
        for (orientation, size, upright) in [
            (Orientation::NoTransforms, (40, 20), [0.0, 0.0, 6.0, 4.0]),
            (Orientation::FlipHorizontal, (40, 20), [34.0, 0.0, 40.0, 4.0]),
            (Orientation::Rotate180, (40, 20), [34.0, 16.0, 40.0, 20.0]),
            (Orientation::FlipVertical, (40, 20), [0.0, 16.0, 6.0, 20.0]),
            (Orientation::Rotate90FlipH, (20, 40), [0.0, 0.0, 4.0, 6.0]),
            (Orientation::Rotate90, (20, 40), [16.0, 0.0, 20.0, 6.0]),
            (Orientation::Rotate270FlipH, (20, 40), [16.0, 34.0, 20.0, 40.0]),
            (Orientation::Rotate270, (20, 40), [0.0, 34.0, 4.0, 40.0]),
        ] {
            let placement =
                Placement { size, orientation, scale: (2.0, 2.0), offset: (10.0, -30.0), tensor: (9, 9) };
            let tensor = [0, 1, 2, 3].map(|at| upright[at] * 2.0 + if at % 2 == 0 { 10.0 } else { -30.0 });
            let frame = Frame::new(Some(placement), Coordinates::Image, None);
            assert_eq!(frame.sides(tensor), [0.0, 0.0, 6.0, 4.0], "{orientation:?}");
            assert_eq!(Frame::new(Some(placement), Coordinates::Upright, None).sides(tensor), upright);
            assert_eq!(frame.counted(), Counted::Image);
            assert_eq!(frame.size(), Some([40, 20]), "{orientation:?}");
            for point in [[3.0, 2.0], [30.0, 19.5], [0.0, 7.0]] {
                assert_eq!(frame.point(frame.source(point)), point, "{orientation:?}");
            }
        }
    }

    #[test]
    fn a_box_is_cut_off_at_the_sides_of_an_image_and_a_tensor_keeps_its_own_pixels() {
        let placement = Placement {
            size: (1, 1),
            orientation: Orientation::NoTransforms,
            scale: (64.0, 64.0),
            offset: (0.0, 0.0),
            tensor: (64, 64),
        };
        let frame = Frame::new(Some(placement), Coordinates::Image, None);
        assert_eq!(frame.sides([-9.0, 32.0, 900.0, 900.0]), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(frame.sides([70.0, 70.0, 80.0, 80.0]), [1.0; 4]);
        assert_eq!(frame.point([128.0, -64.0]), [2.0, -1.0]);
        assert_eq!(
            Frame::new(None, Coordinates::Image, None).sides([-9.0, 32.0, 900.0, 900.0]),
            [-9.0, 32.0, 900.0, 900.0]
        );
    }
}
