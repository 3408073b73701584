//! Vectors of 64-bit ARM.

use std::arch::aarch64::*;

use super::Simd;
use crate::level::{Kind, Level};

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
    const LEVEL: Level = Level(Kind::Baseline);
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
