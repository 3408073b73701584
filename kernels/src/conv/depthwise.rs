//! Convolutions with one filter for each channel.
//!
//! The planes of a channel get their padding in a buffer, so that each tap is a fixed distance. There are two ways:
//! - Long rows: a few rows of the result are computed together, so that a number that is loaded once is used for all rows
//!   whose windows it is in (`lines`). Loads are the limit: most of them cross two lines of the cache.
//! - Short rows would leave most lanes of a vector unused. Their result is computed along the padded rows, in which the places
//!   between two rows have no meaning, and its rows are then copied out.

use super::gather::every;
use super::{AXES, Axis, Filters, Scratch};
use crate::after::{After, finish};
use crate::level::for_levels;
use crate::simd::Simd;
use lines::{LINES, Part, Windows};

mod lines;

/// The most vectors of places that are computed together.
const VECTORS: usize = 8;

for_levels! {
    pub fn run(
        filters: &Filters,
        axes: &[Axis; AXES],
        input: &[f32],
        output: &mut [f32],
        after: After,
        scratch: &mut Scratch,
    ) = run_in;
}

/// The padded plane: for each remainder of a place by the strides, the numbers of these places, in rows.
struct Padded {
    /// The lengths along each axis for one remainder.
    lengths: [usize; AXES],
    strides: [usize; AXES],
    /// The first number of each tap.
    taps: Vec<usize>,
    /// From the first place of the result to the last one, along the padded rows.
    run: usize,
}

/// The numbers of the padded plane of one channel.
pub fn plane(axes: &[Axis; AXES]) -> usize {
    let reach = |axis: &Axis| (axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    let length = |axis: &Axis| reach(axis).next_multiple_of(axis.stride);
    axes.iter().fold(1, |size, axis| size.saturating_mul(length(axis)))
}

impl Padded {
    /// The plane for windows along `axes`, split by `strides`.
    fn new(axes: &[Axis; AXES], strides: [usize; AXES]) -> Padded {
        let reach = |axis: &Axis| (axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
        let mut lengths = axes.map(|axis| reach(&axis));
        lengths.iter_mut().zip(&strides).for_each(|(length, stride)| *length = length.div_ceil(*stride));
        let mut padded = Padded { lengths, strides, taps: Vec::new(), run: 0 };
        let [depth, height, row] = axes;
        for tap in 0..depth.kernel * height.kernel * row.kernel {
            let (line, x) = (tap / row.kernel, tap % row.kernel);
            let place = [
                line / height.kernel * depth.dilation,
                line % height.kernel * height.dilation,
                x * row.dilation,
            ];
            padded.taps.push(padded.place(place));
        }
        padded.run = ((depth.output - 1) * lengths[1] + height.output - 1) * lengths[2] + row.output;
        padded
    }

    /// Where the number at a place of the padded input is.
    fn place(&self, place: [usize; AXES]) -> usize {
        let (mut phase, mut at) = (0, 0);
        for ((place, stride), length) in place.iter().zip(&self.strides).zip(&self.lengths) {
            phase = phase * stride + place % stride;
            at = at * length + place / stride;
        }
        phase * self.lengths.iter().product::<usize>() + at
    }

    fn size(&self) -> usize {
        self.lengths.iter().chain(&self.strides).product()
    }

    /// Copies a plane to its places. What is not copied is padding and stays.
    #[inline(always)]
    fn fill<V: Simd>(&self, axes: &[Axis; AXES], plane: &[f32], buffer: &mut [f32]) {
        let [depth, height, row] = axes;
        let stride = row.stride;
        // Numbers behind the last window are not needed.
        let used = |axis: usize| {
            let axes = &axes[axis];
            axes.input.min((self.lengths[axis] * self.strides[axis]).saturating_sub(axes.before))
        };
        let phase_size: usize = self.lengths.iter().product();
        for z in 0..used(0) {
            for y in 0..used(1) {
                let line = &plane[(z * height.input + y) * row.input..][..used(2)];
                let start = self.place([z + depth.before, y + height.before, 0]);
                if stride == 1 {
                    copy::<V>(line, &mut buffer[start + row.before..]);
                    continue;
                }
                for phase in 0..stride {
                    // The first number of the line whose place in the padded row has this remainder.
                    let first = (phase + stride - row.before % stride) % stride;
                    let Some(numbers) = line.get(first..) else { continue };
                    let place = start + phase * phase_size + (row.before + first) / stride;
                    every(stride, numbers, &mut buffer[place..place + numbers.len().div_ceil(stride)]);
                }
            }
        }
    }
}

#[inline(always)]
fn run_in<V: Simd>(
    filters: &Filters,
    axes: &[Axis; AXES],
    input: &[f32],
    output: &mut [f32],
    after: After,
    scratch: &mut Scratch,
) {
    match Windows::are_usual(axes, V::LANES) {
        true => by_lines::<V>(filters, axes, input, output, after, scratch),
        false => by_run::<V>(filters, axes, input, output, after, scratch),
    }
}

#[inline(always)]
fn by_lines<V: Simd>(
    filters: &Filters,
    axes: &[Axis; AXES],
    input: &[f32],
    output: &mut [f32],
    after: After,
    scratch: &mut Scratch,
) {
    let [_, height, row] = *axes;
    let padded = Padded::new(axes, [1, 1, row.stride]);
    let windows = Windows::new(axes, &padded);
    let planes = &mut scratch.planes;
    planes.clear();
    // The last vectors may read behind the plane.
    planes.resize(padded.size() + V::LANES, 0.0);
    let (from, to) = (input.len() / filters.groups, output.len() / filters.groups);
    for (channel, (input, output)) in input.chunks_exact(from).zip(output.chunks_exact_mut(to)).enumerate() {
        padded.fill::<V>(axes, input, planes);
        let weights = &filters.weights[channel * filters.taps..][..filters.taps];
        for y in (0..height.output).step_by(LINES) {
            // The last rows are computed again where there are not enough new ones.
            let y = y.min(height.output - LINES);
            let plane = &planes[y * height.stride * padded.lengths[2]..];
            let rows = &mut output[y * row.output..][..LINES * row.output];
            Part { windows: &windows, plane, weights, bias: filters.bias[channel] }.run::<V>(rows);
            finish::<V>(&after, channel * to + y * row.output, rows);
        }
    }
}

#[inline(always)]
fn by_run<V: Simd>(
    filters: &Filters,
    axes: &[Axis; AXES],
    input: &[f32],
    output: &mut [f32],
    after: After,
    scratch: &mut Scratch,
) {
    let padded = Padded::new(axes, axes.map(|axis| axis.stride));
    let block = if V::REGISTERS == 32 { VECTORS } else { 4 } * V::LANES;
    let size = padded.size();
    let Scratch { planes, columns, .. } = scratch;
    planes.clear();
    // The last vectors may read behind the plane.
    planes.resize(size + block, 0.0);
    columns.resize(columns.len().max(padded.run.next_multiple_of(block)), 0.0);
    let (from, to) = (input.len() / filters.groups, output.len() / filters.groups);
    for (channel, (input, output)) in input.chunks_exact(from).zip(output.chunks_exact_mut(to)).enumerate() {
        padded.fill::<V>(axes, input, planes);
        let weights = &filters.weights[channel * filters.taps..][..filters.taps];
        let bias = filters.bias[channel];
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
        let lines = output.chunks_exact_mut(row.output).enumerate();
        for (line, to) in lines.take(depth.output * height.output) {
            let start = (line / height.output * padded.lengths[1] + line % height.output) * padded.lengths[2];
            copy::<V>(&columns[start..start + row.output], to);
        }
        finish::<V>(&after, channel * to, output);
    }
}

/// Copies numbers, with vectors: most rows are so short that a call takes longer.
#[inline(always)]
fn copy<V: Simd>(from: &[f32], to: &mut [f32]) {
    for (to, from) in to[..from.len()].chunks_mut(V::LANES).zip(from.chunks(V::LANES)) {
        V::load_part(from).store_part(to);
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
