//! Products of rows with a matrix that is used again and again, such as the weights of a layer.
//!
//! The matrix is kept in panels: each has a few columns of all its rows. So a tile of the result reads one panel from its
//! beginning to its end, and keeps its sums in registers.

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

    /// Adds `rows` · this matrix to `sums`: `rows` is `[n, depth]`, `sums` `[n, width]`, both row-major.
    ///
    /// Panics: the lengths do not fit.
    pub fn add_product(&self, rows: &[f32], sums: &mut [f32]) {
        self.add_product_at(Level::best(), rows, sums);
    }

    fn add_product_at(&self, level: Level, rows: &[f32], sums: &mut [f32]) {
        if self.depth == 0 || self.width == 0 {
            return;
        }
        let count = sums.len() / self.width;
        assert_eq!(
            (rows.len(), sums.len()),
            (count * self.depth, count * self.width),
            "the lengths do not fit"
        );
        add_product(level, self, rows, sums);
    }
}

for_levels! {
    fn add_product(matrix: &Matrix, rows: &[f32], sums: &mut [f32]) = add_product_in;
}

#[inline(always)]
fn add_product_in<V: Simd>(matrix: &Matrix, rows: &[f32], sums: &mut [f32]) {
    let (depth, width) = (matrix.depth, matrix.width);
    for (at, panel) in matrix.panels.chunks_exact(depth * PANEL).enumerate() {
        let first = at * PANEL;
        let columns = PANEL.min(width - first);
        let mut rows = rows;
        let mut sums = &mut sums[..];
        while sums.len() >= 6 * width {
            let (some, others) = sums.split_at_mut(6 * width);
            tiles::<V, 6>(rows, panel, some, width, first, columns);
            (rows, sums) = (&rows[6 * depth..], others);
        }
        while !sums.is_empty() {
            let (some, others) = sums.split_at_mut(width);
            tiles::<V, 1>(rows, panel, some, width, first, columns);
            (rows, sums) = (&rows[depth..], others);
        }
    }
}

/// The tiles of one panel for `ROWS` rows.
#[inline(always)]
fn tiles<V: Simd, const ROWS: usize>(
    rows: &[f32],
    panel: &[f32],
    sums: &mut [f32],
    width: usize,
    first: usize,
    columns: usize,
) {
    // As many sums as there are registers, less those for the numbers that are multiplied.
    if V::REGISTERS == 32 || ROWS == 1 {
        tiles_of::<V, ROWS, 4>(rows, panel, sums, width, first, columns);
    } else {
        tiles_of::<V, ROWS, 2>(rows, panel, sums, width, first, columns);
    }
}

#[inline(always)]
fn tiles_of<V: Simd, const ROWS: usize, const VECTORS: usize>(
    rows: &[f32],
    panel: &[f32],
    sums: &mut [f32],
    width: usize,
    first: usize,
    columns: usize,
) {
    let depth = rows.len().min(panel.len() / PANEL * ROWS) / ROWS;
    for start in (0..columns).step_by(VECTORS * V::LANES) {
        let tile = tile::<V, ROWS, VECTORS>(rows, depth, &panel[start..]);
        for (row, tile) in tile.iter().enumerate() {
            let row = &mut sums[row * width + first..][start..columns];
            for (to, vector) in row.chunks_mut(V::LANES).zip(tile) {
                V::load_part(to).add(*vector).store_part(to);
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
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for at in 0..depth {
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
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_a_plain_loop() {
        let mut random = Random::new(1);
        for _ in 0..400 {
            let (count, depth, width) = (random.size(0, 15), random.size(0, 40), random.size(0, 200));
            let (rows, weights) = (random.numbers(count * depth), random.numbers(depth * width));
            let before = random.numbers(count * width);
            let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
            for level in Level::all() {
                let mut sums = before.clone();
                matrix.add_product_at(level, &rows, &mut sums);
                for row in 0..count {
                    for column in 0..width {
                        let product = |at: usize| rows[row * depth + at] * weights[at * width + column];
                        let plain = before[row * width + column] + (0..depth).map(product).sum::<f32>();
                        let found = sums[row * width + column];
                        assert!(
                            (found - plain).abs() < 1e-5,
                            "{level:?} {count}×{depth}×{width}: {found} {plain}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the lengths do not fit")]
    fn rows_of_another_length_are_an_error() {
        Matrix::new(3, 2, |_, _| 1.0).add_product(&[1.0; 5], &mut [0.0; 4]);
    }
}
