//! Functions of one number, for many numbers at once.
//!
//! Each has an error of a few units in the last place; the tests say how many. NaN stays NaN.

use super::after::Block;
use super::level::{Level, for_levels};
use super::simd::Simd;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    Exp,
    /// The error function.
    Erf,
    /// 1 ÷ (1 + e⁻ˣ)
    Sigmoid,
    Tanh,
    /// The number itself, but 0 for negative ones.
    Relu,
    /// `slope` · x for negative numbers.
    LeakyRelu {
        slope: f32,
    },
    /// The nearest number from `least` to `most`.
    Between {
        least: f32,
        most: f32,
    },
    /// max(0, min(1, alpha · x + beta))
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// x · max(0, min(1, x ÷ 6 + ½))
    HardSwish,
    /// x · sigmoid(alpha · x)
    Swish {
        alpha: f32,
    },
    /// x · tanh(ln(1 + eˣ))
    Mish,
    /// x · Φ(x), where Φ is the normal distribution.
    Gelu,
    /// The same with an approximation of Φ by a hyperbolic tangent.
    GeluTanh,
    /// The nearest multiple of `scale`, to even ones from the middle, of those with factors from `least` to `most`, whole
    /// numbers of up to 16 bits. NaN becomes the least one.
    Stepped {
        scale: f32,
        least: f32,
        most: f32,
    },
}

/// Replaces each number by the function of it.
pub fn apply(function: Function, numbers: &mut [f32]) {
    apply_at(Level::best(), function, numbers);
}

for_levels! {
    fn apply_at(function: Function, numbers: &mut [f32]) = apply_to_all;
}

#[inline(always)]
fn apply_to_all<V: Simd>(function: Function, numbers: &mut [f32]) {
    apply_in::<V>(function, Block::line(0, numbers.len()), numbers);
}

/// The same for a part of the numbers.
#[inline(always)]
pub(crate) fn apply_in<V: Simd>(function: Function, block: Block, numbers: &mut [f32]) {
    // A macro and not a closure: the compiler must put all of it into the loop.
    macro_rules! each {
        ($x:ident => $value:expr) => {
            for place in block.places() {
                for some in numbers[place..][..block.count].chunks_mut(V::LANES) {
                    let $x = V::load_part(some);
                    $value.store_part(some);
                }
            }
        };
    }
    match function {
        Function::Exp => each!(x => exp(x)),
        Function::Erf => each!(x => erf(x)),
        Function::Sigmoid => each!(x => sigmoid(x)),
        Function::Tanh => each!(x => tanh(x)),
        Function::Relu => each!(x => V::splat(0.0).max(x)),
        Function::LeakyRelu { slope } => each!(x => x.if_less(V::splat(0.0), x.mul(V::splat(slope)), x)),
        Function::Between { least, most } => each!(x => between(least, x, most)),
        Function::HardSigmoid { alpha, beta } => each!(x => hard_sigmoid(alpha, beta, x)),
        Function::HardSwish => each!(x => x.mul(hard_sigmoid(1.0 / 6.0, 0.5, x))),
        Function::Swish { alpha } => each!(x => x.mul(sigmoid(x.mul(V::splat(alpha))))),
        Function::Mish => each!(x => mish(x)),
        Function::Gelu => each!(x => gelu(x)),
        Function::GeluTanh => each!(x => gelu_tanh(x)),
        Function::Stepped { scale, least, most } => {
            let (scale, least, most) = (V::splat(scale), V::splat(least), V::splat(most));
            // A NaN is not greater than the least one.
            each!(x => x.div(scale).max(least).min(most).round().mul(scale));
        }
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
    // From 88.4 on, the power of two is infinite, and the result is 0.
    let (power, n) = exp_parts(between(-87.0, V::splat(0.0).sub(x), 89.0));
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
    let terms = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    let near = polynomial(square, terms).mul_add(square.mul(x), x);
    magnitude.if_less(V::splat(0.625), near, far)
}

#[inline(always)]
fn hard_sigmoid<V: Simd>(alpha: f32, beta: f32, x: V) -> V {
    between(0.0, x.mul_add(V::splat(alpha), V::splat(beta)), 1.0)
}

#[inline(always)]
fn mish<V: Simd>(x: V) -> V {
    // tanh(ln(1 + e)) = e (e + 2) ÷ (e (e + 2) + 2), which is 1 for large numbers.
    let e = exp(V::splat(30.0).min(x));
    let product = e.mul(e.add(V::splat(2.0)));
    x.mul(product.div(product.add(V::splat(2.0))))
}

/// The error function of numbers with a magnitude up to 1, without the factor x. `square` is x².
#[inline(always)]
fn erf_near<V: Simd>(square: V) -> V {
    // A fit at Chebyshev points.
    let terms = [
        7.933_495e-5,
        -8.034_847e-4,
        5.191_219e-3,
        -2.685_54e-2,
        1.128_362_6e-1,
        -3.761_263e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    polynomial(square, terms)
}

/// 1 − erf of numbers from 1 up. It is 0 above 9.2.
#[inline(always)]
fn erf_far<V: Simd>(x: V) -> V {
    // A fit of e^(x²) · (1 − erf x) by powers of 1 ÷ x, at Chebyshev points.
    let terms = [
        -5.016_847_3e-2,
        2.466_735_4e-1,
        -4.314_781_7e-1,
        1.398_527_3e-1,
        6.423_516e-1,
        -1.144_854_8,
        8.135_763_4e-1,
        -7.953_23e-2,
        -2.723_961_2e-1,
        -6.486_265e-4,
        5.642_077_3e-1,
    ];
    let most = V::splat(9.2);
    let near = between(1.0, x, 9.2);
    let inverse = V::splat(1.0).div(near);
    let (power, n) = exp_parts(V::splat(0.0).sub(near.mul(near)));
    let value = polynomial(inverse, terms).mul(inverse).mul(power).mul(n.power_of_two());
    most.if_less(x, V::splat(0.0), value)
}

#[inline(always)]
fn erf<V: Simd>(x: V) -> V {
    let (one, size) = (V::splat(1.0), x.abs());
    let near = erf_near(x.mul(x)).mul(x);
    let far = one.sub(erf_far(size)).with_sign(x);
    one.if_less(size, far, near)
}

#[inline(always)]
fn gelu<V: Simd>(x: V) -> V {
    let (half, one) = (V::splat(0.5), V::splat(1.0));
    let scaled = x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let size = scaled.abs();
    let near = erf_near(scaled.mul(scaled)).mul(scaled).mul_add(half, half);
    // The part of the normal distribution that is further away than x.
    let rest = erf_far(size).mul(half);
    let far = x.if_less(V::splat(0.0), rest, one.sub(rest));
    x.mul(one.if_less(size, far, near))
}

#[inline(always)]
fn gelu_tanh<V: Simd>(x: V) -> V {
    let root = V::splat((2.0 / std::f32::consts::PI).sqrt());
    let cubic = x.mul(x).mul(x).mul_add(V::splat(0.044_715), x);
    // 1 + tanh(y) = 2 · sigmoid(2 y).
    x.mul(sigmoid(root.mul(cubic).mul(V::splat(2.0))))
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
        let erf_worst = worst(Function::Erf, 6.0, erf_by_series);
        assert!(erf_worst < 4.0, "{erf_worst}");
    }

    /// The error function as a sum that converges everywhere.
    fn erf_by_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp()
    }

    /// The largest difference of a function, relative to results above 1 and absolute below.
    fn difference(function: Function, exact: impl Fn(f64) -> f64) -> f64 {
        let numbers: Vec<f32> = (-30_000..=30_000).map(|at| at as f32 * 0.0029).collect();
        let mut worst = 0_f64;
        for level in Level::all() {
            let mut results = numbers.clone();
            apply_at(level, function, &mut results);
            for (number, result) in numbers.iter().zip(&results) {
                let exact = exact(f64::from(*number));
                worst = worst.max((f64::from(*result) - exact).abs() / exact.abs().max(1.0));
            }
        }
        worst
    }

    #[test]
    fn activations_are_those_of_their_formulas() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let limit = 5e-7;
        let normal = |x: f64| match x {
            x if x.abs() > 8.0 => f64::from(u8::from(x > 0.0)),
            x => 0.5 + 0.5 * erf_by_series(x / 2_f64.sqrt()),
        };
        let stepped = Function::Stepped { scale: 0.5, least: -100.0, most: 27.0 };
        let formulas: [(Function, &dyn Fn(f64) -> f64); 10] = [
            (stepped, &|x| (x * 2.0).clamp(-100.0, 27.0).round_ties_even() / 2.0),
            (Function::LeakyRelu { slope: 0.125 }, &|x| if x < 0.0 { 0.125 * x } else { x }),
            (Function::Between { least: -1.5, most: 6.0 }, &|x| x.clamp(-1.5, 6.0)),
            (Function::HardSigmoid { alpha: 0.25, beta: 0.375 }, &|x| (0.25 * x + 0.375).clamp(0.0, 1.0)),
            (Function::HardSwish, &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            (Function::Swish { alpha: 1.5 }, &|x| x * sigmoid(1.5 * x)),
            (Function::Mish, &|x| x * x.exp().ln_1p().tanh()),
            (Function::Gelu, &|x| x * normal(x)),
            (Function::GeluTanh, &|x| {
                x * sigmoid((8.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)))
            }),
            (Function::Relu, &|x| x.max(0.0)),
        ];
        for (function, exact) in formulas {
            let found = difference(function, exact);
            assert!(found < limit, "{function:?}: {found}");
        }
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
