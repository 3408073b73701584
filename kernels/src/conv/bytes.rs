//! Convolutions of 8-bit integers, on processors that multiply four of them at once with an instruction of VNNI. Sums have 32
//! bits and are exact.
//!
//! The way is that of `multiply`: for a few places at a time, the numbers under all taps are gathered, four taps of a place side
//! by side, and multiplied with all weights.
//!
//! These instructions multiply numbers without a sign by numbers with one. Weights that have no 8 bits without their zero
//! point, as unsigned ones, are shifted: then the sum of the numbers under the taps, times the shift, is added.

// Other processors have no code that reads the weights.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use super::{AXES, Axis, all_axes};
use crate::crew;
use crate::integer::has_fours;

/// The places that are computed together.
const TILE: usize = 32;

/// Four taps of a place, or four weights.
type Group = [u8; 4];

/// The numbers of rows for which there is code.
const SIZES: [usize; 7] = [1, 2, 4, 8, 10, 12, 14];

/// The weights of a convolution without groups.
#[derive(Debug, Clone)]
pub struct ByteFilters {
    read: usize,
    made: usize,
    taps: usize,
    /// The channels that are computed together.
    rows: usize,
    /// `[blocks, groups of taps, rows]`. What is outside is 0.
    weights: Vec<Group>,
    /// For each channel of the result.
    channels: Vec<Channel>,
    /// Whether a channel has a shift.
    is_shifted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    /// What is added to its packed weights.
    shift: i32,
    /// The sum of its weights.
    total: i32,
}

impl ByteFilters {
    /// Packs the weights `[made, read, taps]` without their zero points. `None`: the processor has no such instructions, or the
    /// weights of a channel differ by more than 255.
    ///
    /// Panics: the lengths do not fit.
    pub fn new(made: usize, read: usize, weights: &[i16]) -> Option<ByteFilters> {
        assert!(made > 0 && read > 0, "there are no channels");
        let depth = weights.len() / made;
        assert_eq!(weights.len(), made * depth, "the weights do not fit their channels");
        assert!(depth > 0 && depth.is_multiple_of(read), "the weights do not fit their channels");
        let channels = weights.chunks_exact(depth).map(Channel::of).collect::<Option<Vec<Channel>>>();
        let channels = channels.filter(|_| has_fours())?;
        let most = made.div_ceil(made.div_ceil(SIZES[SIZES.len() - 1]));
        let rows = *SIZES.iter().find(|size| **size >= most)?;
        let mut packed = Vec::new();
        for first in (0..made).step_by(rows) {
            for tap in (0..depth).step_by(4) {
                for row in first..first + rows {
                    let mut group = Group::default();
                    for (place, to) in group.iter_mut().enumerate().take(depth - tap) {
                        if row < made {
                            let weight = i32::from(weights[row * depth + tap + place]) - channels[row].shift;
                            *to = weight as i8 as u8;
                        }
                    }
                    packed.push(group);
                }
            }
        }
        let is_shifted = channels.iter().any(|channel| channel.shift != 0);
        Some(ByteFilters { read, made, taps: depth / read, rows, weights: packed, channels, is_shifted })
    }

    /// The channels of the result.
    pub fn output_channels(&self) -> usize {
        self.made
    }

    /// The bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.weights.len() * size_of::<Group>()
    }

    /// Whether the memory for the input is in proportion to it, as in `Filters::fits`.
    ///
    /// Panics: there are no axes, or too many.
    pub fn fits(&self, axes: &[Axis]) -> bool {
        let input = axes.iter().map(|axis| axis.input).product::<usize>() * self.read;
        super::gather::split(&all_axes(axes), input) <= input.saturating_mul(4).saturating_add(super::SMALL)
    }

    /// Computes the sums for an input `[channels, axes]` whose zero point, and padding, is `zero`.
    ///
    /// Panics: the lengths do not fit.
    pub fn run(&self, axes: &[Axis], input: &[u8], zero: u8, sums: &mut [i32]) {
        let mut all = all_axes(axes);
        let lengths = |length: fn(&Axis) -> usize| -> usize { all.iter().map(length).product() };
        let (from, to) = (lengths(|axis| axis.input), lengths(|axis| axis.output));
        assert_eq!(lengths(|axis| axis.kernel), self.taps, "the filters have another shape");
        assert_eq!((input.len(), sums.len()), (from * self.read, to * self.made), "the lengths do not fit");
        for axis in &all {
            assert!(axis.stride > 0 && axis.dilation > 0, "strides and dilations are 1 or more");
        }
        if from == 0 || to == 0 {
            return sums.fill(0);
        }
        if all.iter().all(|axis| axis.is_plain()) {
            // One long row.
            all = [Axis::ONE, Axis::ONE, Axis { input: from, output: to, ..Axis::ONE }];
        }
        // All threads that help take some channels of the result.
        let parts = crew::parts(sums.len() * self.read * self.taps);
        let channels = self.made.div_ceil(self.rows).div_ceil(parts) * self.rows;
        crew::split_chunks(sums, channels * to, &|part, sums| {
            self.channels(&all, part * channels, input, zero, sums);
        });
    }

    #[cfg(target_arch = "x86_64")]
    fn channels(&self, axes: &[Axis; AXES], first: usize, input: &[u8], zero: u8, sums: &mut [i32]) {
        assert!(has_fours(), "the weights are packed for another processor");
        // SAFETY: the processor was asked for these instructions.
        unsafe { x86::run(self, axes, first, input, zero, sums) };
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn channels(&self, _: &[Axis; AXES], _: usize, _: &[u8], _: u8, _: &mut [i32]) {
        unreachable!("weights are only packed for x86-64");
    }
}

impl Channel {
    /// The shift with which these weights have 8 bits. `None`: there is none.
    fn of(weights: &[i16]) -> Option<Channel> {
        let (least, most) = (i32::from(*weights.iter().min()?), i32::from(*weights.iter().max()?));
        let shift = if least >= -128 && most <= 127 { 0 } else { least + 128 };
        let total = weights.iter().map(|weight| i32::from(*weight)).sum();
        (most - least <= 255).then_some(Channel { shift, total })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::gather::{Planes, Spans};
    use super::{AXES, Axis, ByteFilters, Group, TILE};

    /// The most bytes of gathered numbers: they fit in the second cache beside weights.
    const GATHERED: usize = 256 * 1024;

    /// Calls a function with the number of rows as a constant.
    macro_rules! with_rows {
        ($rows:expr, $function:ident($($argument:expr),*)) => {
            match $rows {
                1 => $function::<1>($($argument),*),
                2 => $function::<2>($($argument),*),
                4 => $function::<4>($($argument),*),
                8 => $function::<8>($($argument),*),
                10 => $function::<10>($($argument),*),
                12 => $function::<12>($($argument),*),
                14 => $function::<14>($($argument),*),
                other => unreachable!("there is no code for {other} rows"),
            }
        };
    }

    /// Some channels of the result, from `first` on, which begins a block of rows.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn run(
        filters: &ByteFilters,
        axes: &[Axis; AXES],
        first: usize,
        input: &[u8],
        zero: u8,
        sums: &mut [i32],
    ) {
        let (mut buffer, mut spans) = (Vec::new(), Spans::default());
        let planes = Planes::new(axes, input, &mut buffer);
        let places: usize = axes.iter().map(|axis| axis.output).product();
        let groups = (filters.read * filters.taps).div_ceil(4);
        let tiles = (GATHERED / (groups * TILE * 4)).clamp(1, places.div_ceil(TILE));
        let mut gathered = vec![Group::default(); tiles * groups * TILE];
        // The sums of the numbers under the taps, for each place of the tiles.
        let mut under = vec![0; tiles * TILE];
        let one = vec![[1_u8; 4]; if filters.is_shifted { groups } else { 0 }];
        for begin in (0..places).step_by(tiles * TILE) {
            let end = places.min(begin + tiles * TILE);
            let starts = (begin..end).step_by(TILE);
            for (at, start) in starts.clone().enumerate() {
                spans.find(axes, planes.width, start, TILE.min(end - start));
                let to = &mut gathered[at * groups * TILE..][..groups * TILE];
                gather(filters, &planes, &spans, zero, to);
                if filters.is_shifted {
                    let [sums] = products::<1>(&one, to);
                    under[at * TILE..][..TILE].copy_from_slice(&sums);
                }
            }
            for row in (0..sums.len() / places).step_by(filters.rows) {
                let block = (first + row) / filters.rows;
                let size = groups * filters.rows;
                let weights = &filters.weights[block * size..][..size];
                for (at, start) in starts.clone().enumerate() {
                    let columns = &gathered[at * groups * TILE..][..groups * TILE];
                    let under = &under[at * TILE..][..TILE];
                    let to = Place { row, channel: first + row, start, count: TILE.min(end - start), places };
                    with_rows!(filters.rows, block_of(filters, weights, columns, under, zero, &to, sums));
                }
            }
        }
    }

    /// Where the sums of a block belong.
    struct Place {
        row: usize,
        channel: usize,
        start: usize,
        count: usize,
        places: usize,
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    fn block_of<const ROWS: usize>(
        filters: &ByteFilters,
        weights: &[Group],
        columns: &[Group],
        under: &[i32],
        zero: u8,
        place: &Place,
        sums: &mut [i32],
    ) {
        let made = products::<ROWS>(weights, columns);
        let channels = &filters.channels[place.channel..];
        let lines = sums[place.row * place.places..].chunks_mut(place.places);
        for ((made, channel), line) in made.iter().zip(channels).zip(lines) {
            let less = i32::from(zero).wrapping_mul(channel.total);
            let to = line[place.start..][..place.count].iter_mut();
            for (to, (sum, under)) in to.zip(made.iter().zip(under)) {
                *to = sum.wrapping_add(channel.shift.wrapping_mul(*under)).wrapping_sub(less);
            }
        }
    }

    /// The products of rows of weights with the numbers of a tile.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    fn products<const ROWS: usize>(weights: &[Group], columns: &[Group]) -> [[i32; TILE]; ROWS] {
        assert_eq!(weights.len() / ROWS, columns.len() / TILE, "the lengths do not fit");
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        for (weights, columns) in weights.chunks_exact(ROWS).zip(columns.chunks_exact(TILE)) {
            // SAFETY: the chunk has 32 groups, which are two vectors.
            let columns = unsafe {
                let from = columns.as_ptr();
                [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(TILE / 2).cast())]
            };
            for (sums, weight) in sums.iter_mut().zip(weights) {
                let weight = _mm512_set1_epi32(i32::from_le_bytes(*weight));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbusd_epi32(*sum, column, weight);
                }
            }
        }
        let mut made = [[0; TILE]; ROWS];
        for (to, [first, second]) in made.iter_mut().zip(sums) {
            let (left, right) = to.split_at_mut(TILE / 2);
            // SAFETY: each half has 16 sums.
            unsafe {
                _mm512_storeu_si512(left.as_mut_ptr().cast(), first);
                _mm512_storeu_si512(right.as_mut_ptr().cast(), second);
            }
        }
        made
    }

    /// Gathers a tile: for each four taps of all channels, those of one place after the other.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    fn gather(filters: &ByteFilters, planes: &Planes<u8>, spans: &Spans, zero: u8, to: &mut [Group]) {
        let depth = filters.read * filters.taps;
        let (mut channel, mut tap) = (0, 0);
        for (group, to) in to.chunks_exact_mut(TILE).enumerate() {
            let mut four = [[0; TILE]; 4];
            for row in four.iter_mut().take(depth - group * 4) {
                *row = [zero; TILE];
                let plane = planes.plane(channel);
                for span in spans.of_tap(tap) {
                    let from = &plane[span.from..][..span.count];
                    match <&[u8; TILE]>::try_from(from) {
                        Ok(all) => *row = *all,
                        Err(_) => row[span.to..][..span.count].copy_from_slice(from),
                    }
                }
                tap += 1;
                if tap == filters.taps {
                    (channel, tap) = (channel + 1, 0);
                }
            }
            interleave(&four, to);
        }
    }

    /// Puts the numbers of four rows between each other. `to` has a tile.
    #[target_feature(enable = "avx2")]
    fn interleave(rows: &[[u8; TILE]; 4], to: &mut [Group]) {
        let [a, b, c, d] = rows.each_ref().map(|row| {
            // SAFETY: a row has 32 bytes.
            unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
        });
        let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        // Places 0 to 3 and 16 to 19, 4 to 7 and 20 to 23, and so on.
        let (first, second) = (_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd));
        let (third, fourth) =
            (_mm256_unpacklo_epi16(ab_high, cd_high), _mm256_unpackhi_epi16(ab_high, cd_high));
        let vectors = [
            _mm256_permute2x128_si256::<0x20>(first, second),
            _mm256_permute2x128_si256::<0x20>(third, fourth),
            _mm256_permute2x128_si256::<0x31>(first, second),
            _mm256_permute2x128_si256::<0x31>(third, fourth),
        ];
        for (to, vector) in to.chunks_exact_mut(8).zip(vectors) {
            // SAFETY: the chunk has 8 groups, which are 32 bytes.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The sums by the definition.
    fn expected(axes: &[Axis], read: usize, weights: &[i16], input: &[u8], zero: u8) -> Vec<i32> {
        let [height, width] = axes else { unreachable!("there are two axes") };
        let taps = height.kernel * width.kernel;
        let mut sums = Vec::new();
        for filter in weights.chunks(read * taps) {
            for at in 0..height.output * width.output {
                let mut sum = 0;
                for (tap, weight) in filter.iter().enumerate() {
                    let (channel, tap) = (tap / taps, tap % taps);
                    let place = |axis: &Axis, window: usize, tap: usize| {
                        (window * axis.stride + tap * axis.dilation)
                            .checked_sub(axis.before)
                            .filter(|place| *place < axis.input)
                    };
                    let (y, x) = (
                        place(height, at / width.output, tap / width.kernel),
                        place(width, at % width.output, tap % width.kernel),
                    );
                    if let (Some(y), Some(x)) = (y, x) {
                        let number = input[(channel * height.input + y) * width.input + x];
                        sum += (i32::from(number) - i32::from(zero)) * i32::from(*weight);
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }

    #[test]
    fn sums_are_exact_for_all_shapes_and_zero_points() {
        let mut random = Random::new(61);
        for round in 0..300 {
            let mut axis = || {
                let (kernel, stride, dilation) = (random.size(1, 4), random.size(1, 3), random.size(1, 2));
                let before = random.size(0, 2);
                let input = random.size(1, 40);
                let output = random.size(1, 20);
                Axis { input, output, kernel, stride, dilation, before }
            };
            let mut axes = [axis(), axis()];
            if round % 3 == 0 {
                axes = axes.map(|axis| Axis { input: axis.input, output: axis.input, ..Axis::ONE });
            }
            let (read, made) = (random.size(1, 9), random.size(1, 40));
            let taps: usize = axes.iter().map(|axis| axis.kernel).product();
            let lowest = [-128, -255, 0, -130][round % 4];
            let weights: Vec<i16> =
                (0..made * read * taps).map(|_| random.size(0, 255) as i16 + lowest).collect();
            let size: usize = axes.iter().map(|axis| axis.input).product();
            let input: Vec<u8> = (0..read * size).map(|_| random.size(0, 255) as u8).collect();
            let zero = random.size(0, 255) as u8;
            let Some(filters) = ByteFilters::new(made, read, &weights) else { return };
            let mut sums = vec![7; axes.iter().map(|axis| axis.output).product::<usize>() * made];
            filters.run(&axes, &input, zero, &mut sums);
            let are_right = sums == expected(&axes, read, &weights, &input, zero);
            assert!(are_right, "{axes:?}, {read} channels to {made}, zero point {zero}");
        }
    }

    #[test]
    fn weights_that_are_too_far_apart_have_no_bytes() {
        assert!(ByteFilters::new(1, 1, &[-128, 128]).is_none());
    }
}
