//! The softmax of rows and of columns, and its logarithm.

use crate::functions::exp;
use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Softmax {
    /// e to the power of each number ÷ the sum of these powers.
    Plain,
    /// Its logarithm.
    Log,
}

/// Replaces a row by its softmax. A row with a NaN becomes NaN, and so does one whose largest number is infinite.
pub fn in_place(numbers: &mut [f32]) {
    in_place_at(Level::best(), numbers);
}

for_levels! {
    fn in_place_at(numbers: &mut [f32]) = in_place_in;
}

#[inline(always)]
fn in_place_in<V: Simd>(numbers: &mut [f32]) {
    row::<V>(Softmax::Plain, numbers);
}

/// The softmax of each column of each plane of `length` rows of `width` numbers. A column with a NaN becomes NaN, and so
/// does one whose largest number is infinite.
///
/// Panics: the lengths differ.
pub fn columns(kind: Softmax, from: &[f32], to: &mut [f32], length: usize, width: usize) {
    assert_eq!(from.len(), to.len(), "the lengths differ");
    columns_at(Level::best(), kind, from, to, length, width);
}

for_levels! {
    fn columns_at(kind: Softmax, from: &[f32], to: &mut [f32], length: usize, width: usize) = columns_in;
}

#[inline(always)]
fn columns_in<V: Simd>(kind: Softmax, from: &[f32], to: &mut [f32], length: usize, width: usize) {
    if length == 0 || width == 0 {
        return;
    }
    for (from, to) in from.chunks_exact(length * width).zip(to.chunks_exact_mut(length * width)) {
        if width == 1 {
            to.copy_from_slice(from);
            row::<V>(kind, to);
        } else {
            plane::<V>(kind, from, to, width);
        }
    }
}

/// The largest number of a row. NaN is left out: it makes the sum of powers NaN.
#[inline(always)]
fn largest<V: Simd>(row: &[f32]) -> f32 {
    let least = V::splat(f32::NEG_INFINITY);
    let (mut first, mut second) = (least, least);
    let mut pairs = row.chunks_exact(2 * V::LANES);
    for pair in &mut pairs {
        first = V::load_part(pair).max(first);
        second = V::load_part(&pair[V::LANES..]).max(second);
    }
    let mut most = f32::NEG_INFINITY;
    for number in first.max(second).numbers().iter().take(V::LANES).chain(pairs.remainder()) {
        most = if *number > most { *number } else { most };
    }
    most
}

#[inline(always)]
fn row<V: Simd>(kind: Softmax, numbers: &mut [f32]) {
    let shift = V::splat(largest::<V>(numbers));
    let mut sums = V::splat(0.0);
    let mut sum = 0.0;
    for some in numbers.chunks_mut(V::LANES) {
        let power = exp(V::load_part(some).sub(shift));
        if kind == Softmax::Plain {
            power.store_part(some);
        }
        if some.len() == V::LANES {
            sums = sums.add(power);
        } else {
            for number in power.numbers().iter().take(some.len()) {
                sum += number;
            }
        }
    }
    for number in sums.numbers().iter().take(V::LANES) {
        sum += number;
    }
    match kind {
        Softmax::Plain => {
            let factor = V::splat(1.0 / sum);
            for some in numbers.chunks_mut(V::LANES) {
                V::load_part(some).mul(factor).store_part(some);
            }
        }
        Softmax::Log => {
            let log = V::splat(sum.ln());
            for some in numbers.chunks_mut(V::LANES) {
                V::load_part(some).sub(shift).sub(log).store_part(some);
            }
        }
    }
}

/// A softmax goes down as many columns at once as a vector has lanes.
#[inline(always)]
fn plane<V: Simd>(kind: Softmax, from: &[f32], to: &mut [f32], width: usize) {
    let length = from.len() / width;
    for first in (0..width).step_by(V::LANES) {
        let count = V::LANES.min(width - first);
        let mut most = V::splat(f32::NEG_INFINITY);
        for row in 0..length {
            most = V::load_part(&from[row * width + first..][..count]).max(most);
        }
        let mut sums = V::splat(0.0);
        for row in 0..length {
            let at = row * width + first;
            let power = exp(V::load_part(&from[at..][..count]).sub(most));
            power.store_part(&mut to[at..][..count]);
            sums = sums.add(power);
        }
        match kind {
            Softmax::Plain => {
                let factors = V::splat(1.0).div(sums);
                for row in 0..length {
                    let to = &mut to[row * width + first..][..count];
                    V::load_part(to).mul(factors).store_part(to);
                }
            }
            Softmax::Log => {
                let mut logs = sums.numbers();
                for log in &mut logs {
                    *log = log.ln();
                }
                let logs = V::load_part(&logs);
                for row in 0..length {
                    let at = row * width + first;
                    let number = V::load_part(&from[at..][..count]).sub(most).sub(logs);
                    number.store_part(&mut to[at..][..count]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn rows_and_columns_are_those_of_the_formula() {
        let mut random = Random::new(7);
        for _ in 0..600 {
            let (outer, length) = (random.size(0, 3), random.size(1, 70));
            let width = if random.size(0, 1) == 0 { 1 } else { random.size(1, 40) };
            let from: Vec<f32> =
                random.numbers(outer * length * width).iter().map(|number| number * 30.0).collect();
            for kind in [Softmax::Plain, Softmax::Log] {
                let expected = |at: usize| {
                    let (plane, column) = (at / (length * width), at % width);
                    let number = |row: usize| f64::from(from[(plane * length + row) * width + column]);
                    let sum: f64 = (0..length).map(|row| (number(row) - f64::from(from[at])).exp()).sum();
                    if kind == Softmax::Plain { 1.0 / sum } else { -sum.ln() }
                };
                for level in Level::all() {
                    let mut to = vec![0.0; from.len()];
                    columns_at(level, kind, &from, &mut to, length, width);
                    if width == 1 && kind == Softmax::Plain {
                        let mut rows = from.clone();
                        rows.chunks_exact_mut(length).for_each(|row| in_place_at(level, row));
                        assert_eq!(rows, to, "{level:?}");
                    }
                    for (at, number) in to.iter().enumerate() {
                        let error = (f64::from(*number) - expected(at)).abs();
                        assert!(error < 2e-6 * expected(at).abs().max(1.0), "{level:?} {kind:?} {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_nan_makes_its_row_nan_and_no_other() {
        for level in Level::all() {
            for width in [1, 3] {
                let mut from = vec![1.0; 2 * 37 * width];
                from[20 * width] = f32::NAN;
                let mut to = vec![0.0; from.len()];
                columns_at(level, Softmax::Plain, &from, &mut to, 37, width);
                for (at, number) in to.iter().enumerate() {
                    let is_hit = at < 37 * width && at % width == 0;
                    assert_eq!(number.is_nan(), is_hit, "{level:?} {width} {at}");
                }
            }
        }
    }
}
