//! Vectors of FP32 numbers: one trait, and one type for each set of vector instructions.
//!
//! Invariant: `Avx2` and `Avx512` are only named by `for_levels`, in code that runs when the processor has these
//! instructions. This is the reason why the calls of intrinsics here are right.

/// A vector of FP32 numbers. All functions work lane by lane.
pub trait Simd: Copy {
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

/// Writes the functions that are one intrinsic of two vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! binary {
    ($($name:ident = $intrinsic:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { $intrinsic(self.0, other.0) })
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// Four numbers in SSE2, which every x86-64 processor has.
    #[derive(Clone, Copy)]
    pub struct Sse2(__m128);

    impl Simd for Sse2 {
        const LANES: usize = 4;
        const REGISTERS: usize = 16;

        binary!(add = _mm_add_ps, sub = _mm_sub_ps, mul = _mm_mul_ps, div = _mm_div_ps);
        binary!(max = _mm_max_ps, min = _mm_min_ps);

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm_set1_ps(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe { _mm_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            self.mul(factor).add(addend)
        }

        #[inline(always)]
        fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let is_less = _mm_cmplt_ps(self.0, other.0);
                Self(_mm_or_ps(_mm_and_ps(is_less, yes.0), _mm_andnot_ps(is_less, no.0)))
            }
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm_andnot_ps(_mm_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn with_sign(self, sign: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm_or_ps(self.abs().0, _mm_and_ps(_mm_set1_ps(-0.0), sign.0)) })
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let biased = _mm_add_epi32(_mm_cvtps_epi32(self.0), _mm_set1_epi32(127));
                Self(_mm_castsi128_ps(_mm_slli_epi32::<23>(biased)))
            }
        }
    }

    /// Eight numbers in AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const REGISTERS: usize = 16;

        binary!(add = _mm256_add_ps, sub = _mm256_sub_ps, mul = _mm256_mul_ps, div = _mm256_div_ps);
        binary!(max = _mm256_max_ps, min = _mm256_min_ps);

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm256_set1_ps(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the invariant of this module, and the caller's promise.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the invariant of this module, and the caller's promise.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn prefetch(place: *const f32) {
            // SAFETY: a prefetch reads nothing that the program sees, from any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            debug_assert!(count <= 8);
            // SAFETY: the invariant of this module. The mask is inside `MASKS` for every count up to 8, and keeps the
            // lanes behind the count from being read.
            unsafe {
                let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast());
                Self(_mm256_maskload_ps(from, mask))
            }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
        }

        #[inline(always)]
        fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let is_less = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0);
                Self(_mm256_blendv_ps(no.0, yes.0, is_less))
            }
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn with_sign(self, sign: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm256_or_ps(self.abs().0, _mm256_and_ps(_mm256_set1_ps(-0.0), sign.0)) })
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
            }
        }
    }

    /// For each count of numbers from 0 to 8, eight lanes from `MASKS[8 - count]` on: those of the numbers are set.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    /// Sixteen numbers in AVX-512.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const REGISTERS: usize = 32;

        binary!(add = _mm512_add_ps, sub = _mm512_sub_ps, mul = _mm512_mul_ps, div = _mm512_div_ps);
        binary!(max = _mm512_max_ps, min = _mm512_min_ps);

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm512_set1_ps(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the invariant of this module, and the caller's promise.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the invariant of this module, and the caller's promise.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        fn prefetch(place: *const f32) {
            // SAFETY: a prefetch reads nothing that the program sees, from any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            debug_assert!(count <= 16);
            // SAFETY: the invariant of this module. The mask keeps the lanes behind the count from being read.
            Self(unsafe { _mm512_maskz_loadu_ps(((1_u32 << count) - 1) as __mmask16, from) })
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            debug_assert!(count <= 16);
            // SAFETY: the invariant of this module. The mask keeps the lanes behind the count from being written.
            unsafe { _mm512_mask_storeu_ps(to, ((1_u32 << count) - 1) as __mmask16, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
        }

        #[inline(always)]
        fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let is_less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0);
                Self(_mm512_mask_blend_ps(is_less, no.0, yes.0))
            }
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm512_andnot_ps(_mm512_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn with_sign(self, sign: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { _mm512_or_ps(self.abs().0, _mm512_and_ps(_mm512_set1_ps(-0.0), sign.0)) })
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Sse2 as Baseline};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Simd;

    /// Four numbers in NEON, which every 64-bit ARM processor has.
    #[derive(Clone, Copy)]
    pub struct Neon(float32x4_t);

    /// Writes the functions that are one intrinsic of two vectors.
    macro_rules! binary {
        ($($name:ident = $intrinsic:ident),*) => {$(
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the invariant of this module.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        )*};
    }

    impl Simd for Neon {
        const LANES: usize = 4;
        const REGISTERS: usize = 32;

        binary!(add = vaddq_f32, sub = vsubq_f32, mul = vmulq_f32, div = vdivq_f32);

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vdupq_n_f32(number) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { vld1q_f32(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe { vst1q_f32(to, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vfmaq_f32(addend.0, self.0, factor.0) })
        }

        // NEON's own maximum is NaN where one of the numbers is.
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
        }

        #[inline(always)]
        fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), yes.0, no.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vabsq_f32(self.0) })
        }

        #[inline(always)]
        fn with_sign(self, sign: Self) -> Self {
            // SAFETY: the invariant of this module.
            Self(unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign.0, self.0) })
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: the invariant of this module.
            unsafe {
                let biased = vaddq_s32(vcvtq_s32_f32(self.0), vdupq_n_s32(127));
                Self(vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub use arm::Neon as Baseline;

/// Four plain numbers, for processors without vectors and those for which there is no type of their own.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[derive(Clone, Copy)]
pub struct Baseline([f32; 4]);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Baseline {
    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|at| function(self.0[at], other.0[at])))
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Simd for Baseline {
    const LANES: usize = 4;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        Self([number; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|at| if self.0[at] < other.0[at] { yes.0[at] } else { no.0[at] }))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        self.zip(sign, f32::copysign)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|number| f32::from_bits(((number as i32 + 127) as u32) << 23)))
    }
}
