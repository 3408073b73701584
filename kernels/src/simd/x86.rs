//! Vectors of x86-64.

use std::arch::x86_64::*;

use super::Simd;
use crate::level::{Kind, Level};

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

/// Four numbers in SSE2, which every x86-64 processor has.
#[derive(Clone, Copy)]
pub struct Sse2(__m128);

impl Simd for Sse2 {
    const LEVEL: Level = Level(Kind::Baseline);
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
    const LEVEL: Level = Level(Kind::Avx2);
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
    fn prefetch_later(place: *const f32) {
        // SAFETY: a prefetch reads nothing that the program sees, from any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) }
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
    const LEVEL: Level = Level(Kind::Avx512);
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
    fn prefetch_later(place: *const f32) {
        // SAFETY: a prefetch reads nothing that the program sees, from any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) }
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
