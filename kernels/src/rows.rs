//! Arithmetic of a row of numbers in place.

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
}
