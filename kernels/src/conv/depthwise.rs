//! Convolutions with one filter for each channel.
//!
//! The planes of a channel get their padding in a buffer, so that each tap is a fixed distance. There are two ways:
//! - Long rows: a few rows of the result are computed together, so that a number that is loaded once is used for all rows
//!   whose windows it is in (`lines`). Loads are the limit: most of them cross two lines of the cache.
//! - Short rows would leave most lanes of a vector unused. Their result is computed along the padded rows, in which the places
//!   between two rows have no meaning, and its rows are then copied out.

use super::multiply::Part;
use super::padded::{Padded, copy};
use super::{AXES, Axis, Scratch};
use crate::after::{Block, finish};
use crate::level::for_levels;
use crate::simd::Simd;
use lines::{LINES, Lines, Windows};

mod lines;

/// The most vectors of places that are computed together.
const VECTORS: usize = 8;

for_levels! {
    /// Computes some channels: those of the part's input.
    pub fn run(part: &Part, output: &mut [f32], scratch: &mut Scratch) = run_in;
}

/// The numbers of the padded plane of one channel.
pub fn plane(axes: &[Axis; AXES]) -> usize {
    let reach = |axis: &Axis| (axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    let length = |axis: &Axis| reach(axis).next_multiple_of(axis.stride);
    axes.iter().fold(1, |size, axis| size.saturating_mul(length(axis)))
}

#[inline(always)]
fn run_in<V: Simd>(part: &Part, output: &mut [f32], scratch: &mut Scratch) {
    match Windows::are_usual(part.axes, V::LANES) {
        true => by_lines::<V>(part, output, scratch),
        false => by_run::<V>(part, output, scratch),
    }
}

#[inline(always)]
fn by_lines<V: Simd>(part: &Part, output: &mut [f32], scratch: &mut Scratch) {
    let axes = part.axes;
    let [_, height, row] = *axes;
    let padded = Padded::new(axes, [1, 1, row.stride]);
    let windows = Windows::new(axes, &padded);
    let planes = &mut scratch.planes;
    planes.clear();
    // The last vectors may read behind the plane.
    planes.resize(padded.size() + V::LANES, 0.0);
    let lengths = |length: fn(&Axis) -> usize| -> usize { axes.iter().map(length).product() };
    let (from, to) = (lengths(|axis| axis.input), lengths(|axis| axis.output));
    for (channel, input) in part.input.chunks_exact(from).enumerate() {
        padded.fill::<V>(axes, input, planes);
        let weights = &part.weights[channel * part.taps..][..part.taps];
        for y in (0..height.output).step_by(LINES) {
            // The last rows are computed again where there are not enough new ones.
            let y = y.min(height.output - LINES);
            let plane = &planes[y * height.stride * padded.lengths[2]..];
            let (place, count) = (channel * to + y * row.output, LINES * row.output);
            let lines = Lines { windows: &windows, plane, weights, bias: part.bias[channel] };
            lines.run::<V>(&mut output[place..][..count]);
            finish::<V>(&part.after, Block::line(place, count), output);
        }
    }
}

#[inline(always)]
fn by_run<V: Simd>(part: &Part, output: &mut [f32], scratch: &mut Scratch) {
    let axes = part.axes;
    let padded = Padded::new(axes, axes.map(|axis| axis.stride));
    let block = if V::REGISTERS == 32 { VECTORS } else { 4 } * V::LANES;
    let size = padded.size();
    let Scratch { planes, columns, .. } = scratch;
    planes.clear();
    // The last vectors may read behind the plane.
    planes.resize(size + block, 0.0);
    columns.resize(columns.len().max(padded.run.next_multiple_of(block)), 0.0);
    let lengths = |length: fn(&Axis) -> usize| -> usize { axes.iter().map(length).product() };
    let (from, to) = (lengths(|axis| axis.input), lengths(|axis| axis.output));
    for (channel, input) in part.input.chunks_exact(from).enumerate() {
        padded.fill::<V>(axes, input, planes);
        let weights = &part.weights[channel * part.taps..][..part.taps];
        let bias = part.bias[channel];
        for first in (0..padded.run).step_by(block) {
            let to = &mut columns[first..first + block];
            match (padded.run - first).div_ceil(V::LANES) {
                5.. if V::REGISTERS == 32 => {
                    sums::<V, VECTORS>(planes, &padded.taps, weights, bias, first, to)
                }
                1 => sums::<V, 1>(planes, &padded.taps, weights, bias, first, to),
                2 => sums::<V, 2>(planes, &padded.taps, weights, bias, first, to),
                _ => sums::<V, 4>(planes, &padded.taps, weights, bias, first, to),
            }
        }
        let [depth, height, row] = axes;
        let lines = output[channel * to..][..to].chunks_exact_mut(row.output).enumerate();
        for (line, to) in lines.take(depth.output * height.output) {
            let start = (line / height.output * padded.lengths[1] + line % height.output) * padded.lengths[2];
            copy::<V>(&columns[start..start + row.output], to);
        }
        finish::<V>(&part.after, Block::line(channel * to, to), output);
    }
}

/// Computes a block of the result along the padded rows.
#[inline(always)]
fn sums<V: Simd, const N: usize>(
    plane: &[f32],
    taps: &[usize],
    weights: &[f32],
    bias: f32,
    first: usize,
    to: &mut [f32],
) {
    let mut sums = [V::splat(bias); N];
    for (tap, weight) in taps.iter().zip(weights) {
        let numbers = &plane[tap + first..][..N * V::LANES];
        let weight = V::splat(*weight);
        for (at, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the slice has `N` vectors.
            let number = unsafe { V::load(numbers.as_ptr().add(at * V::LANES)) };
            *sum = number.mul_add(weight, *sum);
        }
    }
    for (sum, to) in sums.iter().zip(to.chunks_exact_mut(V::LANES)) {
        sum.store_part(to);
    }
}
