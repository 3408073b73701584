//! Between floats and the integers of quantized tensors.
//!
//! A number is divided by its scale, rounded to the nearest integer, a half to the even one, and the zero point is added.
//! NaN becomes the smallest integer.

use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// A type of up to 16 bits in which integers are stored.
pub trait Stored: Copy {
    /// An integer that is in the range of the type.
    fn stored(integer: i32) -> Self;
    fn integer(self) -> i32;
    /// Quantizes numbers, with one scale and one zero point for all, or one for each number. The integers are from `range.0`
    /// to `range.1`, which are in the range of the type.
    ///
    /// Panics: the lengths do not fit.
    fn quantize(from: &[f32], to: &mut [Self], scales: &[f32], zeros: &[i32], range: (i32, i32));
    /// Rounds the products of sums with a factor, one for all or one for each sum, and adds the zero point.
    ///
    /// Panics: the lengths do not fit.
    fn requantize(from: &[i32], to: &mut [Self], factors: &[f32], zero: i32, range: (i32, i32));
    /// The same for sums that are whole numbers up to 2²⁴, to which `bias` is added first, with one factor for all. The sum
    /// with the bias wraps.
    ///
    /// Panics: the lengths differ.
    fn round_sums(from: &[f32], to: &mut [Self], bias: i32, factor: f32, zero: i32, range: (i32, i32));
    /// The same for sums that are integers.
    ///
    /// Panics: the lengths differ.
    fn round_integers(from: &[i32], to: &mut [Self], bias: i32, factor: f32, zero: i32, range: (i32, i32));
    /// The numbers that integers stand for, with one scale and one zero point for all, or one for each integer.
    ///
    /// Panics: the lengths do not fit.
    fn dequantize(from: &[Self], to: &mut [f32], scales: &[f32], zeros: &[i32]);
    /// The integers without their zero point.
    ///
    /// Panics: the lengths differ.
    fn distances(from: &[Self], to: &mut [i16], zero: i32);
}

/// Whole numbers up to this size are FP32 numbers.
const EXACT: u32 = 1 << 24;

/// Rounds a number that was divided by its scale, and adds the zero point. The result is from `low` to `high`, which have up
/// to 16 bits.
#[inline(always)]
pub fn nearest(number: f32, zero: i32, (low, high): (i32, i32)) -> i32 {
    // The limits are integers, so it makes no difference that they are applied before the rounding.
    let (low, high) = ((low - zero) as f32, (high - zero) as f32);
    // Not `clamp`, which returns NaN for NaN.
    let number = if number > low { number } else { low };
    let number = if number < high { number } else { high };
    // A float of this size has no digits after the point, so the sum is rounded to the nearest even integer, and the
    // integer is in its low bits.
    const ONE_AND_A_HALF: f32 = 12_582_912.0;
    (number + ONE_AND_A_HALF).to_bits() as i32 - ONE_AND_A_HALF.to_bits() as i32 + zero
}

macro_rules! stored {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            #[inline(always)]
            fn stored(integer: i32) -> $type {
                integer as $type
            }

            #[inline(always)]
            fn integer(self) -> i32 {
                i32::from(self)
            }

            fn quantize(from: &[f32], to: &mut [$type], scales: &[f32], zeros: &[i32], range: (i32, i32)) {
                for_levels! {
                    fn at(from: &[f32], to: &mut [$type], scales: &[f32], zeros: &[i32], range: (i32, i32)) = quantize_in;
                }
                #[inline(always)]
                fn quantize_in<V: Simd>(
                    from: &[f32],
                    to: &mut [$type],
                    scales: &[f32],
                    zeros: &[i32],
                    range: (i32, i32),
                ) {
                    quantize(from, to, scales, zeros, range);
                }
                at(Level::best(), from, to, scales, zeros, range);
            }

            fn requantize(from: &[i32], to: &mut [$type], factors: &[f32], zero: i32, range: (i32, i32)) {
                for_levels! {
                    fn at(from: &[i32], to: &mut [$type], factors: &[f32], zero: i32, range: (i32, i32)) = requantize_in;
                }
                #[inline(always)]
                fn requantize_in<V: Simd>(
                    from: &[i32],
                    to: &mut [$type],
                    factors: &[f32],
                    zero: i32,
                    range: (i32, i32),
                ) {
                    requantize(from, to, factors, zero, range);
                }
                at(Level::best(), from, to, factors, zero, range);
            }

            fn round_sums(from: &[f32], to: &mut [$type], bias: i32, factor: f32, zero: i32, range: (i32, i32)) {
                for_levels! {
                    fn at(from: &[f32], to: &mut [$type], bias: i32, factor: f32, zero: i32, range: (i32, i32)) = round_in;
                }
                #[inline(always)]
                fn round_in<V: Simd>(
                    from: &[f32],
                    to: &mut [$type],
                    bias: i32,
                    factor: f32,
                    zero: i32,
                    range: (i32, i32),
                ) {
                    assert_eq!(from.len(), to.len(), "the lengths differ");
                    // Such a bias is an FP32 number, so the sum is rounded once, as the conversion of an integer would round.
                    if bias.unsigned_abs() <= EXACT {
                        let bias = bias as f32;
                        for (to, sum) in to.iter_mut().zip(from) {
                            *to = <$type>::stored(nearest((sum + bias) * factor, zero, range));
                        }
                        return;
                    }
                    for (to, sum) in to.iter_mut().zip(from) {
                        let sum = (*sum as i32).wrapping_add(bias);
                        *to = <$type>::stored(nearest(sum as f32 * factor, zero, range));
                    }
                }
                at(Level::best(), from, to, bias, factor, zero, range);
            }

            fn round_integers(
                from: &[i32],
                to: &mut [$type],
                bias: i32,
                factor: f32,
                zero: i32,
                range: (i32, i32),
            ) {
                for_levels! {
                    fn at(from: &[i32], to: &mut [$type], bias: i32, factor: f32, zero: i32, range: (i32, i32)) = round_in;
                }
                #[inline(always)]
                fn round_in<V: Simd>(
                    from: &[i32],
                    to: &mut [$type],
                    bias: i32,
                    factor: f32,
                    zero: i32,
                    range: (i32, i32),
                ) {
                    assert_eq!(from.len(), to.len(), "the lengths differ");
                    for (to, sum) in to.iter_mut().zip(from) {
                        let sum = sum.wrapping_add(bias);
                        *to = <$type>::stored(nearest(sum as f32 * factor, zero, range));
                    }
                }
                at(Level::best(), from, to, bias, factor, zero, range);
            }

            fn dequantize(from: &[$type], to: &mut [f32], scales: &[f32], zeros: &[i32]) {
                for_levels! {
                    fn at(from: &[$type], to: &mut [f32], scales: &[f32], zeros: &[i32]) = dequantize_in;
                }
                #[inline(always)]
                fn dequantize_in<V: Simd>(from: &[$type], to: &mut [f32], scales: &[f32], zeros: &[i32]) {
                    dequantize(from, to, scales, zeros);
                }
                at(Level::best(), from, to, scales, zeros);
            }

            fn distances(from: &[$type], to: &mut [i16], zero: i32) {
                for_levels! {
                    fn at(from: &[$type], to: &mut [i16], zero: i32) = distances_in;
                }
                #[inline(always)]
                fn distances_in<V: Simd>(from: &[$type], to: &mut [i16], zero: i32) {
                    assert_eq!(from.len(), to.len(), "the lengths differ");
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = (from.integer() - zero) as i16;
                    }
                }
                at(Level::best(), from, to, zero);
            }
        }
    )*};
}
stored!(u8, i8, u16, i16);

/// Panics if there is not one for all `count` numbers or one for each.
#[inline(always)]
fn check(scales: &[f32], zeros: &[i32], count: usize) {
    let fits = scales.len() == zeros.len() && (scales.len() == 1 || scales.len() == count);
    assert!(fits, "there are {} scales and {} zero points for {count} numbers", scales.len(), zeros.len());
}

#[inline(always)]
fn quantize<T: Stored>(from: &[f32], to: &mut [T], scales: &[f32], zeros: &[i32], range: (i32, i32)) {
    assert_eq!(from.len(), to.len(), "the lengths differ");
    check(scales, zeros, from.len());
    if let ([scale], [zero]) = (scales, zeros) {
        for (to, number) in to.iter_mut().zip(from) {
            *to = T::stored(nearest(number / scale, *zero, range));
        }
        return;
    }
    for (((to, number), scale), zero) in to.iter_mut().zip(from).zip(scales).zip(zeros) {
        *to = T::stored(nearest(number / scale, *zero, range));
    }
}

#[inline(always)]
fn requantize<T: Stored>(from: &[i32], to: &mut [T], factors: &[f32], zero: i32, range: (i32, i32)) {
    assert_eq!(from.len(), to.len(), "the lengths differ");
    if let [factor] = factors {
        for (to, sum) in to.iter_mut().zip(from) {
            *to = T::stored(nearest(*sum as f32 * factor, zero, range));
        }
        return;
    }
    assert_eq!(from.len(), factors.len(), "the lengths differ");
    for ((to, sum), factor) in to.iter_mut().zip(from).zip(factors) {
        *to = T::stored(nearest(*sum as f32 * factor, zero, range));
    }
}

#[inline(always)]
fn dequantize<T: Stored>(from: &[T], to: &mut [f32], scales: &[f32], zeros: &[i32]) {
    assert_eq!(from.len(), to.len(), "the lengths differ");
    check(scales, zeros, from.len());
    if let ([scale], [zero]) = (scales, zeros) {
        for (to, integer) in to.iter_mut().zip(from) {
            *to = integer.integer().wrapping_sub(*zero) as f32 * scale;
        }
        return;
    }
    for (((to, integer), scale), zero) in to.iter_mut().zip(from).zip(scales).zip(zeros) {
        *to = integer.integer().wrapping_sub(*zero) as f32 * scale;
    }
}

/// The smallest and the largest number, and zero. NaN is left out.
pub fn limits(numbers: &[f32]) -> (f32, f32) {
    limits_at(Level::best(), numbers)
}

for_levels! {
    fn limits_at(numbers: &[f32]) -> (f32, f32) = limits_in;
}

#[inline(always)]
fn limits_in<V: Simd>(numbers: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = (V::splat(0.0), V::splat(0.0));
    for some in numbers.chunks(V::LANES) {
        // Behind the end there are zeros, which change nothing.
        let some = V::load_part(some);
        (least, most) = (some.min(least), some.max(most));
    }
    (least.numbers().iter().copied().fold(0.0, f32::min), most.numbers().iter().copied().fold(0.0, f32::max))
}

/// Adds whole numbers below 2³¹ to sums, which wrap.
///
/// Panics: the lengths differ.
pub fn add_whole(numbers: &[f32], sums: &mut [i32]) {
    add_whole_at(Level::best(), numbers, sums);
}

for_levels! {
    fn add_whole_at(numbers: &[f32], sums: &mut [i32]) = add_whole_in;
}

#[inline(always)]
fn add_whole_in<V: Simd>(numbers: &[f32], sums: &mut [i32]) {
    assert_eq!(numbers.len(), sums.len(), "the lengths differ");
    for (sum, number) in sums.iter_mut().zip(numbers) {
        *sum = sum.wrapping_add(*number as i32);
    }
}

/// Divides numbers by their scale and rounds them, as [`Stored::quantize`] does, but without the zero point, as 16 bits.
///
/// Panics: the lengths differ.
pub fn distances(from: &[f32], to: &mut [i16], scale: f32, zero: i32, range: (i32, i32)) {
    distances_at(Level::best(), from, to, scale, zero, range);
}

for_levels! {
    fn distances_at(from: &[f32], to: &mut [i16], scale: f32, zero: i32, range: (i32, i32)) = distances_in;
}

#[inline(always)]
fn distances_in<V: Simd>(from: &[f32], to: &mut [i16], scale: f32, zero: i32, range: (i32, i32)) {
    assert_eq!(from.len(), to.len(), "the lengths differ");
    for (to, number) in to.iter_mut().zip(from) {
        *to = (nearest(number / scale, zero, range) - zero) as i16;
    }
}

/// A row of sums times a factor, times one factor for all columns or one for each, plus nothing, or one number for all
/// columns or one for each.
///
/// Panics: the lengths do not fit.
pub fn scale_sums(sums: &[i32], to: &mut [f32], row: f32, columns: &[f32], bias: Option<&[f32]>) {
    scale_sums_at(Level::best(), sums, to, row, columns, bias);
}

for_levels! {
    fn scale_sums_at(sums: &[i32], to: &mut [f32], row: f32, columns: &[f32], bias: Option<&[f32]>) = scale_sums_in;
}

#[inline(always)]
fn scale_sums_in<V: Simd>(sums: &[i32], to: &mut [f32], row: f32, columns: &[f32], bias: Option<&[f32]>) {
    assert_eq!(sums.len(), to.len(), "the lengths differ");
    if let [column] = columns {
        let factor = row * column;
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = *sum as f32 * factor;
        }
    } else {
        assert_eq!(sums.len(), columns.len(), "the lengths differ");
        for ((to, sum), column) in to.iter_mut().zip(sums).zip(columns) {
            *to = *sum as f32 * (row * column);
        }
    }
    match bias {
        None => {}
        Some([bias]) => {
            for to in to {
                *to += bias;
            }
        }
        Some(bias) => {
            assert_eq!(to.len(), bias.len(), "the lengths differ");
            for (to, bias) in to.iter_mut().zip(bias) {
                *to += bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The same with the functions of the standard library.
    fn expected(number: f32, zero: i32, range: (i32, i32)) -> i32 {
        if number.is_nan() {
            return range.0;
        }
        (f64::from(number).round_ties_even() + f64::from(zero)).clamp(range.0.into(), range.1.into()) as i32
    }

    fn check<T: Stored>(range: (i32, i32)) {
        let mut random = Random::new(17);
        for round in 0..300 {
            let count = random.size(0, 70);
            let mut from: Vec<f32> = random.numbers(count).iter().map(|x| x * 300.0).collect();
            for at in (0..count).step_by(7) {
                from[at] = [f32::NAN, f32::INFINITY, -1e30, 0.5, 1.5, -2.5][at / 7 % 6];
            }
            let parts = if round % 2 == 0 { 1 } else { count };
            let scales: Vec<f32> = random.numbers(parts).iter().map(|x| x.abs() + 0.5).collect();
            let zeros: Vec<i32> =
                (0..parts).map(|_| random.size(0, (range.1 - range.0) as usize) as i32 + range.0).collect();
            let one = |at: usize| if parts == 1 { 0 } else { at };
            let mut made = vec![T::stored(0); count];
            T::quantize(&from, &mut made, &scales, &zeros, range);
            for (at, integer) in made.iter().enumerate() {
                let wanted = expected(from[at] / scales[one(at)], zeros[one(at)], range);
                assert_eq!(integer.integer(), wanted, "{} {}", from[at], zeros[one(at)]);
            }
            let mut back = vec![0.0; count];
            T::dequantize(&made, &mut back, &scales, &zeros);
            let mut away = vec![0; count];
            T::distances(&made, &mut away, range.0 / 2);
            let sums: Vec<i32> = from.iter().map(|x| *x as i32 / 2).collect();
            let mut rounded = made.clone();
            T::requantize(&sums, &mut rounded, &scales, range.1 / 2, range);
            let whole: Vec<f32> = random.numbers(count).iter().map(|x| (x * 1.6e7).trunc()).collect();
            let mut with_bias = made.clone();
            for bias in [-70, 0, 1 << 24, 16_777_217, i32::MIN, i32::MAX - 5] {
                let factor = 0.3 / 100_000.0;
                T::round_sums(&whole, &mut with_bias, bias, factor, range.1 / 2, range);
                let integers: Vec<i32> = whole.iter().map(|number| *number as i32).collect();
                let mut same = made.clone();
                T::round_integers(&integers, &mut same, bias, factor, range.1 / 2, range);
                for (one, other) in with_bias.iter().zip(&same) {
                    assert_eq!(one.integer(), other.integer());
                }
                for (number, rounded) in whole.iter().zip(&with_bias) {
                    let sum = (*number as i32).wrapping_add(bias);
                    assert_eq!(rounded.integer(), expected(sum as f32 * factor, range.1 / 2, range));
                }
            }
            for at in 0..count {
                let distance = made[at].integer() - zeros[one(at)];
                assert_eq!(back[at], distance as f32 * scales[one(at)]);
                assert_eq!(i32::from(away[at]), (made[at].integer() - range.0 / 2) as i16 as i32);
                let wanted = expected(sums[at] as f32 * scales[one(at)], range.1 / 2, range);
                assert_eq!(rounded[at].integer(), wanted);
            }
        }
    }

    #[test]
    fn integers_are_the_nearest_ones_of_their_range() {
        check::<u8>((0, 255));
        check::<i8>((-128, 127));
        check::<i8>((-8, 7));
        check::<u16>((0, 65535));
        check::<i16>((-32768, 32767));
    }

    #[test]
    fn limits_and_distances_of_numbers() {
        let mut random = Random::new(23);
        for count in 0..100 {
            let mut numbers = random.numbers(count);
            if count > 50 {
                numbers[count / 2] = f32::NAN;
            }
            for level in Level::all() {
                let least = numbers.iter().copied().fold(0.0, f32::min);
                let most = numbers.iter().copied().fold(0.0, f32::max);
                assert_eq!(limits_at(level, &numbers), (least, most), "{level:?}");
                let mut made = vec![0; count];
                distances_at(level, &numbers, &mut made, 0.01, 100, (0, 255));
                for (number, distance) in numbers.iter().zip(&made) {
                    assert_eq!(i32::from(*distance), expected(number / 0.01, 100, (0, 255)) - 100);
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_added_as_integers() {
        let mut random = Random::new(43);
        for count in 0..70 {
            let numbers: Vec<f32> = random.numbers(count).iter().map(|x| (x * 1e7).trunc()).collect();
            for level in Level::all() {
                let mut sums = vec![i32::MAX; count];
                add_whole_at(level, &numbers, &mut sums);
                let expected: Vec<i32> =
                    numbers.iter().map(|number| i32::MAX.wrapping_add(*number as i32)).collect();
                assert_eq!(sums, expected, "{level:?}");
            }
        }
    }

    #[test]
    fn sums_are_scaled_and_shifted() {
        let mut random = Random::new(29);
        for count in 0..70 {
            let sums: Vec<i32> = random.numbers(count).iter().map(|x| (x * 1e5) as i32).collect();
            let (columns, bias) = (random.numbers(count), random.numbers(count));
            let one = [0.5];
            for level in Level::all() {
                for (columns, bias) in
                    [(&columns[..], None), (&columns, Some(&bias[..])), (&one, Some(&one)), (&one, None)]
                {
                    let mut to = vec![0.0; count];
                    scale_sums_at(level, &sums, &mut to, 0.25, columns, bias);
                    for (at, number) in to.iter().enumerate() {
                        let pick = |all: &[f32]| if all.len() == 1 { all[0] } else { all[at] };
                        let expected = sums[at] as f32 * (0.25 * pick(columns)) + bias.map_or(0.0, pick);
                        assert_eq!(*number, expected, "{level:?}");
                    }
                }
            }
        }
    }
}
