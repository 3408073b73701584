//! The windows of convolutions and pools: kernel, strides, dilations and padding along each axis, and the lengths that
//! follow from them.
//!
//! Invariant: every attribute is checked when it is read, so the products of two of them never overflow.

use std::ops::Range;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;

/// The largest kernel, stride, dilation or padding. Products of two of them fit into an `i64`.
const MOST: i64 = i32::MAX as i64;

/// The padding of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Padding {
    /// So many elements before and after, for each axis. No elements when the list is empty.
    Explicit(TVec<(i64, i64)>),
    /// As many outputs as `ceil(input / stride)`. An odd element is added after the input.
    SameUpper,
    /// Like `SameUpper`, but an odd element is added before the input.
    SameLower,
}

/// What happens to a window at the end of an axis that is partly outside of the padded input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// It is left out.
    Floor,
    /// It counts, if it starts inside the input or the padding before it.
    Ceil,
}

/// The windows of a node, for all axes behind the batch and the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// `kernel_shape`; empty when the node has none.
    pub kernel: TVec<i64>,
    /// Empty: 1 for each axis.
    strides: TVec<i64>,
    /// Empty: 1 for each axis.
    dilations: TVec<i64>,
    /// How the input is padded.
    pub padding: Padding,
    rounding: Rounding,
}

/// The windows along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// The length of the input.
    pub input: usize,
    /// The number of windows.
    pub output: usize,
    /// The number of taps of a window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// From one tap to the next.
    pub dilation: usize,
    /// Elements before the input. Negative: elements of the input that are cut off.
    pub before: i64,
    /// Elements after the input.
    pub after: i64,
}

impl Axis {
    /// Where a tap of a window is in the input; it can be outside.
    pub fn place(&self, window: usize, tap: usize) -> i64 {
        (window * self.stride + tap * self.dilation) as i64 - self.before
    }

    /// Where a tap of a window is in the input. `None` when it is outside.
    pub fn inside(&self, window: usize, tap: usize) -> Option<usize> {
        usize::try_from(self.place(window, tap)).ok().filter(|place| *place < self.input)
    }

    /// The windows whose tap is inside the input, and where this tap of the first of them is.
    pub fn span(&self, tap: usize) -> (Range<usize>, usize) {
        let first = self.place(0, tap);
        let stride = self.stride as i64;
        let from = if first >= 0 { 0 } else { (-first + stride - 1) / stride };
        let left = self.input as i64 - first;
        let to = if left <= 0 { 0 } else { (left + stride - 1) / stride }.min(self.output as i64);
        if from >= to {
            return (0..0, 0);
        }
        (from as usize..to as usize, (first + from * stride) as usize)
    }

    /// The number of taps of a window that are inside the input, or inside the input and its padding.
    pub fn taps(&self, window: usize, counted: Counted) -> usize {
        let end = match counted {
            Counted::Input => self.input as i64,
            Counted::Padded => self.input as i64 + self.after,
        };
        let start = match counted {
            Counted::Input => 0,
            Counted::Padded => -self.before,
        };
        (0..self.kernel).filter(|tap| (start..end).contains(&self.place(window, *tap))).count()
    }
}

/// Which elements of a window count in its mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those of the input.
    Input,
    /// Those of the input and of its padding.
    Padded,
}

impl Counted {
    /// Reads `count_include_pad` of a node, and its windows.
    pub fn read(attributes: &Attributes) -> TractResult<(Counted, Window)> {
        Ok(match attributes.flag("count_include_pad", false)? {
            true => (Counted::Padded, Window::read_with_kernel(attributes)?),
            false => (Counted::Input, Window::read_with_elements(attributes)?),
        })
    }
}

impl Window {
    /// Reads `kernel_shape`, `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode`.
    pub fn read(attributes: &Attributes) -> TractResult<Window> {
        let rounding = if attributes.flag("ceil_mode", false)? { Rounding::Ceil } else { Rounding::Floor };
        let pads = numbers(attributes, "pads", 0)?;
        let (before, after) = pads.split_at(pads.len() / 2);
        if before.len() != after.len() {
            return Err(
                attributes.wrong(format!("`pads` has {} numbers: expected two for each axis", pads.len()))
            );
        }
        let explicit = Padding::Explicit(before.iter().copied().zip(after.iter().copied()).collect());
        let padding = match attributes.string("auto_pad", "NOTSET")? {
            "" | "NOTSET" => explicit,
            "VALID" => Padding::Explicit(tvec![]),
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            other => {
                return Err(attributes.wrong(format!(
                    "`auto_pad` is {other}: expected NOTSET, SAME_UPPER, SAME_LOWER or VALID"
                )));
            }
        };
        let is_automatic = !matches!(attributes.string("auto_pad", "NOTSET")?, "" | "NOTSET");
        if is_automatic && pads.iter().any(|pad| *pad != 0) {
            return Err(attributes.wrong("it has both `pads` and `auto_pad`: expected one of them"));
        }
        // The standard's formula for VALID has no place for `ceil_mode`.
        let rounding = if is_automatic { Rounding::Floor } else { rounding };
        Ok(Window {
            kernel: numbers(attributes, "kernel_shape", 1)?,
            strides: numbers(attributes, "strides", 1)?,
            dilations: numbers(attributes, "dilations", 1)?,
            padding,
            rounding,
        })
    }

    /// Like [`Window::read`], for a pool. It must have `kernel_shape`.
    ///
    /// `SAME_*` with dilations is refused: the standard counts the dilations, but onnxruntime does not, and the reference
    /// evaluator does for some pools.
    pub fn read_with_kernel(attributes: &Attributes) -> TractResult<Window> {
        let window = Window::read(attributes)?;
        if window.kernel.is_empty() {
            return Err(attributes.wrong("the attribute `kernel_shape` is missing"));
        }
        let is_same = matches!(window.padding, Padding::SameUpper | Padding::SameLower);
        let mut axes = window.kernel.iter().zip(&window.dilations);
        if is_same && axes.any(|(kernel, dilation)| *kernel > 1 && *dilation > 1) {
            return Err(attributes.wrong(
                "it has `auto_pad` and `dilations`, and programs do not agree on the padding: use `pads` instead of \
                 `auto_pad`",
            ));
        }
        Ok(window)
    }

    /// Like [`Window::read_with_kernel`], for a pool that has no result for a window without elements. Padding that is as long
    /// as the window is refused, as in onnxruntime: the window lies only in the padding.
    pub fn read_with_elements(attributes: &Attributes) -> TractResult<Window> {
        let window = Window::read_with_kernel(attributes)?;
        for (axis, kernel) in window.kernel.iter().enumerate() {
            let (extent, (before, after)) = (window.extent(*kernel as usize, axis), window.explicit(axis));
            if before.max(after) >= extent {
                return Err(attributes.wrong(format!(
                    "`pads` has {before} and {after} along axis {}: expected less than the window's length, which is {extent}",
                    axis + 2
                )));
            }
        }
        Ok(window)
    }

    /// The stride along an axis.
    pub fn stride(&self, axis: usize) -> i64 {
        self.strides.get(axis).copied().unwrap_or(1)
    }

    /// The dilation along an axis.
    pub fn dilation(&self, axis: usize) -> i64 {
        self.dilations.get(axis).copied().unwrap_or(1)
    }

    /// The length of a window along an axis, from its first to its last tap.
    pub fn extent(&self, kernel: usize, axis: usize) -> i64 {
        (kernel as i64 - 1) * self.dilation(axis) + 1
    }

    /// Padding that was written, along an axis. (0, 0) when it is computed from the lengths.
    pub fn explicit(&self, axis: usize) -> (i64, i64) {
        match &self.padding {
            Padding::Explicit(all) => all.get(axis).copied().unwrap_or_default(),
            _ => (0, 0),
        }
    }

    /// Checks that all attributes are for so many axes.
    pub fn check_axes(&self, axes: usize) -> TractResult<()> {
        let pads = match &self.padding {
            Padding::Explicit(all) => all.len(),
            _ => 0,
        };
        let lengths = [
            ("kernel_shape", self.kernel.len()),
            ("strides", self.strides.len()),
            ("dilations", self.dilations.len()),
            ("pads", pads),
        ];
        match lengths.into_iter().find(|(_, length)| *length != 0 && *length != axes) {
            Some((name, length)) => Err(TractError::msg(format!(
                "`{name}` is for {length} axes, but its input has {axes} axes behind the batch and the channels"
            ))),
            None if axes == 0 => Err(TractError::msg("its input has 2 axes: expected 3 or more")),
            None => Ok(()),
        }
    }

    /// The number of windows along each axis. `kernel` has the number of taps along each axis.
    pub fn lengths(&self, kernel: &[usize], inputs: &[TDim]) -> TractResult<TVec<TDim>> {
        self.check_axes(inputs.len())?;
        inputs.iter().enumerate().map(|(axis, input)| self.length(kernel[axis], axis, input)).collect()
    }

    fn length(&self, kernel: usize, axis: usize, input: &TDim) -> TractResult<TDim> {
        if let Ok(known) = input.to_usize() {
            return Ok(self.axis(kernel, axis, known)?.output.to_dim());
        }
        let (stride, extent) = (self.stride(axis), self.extent(kernel, axis));
        let (before, after) = self.explicit(axis);
        Ok(match (&self.padding, self.rounding) {
            (Padding::SameUpper | Padding::SameLower, _) => input.clone().divceil(stride as usize),
            (_, Rounding::Floor) => (input.clone() + (before + after - extent)) / stride + 1,
            (_, Rounding::Ceil) => {
                // The number of windows that start before the end, at most the rounded one.
                let cut = (after - extent + stride).min(0);
                (input.clone() + (before + cut)).divceil(stride as usize)
            }
        })
    }

    /// The windows along each axis for an input of these lengths.
    ///
    /// Errors: a window is longer than the padded input.
    pub fn axes(&self, kernel: &[usize], inputs: &[usize]) -> TractResult<TVec<Axis>> {
        self.check_axes(inputs.len())?;
        inputs.iter().enumerate().map(|(axis, input)| self.axis(kernel[axis], axis, *input)).collect()
    }

    fn axis(&self, kernel: usize, axis: usize, input: usize) -> TractResult<Axis> {
        let (stride, extent, length) = (self.stride(axis), self.extent(kernel, axis), input as i64);
        let (before, after, output) = match &self.padding {
            Padding::Explicit(_) => {
                let (before, after) = self.explicit(axis);
                if length + before + after < extent {
                    return Err(TractError::msg(format!(
                        "its window has the length {extent} along axis {}, but the padded input has only {}",
                        axis + 2,
                        length + before + after
                    )));
                }
                let output = match self.rounding {
                    Rounding::Floor => (length + before + after - extent) / stride + 1,
                    Rounding::Ceil => {
                        let cut = (after - extent + stride).min(0);
                        (length + before + cut + stride - 1) / stride
                    }
                };
                (before, after, output)
            }
            same => {
                let output = (length + stride - 1) / stride;
                let needed = ((output - 1).max(0) * stride + extent - length).max(0);
                let half = if *same == Padding::SameUpper { needed / 2 } else { needed - needed / 2 };
                (half, needed - half, output)
            }
        };
        Ok(Axis {
            input,
            output: output as usize,
            kernel,
            stride: stride as usize,
            dilation: self.dilation(axis) as usize,
            before,
            after,
        })
    }
}

/// The lengths of a filter along the axes of a window. `weights` is its shape.
pub fn kernel(window: &Window, weights: &[TDim]) -> TractResult<TVec<usize>> {
    let lengths = weights.iter().skip(2).enumerate().map(|(axis, length)| {
        let named = window.kernel.get(axis).map(|length| *length as usize);
        match (length.to_usize().ok(), named) {
            (Some(0), _) => Err(TractError::msg("its weights have no elements")),
            (Some(length), Some(named)) if length != named => Err(TractError::msg(format!(
                "`kernel_shape` has {named} for axis {}, but its weights have {length}",
                axis + 2
            ))),
            (Some(length), _) | (None, Some(length)) => Ok(length),
            (None, None) => Err(TractError::msg(
                "the lengths of its weights are not known: the attribute `kernel_shape` is missing",
            )),
        }
    });
    lengths.collect()
}

/// For each row of windows in a plane, the taps and the rows of the input that meet it. `outer` are the axes before the
/// one along the rows. A tap is an index among the taps of these axes, a row one among the rows of the plane.
pub fn rows(outer: &[Axis]) -> Vec<Vec<(usize, usize)>> {
    let mut rows: Vec<Vec<(usize, usize)>> = vec![vec![(0, 0)]];
    for axis in outer {
        let mut next = Vec::with_capacity(rows.len() * axis.output);
        for row in &rows {
            for window in 0..axis.output {
                let inside = |tap| axis.inside(window, tap).map(|place| (tap, place));
                let here: Vec<(usize, usize)> = (0..axis.kernel).filter_map(inside).collect();
                let more = |&(tap, place): &(usize, usize)| {
                    let (taps, places) = (tap * axis.kernel, place * axis.input);
                    here.iter().map(move |(tap, place)| (taps + tap, places + place))
                };
                next.push(row.iter().flat_map(more).collect());
            }
        }
        rows = next;
    }
    rows
}

/// The numbers of an attribute, each at least `least`.
fn numbers(attributes: &Attributes, name: &str, least: i64) -> TractResult<TVec<i64>> {
    let numbers = attributes.ints(name)?;
    match numbers.iter().find(|number| !(least..=MOST).contains(*number)) {
        Some(number) => {
            Err(attributes.wrong(format!("`{name}` has {number}: expected numbers from {least} to {MOST}")))
        }
        None => Ok(numbers.iter().copied().collect()),
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_hir::internal::SymbolScope;

    use super::*;

    fn window(stride: i64, dilation: i64, padding: Padding, rounding: Rounding) -> Window {
        Window { kernel: tvec![], strides: tvec![stride], dilations: tvec![dilation], padding, rounding }
    }

    #[test]
    fn a_symbolic_length_is_the_same_as_a_known_one() {
        let scope = SymbolScope::default();
        let symbol = scope.sym("n");
        let paddings = [
            Padding::Explicit(tvec![(0, 0)]),
            Padding::Explicit(tvec![(1, 2)]),
            Padding::SameUpper,
            Padding::SameLower,
        ];
        for (kernel, stride, dilation) in [(1, 1, 1), (3, 1, 2), (2, 3, 1), (3, 2, 1), (4, 3, 2), (1, 4, 1)] {
            for padding in &paddings {
                for rounding in [Rounding::Floor, Rounding::Ceil] {
                    let window = window(stride, dilation, padding.clone(), rounding);
                    let open = window.lengths(&[kernel], &[symbol.to_dim()]).unwrap()[0].clone();
                    for input in 7..20 {
                        let axis = window.axes(&[kernel], &[input]).unwrap().remove(0);
                        let values = SymbolValues::default().with(&symbol, input as i64);
                        assert_eq!(open.eval(&values).to_usize().unwrap(), axis.output, "{window:?} {input}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_span_has_the_windows_whose_tap_is_inside() {
        for (kernel, stride, before, after) in
            [(3, 1, 1, 1), (3, 2, 2, 0), (2, 3, 0, 4), (4, 2, 3, 3), (1, 5, 0, 0)]
        {
            let window = window(stride, 2, Padding::Explicit(tvec![(before, after)]), Rounding::Floor);
            for input in 5..12 {
                let Ok(axes) = window.axes(&[kernel], &[input]) else { continue };
                let axis = &axes[0];
                for tap in 0..kernel {
                    let (span, first) = axis.span(tap);
                    for at in 0..axis.output {
                        let place = axis.inside(at, tap);
                        assert_eq!(place.is_some(), span.contains(&at));
                        if let Some(place) = place {
                            assert_eq!(place, first + (at - span.start) * axis.stride);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn same_padding_puts_the_odd_element_where_its_name_says() {
        let pads = |padding| {
            let axis = window(1, 1, padding, Rounding::Floor).axes(&[4], &[9]).unwrap().remove(0);
            (axis.before, axis.after, axis.output)
        };
        assert_eq!(pads(Padding::SameUpper), (1, 2, 9));
        assert_eq!(pads(Padding::SameLower), (2, 1, 9));
    }
}
