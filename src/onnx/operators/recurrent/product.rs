//! Matrix products for recurrent operators: a few rows with a matrix of weights that is used again and again.

use onnxd_kernels::product;

use super::super::floats::Real;

/// A type in which recurrent operators compute.
pub trait Recurring: Real {
    /// A matrix of weights, in the form in which it is multiplied.
    type Matrix: std::fmt::Debug + Send + Sync;

    /// Packs a matrix `[depth, width]` whose element `[row, column]` is `element(row, column)`.
    fn pack(depth: usize, width: usize, element: impl Fn(usize, usize) -> Self) -> Self::Matrix;

    /// Adds `rows` · `matrix` to `sums`. `rows` is `[n, depth]`, `sums` `[n, width]`, both row-major.
    fn add_product(rows: &[Self], matrix: &Self::Matrix, sums: &mut [Self]);
}

impl Recurring for f32 {
    type Matrix = product::Matrix;

    fn pack(depth: usize, width: usize, element: impl Fn(usize, usize) -> f32) -> product::Matrix {
        product::Matrix::new(depth, width, element)
    }

    fn add_product(rows: &[f32], matrix: &product::Matrix, sums: &mut [f32]) {
        matrix.add_product(rows, sums);
    }
}

/// A row-major matrix, for FP64, which is rare: a plain loop.
#[derive(Debug)]
pub struct Plain {
    width: usize,
    elements: Vec<f64>,
}

impl Recurring for f64 {
    type Matrix = Plain;

    fn pack(depth: usize, width: usize, element: impl Fn(usize, usize) -> f64) -> Plain {
        let row = |row: usize| (0..width).map(move |column| (row, column));
        let elements = (0..depth).flat_map(row).map(|(row, column)| element(row, column)).collect();
        Plain { width, elements }
    }

    fn add_product(rows: &[f64], matrix: &Plain, sums: &mut [f64]) {
        let Plain { width, elements } = matrix;
        if elements.is_empty() {
            return;
        }
        let depth = elements.len() / width;
        for (row, sums) in rows.chunks_exact(depth).zip(sums.chunks_exact_mut(*width)) {
            for (number, weights) in row.iter().zip(elements.chunks_exact(*width)) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += weight * number;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_types_have_the_same_products() {
        for (depth, width) in [(0, 3), (1, 1), (3, 0), (5, 7), (8, 70)] {
            let weight = |row: usize, column: usize| ((row * 7 + column * 5) % 11) as f64 - 5.0;
            let rows: Vec<f64> = (0..2 * depth).map(|at| (at * 5 % 7) as f64 - 3.0).collect();
            let mut sums = vec![1.0; 2 * width];
            f64::add_product(&rows, &f64::pack(depth, width, weight), &mut sums);
            let single: Vec<f32> = rows.iter().map(|number| *number as f32).collect();
            let mut singles = vec![1.0; 2 * width];
            let matrix = f32::pack(depth, width, |row, column| weight(row, column) as f32);
            f32::add_product(&single, &matrix, &mut singles);
            assert_eq!(sums, singles.iter().map(|sum| f64::from(*sum)).collect::<Vec<f64>>());
        }
    }
}
