//! Products at every level of the machine against plain loops.

use super::*;
use crate::random::Random;

/// The products by plain loops.
fn plain(rows: &[i16], weights: &[i16], depth: usize, width: usize) -> Vec<i32> {
    let sum = |row: usize, column: usize| {
        let product = |at: usize| i32::from(rows[row * depth + at]) * i32::from(weights[at * width + column]);
        (0..depth).map(product).fold(0_i32, i32::wrapping_add)
    };
    let count = rows.len().checked_div(depth).unwrap_or(0);
    (0..count * width).map(|at| sum(at / width, at % width)).collect()
}

#[test]
fn products_are_exact() {
    let mut random = Random::new(13);
    for turn in 0..400 {
        let (count, depth, width) = (random.size(0, 9), random.size(0, 70), random.size(0, 150));
        // Also the largest distances of 8-bit numbers, and numbers whose sums wrap.
        let most = [255, 300, 32767][turn % 3];
        let mut numbers = |count: usize| -> Vec<i16> {
            (0..count).map(|_| (random.size(0, 2 * most) as i32 - most as i32) as i16).collect()
        };
        let (rows, weights) = (numbers(count * depth), numbers(depth * width));
        let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
        let expected = plain(&rows, &weights, depth, width);
        for level in Level::all() {
            assert_eq!(matrix.product_at(level, &rows), expected, "{level:?} {count}×{depth}×{width}");
        }
    }
}

#[test]
fn products_of_bytes_are_exact_with_every_zero_point() {
    let mut random = Random::new(14);
    for turn in 0..400 {
        let (count, depth, width) = (random.size(0, 9), random.size(0, 70), random.size(0, 150));
        // Weights that fit into 8 bits with a sign, and such that do not.
        let most = [127, 128, 255][turn % 3];
        let weights: Vec<i16> =
            (0..depth * width).map(|_| (random.size(0, 255) as i32 - most) as i16).collect();
        let zeros: Vec<i32> = (0..count).map(|_| random.size(0, 255) as i32).collect();
        let row = |row: usize, random: &mut Random| -> Vec<i16> {
            (0..depth).map(|_| (random.size(0, 255) as i32 - zeros[row]) as i16).collect()
        };
        let rows: Vec<i16> = (0..count).flat_map(|at| row(at, &mut random)).collect();
        let matrix = Matrix::for_bytes(depth, width, |row, column| weights[row * width + column]);
        let expected = plain(&rows, &weights, depth, width);
        for level in Level::all() {
            assert_eq!(matrix.product_at(level, &rows), expected, "{level:?} {count}×{depth}×{width}");
        }
    }
}

#[test]
fn several_threads_compute_the_same() {
    let mut random = Random::new(16);
    let (count, depth, width) = (50, 120, 130);
    let mut numbers =
        |count: usize| -> Vec<i16> { (0..count).map(|_| random.size(0, 255) as i16 - 128).collect() };
    let (rows, weights) = (numbers(count * depth), numbers(depth * width));
    let expected = plain(&rows, &weights, depth, width);
    let element = |row: usize, column: usize| weights[row * width + column];
    for matrix in [Matrix::new(depth, width, element), Matrix::for_bytes(depth, width, element)] {
        assert_eq!(crew::with_help(2, || matrix.product(&rows)), expected);
    }
}
