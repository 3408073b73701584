//! Convolutions with filters of 3 by 3 numbers and a stride of 1, by Winograd's method: squares of 2 by 2 numbers of the result
//! are made of 16 products for each channel of the input, where the definition has 36.
//!
//! The input's square of 4 by 4 numbers and the filter are transformed by sums and differences, multiplied number by number,
//! summed over the channels, and the sums are transformed back (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", F(2×2, 3×3)). The sums over channels are products of matrices, as in `multiply`. Results are as exact as those of
//! the definition to about one more bit; larger squares need fewer products, but lose more.
//!
//! Measured on one core with AVX-512: 1.4 to 1.8 times as fast as `multiply` for 64 to 256 channels.

use super::multiply::{Part, VECTORS, products, with_rows};
use super::padded::Padded;
use super::{AXES, Axis, Scratch};
use crate::after::{Block, finish};
use crate::level::for_levels;
use crate::simd::{MOST_LANES, Simd};

/// The products for one square: the numbers of the transformed filter.
pub const PRODUCTS: usize = 16;

/// The side of a square of the result, and of the input under it.
const MADE: usize = 2;
const READ: usize = 4;

/// The most transformed numbers of the input: 512 KiB, which fits in the second cache of most processors.
const NUMBERS: usize = 128 * 1024;

/// Whether this way is the faster one.
pub fn is_faster(axes: &[Axis; AXES], read: usize, made: usize) -> bool {
    let [depth, height, row] = axes;
    let are_usual = [height, row].iter().all(|axis| (axis.kernel, axis.stride, axis.dilation) == (3, 1, 1));
    // The transformations take as long for few channels. The transformed weights are larger: with a small result they are
    // read too often, and with many channels the numbers of a tile do not fit in the cache.
    are_usual
        && depth.is_plain()
        && depth.output == 1
        && (16..=320).contains(&read)
        && made >= 16
        && height.output * row.output >= 144
        && height.output.min(row.output) >= 6
}

/// The filters `[.., read, 3, 3]`, transformed to `[.., 16, read]`.
pub fn transformed(weights: &[f32], read: usize) -> Vec<f32> {
    let mut all = vec![0.0; weights.len() / 9 * PRODUCTS];
    let filters = weights.chunks_exact(9 * read).zip(all.chunks_exact_mut(PRODUCTS * read));
    for (filter, to) in filters {
        for (channel, numbers) in filter.as_chunks::<9>().0.iter().enumerate() {
            let number = |y: usize, x: usize| f64::from(numbers[y * 3 + x]);
            let columns: [[f64; 3]; READ] = {
                let columns = [0, 1, 2].map(|x| in_line([number(0, x), number(1, x), number(2, x)]));
                std::array::from_fn(|y| columns.map(|column| column[y]))
            };
            for (y, line) in columns.into_iter().enumerate() {
                for (x, number) in in_line(line).into_iter().enumerate() {
                    to[(y * READ + x) * read + channel] = number as f32;
                }
            }
        }
    }
    all
}

/// Transforms a line of a filter.
fn in_line([first, middle, last]: [f64; 3]) -> [f64; READ] {
    [first, (first + middle + last) / 2.0, (first - middle + last) / 2.0, last]
}

for_levels! {
    pub fn run(part: &Part, output: &mut [f32], scratch: &mut Scratch) = run_in;
}

/// The squares of a result.
struct Squares {
    /// Lines of squares, and squares of a line.
    lines: usize,
    width: usize,
    padded: Padded,
    axes: [Axis; AXES],
    /// Lines that are computed together, and the tiles of places of these.
    together: usize,
    tiles: usize,
}

impl Squares {
    fn new(part: &Part, tile: usize) -> Squares {
        let [depth, height, row] = part.axes;
        let squares = |axis: &Axis| {
            let output = axis.output.div_ceil(MADE);
            Axis { output, kernel: READ, stride: MADE, ..*axis }
        };
        let axes = [*depth, squares(height), squares(row)];
        let padded = Padded::new(&axes, [1, MADE, MADE]);
        let (lines, width) = (axes[1].output, axes[2].output);
        let tiles = |lines: usize| ((lines - 1) * padded.lengths[2] + width).div_ceil(tile);
        // As few tiles as possible; of equal ones the most lines, so that weights are read less often.
        let fits = |lines: &usize| *lines == 1 || tiles(*lines) * tile * PRODUCTS * part.read <= NUMBERS;
        let computed = |some: usize| {
            let last = lines % some;
            lines / some * tiles(some) + if last == 0 { 0 } else { tiles(last) }
        };
        let together = (1..=lines).take_while(fits).min_by_key(|some| (computed(*some), lines - some));
        let together = together.unwrap_or(1);
        let tiles = tiles(together);
        Squares { lines, width, padded, axes, together, tiles }
    }
}

#[inline(always)]
fn run_in<V: Simd>(part: &Part, output: &mut [f32], scratch: &mut Scratch) {
    let Scratch { planes, columns, sums, .. } = scratch;
    let tile = VECTORS * V::LANES;
    let squares = Squares::new(part, tile);
    let size = squares.padded.size();
    planes.clear();
    // The last vectors may read behind the last plane.
    planes.resize(size * part.read + squares.tiles * tile, 0.0);
    let channels = part.input.chunks_exact(part.input.len() / part.read);
    for (channel, input) in channels.enumerate() {
        squares.padded.fill::<V>(&squares.axes, input, &mut planes[channel * size..]);
    }
    let numbers = squares.tiles * PRODUCTS * part.read * tile;
    columns.resize(columns.len().max(numbers), 0.0);
    sums.resize(sums.len().max(PRODUCTS * part.rows * tile), 0.0);
    for line in (0..squares.lines).step_by(squares.together) {
        let lines = line..squares.lines.min(line + squares.together);
        let run = (lines.len() - 1) * squares.padded.lengths[2] + squares.width;
        let start = line * squares.padded.lengths[2];
        for (at, columns) in columns.chunks_exact_mut(PRODUCTS * part.read * tile).enumerate() {
            if at * tile < run {
                transform_input::<V>(part, &squares.padded, planes, start + at * tile, columns);
            }
        }
        let step = Step { squares: &squares, lines, run };
        for block in 0..part.made.div_ceil(part.rows) {
            with_rows!(part.rows, rows_of::<V>(part, &step, block, columns, sums, output));
        }
    }
}

/// Transforms the input's squares of a tile, for all channels: `[products, channels, tile]`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "a line is in all columns")]
fn transform_input<V: Simd>(part: &Part, padded: &Padded, planes: &[f32], first: usize, to: &mut [f32]) {
    let tile = VECTORS * V::LANES;
    let (size, taps) = (padded.size(), padded.taps.as_slice());
    let last = taps.iter().max().map_or(0, |last| last + tile);
    assert!(taps.len() == PRODUCTS && to.len() == PRODUCTS * part.read * tile);
    for channel in 0..part.read {
        let plane = &planes[channel * size + first..][..last];
        for vector in 0..VECTORS {
            // By columns.
            let mut square = [[V::splat(0.0); READ]; READ];
            for (x, column) in square.iter_mut().enumerate() {
                for (y, number) in column.iter_mut().enumerate() {
                    let place = taps[y * READ + x] + vector * V::LANES;
                    // SAFETY: the slice goes on for a tile behind the last tap.
                    *number = unsafe { V::load(plane.as_ptr().add(place)) };
                }
                *column = input_in_line(*column);
            }
            for y in 0..READ {
                let line = input_in_line([square[0][y], square[1][y], square[2][y], square[3][y]]);
                for (x, number) in line.into_iter().enumerate() {
                    let place = ((y * READ + x) * part.read + channel) * tile + vector * V::LANES;
                    // SAFETY: there is room for a tile of each product and channel, by the assertion.
                    unsafe { number.store(to.as_mut_ptr().add(place)) };
                }
            }
        }
    }
}

#[inline(always)]
fn input_in_line<V: Simd>([a, b, c, d]: [V; READ]) -> [V; READ] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

#[inline(always)]
fn sums_in_line<V: Simd>([a, b, c, d]: [V; READ]) -> [V; MADE] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}

/// Some lines of squares.
struct Step<'a> {
    squares: &'a Squares,
    lines: std::ops::Range<usize>,
    /// From the first square to the last one, along the padded lines.
    run: usize,
}

#[inline(always)]
fn rows_of<V: Simd, const ROWS: usize>(
    part: &Part,
    step: &Step,
    block: usize,
    columns: &[f32],
    sums: &mut [f32],
    output: &mut [f32],
) {
    let (tile, read) = (VECTORS * V::LANES, part.read);
    let [_, height, row] = part.axes;
    let places = height.output * row.output;
    let weights = &part.weights[block * PRODUCTS * read * ROWS..][..PRODUCTS * read * ROWS];
    let rows = block * ROWS..part.made.min((block + 1) * ROWS);
    for (first, columns) in (0..step.run).step_by(tile).zip(columns.chunks_exact(PRODUCTS * read * tile)) {
        let factors = weights.chunks_exact(read * ROWS).zip(columns.chunks_exact(read * tile));
        for ((weights, columns), to) in factors.zip(sums.chunks_exact_mut(ROWS * tile)) {
            let zeros = [[V::splat(0.0); VECTORS]; ROWS];
            // Those of the next product may not be in the cache yet.
            let next = weights.as_ptr_range().end;
            let ahead = (next, if first == 0 { ROWS } else { 0 });
            assert_eq!(to.len(), ROWS * tile, "a row has a tile");
            let made = products::<V, ROWS, VECTORS>(zeros, weights, columns, ahead);
            for (at, sum) in made.as_flattened().iter().enumerate() {
                // SAFETY: there are `ROWS` times `VECTORS` vectors, and there is room for them by the assertion.
                unsafe { sum.store(to.as_mut_ptr().add(at * V::LANES)) };
            }
        }
        for (at, channel) in rows.clone().enumerate() {
            let squares = result::<V>(&sums[at * tile..], ROWS * tile, part.bias[channel]);
            let output = &mut output[channel * places..][..places];
            spread(&squares, step, first..step.run.min(first + tile), row, height, output);
        }
    }
    let y = step.lines.start * MADE;
    let count = (height.output.min(step.lines.end * MADE) - y) * row.output;
    let place = rows.start * places + y * row.output;
    finish::<V>(&part.after, Block { place, rows: rows.len(), distance: places, count }, output);
}

/// Numbers of squares: for each place in a square, those of a tile.
type Made = [[f32; VECTORS * MOST_LANES]; MADE * MADE];

/// Transforms the sums of one channel of the result, which are `distance` numbers apart.
#[inline(always)]
fn result<V: Simd>(sums: &[f32], distance: usize, bias: f32) -> Made {
    let mut made = [[0.0; VECTORS * MOST_LANES]; MADE * MADE];
    let bias = V::splat(bias);
    assert!(sums.len() >= (PRODUCTS - 1) * distance + VECTORS * V::LANES, "there are sums of all products");
    for vector in 0..VECTORS {
        let mut lines = [[V::splat(0.0); READ]; MADE];
        for x in 0..READ {
            let sum = |y: usize| {
                let place = (y * READ + x) * distance + vector * V::LANES;
                // SAFETY: there are `PRODUCTS` times the distance, by the assertion.
                unsafe { V::load(sums.as_ptr().add(place)) }
            };
            let column = sums_in_line([sum(0), sum(1), sum(2), sum(3)]);
            for (line, number) in lines.iter_mut().zip(column) {
                line[x] = number;
            }
        }
        for (y, line) in lines.into_iter().enumerate() {
            for (x, number) in sums_in_line(line).into_iter().enumerate() {
                number.add(bias).store_part(&mut made[y * MADE + x][vector * V::LANES..]);
            }
        }
    }
    made
}

/// Writes the numbers of squares to their places in the plane of a channel. `run` are the squares' places along the padded
/// lines.
#[inline(always)]
fn spread(
    made: &Made,
    step: &Step,
    run: std::ops::Range<usize>,
    row: &Axis,
    height: &Axis,
    output: &mut [f32],
) {
    let wide = step.squares.padded.lengths[2];
    let mut at = run.start;
    while at < run.end {
        let (line, x) = (at / wide, at % wide);
        let count = (wide - x).min(run.end - at);
        // The last place of a padded line is no square.
        let used = count.min(step.squares.width.saturating_sub(x));
        let first = at - run.start;
        for half in 0..MADE {
            let y = (step.lines.start + line) * MADE + half;
            if y >= height.output || used == 0 {
                continue;
            }
            let [even, odd] = [0, 1].map(|side| &made[half * MADE + side][first..first + used]);
            let to = &mut output[y * row.output + x * MADE..(y + 1) * row.output];
            let (pairs, rest) = to.as_chunks_mut::<MADE>();
            for ((to, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                *to = [*even, *odd];
            }
            // A result of odd length ends in the middle of a square.
            if let ([last], true) = (rest, pairs.len() < used) {
                *last = even[pairs.len()];
            }
        }
        at += count;
    }
}
