//! Matrix products for recurrent operators: a few rows with a matrix of weights that is used again and again.

use super::super::floats::Real;

/// Adds `rows` · `weights` to `sums`. `rows` is `[n, depth]`, `weights` `[depth, width]`, `sums` `[n, width]`, all row-major.
pub fn add_product<T: Real>(rows: &[T], depth: usize, weights: &[T], width: usize, sums: &mut [T]) {
    if depth == 0 || width == 0 {
        return;
    }
    for (row, sums) in rows.chunks_exact(depth).zip(sums.chunks_exact_mut(width)) {
        add_row(row, weights, sums);
    }
}

/// Four rows of the weights at once, so that each sum is loaded and stored a quarter as often.
fn add_row<T: Real>(row: &[T], weights: &[T], sums: &mut [T]) {
    let width = sums.len();
    let (fours, rest) = row.as_chunks::<4>();
    let (blocks, last) = weights.split_at(fours.len() * 4 * width);
    for ([a, b, c, d], block) in fours.iter().copied().zip(blocks.chunks_exact(4 * width)) {
        let (first, second) = block.split_at(2 * width);
        let (wa, wb) = first.split_at(width);
        let (wc, wd) = second.split_at(width);
        for ((((sum, wa), wb), wc), wd) in sums.iter_mut().zip(wa).zip(wb).zip(wc).zip(wd) {
            *sum += *wa * a + *wb * b + (*wc * c + *wd * d);
        }
    }
    for (value, weights) in rest.iter().copied().zip(last.chunks_exact(width)) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += *weight * value;
        }
    }
}

/// A matrix `[height, width]` with its axes exchanged: `[width, height]`.
pub fn transposed<T: Real>(matrix: &[T], height: usize, width: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(matrix.len());
    for column in 0..width {
        result.extend((0..height).map(|row| matrix[row * width + column]));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_a_plain_loop_for_every_depth() {
        for depth in 0..10 {
            for width in [1, 3, 8, 17] {
                let weights: Vec<f64> = (0..depth * width).map(|at| (at * 7 % 11) as f64 - 5.0).collect();
                let rows: Vec<f64> = (0..2 * depth).map(|at| (at * 5 % 7) as f64 - 3.0).collect();
                let mut sums = vec![1.0; 2 * width];
                add_product(&rows, depth, &weights, width, &mut sums);
                for row in 0..2 {
                    for column in 0..width {
                        let plain: f64 =
                            (0..depth).map(|at| rows[row * depth + at] * weights[at * width + column]).sum();
                        assert_eq!(sums[row * width + column], 1.0 + plain);
                    }
                }
            }
        }
    }

    #[test]
    fn a_transposed_matrix_has_its_axes_exchanged() {
        assert_eq!(transposed(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
