//! The box of a detection in pixels of the input tensor: upright, or turned.

use crate::model::manifest::{BoxForm, BoxUnit};
use crate::processing::results::coordinates::around;

/// A box in pixels of the input tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Left, top, right, bottom.
    Upright([f32; 4]),
    /// Turned around its centre.
    Turned {
        center: [f32; 2],
        /// Width and height before it is turned.
        size: [f32; 2],
        /// In radians, clockwise.
        angle: f32,
    },
}

impl Shape {
    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Shape::Upright(sides) => sides.iter().all(|side| side.is_finite()),
            Shape::Turned { center, size, angle } => {
                center.iter().chain(size).chain([angle]).all(|number| number.is_finite())
            }
        }
    }

    /// The four corners of a turned box: right bottom first, then clockwise before it is turned, as Ultralytics gives
    /// them. `None` for an upright box.
    pub fn corners(&self) -> Option<[[f32; 2]; 4]> {
        let Shape::Turned { center, size, angle } = self else { return None };
        let (sin, cos) = angle.sin_cos();
        let across = [size[0] / 2.0 * cos, size[0] / 2.0 * sin];
        let down = [-size[1] / 2.0 * sin, size[1] / 2.0 * cos];
        let corner =
            |right: f32, low: f32| [0, 1].map(|axis| center[axis] + right * across[axis] + low * down[axis]);
        Some([corner(1.0, 1.0), corner(1.0, -1.0), corner(-1.0, -1.0), corner(-1.0, 1.0)])
    }

    /// Left, top, right, bottom of the smallest upright box around it.
    pub fn bounds(&self) -> [f32; 4] {
        match (self, self.corners()) {
            (Shape::Upright(sides), _) => *sides,
            (_, corners) => around(&corners.unwrap_or_default()),
        }
    }
}

/// How four numbers of an output become a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxRule {
    pub form: BoxForm,
    /// The factors for x and y: 1, or the size of the input tensor for boxes in parts of it.
    pub scale: [f32; 2],
}

impl BoxRule {
    /// Makes the rule. `canvas` is the width and height of the input tensor, where they are known.
    ///
    /// Errors: boxes in parts of the tensor need its size.
    pub fn new(form: BoxForm, unit: BoxUnit, canvas: Option<[usize; 2]>) -> Result<BoxRule, String> {
        let scale = match (unit, canvas) {
            (BoxUnit::Pixels, _) => [1.0, 1.0],
            (BoxUnit::Normalized, Some(canvas)) => canvas.map(|side| side as f32),
            (BoxUnit::Normalized, None) => {
                return Err(canvas_is_unknown("boxes are parts of the input's size"));
            }
        };
        Ok(BoxRule { form, scale })
    }

    /// Left, top, right, bottom in pixels of the input tensor.
    pub fn sides(&self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        let [x1, y1, x2, y2] = match self.form {
            BoxForm::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            BoxForm::Xyxy => [a, b, c, d],
            BoxForm::Yxyx => [b, a, d, c],
            BoxForm::Xywh => [a, b, a + c, b + d],
        };
        [x1 * self.scale[0], y1 * self.scale[1], x2 * self.scale[0], y2 * self.scale[1]]
    }
}

/// The error for a decoder that needs the size of the input.
pub fn canvas_is_unknown(reason: &str) -> String {
    format!(
        "{reason}, but the model has no input with a fixed width and height: fix them with `inputs[].shape` in \
         model.json, and declare the input's `image`"
    )
}
