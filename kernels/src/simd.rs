//! Vectors of FP32 numbers: one trait, and one type for each set of vector instructions.
//!
//! Invariant: `Avx2` and `Avx512` are only named by `for_levels`, in code that runs when the processor has these
//! instructions. This is the reason why the calls of intrinsics here are right.

use super::level::Level;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use arm::Neon as Baseline;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use plain::Plain as Baseline;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Sse2 as Baseline};

/// A vector of FP32 numbers. All functions work lane by lane.
pub trait Simd: Copy {
    /// The level whose code uses it.
    const LEVEL: Level;
    /// How many numbers it has.
    const LANES: usize;
    /// How many vector registers the processor has.
    const REGISTERS: usize;

    fn splat(number: f32) -> Self;

    /// # Safety
    /// `LANES` numbers can be read from `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `LANES` numbers can be written to `to`.
    unsafe fn store(self, to: *mut f32);

    /// Asks for the numbers at a place to be in the cache soon. The place may be anywhere.
    #[inline(always)]
    fn prefetch(_place: *const f32) {}

    /// The same, for the second cache.
    #[inline(always)]
    fn prefetch_later(_place: *const f32) {}

    /// Loads the first `count` numbers, at most `LANES`. The others are 0.
    ///
    /// # Safety
    /// `count` numbers can be read from `from`.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut all = [0.0; MOST_LANES];
        for (at, number) in all.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's promise.
            *number = unsafe { *from.add(at) };
        }
        // SAFETY: no vector has more than `MOST_LANES` numbers.
        unsafe { Self::load(all.as_ptr()) }
    }

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;

    /// `self · factor + addend`: rounded once where the processor can do that.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// `self` where it is greater than `other`, else `other`. So the result is `other` where one of them is NaN.
    fn max(self, other: Self) -> Self;

    /// `self` where it is less than `other`, else `other`. So the result is `other` where one of them is NaN.
    fn min(self, other: Self) -> Self;

    /// `yes` where `self < other`, else `no`, also where one of them is NaN.
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self;

    fn abs(self) -> Self;

    /// The magnitude of `self` with the sign of `sign`.
    fn with_sign(self, sign: Self) -> Self;

    /// 2 to the power of `self`, which are whole numbers from −126 to 127.
    fn power_of_two(self) -> Self;

    /// The nearest whole number, to even ones from the middle. Only for magnitudes below 2²².
    #[inline(always)]
    fn round(self) -> Self {
        // At this number, the distance to the next FP32 number is 1.
        let large = Self::splat(12_582_912.0);
        self.add(large).sub(large)
    }

    /// Loads the first numbers of a slice, at most `LANES`. The others are 0.
    #[inline(always)]
    fn load_part(from: &[f32]) -> Self {
        if let Some(first) = from.get(..Self::LANES) {
            // SAFETY: the slice has `LANES` numbers.
            return unsafe { Self::load(first.as_ptr()) };
        }
        // SAFETY: the slice has that many numbers.
        unsafe { Self::load_first(from.as_ptr(), from.len()) }
    }

    /// Stores the first numbers to a slice, at most `LANES`.
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        if let Some(first) = to.get_mut(..Self::LANES) {
            // SAFETY: the slice has `LANES` numbers.
            return unsafe { self.store(first.as_mut_ptr()) };
        }
        // SAFETY: the slice has that many numbers.
        unsafe { self.store_first(to.as_mut_ptr(), to.len()) }
    }

    /// Stores the first `count` numbers, at most `LANES`.
    ///
    /// # Safety
    /// `count` numbers can be written to `to`.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (at, number) in self.numbers().iter().enumerate().take(count) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(at) = *number };
        }
    }

    /// The numbers, and 0 behind them.
    #[inline(always)]
    fn numbers(self) -> [f32; MOST_LANES] {
        let mut all = [0.0; MOST_LANES];
        // SAFETY: no vector has more than `MOST_LANES` numbers.
        unsafe { self.store(all.as_mut_ptr()) };
        all
    }
}

/// The most lanes of any vector.
pub const MOST_LANES: usize = 16;
