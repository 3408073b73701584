//! Functions of one number that activations and attention call for every element: `exp`, `tanh` and `erfc`.
//!
//! In FP32 they are polynomials without branches, so that the compiler can use vectors; the standard library's functions
//! cannot. They differ from the exact value by a few units in the last place. In FP64 they are exact to the last digits.
//! NaN stays NaN.

use super::error_function;
use super::floats::Real;

/// A type that has these functions.
pub trait Curves: Real {
    /// e to this power.
    fn power_of_e(self) -> Self;
    /// The hyperbolic tangent.
    fn tangent(self) -> Self;
    /// 1 − erf: the complement of the error function.
    fn erf_complement(self) -> Self;

    /// 1 ÷ (1 + exp(−x)).
    #[inline(always)]
    fn logistic(self) -> Self {
        Self::one() / (Self::one() + (-self).power_of_e())
    }
}

impl Curves for f32 {
    #[inline(always)]
    fn power_of_e(self) -> f32 {
        // x = n × ln 2 + rest. The constant moves the integer n into the low bits of a float.
        const SHIFT: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Beyond these the result is 0 or infinite in any case. A NaN passes both comparisons.
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -104.0 { -104.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        let rest = x - n * LN2_HIGH - n * LN2_LOW;
        let p = 1.987_569_1e-4_f32;
        let p = p * rest + 1.398_199_9e-3;
        let p = p * rest + 8.333_452e-3;
        let p = p * rest + 4.166_579_6e-2;
        let p = p * rest + 1.666_666_5e-1;
        let p = p * rest + 5.0e-1;
        let value = p * rest * rest + rest + 1.0;
        // 2ⁿ in two steps: n is from −150 to 128, and one float has no such exponent.
        let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
        let (half, other) = (n >> 1, n - (n >> 1));
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        value * power(half) * power(other)
    }

    #[inline(always)]
    fn tangent(self) -> f32 {
        let size = self.abs();
        let square = self * self;
        let p = -5.704_988_7e-3_f32;
        let p = p * square + 2.063_909e-2;
        let p = p * square - 5.373_971_6e-2;
        let p = p * square + 1.333_144_2e-1;
        let p = p * square - 3.333_328e-1;
        let near = p * square * self + self;
        let e = (-2.0 * size).power_of_e();
        let far = ((1.0 - e) / (1.0 + e)).copysign(self);
        if size < 0.625 { near } else { far }
    }

    #[inline(always)]
    fn erf_complement(self) -> f32 {
        // A Chebyshev fit (Numerical Recipes, `erfcc`): its relative error is below 1.2e-7 everywhere.
        let size = self.abs();
        let t = 1.0 / (1.0 + 0.5 * size);
        let p = 0.170_872_77_f32;
        let p = p * t - 0.822_152_23;
        let p = p * t + 1.488_515_9;
        let p = p * t - 1.135_204;
        let p = p * t + 0.278_868_07;
        let p = p * t - 0.186_288_06;
        let p = p * t + 0.096_784_18;
        let p = p * t + 0.374_091_96;
        let p = p * t + 1.000_023_7;
        let p = p * t - 1.265_512_2;
        let value = t * (p - size * size).power_of_e();
        if self < 0.0 { 2.0 - value } else { value }
    }
}

impl Curves for f64 {
    fn power_of_e(self) -> f64 {
        self.exp()
    }

    fn tangent(self) -> f64 {
        self.tanh()
    }

    fn erf_complement(self) -> f64 {
        error_function::erf_complement(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest difference from the exact values, relative to `exact` and at least `least`.
    fn error(least: f64, fast: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let points = (-30_000..=30_000).map(|at| at as f32 * 0.0029);
        points
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(fast(x)) - exact).abs() / exact.abs().max(least)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn single_precision_is_near_the_exact_value() {
        assert!(error(1e-37, f32::power_of_e, f64::exp) < 3e-7);
        assert!(error(1e-37, f32::tangent, f64::tanh) < 3e-7);
        assert!(error(1e-30, f32::erf_complement, f64::erf_complement) < 1e-5);
        assert!(error(1.0, f32::logistic, |x| 1.0 / (1.0 + (-x).exp())) < 3e-7);
    }

    #[test]
    fn double_precision_of_the_error_function() {
        // Values of the C library.
        for (x, exact) in [
            (0.0_f64, 1.0_f64),
            (0.5, 0.479_500_122_186_953_5),
            (2.4, 6.885_138_966_450_789e-4),
            (2.6, 2.360_344_165_293_492e-4),
            (5.0, 1.537_459_794_428_035e-12),
            (-1.0, 1.842_700_792_949_715),
        ] {
            assert!((x.erf_complement() - exact).abs() <= 1e-13 * exact.abs(), "{x}");
        }
    }

    #[test]
    fn ends_and_nan() {
        assert_eq!(f32::INFINITY.power_of_e(), f32::INFINITY);
        assert_eq!(f32::NEG_INFINITY.power_of_e(), 0.0);
        assert_eq!(100_f32.power_of_e(), f32::INFINITY);
        assert_eq!(0_f32.power_of_e(), 1.0);
        assert_eq!(f32::INFINITY.tangent(), 1.0);
        assert_eq!(f32::NEG_INFINITY.tangent(), -1.0);
        assert_eq!(f32::NEG_INFINITY.logistic(), 0.0);
        for nan in [f32::NAN.power_of_e(), f32::NAN.tangent(), f32::NAN.erf_complement()] {
            assert!(nan.is_nan());
        }
    }
}
