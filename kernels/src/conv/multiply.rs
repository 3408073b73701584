//! The product of a convolution's weights with the numbers under its taps.

use super::gather::{self, Planes};
use super::{AXES, Axis, Scratch};
use crate::after::{After, Block, finish};
use crate::level::{Kind, Level, for_levels};
use crate::simd::Simd;

/// The vectors of places that are computed together.
pub const VECTORS: usize = 2;

/// The most numbers of gathered columns: 256 KiB, which fits in the second cache beside weights.
const COLUMNS: usize = 64 * 1024;

/// The most taps of all channels that are summed before the sums are stored.
const DEPTH: usize = 1024;

/// The most rows of a tile: the sums, the numbers of the places and one weight are in registers.
fn most_rows(level: Level) -> usize {
    match level.0 {
        Kind::Baseline => {
            if cfg!(target_arch = "aarch64") {
                12
            } else {
                6
            }
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => 6,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => 14,
    }
}

/// The rows of a tile for this many channels: as few as possible of the computed ones are superfluous.
pub fn rows(level: Level, channels: usize) -> usize {
    let most = most_rows(level);
    let rows = channels.div_ceil(channels.div_ceil(most));
    *SIZES.iter().find(|size| **size >= rows).expect("14 is the largest")
}

/// The numbers of rows for which there is code.
const SIZES: [usize; 10] = [1, 2, 4, 5, 6, 8, 10, 12, 13, 14];

/// Some channels of one group of a convolution, for one item of a batch. For depthwise convolutions, some groups.
pub struct Part<'a> {
    pub axes: &'a [Axis; AXES],
    pub read: usize,
    pub made: usize,
    pub taps: usize,
    pub rows: usize,
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub input: &'a [f32],
    pub after: After<'a>,
}

for_levels! {
    pub fn run(part: &Part, output: &mut [f32], scratch: &mut Scratch) = run_in;
}

#[inline(always)]
fn run_in<V: Simd>(part: &Part, output: &mut [f32], scratch: &mut Scratch) {
    let Scratch { planes, columns, spans, .. } = scratch;
    let planes = Planes::new(part.axes, part.input, planes);
    let places = output.len() / part.made;
    let tile = VECTORS * V::LANES;
    // Whole channels are summed at a time.
    let channels = (DEPTH / part.taps).clamp(1, part.read);
    let depth = channels * part.taps;
    let tiles = (COLUMNS / (depth * tile)).clamp(1, places.div_ceil(tile));
    columns.resize(columns.len().max(tiles * depth * tile + V::LANES), 0.0);
    for first in (0..places).step_by(tiles * tile) {
        let end = places.min(first + tiles * tile);
        for channel in (0..part.read).step_by(channels) {
            let some = channel..part.read.min(channel + channels);
            let depth = some.len() * part.taps;
            for (at, start) in (first..end).step_by(tile).enumerate() {
                spans.find(part.axes, planes.width, start, tile.min(end - start));
                // SAFETY: the spans are those of these planes, and of at most one tile.
                unsafe {
                    gather::tile::<V>(&planes, some.clone(), spans, tile, &mut columns[at * depth * tile..])
                };
            }
            let step = Step {
                places,
                first,
                end,
                depth,
                before: channel * part.taps,
                is_last: some.end == part.read,
            };
            for block in 0..part.made.div_ceil(part.rows) {
                block_of_rows::<V>(part, &step, block, columns, output);
            }
        }
    }
}

/// A part of the sums for some places.
struct Step {
    /// All places of the result.
    places: usize,
    first: usize,
    end: usize,
    /// The taps of all channels that are summed now.
    depth: usize,
    /// Those that were summed before.
    before: usize,
    is_last: bool,
}

/// Calls a function with the number of rows as a constant: `with_rows!(rows, function::<V>(arguments))`. Sizes that do not fit
/// the registers are never chosen, so they have no code.
macro_rules! with_rows {
    ($rows:expr, $function:ident::<$vector:ident>($($argument:expr),*)) => {
        match $rows {
            4 => $function::<$vector, 4>($($argument),*),
            5 => $function::<$vector, 5>($($argument),*),
            6 => $function::<$vector, 6>($($argument),*),
            8 if $vector::REGISTERS == 32 => $function::<$vector, 8>($($argument),*),
            10 if $vector::REGISTERS == 32 => $function::<$vector, 10>($($argument),*),
            12 if $vector::REGISTERS == 32 => $function::<$vector, 12>($($argument),*),
            13 if $vector::REGISTERS == 32 => $function::<$vector, 13>($($argument),*),
            14 if $vector::REGISTERS == 32 => $function::<$vector, 14>($($argument),*),
            other => unreachable!("there is no code for {other} rows"),
        }
    };
}
pub(super) use with_rows;

#[inline(always)]
fn block_of_rows<V: Simd>(part: &Part, step: &Step, block: usize, columns: &[f32], output: &mut [f32]) {
    match part.rows {
        1 => rows_of::<V, 1>(part, step, block, columns, output),
        2 => rows_of::<V, 2>(part, step, block, columns, output),
        rows => with_rows!(rows, rows_of::<V>(part, step, block, columns, output)),
    }
}

#[inline(always)]
fn rows_of<V: Simd, const ROWS: usize>(
    part: &Part,
    step: &Step,
    block: usize,
    columns: &[f32],
    output: &mut [f32],
) {
    let tile = VECTORS * V::LANES;
    let depth = part.read * part.taps;
    let weights = &part.weights[block * depth * ROWS..][step.before * ROWS..][..step.depth * ROWS];
    // The weights of a large convolution are not in the cache: those of the next block are asked for while the first tile of
    // this one is computed.
    let next = part.weights.get((block + 1) * depth * ROWS + step.before * ROWS..).unwrap_or_default();
    let rows = block * ROWS..part.made.min((block + 1) * ROWS);
    let starts = (step.first..step.end).step_by(tile);
    for (start, columns) in starts.zip(columns.chunks_exact(step.depth * tile)) {
        let count = tile.min(step.end - start);
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        for (sums, row) in sums.iter_mut().zip(rows.clone()) {
            for (at, sum) in sums.iter_mut().enumerate().take(count.div_ceil(V::LANES)) {
                *sum = match step.before {
                    0 => V::splat(part.bias[row]),
                    _ => V::load_part(&output[row * step.places + start..][at * V::LANES..count]),
                };
            }
        }
        let ahead = if start == step.first { (next.as_ptr(), ROWS) } else { (next.as_ptr(), 0) };
        let sums = match count <= V::LANES {
            true => {
                let first = products::<V, ROWS, 1>(sums.map(|[first, _]| [first]), weights, columns, ahead);
                first.map(|[first]| [first, V::splat(0.0)])
            }
            false => products::<V, ROWS, VECTORS>(sums, weights, columns, ahead),
        };
        for (sums, row) in sums.into_iter().zip(rows.clone()) {
            let place = row * step.places + start;
            let to = &mut output[place..][..count];
            for (sum, to) in sums.into_iter().zip(to.chunks_mut(V::LANES)) {
                sum.store_part(to);
            }
        }
        if step.is_last {
            let (place, rows) = (rows.start * step.places + start, rows.len());
            finish::<V>(&part.after, Block { place, rows, distance: step.places, count }, output);
        }
    }
}

/// Adds the products of `ROWS` rows of weights with the columns, of which the first `N` vectors are used. `ahead` is what is
/// asked for meanwhile: the first place, and the numbers for each row of the columns.
#[inline(always)]
pub fn products<V: Simd, const ROWS: usize, const N: usize>(
    mut sums: [[V; N]; ROWS],
    weights: &[f32],
    columns: &[f32],
    (mut ahead, step): (*const f32, usize),
) -> [[V; N]; ROWS] {
    let depth = weights.len() / ROWS;
    let tile = VECTORS * V::LANES;
    assert!(N <= VECTORS && columns.len() >= depth * tile);
    let (mut weights, mut columns) = (weights.as_ptr(), columns.as_ptr());
    for _ in 0..depth {
        V::prefetch_later(ahead);
        ahead = ahead.wrapping_add(step);
        // SAFETY: there are `depth` rows of both, by the assertion and the definition of `depth`.
        unsafe {
            let mut numbers = [V::splat(0.0); N];
            for (at, number) in numbers.iter_mut().enumerate() {
                *number = V::load(columns.add(at * V::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*weights.add(row));
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum = number.mul_add(weight, *sum);
                }
            }
            weights = weights.add(ROWS);
            columns = columns.add(tile);
        }
    }
    sums
}
