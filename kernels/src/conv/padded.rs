//! Planes of the input with their padding, split by strides, so that each tap is a fixed distance.

use super::gather::every;
use super::{AXES, Axis};
use crate::simd::Simd;

/// The padded plane: for each remainder of a place by the strides, the numbers of these places, in rows.
pub struct Padded {
    /// The lengths along each axis for one remainder.
    pub lengths: [usize; AXES],
    strides: [usize; AXES],
    /// The first number of each tap.
    pub taps: Vec<usize>,
    /// From the first place of the result to the last one, along the padded rows.
    pub run: usize,
}

impl Padded {
    /// The plane for windows along `axes`, split by `strides`.
    pub fn new(axes: &[Axis; AXES], strides: [usize; AXES]) -> Padded {
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
    pub fn place(&self, place: [usize; AXES]) -> usize {
        let (mut phase, mut at) = (0, 0);
        for ((place, stride), length) in place.iter().zip(&self.strides).zip(&self.lengths) {
            phase = phase * stride + place % stride;
            at = at * length + place / stride;
        }
        phase * self.lengths.iter().product::<usize>() + at
    }

    pub fn size(&self) -> usize {
        self.lengths.iter().chain(&self.strides).product()
    }

    /// Copies a plane to its places. What is not copied is padding and stays.
    #[inline(always)]
    pub fn fill<V: Simd>(&self, axes: &[Axis; AXES], plane: &[f32], buffer: &mut [f32]) {
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

/// Copies numbers, with vectors: most rows are so short that a call takes longer.
#[inline(always)]
pub fn copy<V: Simd>(from: &[f32], to: &mut [f32]) {
    for (to, from) in to[..from.len()].chunks_mut(V::LANES).zip(from.chunks(V::LANES)) {
        V::load_part(from).store_part(to);
    }
}
