//! Convolutions of integers as products of matrices: the elements under the windows are copied into the rows of a matrix.

use std::ops::Range;

use onnxd_kernels::integer::Matrix;

use super::super::convolution::window::Axis;

/// The most elements of the copies.
const COPIES: usize = 1 << 18;

/// Calls `done` with the sums for a part of the output's positions, a line for each channel, until all are computed. `x` is the
/// input of the channels that the weights read.
pub fn products(x: &[i16], along: &[Axis], weights: &Matrix, done: &mut dyn FnMut(Range<usize>, &[i32])) {
    let positions: usize = along.iter().map(|along| along.output).product();
    let width = weights.depth();
    let most = (COPIES / width.max(1)).max(16);
    let mut columns = Vec::new();
    let mut start = 0;
    while start < positions {
        let part = start..positions.min(start + most);
        columns.clear();
        columns.resize(width * part.len(), 0);
        copy_windows(x, along, part.clone(), &mut columns);
        let sums = weights.product(&turned(&columns, part.len()));
        start = part.end;
        done(part, &turned(&sums, weights.width()));
    }
}

/// A matrix with rows of this width, with its axes exchanged.
fn turned<T: Copy>(matrix: &[T], width: usize) -> Vec<T> {
    (0..width).flat_map(|column| matrix.iter().skip(column).step_by(width.max(1)).copied()).collect()
}

/// Copies what is under the windows at these positions of the output: a line for each channel and element of a window.
/// `columns` has zeros.
fn copy_windows(x: &[i16], along: &[Axis], part: Range<usize>, columns: &mut [i16]) {
    let Some((last, outer)) = along.split_last() else { return };
    let size: usize = along.iter().map(|along| along.input).product();
    let taps: usize = along.iter().map(|along| along.kernel).product();
    for (line, to) in columns.chunks_mut(part.len()).enumerate() {
        let channel = &x[line / taps * size..(line / taps + 1) * size];
        let tap = line % taps;
        let (span, place) = last.span(tap % last.kernel);
        for row in part.start / last.output..part.end.div_ceil(last.output) {
            let Some(start) = input_row(outer, row, tap / last.kernel) else { continue };
            // The windows of this row that are in the part and not padding.
            let base = row * last.output;
            let from = span.start.max(part.start.saturating_sub(base));
            let until = span.end.min(part.end - base);
            if from >= until {
                continue;
            }
            let to = &mut to[base + from - part.start..base + until - part.start];
            let input = &channel[start * last.input + place + (from - span.start) * last.stride..];
            if last.stride == 1 {
                to.copy_from_slice(&input[..to.len()]);
            } else {
                for (to, number) in to.iter_mut().zip(input.iter().step_by(last.stride)) {
                    *to = *number;
                }
            }
        }
    }
}

/// The row of the input under element `tap` of the windows in a row of the output; both count over all axes but the last.
/// `None`: it is padding.
fn input_row(outer: &[Axis], mut row: usize, mut tap: usize) -> Option<usize> {
    let (mut place, mut size) = (0, 1);
    for axis in outer.iter().rev() {
        place += axis.inside(row % axis.output, tap % axis.kernel)? * size;
        size *= axis.input;
        row /= axis.output;
        tap /= axis.kernel;
    }
    Some(place)
}
