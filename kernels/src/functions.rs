//! Functions of one number, for many numbers at once.
//!
//! Each has an error of a few units in the last place; the tests say how many. NaN stays NaN.

use super::level::{Level, for_levels};
use super::simd::Simd;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Exp,
    /// 1 ÷ (1 + e⁻ˣ)
    Sigmoid,
    Tanh,
    /// The number itself, but 0 for negative ones.
    Relu,
}

/// Replaces each number by the function of it.
pub fn apply(function: Function, numbers: &mut [f32]) {
    apply_at(Level::best(), function, numbers);
}

for_levels! {
    fn apply_at(function: Function, numbers: &mut [f32]) = apply_in;
}

#[inline(always)]
pub(crate) fn apply_in<V: Simd>(function: Function, numbers: &mut [f32]) {
    match function {
        Function::Exp => each::<V>(numbers, exp),
        Function::Sigmoid => each::<V>(numbers, sigmoid),
        Function::Tanh => each::<V>(numbers, tanh),
        Function::Relu => each::<V>(numbers, |x| V::splat(0.0).max(x)),
    }
}

#[inline(always)]
fn each<V: Simd>(numbers: &mut [f32], function: impl Fn(V) -> V) {
    for some in numbers.chunks_mut(V::LANES) {
        function(V::load_part(some)).store_part(some);
    }
}

/// The nearest number from `least` to `most`. NaN stays NaN.
#[inline(always)]
fn between<V: Simd>(least: f32, number: V, most: f32) -> V {
    V::splat(least).max(V::splat(most).min(number))
}

/// A polynomial, by its coefficients from the highest power down.
#[inline(always)]
fn polynomial<V: Simd, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = V::splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, V::splat(*coefficient));
    }
    sum
}

/// e to the power of `x = n · ln 2 + r`: the power of `r` and `n`. `x` is at most 89 and at least −104.
#[inline(always)]
fn exp_parts<V: Simd>(x: V) -> (V, V) {
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, of which the first has few bits, so that the product with n is exact.
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let terms = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let power = polynomial(r, terms).mul_add(r.mul(r), r).add(V::splat(1.0));
    (power, n)
}

#[inline(always)]
pub(crate) fn exp<V: Simd>(x: V) -> V {
    let (power, n) = exp_parts(between(-104.0, x, 89.0));
    // 2ⁿ in two parts, because n can be one less or more than the exponents of FP32.
    let half = n.mul(V::splat(0.5)).round();
    power.mul(half.power_of_two()).mul(n.sub(half).power_of_two())
}

#[inline(always)]
pub(crate) fn sigmoid<V: Simd>(x: V) -> V {
    let one = V::splat(1.0);
    let (power, n) = exp_parts(V::splat(0.0).sub(between(-87.0, x, 87.0)));
    one.div(power.mul_add(n.power_of_two(), one))
}

#[inline(always)]
pub(crate) fn tanh<V: Simd>(x: V) -> V {
    let (one, two) = (V::splat(1.0), V::splat(2.0));
    let magnitude = V::splat(10.0).min(x.abs());
    let (power, n) = exp_parts(magnitude.mul(two));
    let far = one.sub(two.div(power.mul_add(n.power_of_two(), one))).with_sign(x);
    // Near 0 the difference above loses digits.
    let square = x.mul(x);
    let terms = [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1];
    let near = polynomial(square, terms).mul_add(square.mul(x), x);
    magnitude.if_less(V::splat(0.625), near, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in units in the last place over numbers from −`most` to `most`, at all levels. Results below the
    /// normal numbers count as that far from 0.
    fn worst(function: Function, most: f32, exact: impl Fn(f64) -> f64) -> f64 {
        let numbers: Vec<f32> = (-400_000..=400_000).map(|at| at as f32 / 400_000.0 * most).collect();
        let tiny: Vec<f32> = (0..60).map(|at| 2_f32.powi(-at)).collect();
        let numbers = [numbers, tiny].concat();
        let mut worst = 0_f64;
        for level in Level::all() {
            let mut results = numbers.clone();
            apply_at(level, function, &mut results);
            for (number, result) in numbers.iter().zip(&results) {
                let expected = exact(f64::from(*number));
                let unit =
                    f64::from((expected.abs() as f32).max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
                worst = worst.max((f64::from(*result) - expected).abs() / unit);
            }
        }
        worst
    }

    #[test]
    fn results_are_within_a_few_units_in_the_last_place() {
        let exp_worst = worst(Function::Exp, 88.0, f64::exp);
        assert!(exp_worst < 1.5, "{exp_worst}");
        let sigmoid_worst = worst(Function::Sigmoid, 87.0, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(sigmoid_worst < 2.5, "{sigmoid_worst}");
        let tanh_worst = worst(Function::Tanh, 20.0, f64::tanh);
        assert!(tanh_worst < 2.0, "{tanh_worst}");
    }

    #[test]
    fn nan_infinity_and_the_ends_of_the_range() {
        let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 89.0, -104.0, -0.0, 88.7];
        let expected = [
            (Function::Exp, [f32::INFINITY, 0.0, f32::INFINITY, 0.0, 1.0, 88.7_f32.exp()]),
            (Function::Sigmoid, [1.0, 0.0, 1.0, 0.0, 0.5, 1.0]),
            (Function::Tanh, [1.0, -1.0, 1.0, -1.0, 0.0, 1.0]),
        ];
        for level in Level::all() {
            for (function, expected) in expected {
                let mut results = ends;
                apply_at(level, function, &mut results);
                assert!(results[0].is_nan(), "{level:?} {function:?}");
                for (result, expected) in results[1..].iter().zip(expected) {
                    let is_near = *result == expected || (result / expected - 1.0).abs() < 1e-6;
                    assert!(
                        is_near || (result - expected).abs() < 1e-37,
                        "{level:?} {function:?} {results:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_length_is_computed_to_its_end() {
        for level in Level::all() {
            for length in 0..40 {
                let mut results = vec![1.0; length];
                apply_at(level, Function::Exp, &mut results);
                assert!(results.iter().all(|result| (result - std::f32::consts::E).abs() < 1e-6), "{length}");
            }
        }
    }
}
