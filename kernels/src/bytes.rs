//! Arithmetic of two rows of 8-bit integers with one scale each, and functions of one such integer.

use crate::level::{Level, for_levels};
use crate::quantize::{Stored, nearest};
use crate::simd::Simd;

/// What two integers a and b become, before it is rounded to the nearest integer, a half to the even one.
#[derive(Debug, Clone, Copy)]
pub enum Join {
    /// a · `a` + (b · `b` + `offset`).
    Sum { a: f32, b: f32, offset: f32 },
    /// (a − `zeros.0`) · (b − `zeros.1`) · `factor` + `offset`.
    Product { zeros: (i32, i32), factor: f32, offset: f32 },
}

/// An integer of 8 bits.
pub trait Byte: Stored {
    const RANGE: (i32, i32);

    /// Joins two rows. Each of them has one integer for all of `to`, or one for each.
    ///
    /// Panics: the lengths do not fit.
    fn join(join: Join, a: &[Self], b: &[Self], to: &mut [Self]);

    /// Looks up each integer in a table that begins with the least one.
    ///
    /// Panics: the lengths differ.
    fn look_up(table: &[Self; 256], from: &[Self], to: &mut [Self]);

    /// The sum of all integers. It wraps.
    fn total(row: &[Self]) -> i32;
}

macro_rules! byte {
    ($($type:ty),*) => {$(
        impl Byte for $type {
            const RANGE: (i32, i32) = (<$type>::MIN as i32, <$type>::MAX as i32);

            fn join(join: Join, a: &[$type], b: &[$type], to: &mut [$type]) {
                for_levels! {
                    fn at(join: Join, a: &[$type], b: &[$type], to: &mut [$type]) = join_in;
                }
                #[inline(always)]
                fn join_in<V: Simd>(join: Join, a: &[$type], b: &[$type], to: &mut [$type]) {
                    join_rows(join, a, b, to);
                }
                at(Level::best(), join, a, b, to);
            }

            fn look_up(table: &[$type; 256], from: &[$type], to: &mut [$type]) {
                assert_eq!(from.len(), to.len(), "the lengths differ");
                for (to, from) in to.iter_mut().zip(from) {
                    *to = table[usize::from(from.wrapping_sub(<$type>::MIN) as u8)];
                }
            }

            fn total(row: &[$type]) -> i32 {
                for_levels! {
                    fn at(row: &[$type]) -> i32 = total_in;
                }
                #[inline(always)]
                fn total_in<V: Simd>(row: &[$type]) -> i32 {
                    row.iter().fold(0, |sum, integer| sum.wrapping_add(i32::from(*integer)))
                }
                at(Level::best(), row)
            }
        }
    )*};
}
byte!(u8, i8);

#[inline(always)]
fn join_rows<T: Byte>(join: Join, a: &[T], b: &[T], to: &mut [T]) {
    match join {
        Join::Sum { a: factor_a, b: factor_b, offset } => each(a, b, to, |a, b| {
            let number = a as f32 * factor_a + (b as f32 * factor_b + offset);
            nearest(number, 0, T::RANGE)
        }),
        Join::Product { zeros, factor, offset } => each(a, b, to, |a, b| {
            let number = ((a - zeros.0) * (b - zeros.1)) as f32 * factor + offset;
            nearest(number, 0, T::RANGE)
        }),
    }
}

#[inline(always)]
fn each<T: Byte>(a: &[T], b: &[T], to: &mut [T], join: impl Fn(i32, i32) -> i32) {
    let is_one = (a.len() == 1, b.len() == 1);
    let fits = |row: &[T]| row.len() == 1 || row.len() == to.len();
    assert!(fits(a) && fits(b), "{} and {} integers for {}", a.len(), b.len(), to.len());
    match is_one {
        (true, true) => to.fill(T::stored(join(a[0].integer(), b[0].integer()))),
        (true, false) => {
            let a = a[0].integer();
            to.iter_mut().zip(b).for_each(|(to, b)| *to = T::stored(join(a, b.integer())));
        }
        (false, true) => {
            let b = b[0].integer();
            to.iter_mut().zip(a).for_each(|(to, a)| *to = T::stored(join(a.integer(), b)));
        }
        (false, false) => {
            let both = a.iter().zip(b);
            to.iter_mut().zip(both).for_each(|(to, (a, b))| *to = T::stored(join(a.integer(), b.integer())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The nearest integer by the functions of the standard library.
    fn rounded<T: Byte>(number: f32) -> i32 {
        (number.round_ties_even() as i32).clamp(T::RANGE.0, T::RANGE.1)
    }

    fn check<T: Byte>() {
        let mut random = Random::new(37);
        let mut row = |count: usize| -> Vec<T> {
            (0..count).map(|_| T::stored(random.size(0, 255) as i32 + T::RANGE.0)).collect()
        };
        for count in 0..100 {
            for (len_a, len_b) in [(count, count), (1, count), (count, 1), (1, 1)] {
                let (a, b) = (row(len_a), row(len_b));
                let pick = |row: &[T], at: usize| row[if row.len() == 1 { 0 } else { at }].integer();
                let mut made = row(count);
                T::join(Join::Sum { a: 0.75, b: 1.5, offset: 3.5 }, &a, &b, &mut made);
                for (at, made) in made.iter().enumerate() {
                    let number = pick(&a, at) as f32 * 0.75 + (pick(&b, at) as f32 * 1.5 + 3.5);
                    assert_eq!(made.integer(), rounded::<T>(number));
                }
                let product = Join::Product { zeros: (3, -4), factor: 0.02, offset: 7.0 };
                T::join(product, &a, &b, &mut made);
                for (at, made) in made.iter().enumerate() {
                    let product = (pick(&a, at) - 3) * (pick(&b, at) + 4);
                    assert_eq!(made.integer(), rounded::<T>(product as f32 * 0.02 + 7.0));
                }
            }
            let (from, mut to) = (row(count), row(count));
            let table: [T; 256] = row(256).try_into().unwrap_or_else(|_| unreachable!());
            T::look_up(&table, &from, &mut to);
            for (to, from) in to.iter().zip(&from) {
                assert_eq!(to.integer(), table[(from.integer() - T::RANGE.0) as usize].integer());
            }
            assert_eq!(T::total(&from), from.iter().map(|integer| integer.integer()).sum::<i32>());
        }
    }

    #[test]
    fn bytes_are_joined_looked_up_and_added() {
        check::<u8>();
        check::<i8>();
    }
}
