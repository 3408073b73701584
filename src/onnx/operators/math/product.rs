//! The product of matrices, for every datatype. FP32 products of the usual form are tract's; this is for the rest.

use super::super::numbers::Number;

/// Rows of the second factor that are used while they are in the cache.
const BLOCK: usize = 64;

/// Adds the product of `a` (rows × depth) and `b` (depth × columns) to `to` (rows × columns).
pub fn add_product<T: Number>(a: &[T], b: &[T], to: &mut [T], depth: usize, columns: usize) {
    if depth == 0 || columns == 0 {
        return;
    }
    if columns == 1 {
        for (to, row) in to.iter_mut().zip(a.chunks_exact(depth)) {
            *to = to.plus(dot(row, b));
        }
        return;
    }
    for begin in (0..depth).step_by(BLOCK) {
        let end = (begin + BLOCK).min(depth);
        for (to, row) in to.chunks_exact_mut(columns).zip(a.chunks_exact(depth)) {
            for (factor, line) in row[begin..end].iter().zip(b[begin * columns..].chunks_exact(columns)) {
                to.iter_mut().zip(line).for_each(|(to, b)| *to = to.plus(factor.times(*b)));
            }
        }
    }
}

/// The scalar product of two vectors of the same length.
fn dot<T: Number>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = lane.plus(a.times(*b));
        }
    }
    lanes.into_iter().fold(T::ZERO, T::plus)
}
