//! Arithmetic of rows of numbers.

use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// Replaces each number x by (x − `mean`) · `factor`.
pub fn normalize(row: &mut [f32], mean: f32, factor: f32) {
    normalize_at(Level::best(), row, mean, factor);
}

for_levels! {
    fn normalize_at(row: &mut [f32], mean: f32, factor: f32) = normalize_in;
}

#[inline(always)]
fn normalize_in<V: Simd>(row: &mut [f32], mean: f32, factor: f32) {
    for number in row {
        *number = (*number - mean) * factor;
    }
}

/// Multiplies each number with its factor. There is one factor for each number, or a list of them is used again and again.
pub fn scale(row: &mut [f32], factors: &[f32]) {
    scale_at(Level::best(), row, factors);
}

for_levels! {
    fn scale_at(row: &mut [f32], factors: &[f32]) = scale_in;
}

#[inline(always)]
fn scale_in<V: Simd>(row: &mut [f32], factors: &[f32]) {
    if let [factor] = factors {
        for number in row {
            *number *= factor;
        }
        return;
    }
    for some in row.chunks_mut(factors.len().max(1)) {
        for (number, factor) in some.iter_mut().zip(factors) {
            *number *= factor;
        }
    }
}

/// Adds its term to each number. There is one term for each number, or a list of them is used again and again.
pub fn shift(row: &mut [f32], terms: &[f32]) {
    shift_at(Level::best(), row, terms);
}

for_levels! {
    fn shift_at(row: &mut [f32], terms: &[f32]) = shift_in;
}

#[inline(always)]
fn shift_in<V: Simd>(row: &mut [f32], terms: &[f32]) {
    if let [term] = terms {
        for number in row {
            *number += term;
        }
        return;
    }
    for some in row.chunks_mut(terms.len().max(1)) {
        for (number, term) in some.iter_mut().zip(terms) {
            *number += term;
        }
    }
}

/// Divides numbers by others. Each of both is one number for all of `to`, or has one for each.
///
/// Panics: the lengths do not fit.
pub fn divide(numbers: &[f32], divisors: &[f32], to: &mut [f32]) {
    divide_at(Level::best(), numbers, divisors, to);
}

for_levels! {
    fn divide_at(numbers: &[f32], divisors: &[f32], to: &mut [f32]) = divide_in;
}

#[inline(always)]
fn divide_in<V: Simd>(numbers: &[f32], divisors: &[f32], to: &mut [f32]) {
    let fits = |row: &[f32]| row.len() == 1 || row.len() == to.len();
    assert!(fits(numbers) && fits(divisors), "the lengths do not fit");
    match (numbers, divisors) {
        (_, [divisor]) if numbers.len() == to.len() => {
            to.iter_mut().zip(numbers).for_each(|(to, number)| *to = number / divisor);
        }
        ([number], _) if divisors.len() == to.len() => {
            to.iter_mut().zip(divisors).for_each(|(to, divisor)| *to = number / divisor);
        }
        ([number], [divisor]) => to.fill(number / divisor),
        _ => {
            let both = numbers.iter().zip(divisors);
            to.iter_mut().zip(both).for_each(|(to, (number, divisor))| *to = number / divisor);
        }
    }
}

/// Puts `count` rows, which begin `distance` numbers apart, between each other: first the first number of each, then the second
/// number of each.
///
/// Panics: `from` has not these rows.
pub fn interleave(from: &[f32], distance: usize, count: usize, to: &mut [f32]) {
    interleave_at(Level::best(), from, distance, count, to);
}

for_levels! {
    fn interleave_at(from: &[f32], distance: usize, count: usize, to: &mut [f32]) = interleave_in;
}

#[inline(always)]
fn interleave_in<V: Simd>(from: &[f32], distance: usize, count: usize, to: &mut [f32]) {
    let length = to.len() / count;
    if length == 0 {
        return;
    }
    if count == 2 {
        // With pairs, the compiler makes code for vectors.
        let (first, second) = (&from[..length], &from[distance..][..length]);
        let pairs = to.as_chunks_mut::<2>().0.iter_mut();
        pairs.zip(first.iter().zip(second)).for_each(|(pair, (first, second))| *pair = [*first, *second]);
        return;
    }
    for row in 0..count {
        let numbers = &from[row * distance..][..length];
        to[row..].iter_mut().step_by(count).zip(numbers).for_each(|(to, number)| *to = *number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn rows_of_every_length_are_those_of_plain_arithmetic() {
        let mut random = Random::new(31);
        for count in 0..80 {
            let row = random.numbers(count);
            for others in [0, 1, 3, count] {
                let others = random.numbers(others);
                for level in Level::all() {
                    let (mut scaled, mut shifted, mut normal) = (row.clone(), row.clone(), row.clone());
                    scale_at(level, &mut scaled, &others);
                    shift_at(level, &mut shifted, &others);
                    normalize_at(level, &mut normal, 0.5, 3.0);
                    for (at, number) in row.iter().enumerate() {
                        let other = others.get(at % others.len().max(1));
                        assert_eq!(scaled[at], number * other.unwrap_or(&1.0), "{level:?}");
                        assert_eq!(shifted[at], number + other.unwrap_or(&0.0), "{level:?}");
                        assert_eq!(normal[at], (number - 0.5) * 3.0, "{level:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn quotients_and_rows_between_each_other() {
        let mut random = Random::new(53);
        for count in 0..80 {
            let (numbers, divisors) = (random.numbers(count), random.numbers(count));
            for level in Level::all() {
                for (a, b) in
                    [(&numbers[..], &divisors[..]), (&[3.0], &divisors), (&numbers, &[7.0]), (&[3.0], &[7.0])]
                {
                    let mut to = vec![0.0; count];
                    divide_at(level, a, b, &mut to);
                    let pick = |all: &[f32], at: usize| all[if all.len() == 1 { 0 } else { at }];
                    for (at, to) in to.iter().enumerate() {
                        assert_eq!(*to, pick(a, at) / pick(b, at), "{level:?}");
                    }
                }
                for rows in 1..5 {
                    let from = random.numbers(rows * (count + 3));
                    let mut to = vec![0.0; rows * count];
                    interleave_at(level, &from, count + 3, rows, &mut to);
                    for (at, to) in to.iter().enumerate() {
                        assert_eq!(*to, from[at % rows * (count + 3) + at / rows], "{level:?}");
                    }
                }
            }
        }
    }
}
