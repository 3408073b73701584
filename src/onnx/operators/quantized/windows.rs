//! The windows of convolutions and pools: which elements of the input belong to an element of the output.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;

/// The attributes have smaller numbers, so that sums and products of two of them do not overflow.
const MOST: i64 = 1 << 24;

/// How `auto_pad` pads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Auto {
    Explicit,
    Valid,
    SameUpper,
    SameLower,
}

/// How the length of an output is rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ends {
    /// Only windows that are inside the padded input.
    Inside,
    /// Also a last window that begins inside it (`ceil_mode`).
    Beyond,
}

/// The attributes of the windows.
#[derive(Debug, Clone)]
pub struct Windows {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
    auto: Auto,
    ends: Ends,
}

/// The windows along one axis.
#[derive(Debug, Clone, Copy)]
pub struct Along {
    /// The length of the input.
    pub input: usize,
    /// The length of the output.
    pub output: usize,
    /// The length of a window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// From one element of a window to the next.
    pub dilation: usize,
    /// Padding at the begin.
    pub before: usize,
    /// Padding at the end.
    pub after: usize,
}

impl Along {
    /// The index in the input of element `tap` of window `at`. `None`: it is padding.
    pub fn index(&self, at: usize, tap: usize) -> Option<usize> {
        (at * self.stride + tap * self.dilation).checked_sub(self.before).filter(|index| *index < self.input)
    }

    /// The windows whose element `tap` is no padding, as the first one and the one after the last.
    pub fn within(&self, tap: usize) -> (usize, usize) {
        let offset = tap * self.dilation;
        let first = self.before.saturating_sub(offset).div_ceil(self.stride);
        let end = (self.input + self.before).saturating_sub(offset).div_ceil(self.stride);
        let end = end.min(self.output);
        (first.min(end), end)
    }
}

impl Windows {
    /// Reads the attributes.
    ///
    /// Errors: a negative pad, or a stride or dilation that is not positive.
    pub fn read(attributes: &Attributes) -> TractResult<Windows> {
        let auto = match attributes.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Auto::Explicit,
            "VALID" => Auto::Valid,
            "SAME_UPPER" => Auto::SameUpper,
            "SAME_LOWER" => Auto::SameLower,
            other => {
                return Err(
                    attributes.wrong(format!("`auto_pad` is `{other}`, which the standard does not have"))
                );
            }
        };
        let list = |name: &str, least: i64| -> TractResult<Vec<i64>> {
            let list = attributes.ints(name)?;
            match list.iter().find(|number| !(least..MOST).contains(*number)) {
                Some(number) => {
                    Err(attributes.wrong(format!("`{name}` has {number}: expected {least} to {}", MOST - 1)))
                }
                None => Ok(list.to_vec()),
            }
        };
        let ends = if attributes.flag("ceil_mode", false)? { Ends::Beyond } else { Ends::Inside };
        Ok(Windows {
            kernel: list("kernel_shape", 1)?,
            strides: list("strides", 1)?,
            dilations: list("dilations", 1)?,
            pads: list("pads", 0)?,
            auto,
            ends,
        })
    }

    /// The size of a window. `weights` are the last lengths of the weights, for an operator that has them.
    pub fn kernel(&self, rank: usize, weights: Option<&[usize]>) -> TractResult<Vec<usize>> {
        let given: Vec<usize> = self.kernel.iter().map(|length| *length as usize).collect();
        match weights {
            Some(weights) if given.is_empty() || given == weights => Ok(weights.to_vec()),
            None if given.len() == rank => Ok(given),
            _ => Err(TractError::msg(format!(
                "`kernel_shape` is {given:?}: expected {}",
                weights.map_or_else(|| format!("{rank} lengths"), |weights| format!("{weights:?}"))
            ))),
        }
    }

    /// For an axis: stride, dilation, and the explicit pads.
    fn numbers(&self, axis: usize, rank: usize) -> TractResult<(usize, usize, usize, usize)> {
        for (name, list, length) in [
            ("strides", &self.strides, rank),
            ("dilations", &self.dilations, rank),
            ("pads", &self.pads, 2 * rank),
        ] {
            if !list.is_empty() && list.len() != length {
                return Err(TractError::msg(format!(
                    "`{name}` has {} numbers: expected {length}",
                    list.len()
                )));
            }
        }
        let number = |list: &[i64], at: usize, missing: i64| *list.get(at).unwrap_or(&missing) as usize;
        let (before, after) = match self.auto {
            Auto::Explicit => (number(&self.pads, axis, 0), number(&self.pads, axis + rank, 0)),
            _ => (0, 0),
        };
        Ok((number(&self.strides, axis, 1), number(&self.dilations, axis, 1), before, after))
    }

    /// The length of the output along an axis of the windows.
    pub fn output<D: DimLike>(&self, axis: usize, rank: usize, kernel: usize, input: &D) -> TractResult<D> {
        let (stride, dilation, before, after) = self.numbers(axis, rank)?;
        if matches!(self.auto, Auto::SameUpper | Auto::SameLower) {
            return Ok(input.divceil(stride));
        }
        let size = dilation
            .checked_mul(kernel - 1)
            .and_then(|size| size.checked_add(1))
            .ok_or_else(|| TractError::msg("the windows are too large"))?;
        let padded = input.clone() + (before + after);
        if padded.to_usize().is_ok_and(|padded| padded < size) {
            return Err(TractError::msg(format!(
                "the padded input has the length {padded}, a window {size}: expected at least as much"
            )));
        }
        let free = padded - size;
        let length = match self.ends {
            Ends::Inside => free.clone() / stride + 1,
            Ends::Beyond => free.divceil(stride) + 1,
        };
        // The last window must begin before the padding at the end.
        if let (Ends::Beyond, Ok(count), Ok(input)) = (self.ends, length.to_usize(), input.to_usize())
            && count > 0
            && (count - 1) * stride >= input + before
        {
            return Ok(length - 1);
        }
        Ok(length)
    }

    /// The windows along an axis.
    pub fn along(&self, axis: usize, rank: usize, kernel: usize, input: usize) -> TractResult<Along> {
        let output = self.output(axis, rank, kernel, &input)?;
        let (stride, dilation, before, after) = self.numbers(axis, rank)?;
        let mut along = Along { input, output, kernel, stride, dilation, before, after };
        if matches!(self.auto, Auto::SameUpper | Auto::SameLower) {
            let needed = output.saturating_sub(1) * stride + dilation * (kernel - 1) + 1;
            let missing = needed.saturating_sub(input);
            let less = missing / 2;
            (along.before, along.after) = match self.auto {
                Auto::SameUpper => (less, missing - less),
                _ => (missing - less, less),
            };
        }
        Ok(along)
    }

    /// Whether an open length cannot be computed for all values of its symbols.
    pub fn is_open_end(&self, input: &TDim) -> bool {
        self.ends == Ends::Beyond && input.to_i64().is_err()
    }
}
