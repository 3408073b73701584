//! Activations of one input. Each is a function of one element, with parameters from its attributes.
//!
//! `BiasGelu` and `FastGelu` of `com.microsoft` add a bias along the last axis first.

use onnxd_kernels::functions as kernels;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::{Built, built};

/// A function of one element.
#[derive(Debug, Clone, Copy)]
pub enum Function {
    /// max(0, x) + min(0, alpha × (exp(x ÷ alpha) − 1)).
    Celu { alpha: f32 },
    /// max(min, min(max, x)).
    Clip { min: f32, max: f32 },
    /// alpha × (exp(x) − 1) below 0.
    Elu { alpha: f32 },
    /// x × Φ(x), where Φ is the normal distribution.
    Gelu,
    /// `Gelu` with Φ approximated by a hyperbolic tangent.
    GeluTanh,
    /// max(0, min(1, alpha × x + beta)).
    HardSigmoid { alpha: f32, beta: f32 },
    /// alpha × x below 0.
    LeakyRelu { alpha: f32 },
    /// x × tanh(ln(1 + exp(x))).
    Mish,
    /// x × max(0, min(1, x ÷ 6 + ½)).
    HardSwish,
    /// max(0, x).
    Relu,
    /// gamma × x, and gamma × alpha × (exp(x) − 1) up to 0.
    Selu { alpha: f32, gamma: f32 },
    /// x moved by `bias` toward 0 outside of −lambd to lambd, and 0 inside.
    Shrink { bias: f32, lambd: f32 },
    /// 1 ÷ (1 + exp(−x)).
    Sigmoid,
    /// ln(1 + exp(x)).
    Softplus,
    /// x ÷ (1 + |x|).
    Softsign,
    /// x × sigmoid(alpha × x).
    Swish { alpha: f32 },
    /// x rounded to `scale` times a whole number from `least` to `most`.
    Stepped { scale: f32, least: f32, most: f32 },
    /// The hyperbolic tangent.
    Tanh,
    /// x above alpha, and 0 elsewhere.
    ThresholdedRelu { alpha: f32 },
}

impl Function {
    /// The kernel of this function, which computes in FP32.
    pub fn kernel(self) -> Option<kernels::Function> {
        Some(match self {
            Function::Clip { min, max } if min <= max => kernels::Function::Between { least: min, most: max },
            Function::Gelu => kernels::Function::Gelu,
            Function::GeluTanh => kernels::Function::GeluTanh,
            Function::HardSigmoid { alpha, beta } => kernels::Function::HardSigmoid { alpha, beta },
            Function::HardSwish => kernels::Function::HardSwish,
            Function::LeakyRelu { alpha } => kernels::Function::LeakyRelu { slope: alpha },
            Function::Mish => kernels::Function::Mish,
            Function::Relu => kernels::Function::Relu,
            Function::Sigmoid => kernels::Function::Sigmoid,
            Function::Stepped { scale, least, most } => kernels::Function::Stepped { scale, least, most },
            Function::Swish { alpha } => kernels::Function::Swish { alpha },
            Function::Tanh => kernels::Function::Tanh,
            _ => return None,
        })
    }

    /// Replaces each element by the function of it.
    pub fn apply<T: Curves>(self, values: &mut [T]) {
        if let (Some(function), Some(singles)) = (self.kernel(), T::singles_mut(values)) {
            return kernels::apply(function, singles);
        }
        let (zero, one) = (T::zero(), T::one());
        let of = |parameter: f32| T::of(f64::from(parameter));
        match self {
            Function::Celu { alpha } => {
                let alpha = of(alpha);
                each(values, |x| if x < zero { alpha * (x / alpha).exp_m1() } else { x });
            }
            Function::Clip { min, max } => {
                let (min, max) = (of(min), of(max));
                each(values, |x| between(min, x, max));
            }
            Function::Elu { alpha } => {
                let alpha = of(alpha);
                each(values, |x| if x < zero { alpha * x.exp_m1() } else { x });
            }
            Function::Gelu => {
                let (half, root) = (T::of(0.5), T::of(-std::f64::consts::FRAC_1_SQRT_2));
                each(values, |x| half * x * (root * x).erf_complement());
            }
            Function::GeluTanh => {
                let (half, cubic) = (T::of(0.5), T::of(0.044715));
                let root = T::of((2.0 / std::f64::consts::PI).sqrt());
                each(values, |x| {
                    let inner = root * (x + cubic * x * x * x);
                    half * x * (one + inner.tangent())
                });
            }
            Function::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (of(alpha), of(beta));
                each(values, |x| between(zero, alpha * x + beta, one));
            }
            Function::HardSwish => {
                let (sixth, half) = (T::of(1.0 / 6.0), T::of(0.5));
                each(values, |x| x * between(zero, sixth * x + half, one));
            }
            Function::LeakyRelu { alpha } => {
                let alpha = of(alpha);
                each(values, |x| if x < zero { alpha * x } else { x });
            }
            Function::Mish => {
                let (two, large) = (T::of(2.0), T::of(20.0));
                // tanh(ln(1 + e)) = e (e + 2) ÷ (e (e + 2) + 2).
                each(values, |x| {
                    let e = (if x > large { large } else { x }).power_of_e();
                    let product = e * (e + two);
                    if x > large { x } else { x * (product / (product + two)) }
                });
            }
            Function::Relu => each(values, |x| if x < zero { zero } else { x }),
            Function::Selu { alpha, gamma } => {
                let (alpha, gamma) = (of(alpha), of(gamma));
                each(values, |x| gamma * if x > zero { x } else { alpha * x.exp_m1() });
            }
            Function::Shrink { bias, lambd } => {
                let (bias, lambd) = (of(bias), of(lambd));
                each(values, |x| match () {
                    () if x < -lambd => x + bias,
                    () if x > lambd => x - bias,
                    () => zero,
                });
            }
            Function::Sigmoid => each(values, |x| x.logistic()),
            Function::Softplus => {
                each(values, |x| (if x < zero { zero } else { x }) + (-x.abs()).exp().ln_1p())
            }
            Function::Softsign => each(values, |x| x / (one + x.abs())),
            Function::Stepped { scale, least, most } => {
                let (scale, least, most) = (of(scale), of(least), of(most));
                each(values, |x| {
                    let step = x / scale;
                    let step = if step > least { step } else { least };
                    // Halves to even ones, as the kernel does.
                    let step = if step < most { step } else { most };
                    let rounded = step.round();
                    let is_half = (step - step.trunc()).abs() == T::of(0.5);
                    let is_odd = rounded % T::of(2.0) != zero;
                    scale * if is_half && is_odd { rounded - step.signum() } else { rounded }
                });
            }
            Function::Swish { alpha } => {
                let alpha = of(alpha);
                each(values, |x| x * (alpha * x).logistic());
            }
            Function::Tanh => each(values, |x| x.tangent()),
            Function::ThresholdedRelu { alpha } => {
                let alpha = of(alpha);
                each(values, |x| if x > alpha { x } else { zero });
            }
        }
    }
}

#[inline(always)]
fn each<T: Copy>(values: &mut [T], function: impl Fn(T) -> T) {
    values.iter_mut().for_each(|value| *value = function(*value));
}

/// A number limited to a range. NaN stays NaN.
#[inline(always)]
fn between<T: PartialOrd>(least: T, number: T, most: T) -> T {
    let number = if number < least { least } else { number };
    if number > most { most } else { number }
}

/// The operator.
#[derive(Debug)]
struct Unary {
    name: &'static str,
    function: Function,
    bias: Bias,
}

/// Whether something is added first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bias {
    /// The operator has one input.
    Never,
    /// The second input, if it is there: one number for each element of the last axis.
    Optional,
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        let takes_integers = matches!(self.function, Function::Shrink { .. });
        if !(takes_integers && input.datum_type.is_integer()) {
            expect_float(input, "X")?;
        }
        if let Some(bias) = inputs.optional(1)
            && (self.bias == Bias::Never || bias.rank() != 1 || input.rank() == 0)
        {
            return Err(TractError::msg(format!(
                "its second input has {} axes: expected {}",
                bias.rank(),
                if self.bias == Bias::Never {
                    "no second input"
                } else {
                    "1, for the last axis of the first"
                }
            )));
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn as_step(&self, inputs: &Inputs<Kind>) -> Option<Step> {
        let is_single = inputs.0.iter().flatten().all(|kind| kind.datum_type == DatumType::F32);
        let kernel = self.function.kernel().filter(|_| is_single && inputs.optional(1).is_none())?;
        Some(Step::Function(kernel))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "X")?.datum_type() {
            DatumType::F16 | DatumType::F32 => self.compute::<f32>(inputs),
            _ => self.compute::<f64>(inputs),
        }
    }
}

impl Unary {
    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let mut output = wide::<T>(input)?.into_owned();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        if let Some(bias) = inputs.optional(1) {
            add_bias(values, bias, input.shape())?;
        }
        self.function.apply(values);
        Ok(tvec![rounded(output, input.datum_type())?])
    }
}

/// Adds one number for each element of the last axis.
fn add_bias<T: Curves>(values: &mut [T], bias: &Tensor, shape: &[usize]) -> TractResult<()> {
    let bias = wide::<T>(bias)?;
    let bias = elements::<T>(&bias)?;
    if shape.last() != Some(&bias.len()) {
        return Err(TractError::msg(format!(
            "its second input has {} elements: expected those of the last axis of the first, {shape:?}",
            bias.len()
        )));
    }
    for row in values.chunks_exact_mut(bias.len().max(1)) {
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += *bias);
    }
    Ok(())
}

pub fn unary(name: &'static str, function: Function) -> Built {
    built(Unary { name, function, bias: Bias::Never })
}

/// Builds a `Celu` from its node.
pub fn celu(attributes: &Attributes) -> Built {
    let alpha = attributes.float("alpha", 1.0)?;
    if alpha == 0.0 {
        return Err(attributes.wrong("`alpha` is 0, and the input is divided by it: expected another number"));
    }
    unary("Celu", Function::Celu { alpha })
}

/// Builds an `Elu` from its node.
pub fn elu(attributes: &Attributes) -> Built {
    unary("Elu", Function::Elu { alpha: attributes.float("alpha", 1.0)? })
}

/// Builds a `Gelu` from its node.
pub fn gelu(attributes: &Attributes) -> Built {
    match attributes.string("approximate", "none")? {
        "none" => unary("Gelu", Function::Gelu),
        "tanh" => unary("Gelu", Function::GeluTanh),
        other => Err(attributes.wrong(format!("`approximate` is `{other}`: expected `none` or `tanh`"))),
    }
}

/// Builds a `BiasGelu` of onnxruntime from its node.
pub fn bias_gelu(_: &Attributes) -> Built {
    built(Unary { name: "BiasGelu", function: Function::Gelu, bias: Bias::Optional })
}

/// Builds a `FastGelu` of onnxruntime from its node.
pub fn fast_gelu(_: &Attributes) -> Built {
    built(Unary { name: "FastGelu", function: Function::GeluTanh, bias: Bias::Optional })
}

/// Builds a `QuickGelu` of onnxruntime from its node.
pub fn quick_gelu(attributes: &Attributes) -> Built {
    unary("QuickGelu", Function::Swish { alpha: attributes.float("alpha", 1.702)? })
}

/// Builds a `HardSigmoid` from its node.
pub fn hard_sigmoid(attributes: &Attributes) -> Built {
    let (alpha, beta) = (attributes.float("alpha", 0.2)?, attributes.float("beta", 0.5)?);
    unary("HardSigmoid", Function::HardSigmoid { alpha, beta })
}

/// Builds a `HardSwish` from its node.
pub fn hard_swish(_: &Attributes) -> Built {
    unary("HardSwish", Function::HardSwish)
}

/// Builds a `LeakyRelu` from its node.
pub fn leaky_relu(attributes: &Attributes) -> Built {
    unary("LeakyRelu", Function::LeakyRelu { alpha: attributes.float("alpha", 0.01)? })
}

/// Builds a `Mish` from its node.
pub fn mish(_: &Attributes) -> Built {
    unary("Mish", Function::Mish)
}

/// Builds a `Selu` from its node. The first version has other defaults.
pub fn selu(attributes: &Attributes) -> Built {
    let is_first = (1..6).contains(&attributes.version());
    let (alpha, gamma) = if is_first { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (attributes.float("alpha", alpha)?, attributes.float("gamma", gamma)?);
    unary("Selu", Function::Selu { alpha, gamma })
}

/// Builds a `Shrink` from its node. Integers are computed in FP64, and rounded toward 0.
pub fn shrink(attributes: &Attributes) -> Built {
    let (bias, lambd) = (attributes.float("bias", 0.0)?, attributes.float("lambd", 0.5)?);
    unary("Shrink", Function::Shrink { bias, lambd })
}

/// Builds a `Sigmoid` from its node.
pub fn sigmoid(_: &Attributes) -> Built {
    unary("Sigmoid", Function::Sigmoid)
}

/// Builds a `Softplus` from its node.
pub fn softplus(_: &Attributes) -> Built {
    unary("Softplus", Function::Softplus)
}

/// Builds a `Softsign` from its node.
pub fn softsign(_: &Attributes) -> Built {
    unary("Softsign", Function::Softsign)
}

/// Builds a `Swish` from its node.
pub fn swish(attributes: &Attributes) -> Built {
    unary("Swish", Function::Swish { alpha: attributes.float("alpha", 1.0)? })
}

/// Builds a `Tanh` from its node.
pub fn tanh(_: &Attributes) -> Built {
    unary("Tanh", Function::Tanh)
}

/// Builds a `ThresholdedRelu` from its node.
pub fn thresholded_relu(attributes: &Attributes) -> Built {
    unary("ThresholdedRelu", Function::ThresholdedRelu { alpha: attributes.float("alpha", 1.0)? })
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, string};
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn one(name: &str, attributes: &[AttributeProto], x: f32) -> f32 {
        let output = Trial::new(Domain::Onnx, name, attributes).run(&[Some(tensor1(&[x]))]).unwrap();
        elements::<f32>(&output[0]).unwrap()[0]
    }

    /// Checks a value that NumPy gave in FP64.
    fn check(name: &str, attributes: &[AttributeProto], x: f32, expected: f32) {
        let found = one(name, attributes, x);
        assert!(
            (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
            "{name}({x}): {found}, expected {expected}"
        );
    }

    #[test]
    fn parameters_are_honoured() {
        check("Celu", &[float("alpha", 2.0)], -1.0, -0.786_938_7);
        check("Elu", &[float("alpha", 2.0)], -1.0, -1.264_241_1);
        check("Selu", &[float("alpha", 2.0), float("gamma", 3.0)], -1.0, -3.792_723_3);
        check("Selu", &[], 2.0, 2.101_402);
        check("LeakyRelu", &[float("alpha", 0.1)], -2.0, -0.2);
        check("HardSigmoid", &[float("alpha", 0.5), float("beta", 0.6)], -1.0, 0.1);
        check("HardSwish", &[], 1.0, 0.666_666_7);
        check("Gelu", &[], -1.0, -0.158_655_26);
        check("Gelu", &[string("approximate", "tanh")], -1.0, -0.158_808_01);
        check("Gelu", &[], -4.0, -1.266_848_5e-4);
        check("Mish", &[], -1.0, -0.303_401_47);
        check("Mish", &[], 30.0, 30.0);
        check("Swish", &[float("alpha", 0.5)], 1.0, 0.622_459_35);
        check("Shrink", &[float("bias", 1.5), float("lambd", 1.5)], -2.0, -0.5);
        check("Softsign", &[], -3.0, -0.75);
        check("ThresholdedRelu", &[float("alpha", 2.0)], 1.5, 0.0);
        check("Tanh", &[], 1e-4, 1e-4);
        check("Sigmoid", &[], -10.0, 4.539_787e-5);
    }

    #[test]
    fn softplus_does_not_overflow() {
        check("Softplus", &[], 1000.0, 1000.0);
        check("Softplus", &[], -20.0, 2.061_153_6e-9);
        check("Softplus", &[], 0.0, std::f32::consts::LN_2);
        assert_eq!(one("Softplus", &[], f32::NEG_INFINITY), 0.0);
        assert_eq!(one("Softplus", &[], f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn a_product_with_infinity_times_zero_is_nan_as_in_the_standard() {
        for name in ["Gelu", "HardSwish", "Mish", "Swish"] {
            assert!(one(name, &[], f32::NEG_INFINITY).is_nan(), "{name}");
            assert_eq!(one(name, &[], -1e30), 0.0, "{name}");
        }
        assert!(one("Gelu", &[string("approximate", "tanh")], f32::NEG_INFINITY).is_nan());
    }

    #[test]
    fn nan_stays_nan() {
        for name in [
            "Celu",
            "Elu",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "Mish",
            "Selu",
            "Sigmoid",
            "Softplus",
            "Softsign",
            "Swish",
            "Tanh",
        ] {
            assert!(one(name, &[], f32::NAN).is_nan(), "{name}");
        }
    }

    #[test]
    fn half_precision_is_rounded_once() {
        let input = tensor1(&[f16::from_f32(-1.0), f16::from_f32(2.0)]);
        let output = Trial::new(Domain::Onnx, "Celu", &[float("alpha", 2.0)]).run(&[Some(input)]).unwrap();
        assert_eq!(elements::<f16>(&output[0]).unwrap(), [f16::from_f32(-0.786_938_7), f16::from_f32(2.0)]);
    }

    #[test]
    fn a_celu_that_divides_by_zero_is_an_error() {
        let trial = Trial::new(Domain::Onnx, "Celu", &[float("alpha", 0.0)]);
        assert!(trial.run(&[Some(tensor1(&[1_f32]))]).unwrap_err().to_string().contains("`alpha` is 0"));
    }

    #[test]
    fn shrink_takes_integers() {
        let trial = Trial::new(Domain::Onnx, "Shrink", &[float("bias", 1.0), float("lambd", 1.5)]);
        let output = trial.run(&[Some(tensor1(&[-3_i8, -1, 0, 2]))]).unwrap();
        assert_eq!(elements::<i8>(&output[0]).unwrap(), [-2, 0, 0, 1]);
    }

    #[test]
    fn a_bias_must_fit_the_last_axis() {
        let trial = Trial::new(Domain::Microsoft, "BiasGelu", &[]);
        let output = trial.run(&[Some(tensor2(&[[0_f32, 1.0]])), Some(tensor1(&[-1_f32, 0.0]))]).unwrap();
        let found = elements::<f32>(&output[0]).unwrap();
        assert!((found[0] + 0.158_655_26).abs() < 1e-6 && (found[1] - 0.841_344_7).abs() < 1e-6);
        let wrong = trial.run(&[Some(tensor2(&[[0_f32, 1.0]])), Some(tensor1(&[1_f32]))]);
        assert!(wrong.unwrap_err().to_string().contains("last axis"));
    }
}
