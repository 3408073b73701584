//! Products of rows with a matrix that is used again and again, such as the weights of a layer.
//!
//! The matrix is kept in panels: each has a few columns of all its rows. So a tile of the result reads one panel from its
//! beginning to its end, and keeps its sums in registers.

use super::after::{After, finish};
use super::level::{Level, for_levels};
use super::simd::Simd;

/// The columns of a panel: four vectors of AVX-512. A panel of a usual depth stays in the cache for all rows.
const PANEL: usize = 64;

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
        run(level, self, rows, to, around);
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

/// The rows of a tile. Its sums and the numbers that are multiplied fit into 32 registers with four vectors of columns, and
/// into 16 with two.
const ROWS: usize = 6;

#[inline(always)]
fn run_in<V: Simd>(matrix: &Matrix, rows: &[f32], to: &mut [f32], around: Around) {
    let (depth, width) = (matrix.depth, matrix.width);
    let count = to.len() / width;
    for first in (0..width).step_by(PANEL) {
        let panel = &matrix.panels[first * depth..][..depth * PANEL];
        for row in (0..count).step_by(ROWS) {
            let end = count.min(row + ROWS);
            let part = Part {
                rows: &rows[row * depth..end * depth],
                depth,
                panel,
                width,
                first,
                columns: PANEL.min(width - first),
                place: row * width,
            };
            match end - row {
                1 => part.tiles::<V, 1>(to, around),
                2 => part.tiles::<V, 2>(to, around),
                3 => part.tiles::<V, 3>(to, around),
                4 => part.tiles::<V, 4>(to, around),
                5 => part.tiles::<V, 5>(to, around),
                _ => part.tiles::<V, ROWS>(to, around),
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
}

impl Part<'_> {
    #[inline(always)]
    fn tiles<V: Simd, const ROWS: usize>(&self, to: &mut [f32], around: Around) {
        // As many sums as there are registers, less those for the numbers that are multiplied.
        if V::REGISTERS == 32 || ROWS <= 2 {
            self.tiles_of::<V, ROWS, 4>(to, around);
        } else {
            self.tiles_of::<V, ROWS, 2>(to, around);
        }
    }

    #[inline(always)]
    fn tiles_of<V: Simd, const ROWS: usize, const VECTORS: usize>(&self, to: &mut [f32], around: Around) {
        for start in (0..self.columns).step_by(VECTORS * V::LANES) {
            let tile =
                tile::<V, ROWS, VECTORS>(self.rows, self.depth, self.panel.get(start..).unwrap_or_default());
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
                    Around::Layer { bias: [], after } => {
                        for (to, vector) in to.chunks_mut(V::LANES).zip(tile) {
                            vector.store_part(to);
                        }
                        finish::<V>(&after, place, to);
                    }
                    Around::Layer { bias, after } => {
                        let bias = &bias[self.first + start..self.first + end];
                        let parts = to.chunks_mut(V::LANES).zip(bias.chunks(V::LANES));
                        for ((to, bias), vector) in parts.zip(tile) {
                            vector.add(V::load_part(bias)).store_part(to);
                        }
                        finish::<V>(&after, place, to);
                    }
                }
            }
        }
    }
}

/// The products of `ROWS` rows with `VECTORS` vectors of columns. `panel` begins at the first of these columns.
#[inline(always)]
fn tile<V: Simd, const ROWS: usize, const VECTORS: usize>(
    rows: &[f32],
    depth: usize,
    panel: &[f32],
) -> [[V; VECTORS]; ROWS] {
    assert!(rows.len() >= ROWS * depth && panel.len() + PANEL > depth * PANEL + VECTORS * V::LANES - 1);
    // Each sum waits for the one before. A single row has too few of them to keep the processor busy, so it sums numbers at
    // even and at odd places apart.
    let apart = if ROWS == 1 { 2 } else { 1 };
    let mut sums = [[[V::splat(0.0); VECTORS]; ROWS]; 2];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for begin in (0..depth).step_by(apart) {
        for (half, sums) in sums.iter_mut().enumerate().take(apart) {
            let at = begin + half;
            if at == depth {
                break;
            }
            // SAFETY: `at` is below `depth`, so by the assertion all these numbers are in the slices.
            unsafe {
                let mut weights = [V::splat(0.0); VECTORS];
                for (vector, weight) in weights.iter_mut().enumerate() {
                    *weight = V::load(panel.add(at * PANEL + vector * V::LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let number = V::splat(*rows.add(row * depth + at));
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = number.mul_add(weight, *sum);
                    }
                }
            }
        }
    }
    let [mut even, odd] = sums;
    if apart == 2 {
        for (even, odd) in even.iter_mut().flatten().zip(odd.iter().flatten()) {
            *even = even.add(*odd);
        }
    }
    even
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Function;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_a_plain_loop() {
        let mut random = Random::new(1);
        for _ in 0..400 {
            let (count, depth, width) = (random.size(0, 15), random.size(0, 40), random.size(0, 200));
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

    #[test]
    #[should_panic(expected = "the lengths do not fit")]
    fn rows_of_another_length_are_an_error() {
        Matrix::new(3, 2, |_, _| 1.0).add_product(&[1.0; 5], &mut [0.0; 4]);
    }
}
