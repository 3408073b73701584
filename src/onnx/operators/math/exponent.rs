//! exp(x) for x ≤ 0, in a form that the compiler computes for several elements at once.

use super::super::numbers::Number;

/// A type with this function.
pub trait Exponent: Number {
    /// exp(x) for x ≤ 0; NaN of NaN.
    fn exp_of_negative(self) -> Self;
}

impl Exponent for f64 {
    fn exp_of_negative(self) -> f64 {
        self.exp()
    }
}

impl Exponent for f32 {
    /// As in the Cephes library, with a relative error below 2e-7. Results below the least normal number are 0.
    #[inline(always)]
    fn exp_of_negative(self) -> f32 {
        /// ln(2) in two parts. The products of the first with small integers are exact.
        const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
        /// A number whose last binary digit before the point is the last digit of its mantissa: adding it rounds.
        const ROUND: f32 = 12_582_912.0;
        /// Below this, exp(x) is not a normal number.
        const LEAST: f32 = -87.336_54;
        const COEFFICIENTS: [f32; 6] =
            [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
        let x = if self < LEAST { LEAST } else { self };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let power = shifted - ROUND;
        let rest = x - power * LN_2.0 - power * LN_2.1;
        let series = COEFFICIENTS.iter().fold(0.0, |series, coefficient| series * rest + coefficient);
        let fraction = series * rest * rest + rest + 1.0;
        // The bits of `shifted` end with the integer; 127 is the bias of an exponent of FP32.
        let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
        let result = fraction * f32::from_bits(bits);
        if self < LEAST { 0.0 } else { result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_near_those_of_double_precision() {
        for step in 0..87_300 {
            let x = -(step as f32) / 1000.0;
            let (found, expected) = (f64::from(x.exp_of_negative()), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "exp({x}) = {found}");
        }
        assert_eq!(0_f32.exp_of_negative(), 1.0);
        assert_eq!((-0_f32).exp_of_negative(), 1.0);
        assert_eq!(f32::NEG_INFINITY.exp_of_negative(), 0.0);
        assert_eq!((-100_f32).exp_of_negative(), 0.0);
        assert!(f32::NAN.exp_of_negative().is_nan());
    }
}
