//! Pools: the largest number or the sum of each window of a plane.
//!
//! A window is folded in two steps: first the rows of the input that belong to a row of results, number by number, and
//! then along the row. So the long loops run over slices, and a large window does not cost the product of its sides.

use std::ops::Range;

use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// The windows of a plane.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// For each row of results, the rows of the input.
    pub rows: Vec<Vec<usize>>,
    /// The numbers in a row of the input.
    pub input: usize,
    /// The numbers in a row of results.
    pub output: usize,
    /// From a window to the next, along a row.
    pub stride: usize,
    /// For each number of a window along a row: the windows in which it is inside the input, and where it is in the first
    /// of these.
    pub taps: Vec<(Range<usize>, usize)>,
}

impl Windows {
    /// Panics: something is outside of a plane of `size` numbers.
    fn check(&self, size: usize) {
        let rows = size.checked_div(self.input).unwrap_or(0);
        assert!(self.rows.iter().flatten().all(|row| *row < rows), "a row is outside of the plane");
        for (span, first) in self.taps.iter().filter(|(span, _)| !span.is_empty()) {
            let last = first + (span.len() - 1) * self.stride;
            assert!(span.end <= self.output && last < self.input, "a window is outside of the row");
        }
    }
}

/// Numbers with an order.
pub trait Number: Copy {
    /// The maximum of no numbers: NaN for floats, and otherwise the least number.
    const NONE: Self;

    /// The larger of a maximum and a number. NaN only where both are.
    fn larger(most: Self, number: Self) -> Self;
}

macro_rules! floats {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const NONE: Self = <$type>::NAN;
            #[inline(always)]
            fn larger(most: Self, number: Self) -> Self {
                // Not `max`: there the sign of zeros is open.
                if number > most || most.is_nan() { number } else { most }
            }
        }
    )*};
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const NONE: Self = <$type>::MIN;
            #[inline(always)]
            fn larger(most: Self, number: Self) -> Self {
                if number > most { number } else { most }
            }
        }
    )*};
}

floats!(f32, f64);
integers!(i8, u8);

/// The two functions of a pool, put into the loops by the compiler.
trait Fold<T> {
    const START: T;
    fn step(result: T, number: T) -> T;
}

struct Most;

impl<T: Number> Fold<T> for Most {
    const START: T = T::NONE;
    #[inline(always)]
    fn step(result: T, number: T) -> T {
        T::larger(result, number)
    }
}

struct Sum;

impl Fold<f32> for Sum {
    const START: f32 = 0.0;
    #[inline(always)]
    fn step(result: f32, number: f32) -> f32 {
        result + number
    }
}

impl Fold<f64> for Sum {
    const START: f64 = 0.0;
    #[inline(always)]
    fn step(result: f64, number: f64) -> f64 {
        result + number
    }
}

/// A type of numbers that pools take.
pub trait Pooled: Number {
    /// Writes the largest number of each window of each plane. A NaN is left out where a window has other numbers. The
    /// maximum of a window without numbers is NaN, or the least integer.
    ///
    /// Panics: the planes of `from` and `to` do not have the windows.
    fn largest(windows: &Windows, from: &[Self], to: &mut [Self]);
}

/// A type of numbers whose sums are computed.
pub trait Summed: Copy {
    /// Writes the sum of each window of each plane.
    ///
    /// Panics: as [`Pooled::largest`].
    fn sums(windows: &Windows, from: &[Self], to: &mut [Self]);

    /// Divides each sum of each plane by its number. There are numbers for one plane.
    fn divide(sums: &mut [Self], numbers: &[Self]);
}

macro_rules! pooled {
    ($($type:ty),*) => {$(
        impl Pooled for $type {
            fn largest(windows: &Windows, from: &[$type], to: &mut [$type]) {
                for_levels! {
                    fn at(windows: &Windows, from: &[$type], to: &mut [$type]) = largest_in;
                }
                #[inline(always)]
                fn largest_in<V: Simd>(windows: &Windows, from: &[$type], to: &mut [$type]) {
                    planes::<$type, Most>(windows, from, to);
                }
                at(Level::best(), windows, from, to);
            }
        }
    )*};
}

macro_rules! summed {
    ($($type:ty),*) => {$(
        impl Summed for $type {
            fn sums(windows: &Windows, from: &[$type], to: &mut [$type]) {
                for_levels! {
                    fn at(windows: &Windows, from: &[$type], to: &mut [$type]) = sums_in;
                }
                #[inline(always)]
                fn sums_in<V: Simd>(windows: &Windows, from: &[$type], to: &mut [$type]) {
                    planes::<$type, Sum>(windows, from, to);
                }
                at(Level::best(), windows, from, to);
            }

            fn divide(sums: &mut [$type], numbers: &[$type]) {
                for_levels! {
                    fn at(sums: &mut [$type], numbers: &[$type]) = divide_in;
                }
                #[inline(always)]
                fn divide_in<V: Simd>(sums: &mut [$type], numbers: &[$type]) {
                    for plane in sums.chunks_exact_mut(numbers.len().max(1)) {
                        plane.iter_mut().zip(numbers).for_each(|(sum, number)| *sum /= number);
                    }
                }
                at(Level::best(), sums, numbers);
            }
        }
    )*};
}

pooled!(f32, f64, i8, u8);
summed!(f32, f64);

#[inline(always)]
fn planes<T: Copy, F: Fold<T>>(windows: &Windows, from: &[T], to: &mut [T]) {
    let made = windows.rows.len() * windows.output;
    if made == 0 || to.is_empty() {
        return;
    }
    let count = to.len() / made;
    let size = from.len() / count;
    assert_eq!((from.len(), to.len()), (count * size, count * made), "the lengths do not fit");
    windows.check(size);
    if size == 0 {
        to.fill(F::START);
        return;
    }
    // Where the stride is longer than the row, each tap is in one window at most. Memory must not grow with the stride.
    let stride = windows.stride.clamp(1, windows.input.max(1));
    let mut row = vec![F::START; windows.input];
    // Each `stride`-th number of the row, from each of the first ones on.
    let phase = windows.input.div_ceil(stride);
    let mut phases = vec![F::START; if stride > 1 { phase * stride } else { 0 }];
    for (from, to) in from.chunks_exact(size).zip(to.chunks_exact_mut(made)) {
        for (sources, results) in windows.rows.iter().zip(to.chunks_exact_mut(windows.output)) {
            fold_rows::<T, F>(from, sources, &mut row);
            if stride > 1 {
                split(&row, &mut phases, stride);
            }
            let source = |first: usize| match stride {
                1 => &row[first.min(row.len())..],
                _ => &phases[first % stride * phase + first / stride..],
            };
            // A tap that is inside the input in all windows.
            let whole = |tap: usize| match windows.taps.get(tap) {
                Some((span, first)) if *span == (0..windows.output) => {
                    Some(&source(*first)[..windows.output])
                }
                _ => None,
            };
            let mut tap = match (whole(0), whole(1)) {
                (Some(first), Some(second)) => {
                    let both = first.iter().zip(second);
                    results
                        .iter_mut()
                        .zip(both)
                        .for_each(|(to, (first, second))| *to = F::step(*first, *second));
                    2
                }
                _ => {
                    results.fill(F::START);
                    0
                }
            };
            // Two taps at once, where that is possible: fewer loads and stores of the results.
            while let Some((span, first)) = windows.taps.get(tap) {
                if let (Some(first), Some(second)) = (whole(tap), whole(tap + 1)) {
                    for (to, (first, second)) in results.iter_mut().zip(first.iter().zip(second)) {
                        *to = F::step(F::step(*to, *first), *second);
                    }
                    tap += 2;
                    continue;
                }
                for (to, number) in results[span.clone()].iter_mut().zip(source(*first)) {
                    *to = F::step(*to, *number);
                }
                tap += 1;
            }
        }
    }
}

/// Folds rows of a plane to one.
#[inline(always)]
fn fold_rows<T: Copy, F: Fold<T>>(plane: &[T], sources: &[usize], row: &mut [T]) {
    let width = row.len();
    let mut sources = sources.iter().map(|source| &plane[source * width..][..width]);
    // Two or three rows at once: fewer loads and stores of the result.
    match (sources.next(), sources.next(), sources.next()) {
        (None, ..) => row.fill(F::START),
        (Some(first), None, _) => row.copy_from_slice(first),
        (Some(first), Some(second), None) => {
            for ((result, first), second) in row.iter_mut().zip(first).zip(second) {
                *result = F::step(*first, *second);
            }
        }
        (Some(first), Some(second), Some(third)) => {
            for (((result, first), second), third) in row.iter_mut().zip(first).zip(second).zip(third) {
                *result = F::step(F::step(*first, *second), *third);
            }
        }
    }
    while let Some(next) = sources.next() {
        match sources.next() {
            Some(other) => {
                for ((result, next), other) in row.iter_mut().zip(next).zip(other) {
                    *result = F::step(F::step(*result, *next), *other);
                }
            }
            None => row.iter_mut().zip(next).for_each(|(result, next)| *result = F::step(*result, *next)),
        }
    }
}

/// Puts each `stride`-th number side by side.
#[inline(always)]
fn split<T: Copy>(row: &[T], phases: &mut [T], stride: usize) {
    let length = phases.len() / stride;
    if stride == 2 {
        let (even, odd) = phases.split_at_mut(length);
        let pairs = row.as_chunks::<2>();
        for ((even, odd), pair) in even.iter_mut().zip(odd).zip(pairs.0) {
            (*even, *odd) = (pair[0], pair[1]);
        }
        if let ([last], Some(even)) = (pairs.1, even.last_mut()) {
            *even = *last;
        }
        return;
    }
    for (number, phase) in phases.chunks_exact_mut(length).enumerate() {
        for (to, from) in phase.iter_mut().zip(row.iter().skip(number).step_by(stride)) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The length of an axis and its stride, for each window the places of its numbers, and the taps.
    type Axis = (usize, usize, Vec<Vec<usize>>, Vec<(Range<usize>, usize)>);

    fn axis(random: &mut Random) -> Axis {
        let (input, kernel) = (random.size(1, 30), random.size(1, 5));
        let (stride, dilation, before) = (random.size(1, 4), random.size(1, 2), random.size(0, 3));
        let output = random.size(1, 12);
        let place = |window: usize, tap: usize| (window * stride + tap * dilation).checked_sub(before);
        let inside = |window, tap| place(window, tap).filter(|place| *place < input);
        let windows =
            (0..output).map(|window| (0..kernel).filter_map(|tap| inside(window, tap)).collect()).collect();
        let taps = (0..kernel).map(|tap| {
            let all: Vec<usize> = (0..output).filter(|window| inside(*window, tap).is_some()).collect();
            match (all.first(), all.last()) {
                (Some(first), Some(last)) => (*first..last + 1, inside(*first, tap).unwrap_or(0)),
                _ => (0..0, 0),
            }
        });
        (input, stride, windows, taps.collect())
    }

    fn check<T: Number + PartialEq + std::fmt::Debug>(
        make: impl Fn(f32) -> T,
        run: impl Fn(&Windows, &[T], &mut [T]),
        expect: impl Fn(&[T]) -> T,
        is_same: impl Fn(T, T) -> bool,
    ) {
        let mut random = Random::new(5);
        for _ in 0..400 {
            let ((height, _, rows, _), (width, stride, columns, taps)) =
                (axis(&mut random), axis(&mut random));
            let windows = Windows { rows: rows.clone(), input: width, output: columns.len(), stride, taps };
            let planes = random.size(0, 3);
            let from: Vec<T> = random.numbers(planes * height * width).into_iter().map(&make).collect();
            let mut to = vec![make(0.5); planes * rows.len() * columns.len()];
            run(&windows, &from, &mut to);
            for (at, result) in to.iter().enumerate() {
                let (plane, place) = (at / (rows.len() * columns.len()), at % (rows.len() * columns.len()));
                let (row, column) = (&rows[place / columns.len()], &columns[place % columns.len()]);
                let window: Vec<T> = row
                    .iter()
                    .flat_map(|y| column.iter().map(move |x| (y, x)))
                    .map(|(y, x)| from[(plane * height + y) * width + x])
                    .collect();
                assert!(is_same(*result, expect(&window)), "{result:?} {window:?}");
            }
        }
    }

    #[test]
    fn the_largest_numbers_of_windows() {
        let most = |window: &[f32]| window.iter().copied().fold(f32::NAN, f32::max);
        // Every fifth number is NaN.
        let make = |x: f32| if (x * 1000.0) as i32 % 5 == 0 { f32::NAN } else { x };
        check(make, f32::largest, most, |a, b| a == b || a.is_nan() && b.is_nan());
        let most = |window: &[i8]| window.iter().copied().max().unwrap_or(i8::MIN);
        check(|x| (x * 127.0) as i8, i8::largest, most, |a, b| a == b);
        let most = |window: &[u8]| window.iter().copied().max().unwrap_or(0);
        check(|x| (x.abs() * 255.0) as u8, u8::largest, most, |a, b| a == b);
    }

    #[test]
    fn the_sums_of_windows() {
        check(|x| x, f32::sums, |window| window.iter().sum(), |a, b| (a - b).abs() < 1e-5);
        check(f64::from, f64::sums, |window| window.iter().sum(), |a, b| (a - b).abs() < 1e-12);
    }

    #[test]
    fn a_stride_longer_than_the_row_takes_no_memory_for_it() {
        let taps = vec![(0..1, 1), (0..1, 2)];
        let windows = Windows { rows: vec![vec![0]], input: 3, output: 1, stride: 1 << 60, taps };
        let mut most = [0.0];
        f32::largest(&windows, &[3.0, 1.0, 2.0], &mut most);
        assert_eq!(most, [2.0]);
    }

    #[test]
    #[should_panic(expected = "outside of the row")]
    fn a_window_outside_of_its_row_is_not_read() {
        let windows =
            Windows { rows: vec![vec![0]], input: 3, output: 2, stride: 2, taps: vec![(0..2, 1), (0..2, 2)] };
        f32::largest(&windows, &[1.0, 2.0, 3.0], &mut [0.0, 0.0]);
    }
}
