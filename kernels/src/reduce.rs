//! Many numbers become one: sums, sums of squares and of magnitudes, the largest and the smallest.
//!
//! The numbers are outer × length × inner, and are reduced over the length. A sum is computed in several parts, so that
//! its error grows slowly with its length.

use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    Sum,
    SumOfSquares,
    SumOfMagnitudes,
    /// NaN if one number is NaN. −∞ for no numbers.
    Largest,
    /// NaN if one number is NaN. ∞ for no numbers.
    Smallest,
}

/// The results side by side.
const LANES: usize = 32;
/// The most steps of one result before it is merged with others.
const BLOCK: usize = 256;

/// Reduces numbers, and returns outer × inner results.
///
/// Panics: the numbers are not outer × length × inner.
pub fn reduce(reduction: Reduction, numbers: &[f32], outer: usize, length: usize, inner: usize) -> Vec<f32> {
    assert_eq!(numbers.len(), outer * length * inner, "the lengths do not fit");
    let mut results = vec![0.0; outer * inner];
    reduce_at(Level::best(), reduction, numbers, &mut results, length, inner);
    results
}

/// The sum of many numbers.
pub fn sum(numbers: &[f32]) -> f32 {
    one(Reduction::Sum, numbers)
}

/// The sum of the squares of many numbers.
pub fn sum_of_squares(numbers: &[f32]) -> f32 {
    one(Reduction::SumOfSquares, numbers)
}

/// The largest of many numbers: NaN if one of them is NaN, −∞ for none.
pub fn largest(numbers: &[f32]) -> f32 {
    one(Reduction::Largest, numbers)
}

fn one(reduction: Reduction, numbers: &[f32]) -> f32 {
    let mut result = [0.0];
    reduce_at(Level::best(), reduction, numbers, &mut result, numbers.len(), 1);
    result[0]
}

for_levels! {
    fn reduce_at(reduction: Reduction, numbers: &[f32], results: &mut [f32], length: usize, inner: usize) = reduce_in;
}

#[inline(always)]
fn reduce_in<V: Simd>(
    reduction: Reduction,
    numbers: &[f32],
    results: &mut [f32],
    length: usize,
    inner: usize,
) {
    match reduction {
        Reduction::Sum => over::<Sum>(numbers, results, length, inner),
        Reduction::SumOfSquares => over::<SumOfSquares>(numbers, results, length, inner),
        Reduction::SumOfMagnitudes => over::<SumOfMagnitudes>(numbers, results, length, inner),
        Reduction::Largest => over::<Largest>(numbers, results, length, inner),
        Reduction::Smallest => over::<Smallest>(numbers, results, length, inner),
    }
}

/// A reduction, as functions that the compiler puts into loops over vectors.
trait Steps {
    const EMPTY: f32;
    fn step(result: f32, number: f32) -> f32;
    fn merge(result: f32, other: f32) -> f32;
}

macro_rules! steps {
    ($name:ident: $empty:expr, ($result:ident, $number:ident) => $step:expr, $merge:expr) => {
        struct $name;
        impl Steps for $name {
            const EMPTY: f32 = $empty;
            #[inline(always)]
            fn step($result: f32, $number: f32) -> f32 {
                $step
            }
            #[inline(always)]
            fn merge($result: f32, $number: f32) -> f32 {
                $merge
            }
        }
    };
}

steps!(Sum: 0.0, (a, b) => a + b, a + b);
steps!(SumOfSquares: 0.0, (a, b) => a + b * b, a + b);
steps!(SumOfMagnitudes: 0.0, (a, b) => a + b.abs(), a + b);
steps!(Largest: f32::NEG_INFINITY, (a, b) => larger(a, b), larger(a, b));
steps!(Smallest: f32::INFINITY, (a, b) => smaller(a, b), smaller(a, b));

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if b < a || b.is_nan() { b } else { a }
}

#[inline(always)]
fn over<S: Steps>(numbers: &[f32], results: &mut [f32], length: usize, inner: usize) {
    if length == 0 || inner == 0 {
        results.fill(S::EMPTY);
    } else if inner == 1 {
        for (row, result) in numbers.chunks_exact(length).zip(results) {
            *result = of_row::<S>(row);
        }
    } else {
        for (plane, results) in numbers.chunks_exact(length * inner).zip(results.chunks_exact_mut(inner)) {
            of_plane::<S>(plane, results);
        }
    }
}

#[inline(always)]
fn of_row<S: Steps>(row: &[f32]) -> f32 {
    if row.len() <= BLOCK * LANES {
        return of_block::<S>(row);
    }
    let mut merged = Vec::new();
    for (number, block) in row.chunks(BLOCK * LANES).enumerate() {
        let mut result = of_block::<S>(block);
        for _ in 0..number.trailing_ones() {
            result = S::merge(merged.pop().unwrap_or(S::EMPTY), result);
        }
        merged.push(result);
    }
    let mut all = S::EMPTY;
    for result in merged.iter().rev() {
        all = S::merge(*result, all);
    }
    all
}

#[inline(always)]
fn of_block<S: Steps>(block: &[f32]) -> f32 {
    let mut lanes = [S::EMPTY; LANES];
    let mut chunks = block.chunks_exact(LANES);
    for chunk in &mut chunks {
        for at in 0..LANES {
            lanes[at] = S::step(lanes[at], chunk[at]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = S::step(*lane, *number);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for at in 0..half {
            lanes[at] = S::merge(lanes[at], lanes[at + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Reduces the rows of a plane to one row.
#[inline(always)]
fn of_plane<S: Steps>(plane: &[f32], results: &mut [f32]) {
    let inner = results.len();
    results.fill(S::EMPTY);
    if plane.len() <= BLOCK * inner {
        add_rows::<S>(plane, results);
        return;
    }
    // Two results of as many blocks are merged at once, as in a binary counter: so a number is part of few sums.
    let mut merged: Vec<Vec<f32>> = Vec::new();
    for (number, block) in plane.chunks(BLOCK * inner).enumerate() {
        let mut some = vec![S::EMPTY; inner];
        add_rows::<S>(block, &mut some);
        for _ in 0..number.trailing_ones() {
            merge_rows::<S>(&mut some, &merged.pop().unwrap_or_default());
        }
        merged.push(some);
    }
    for some in merged.iter().rev() {
        merge_rows::<S>(results, some);
    }
}

#[inline(always)]
fn merge_rows<S: Steps>(results: &mut [f32], others: &[f32]) {
    for (result, other) in results.iter_mut().zip(others) {
        *result = S::merge(*result, *other);
    }
}

#[inline(always)]
fn add_rows<S: Steps>(rows: &[f32], results: &mut [f32]) {
    for row in rows.chunks_exact(results.len()) {
        for (result, number) in results.iter_mut().zip(row) {
            *result = S::step(*result, *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const ALL: [Reduction; 5] = [
        Reduction::Sum,
        Reduction::SumOfSquares,
        Reduction::SumOfMagnitudes,
        Reduction::Largest,
        Reduction::Smallest,
    ];

    #[test]
    fn results_are_those_of_plain_loops() {
        let mut random = Random::new(11);
        for round in 0..300 {
            let (outer, inner) = (random.size(0, 3), if round % 2 == 0 { 1 } else { random.size(0, 70) });
            let length = if round % 10 == 0 { random.size(0, 9000) } else { random.size(0, 300) };
            let numbers = random.numbers(outer * length * inner);
            for reduction in ALL {
                for level in Level::all() {
                    let mut results = vec![0.0; outer * inner];
                    reduce_at(level, reduction, &numbers, &mut results, length, inner);
                    for (at, result) in results.iter().enumerate() {
                        let (plane, column) = (at / inner, at % inner);
                        let number = |row: usize| f64::from(numbers[(plane * length + row) * inner + column]);
                        let numbers = (0..length).map(number);
                        let expected = match reduction {
                            Reduction::Sum => numbers.sum(),
                            Reduction::SumOfSquares => numbers.map(|x| x * x).sum(),
                            Reduction::SumOfMagnitudes => numbers.map(f64::abs).sum(),
                            Reduction::Largest => numbers.fold(f64::NEG_INFINITY, f64::max),
                            Reduction::Smallest => numbers.fold(f64::INFINITY, f64::min),
                        };
                        let is_near = (f64::from(*result) - expected).abs() < 1e-6 * (length as f64 + 1.0);
                        let is_same = f64::from(*result) == expected;
                        assert!(is_near || is_same, "{level:?} {reduction:?} {result} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_nan_anywhere_is_the_largest_and_the_smallest() {
        for level in Level::all() {
            for inner in [1, 5] {
                for at in 0..100 {
                    let mut numbers = vec![1.0; 100 * inner];
                    numbers[at * inner] = f32::NAN;
                    for reduction in [Reduction::Largest, Reduction::Smallest] {
                        let mut results = vec![0.0; inner];
                        reduce_at(level, reduction, &numbers, &mut results, 100, inner);
                        assert!(results[0].is_nan() && results[1..].iter().all(|result| *result == 1.0));
                    }
                }
            }
        }
    }

    #[test]
    fn long_sums_stay_exact_enough() {
        let numbers = vec![0.1; 4_000_000];
        for (length, inner) in [(4_000_000, 1), (2_000_000, 2)] {
            let result = reduce(Reduction::Sum, &numbers, 1, length, inner)[0];
            assert!((f64::from(result) / (0.1 * length as f64) - 1.0).abs() < 2e-5, "{result}");
        }
    }
}
