//! The lengths of a transposed convolution: `output_padding`, `output_shape` and the padding that follows from them.
//!
//! Where the padding is computed it can be negative: then the result has zeros around what the windows reach. This follows
//! the reference evaluator; onnxruntime makes a shorter result than the standard says.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::window::{Axis, Padding, Window};

/// The attributes that only a transposed convolution has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transposed {
    /// `output_padding`. Empty: 0 for each axis.
    more: TVec<i64>,
    /// `output_shape`, without the batch and the channels. Empty when it is computed.
    wanted: TVec<i64>,
}

impl Transposed {
    /// Reads `output_padding` and `output_shape`.
    pub fn read(attributes: &Attributes) -> TractResult<Transposed> {
        let read = |name| -> TractResult<TVec<i64>> {
            let numbers = attributes.ints(name)?;
            match numbers.iter().find(|number| !(0..=i64::from(i32::MAX)).contains(*number)) {
                Some(number) => Err(attributes.wrong(format!("`{name}` has {number}: expected a length"))),
                None => Ok(numbers.iter().copied().collect()),
            }
        };
        Ok(Transposed { more: read("output_padding")?, wanted: read("output_shape")? })
    }

    /// Whether the node has none of these attributes.
    pub fn is_plain(&self) -> bool {
        self.more.is_empty() && self.wanted.is_empty()
    }

    /// The length of the result along an axis without any padding. `input` is the length of the input.
    fn full(&self, window: &Window, kernel: usize, axis: usize) -> i64 {
        self.more.get(axis).copied().unwrap_or(0) + window.extent(kernel, axis) - window.stride(axis)
    }

    fn check_axes(&self, window: &Window, axes: usize) -> TractResult<()> {
        window.check_axes(axes)?;
        for (name, length) in [("output_padding", self.more.len()), ("output_shape", self.wanted.len())] {
            if length != 0 && length != axes {
                return Err(TractError::msg(format!(
                    "`{name}` is for {length} axes, but its input has {axes} axes behind the batch and the channels"
                )));
            }
        }
        Ok(())
    }

    /// The lengths of the result behind the batch and the channels.
    pub fn lengths(&self, window: &Window, kernel: &[usize], inputs: &[TDim]) -> TractResult<TVec<TDim>> {
        self.check_axes(window, inputs.len())?;
        let length = |(axis, input): (usize, &TDim)| -> TractResult<TDim> {
            if let Ok(input) = input.to_usize() {
                return Ok(self.axis(window, kernel[axis], axis, input)?.input.to_dim());
            }
            let (before, after) = window.explicit(axis);
            let stretched = input.clone() * window.stride(axis);
            Ok(match (self.wanted.get(axis), &window.padding) {
                (Some(wanted), _) => wanted.to_dim(),
                (None, Padding::SameUpper | Padding::SameLower) => stretched,
                (None, _) => stretched + (self.full(window, kernel[axis], axis) - before - after),
            })
        };
        inputs.iter().enumerate().map(length).collect()
    }

    /// The windows of the result along each axis, one for each element of the input.
    pub fn axes(&self, window: &Window, kernel: &[usize], inputs: &[usize]) -> TractResult<TVec<Axis>> {
        self.check_axes(window, inputs.len())?;
        inputs.iter().enumerate().map(|(axis, input)| self.axis(window, kernel[axis], axis, *input)).collect()
    }

    fn axis(&self, window: &Window, kernel: usize, axis: usize, input: usize) -> TractResult<Axis> {
        let stride = window.stride(axis);
        let stretched = input as i64 * stride;
        let full = stretched + self.full(window, kernel, axis);
        let halves = |total: i64| match window.padding {
            Padding::SameUpper => (total.div_euclid(2), total - total.div_euclid(2)),
            _ => (total - total.div_euclid(2), total.div_euclid(2)),
        };
        let (length, (before, after)) = match (self.wanted.get(axis), &window.padding) {
            (Some(wanted), _) if *wanted >= full.max(0) + stride => {
                return Err(TractError::msg(format!(
                    "`output_shape` has {wanted} for axis {}, but the windows of its input reach only {full}",
                    axis + 2
                )));
            }
            // What the windows do not reach is at the end, as in onnxruntime.
            (Some(wanted), _) => (*wanted, halves((full - wanted).max(0))),
            (None, Padding::SameUpper | Padding::SameLower) => (stretched, halves(full - stretched)),
            (None, Padding::Explicit(_)) => {
                let (before, after) = window.explicit(axis);
                (full - before - after, (before, after))
            }
        };
        if length < 0 {
            return Err(TractError::msg(format!(
                "its padding along axis {} is larger than its result, which has only {full} elements without padding",
                axis + 2
            )));
        }
        Ok(Axis {
            input: length as usize,
            output: input,
            kernel,
            stride: stride as usize,
            dilation: window.dilation(axis) as usize,
            before,
            after,
        })
    }
}
