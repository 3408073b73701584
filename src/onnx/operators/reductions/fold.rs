//! The loops of reductions: elements as outer × length × inner, reduced over the length.
//!
//! If the reduced axis is the last (`inner` is 1), 16 results are kept side by side and merged at the end. Otherwise a row
//! of results takes one row of elements after the other. Both loops run over slices. More than [`BLOCK`] steps are done in
//! two halves, so that the error of a sum in floating point grows only with the logarithm of its length.

use super::super::axes::Split;

/// The most steps of one result before it is merged.
const BLOCK: usize = 256;
/// Results side by side.
const LANES: usize = 16;

/// How elements are joined to one result.
#[derive(Debug, Clone, Copy)]
pub struct Fold<A, S, M> {
    /// The result of no elements.
    pub empty: A,
    /// A result with one element more.
    pub step: S,
    /// Two results as one.
    pub merge: M,
}

impl<A: Copy, S, M: Fn(A, A) -> A> Fold<A, S, M> {
    /// Reduces `elements`, and returns outer × inner results.
    pub fn over<T: Copy>(&self, elements: &[T], split: Split) -> Vec<A>
    where
        S: Fn(A, T) -> A,
    {
        if split.count() == 0 {
            return vec![self.empty; split.outer * split.inner];
        }
        if split.inner == 1 {
            return elements.chunks_exact(split.length).map(|row| self.row(row)).collect();
        }
        let planes = elements.chunks_exact(split.length * split.inner);
        planes.flat_map(|plane| self.rows(plane, split.inner)).collect()
    }

    /// Reduces a row to one result.
    fn row<T: Copy>(&self, row: &[T]) -> A
    where
        S: Fn(A, T) -> A,
    {
        if row.len() > BLOCK * LANES {
            let (a, b) = row.split_at((row.len() / 2).next_multiple_of(LANES));
            return (self.merge)(self.row(a), self.row(b));
        }
        let mut lanes = [self.empty; LANES];
        let mut chunks = row.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, element) in lanes.iter_mut().zip(chunk) {
                *lane = (self.step)(*lane, *element);
            }
        }
        for (lane, element) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = (self.step)(*lane, *element);
        }
        let used = row.len().min(LANES);
        lanes[..used].iter().copied().reduce(|a, b| (self.merge)(a, b)).unwrap_or(self.empty)
    }

    /// Reduces rows of `inner` elements to one row.
    fn rows<T: Copy>(&self, plane: &[T], inner: usize) -> Vec<A>
    where
        S: Fn(A, T) -> A,
    {
        let count = plane.len() / inner;
        if count > BLOCK {
            let (a, b) = plane.split_at(count / 2 * inner);
            let (mut a, b) = (self.rows(a, inner), self.rows(b, inner));
            a.iter_mut().zip(b).for_each(|(a, b)| *a = (self.merge)(*a, b));
            return a;
        }
        let mut results = vec![self.empty; inner];
        for row in plane.chunks_exact(inner) {
            for (result, element) in results.iter_mut().zip(row) {
                *result = (self.step)(*result, *element);
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_elements_are_counted_once_in_every_form() {
        for split in
            [(1, 1, 1), (3, 5, 1), (2, 17, 1), (1, 10_000, 1), (2, 3, 4), (3, 600, 2), (2, 0, 3), (0, 4, 2)]
        {
            let split = Split { outer: split.0, length: split.1, inner: split.2 };
            let elements: Vec<u64> = (0..split.count() as u64).collect();
            let sum = Fold { empty: 0, step: |sum: u64, one: u64| sum + one, merge: |a, b| a + b };
            let mut expected = vec![0; split.outer * split.inner];
            for (at, element) in elements.iter().enumerate() {
                let (outer, inner) = (at / (split.length * split.inner), at % split.inner);
                expected[outer * split.inner + inner] += element;
            }
            assert_eq!(sum.over(&elements, split), expected, "{split:?}");
        }
    }

    #[test]
    fn long_sums_stay_exact_enough() {
        let elements = vec![0.1_f32; 4_000_000];
        let sum = Fold { empty: 0.0, step: |sum: f32, one: f32| sum + one, merge: |a, b| a + b };
        for (length, inner) in [(4_000_000, 1), (2_000_000, 2)] {
            let result = sum.over(&elements, Split { outer: 1, length, inner })[0];
            assert!((f64::from(result) / (0.1 * length as f64) - 1.0).abs() < 1e-5, "{result}");
        }
    }
}
