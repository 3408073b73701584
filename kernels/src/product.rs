//! Products of rows with a matrix that is used again and again, such as the weights of a layer.
//!
//! The matrix is kept in panels: each has a few columns of all its rows. So a tile of the result reads one panel from its
//! beginning to its end, and keeps its sums in registers.

use super::after::{After, Block, finish};
use super::crew;
use super::level::{Level, for_levels};
use super::simd::Simd;

/// The most bytes of a matrix that stays in the second cache from one product to the next, as in a recurrent layer.
const SMALL: usize = 512 * 1024;

/// The columns of a panel: two vectors of AVX-512. A panel of a usual depth stays in the second cache for all rows.
const PANEL: usize = 32;

/// A matrix `[depth, width]` in panels.
#[derive(Debug, Clone)]
pub struct Matrix {
    depth: usize,
    width: usize,
    /// `[panels, depth, PANEL]`. Behind the last column are zeros.
    panels: Vec<f32>,
}

impl Matrix {
    /// Packs a matrix whose element `[row, column]` is `element(row, column)`.
    pub fn new(depth: usize, width: usize, element: impl Fn(usize, usize) -> f32) -> Matrix {
        let mut panels = Vec::with_capacity(width.div_ceil(PANEL) * depth * PANEL);
        for first in (0..width).step_by(PANEL) {
            for row in 0..depth {
                let columns = first..first + PANEL;
                panels.extend(columns.map(|column| if column < width { element(row, column) } else { 0.0 }));
            }
        }
        Matrix { depth, width, panels }
    }

    /// The number of its rows.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The number of its columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<f32>()
    }

    /// Adds `rows` · this matrix to `sums`: `rows` is `[n, depth]`, `sums` `[n, width]`, both row-major.
    ///
    /// Panics: the lengths do not fit.
    pub fn add_product(&self, rows: &[f32], sums: &mut [f32]) {
        self.run(Level::best(), rows, sums, Around::Sums);
    }

    /// Writes `rows` · this matrix, with what is done around it: `rows` is `[n, depth]`, `to` `[n, width]`, both row-major.
    /// `bias` has a number for each column, or none.
    ///
    /// Panics: the lengths do not fit.
    pub fn product(&self, rows: &[f32], to: &mut [f32], bias: &[f32], after: After) {
        self.run(Level::best(), rows, to, Around::Layer { bias, after });
    }

    fn run(&self, level: Level, rows: &[f32], to: &mut [f32], around: Around) {
        if self.width == 0 {
            return;
        }
        let count = to.len() / self.width;
        assert_eq!(
            (rows.len(), to.len()),
            (count * self.depth, count * self.width),
            "the lengths do not fit"
        );
        if let Around::Layer { bias, after } = &around {
            let fits = bias.is_empty() || bias.len() == self.width;
            assert!(fits && after.add.is_none_or(|add| add.len() == to.len()), "the lengths do not fit");
        }
        let some = crew::rows(count, self.depth, self.width);
        crew::split_chunks(to, some * self.width, &|part, to| {
            let rows = &rows[part * some * self.depth..][..to.len() / self.width * self.depth];
            let around = match around {
                Around::Sums => Around::Sums,
                Around::Layer { bias, after } => {
                    Around::Layer { bias, after: after.part(part * some * self.width, to.len()) }
                }
            };
            run(level, self, rows, to, around);
        });
    }

    /// The same, with each column multiplied by its factor.
    ///
    /// Panics: there is not one factor for each column.
    pub fn scaled(&self, factors: &[f32]) -> Matrix {
        assert_eq!(factors.len(), self.width, "one for each column is needed");
        let mut scaled = self.clone();
        for (panel, factors) in
            scaled.panels.chunks_exact_mut((self.depth * PANEL).max(1)).zip(factors.chunks(PANEL))
        {
            for row in panel.chunks_exact_mut(PANEL) {
                row.iter_mut().zip(factors).for_each(|(weight, factor)| *weight *= factor);
            }
        }
        scaled
    }
}

/// What is done with the products besides storing them.
#[derive(Clone, Copy)]
enum Around<'a> {
    /// They are added to what is there.
    Sums,
    /// The bias is added, if there is one, and then comes what follows.
    Layer { bias: &'a [f32], after: After<'a> },
}

for_levels! {
    fn run(matrix: &Matrix, rows: &[f32], to: &mut [f32], around: Around) = run_in;
}

/// The vectors of columns that are computed together.
const VECTORS: usize = 2;

#[inline(always)]
fn run_in<V: Simd>(matrix: &Matrix, rows: &[f32], to: &mut [f32], around: Around) {
    let (depth, width) = (matrix.depth, matrix.width);
    let count = to.len() / width;
    // The sums of a tile, the numbers of its columns and one number of a row are in registers.
    let most = (V::REGISTERS - VECTORS - 1) / VECTORS;
    let tiles = count.div_ceil(most);
    for first in (0..width).step_by(PANEL) {
        let panel = &matrix.panels[first * depth..][..depth * PANEL];
        for tile in 0..tiles {
            // All tiles have about the same number of rows.
            let (row, end) = (count * tile / tiles, count * (tile + 1) / tiles);
            let part = Part {
                rows: &rows[row * depth..end * depth],
                depth,
                panel,
                width,
                first,
                columns: PANEL.min(width - first),
                place: row * width,
                ahead: match matrix.bytes() {
                    ..=SMALL => Ahead::nothing(),
                    _ => Ahead::new(&matrix.panels[(first + PANEL).min(width) * depth..], tile, tiles, depth),
                },
            };
            match end - row {
                1 => part.tiles::<V, 1>(to, around),
                2 => part.tiles::<V, 2>(to, around),
                3 => part.tiles::<V, 3>(to, around),
                4 => part.tiles::<V, 4>(to, around),
                5 => part.tiles::<V, 5>(to, around),
                6 => part.tiles::<V, 6>(to, around),
                7 if V::REGISTERS == 32 => part.tiles::<V, 7>(to, around),
                8 if V::REGISTERS == 32 => part.tiles::<V, 8>(to, around),
                9 if V::REGISTERS == 32 => part.tiles::<V, 9>(to, around),
                10 if V::REGISTERS == 32 => part.tiles::<V, 10>(to, around),
                11 if V::REGISTERS == 32 => part.tiles::<V, 11>(to, around),
                12 if V::REGISTERS == 32 => part.tiles::<V, 12>(to, around),
                13 if V::REGISTERS == 32 => part.tiles::<V, 13>(to, around),
                14 if V::REGISTERS == 32 => part.tiles::<V, 14>(to, around),
                other => unreachable!("there is no code for {other} rows"),
            }
        }
    }
}

/// The columns of one panel for a few rows.
struct Part<'a> {
    rows: &'a [f32],
    depth: usize,
    panel: &'a [f32],
    /// The columns of the matrix.
    width: usize,
    /// The first column of the panel.
    first: usize,
    columns: usize,
    /// Where the first row of the result begins.
    place: usize,
    ahead: Ahead,
}

/// What is asked for while a tile is computed: a part of the next panel. So the products do not wait for the memory.
#[derive(Clone, Copy)]
struct Ahead {
    first: *const f32,
    /// Numbers for each place along the depth.
    step: usize,
}

impl Ahead {
    fn nothing() -> Ahead {
        Ahead { first: std::ptr::null(), step: 0 }
    }

    /// The part of tile `tile` of `tiles`. A tile asks for half a row of the next panel at each place, so that the first two
    /// ask for all of it; a tile that is alone asks for whole rows.
    fn new(next: &[f32], tile: usize, tiles: usize, depth: usize) -> Ahead {
        let step = if tiles == 1 { PANEL } else { PANEL / 2 };
        match next.get(tile * depth * step..) {
            Some(part) if tile < 2 => Ahead { first: part.as_ptr(), step },
            _ => Ahead::nothing(),
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn tiles<V: Simd, const ROWS: usize>(&self, to: &mut [f32], around: Around) {
        for start in (0..self.columns).step_by(VECTORS * V::LANES) {
            let tile = {
                let panel = self.panel.get(start..).unwrap_or_default();
                tile::<V, ROWS>(self.rows, self.depth, panel, self.ahead)
            };
            let end = self.columns.min(start + VECTORS * V::LANES);
            for (row, tile) in tile.iter().enumerate() {
                let place = self.place + row * self.width + self.first + start;
                let to = &mut to[place..][..end - start];
                match around {
                    Around::Sums => {
                        for (to, vector) in to.chunks_mut(V::LANES).zip(tile) {
                            V::load_part(to).add(*vector).store_part(to);
                        }
                    }
                    Around::Layer { bias: [], .. } => {
                        for (to, vector) in to.chunks_mut(V::LANES).zip(tile) {
                            vector.store_part(to);
                        }
                    }
                    Around::Layer { bias, .. } => {
                        let bias = &bias[self.first + start..self.first + end];
                        let parts = to.chunks_mut(V::LANES).zip(bias.chunks(V::LANES));
                        for ((to, bias), vector) in parts.zip(tile) {
                            vector.add(V::load_part(bias)).store_part(to);
                        }
                    }
                }
            }
            if let Around::Layer { after, .. } = around {
                let place = self.place + self.first + start;
                let block = Block { place, rows: ROWS, distance: self.width, count: end - start };
                finish::<V>(&after, block, to);
            }
        }
    }
}

/// The products of `ROWS` rows with two vectors of columns. `panel` begins at the first of these columns.
#[inline(always)]
fn tile<V: Simd, const ROWS: usize>(
    rows: &[f32],
    depth: usize,
    panel: &[f32],
    ahead: Ahead,
) -> [[V; VECTORS]; ROWS] {
    assert!(rows.len() >= ROWS * depth && panel.len() + PANEL > depth * PANEL + VECTORS * V::LANES - 1);
    // Each sum waits for the one before. Few rows have too few sums to keep the processor busy, so they have several for
    // each number of the result.
    let apart = match ROWS {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    };
    let mut sums = [[[V::splat(0.0); VECTORS]; ROWS]; 4];
    let mut begin = 0;
    while begin + apart <= depth {
        let place = ahead.first.wrapping_add(begin * ahead.step);
        for at in 0..if ahead.step > 0 { apart } else { 0 } {
            V::prefetch_later(place.wrapping_add(at * ahead.step));
            V::prefetch_later(place.wrapping_add(at * ahead.step + PANEL / 2));
        }
        for (at, sums) in sums.iter_mut().enumerate().take(apart) {
            // SAFETY: this place is below `depth`, and the slices have the lengths of the assertion.
            unsafe { add_products::<V, ROWS>(sums, rows, depth, panel, begin + at) };
        }
        begin += apart;
    }
    for at in begin..depth {
        // SAFETY: as above.
        unsafe { add_products::<V, ROWS>(&mut sums[0], rows, depth, panel, at) };
    }
    let [mut total, others @ ..] = sums;
    for other in others.iter().take(apart - 1) {
        for (total, other) in total.iter_mut().flatten().zip(other.iter().flatten()) {
            *total = total.add(*other);
        }
    }
    total
}

/// Adds the products of one place along the depth.
///
/// # Safety
/// `at` is below `depth`; `rows` has `ROWS` rows of this depth, and `panel` has the columns of that place.
#[inline(always)]
unsafe fn add_products<V: Simd, const ROWS: usize>(
    sums: &mut [[V; VECTORS]; ROWS],
    rows: &[f32],
    depth: usize,
    panel: &[f32],
    at: usize,
) {
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    // SAFETY: the caller's promise.
    unsafe {
        let weights = [V::load(panel.add(at * PANEL)), V::load(panel.add(at * PANEL + V::LANES))];
        for (row, sums) in sums.iter_mut().enumerate() {
            let number = V::splat(*rows.add(row * depth + at));
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = number.mul_add(weight, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Function;
    use crate::random::Random;

    #[test]
    fn several_threads_compute_the_same() {
        let mut random = Random::new(4);
        let (count, depth, width) = (61, 90, 130);
        let (rows, add) = (random.numbers(count * depth), random.numbers(count * width));
        let bias = random.numbers(width);
        let weights = random.numbers(depth * width);
        let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
        let after = After { add: Some(&add), then: &[Function::Relu], ..After::default() };
        let made = || {
            let mut made = vec![0.0; count * width];
            matrix.product(&rows, &mut made, &bias, after);
            made
        };
        let alone = made();
        // The rows of a tile may be others, but each sum has the same order.
        assert_eq!(alone, crew::with_help(2, made));
    }

    #[test]
    fn products_are_those_of_a_plain_loop() {
        let mut random = Random::new(1);
        for _ in 0..400 {
            let (count, depth, width) = (random.size(0, 40), random.size(0, 40), random.size(0, 130));
            let (rows, weights) = (random.numbers(count * depth), random.numbers(depth * width));
            let before = random.numbers(count * width);
            let (bias, factors) = (random.numbers(width), random.numbers(width));
            let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
            let scaled = matrix.scaled(&factors);
            let plain = |row: usize, column: usize| -> f32 {
                let product = |at: usize| rows[row * depth + at] * weights[at * width + column];
                (0..depth).map(product).sum()
            };
            let check = |level, found: &[f32], expected: &dyn Fn(usize, usize) -> f32| {
                for (at, found) in found.iter().enumerate() {
                    let expected = expected(at / width, at % width);
                    let name = format!("{level:?} {count}×{depth}×{width}");
                    assert!((found - expected).abs() < 1e-5, "{name}: {found} {expected}");
                }
            };
            for level in Level::all() {
                let mut to = before.clone();
                matrix.run(level, &rows, &mut to, Around::Sums);
                check(level, &to, &|row, column| before[row * width + column] + plain(row, column));
                let functions = [Function::LeakyRelu { slope: -0.5 }];
                let after = After { first: &functions, add: Some(&before), then: &[Function::Relu] };
                matrix.run(level, &rows, &mut to, Around::Layer { bias: &bias, after });
                check(level, &to, &|row, column| {
                    let sum = plain(row, column) + bias[column];
                    (if sum < 0.0 { -0.5 * sum } else { sum } + before[row * width + column]).max(0.0)
                });
                scaled.run(level, &rows, &mut to, Around::Layer { bias: &[], after: After::default() });
                check(level, &to, &|row, column| plain(row, column) * factors[column]);
            }
        }
    }

    /// Prints what a few shapes reach: `cargo test --release -p onnxd-kernels speed -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures"]
    fn speed() {
        let mut random = Random::new(1);
        for (count, depth, width) in [
            (1, 128, 512),
            (1, 784, 1024),
            (16, 384, 1536),
            (64, 384, 384),
            (64, 1536, 384),
            (64, 384, 1536),
            (256, 768, 768),
        ] {
            let (rows, weights) = (random.numbers(count * depth), random.numbers(depth * width));
            // As in a model: the matrix is not in the cache, unless a recurrent layer uses it again and again.
            let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
            let is_recurrent = width == 512;
            let matrices = vec![matrix; if is_recurrent { 1 } else { 20_000_000 / (depth * width) }];
            let mut to = vec![0.0; count * width];
            print!("{count} × {depth} × {width}:");
            for level in Level::all() {
                let mut best = f64::INFINITY;
                for _ in 0..if is_recurrent { 2000 } else { 10 } {
                    let start = std::time::Instant::now();
                    for matrix in &matrices {
                        let around = Around::Layer { bias: &[], after: After::default() };
                        matrix.run(level, &rows, &mut to, around);
                    }
                    best = best.min(start.elapsed().as_secs_f64() / matrices.len() as f64);
                }
                print!(" {level:?} {:.1} GFLOP/s", 2e-9 * (count * depth * width) as f64 / best);
            }
            println!();
        }
    }

    #[test]
    #[should_panic(expected = "the lengths do not fit")]
    fn rows_of_another_length_are_an_error() {
        Matrix::new(3, 2, |_, _| 1.0).add_product(&[1.0; 5], &mut [0.0; 4]);
    }
}
