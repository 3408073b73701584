//! The activation functions of recurrent operators.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::Real;

/// A function of one number, with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    /// alpha · x + beta
    Affine(f64, f64),
    LeakyRelu(f64),
    ThresholdedRelu(f64),
    /// alpha · tanh(beta · x)
    ScaledTanh(f64, f64),
    /// alpha · x + beta, from 0 to 1
    HardSigmoid(f64, f64),
    Elu(f64),
    Softsign,
    Softplus,
}

impl Activation {
    /// Applies the function to each number.
    pub fn apply<T: Real>(self, values: &mut [T]) {
        let (zero, one) = (T::zero(), T::one());
        let t = T::of;
        match self {
            Activation::Relu => each(values, |x| if x < zero { zero } else { x }),
            Activation::Tanh => T::tanh_of_each(values),
            Activation::Sigmoid => T::sigmoid_of_each(values),
            Activation::Affine(alpha, beta) => each(values, |x| t(alpha) * x + t(beta)),
            Activation::LeakyRelu(alpha) => each(values, |x| if x < zero { t(alpha) * x } else { x }),
            Activation::ThresholdedRelu(alpha) => each(values, |x| if x > t(alpha) { x } else { zero }),
            Activation::ScaledTanh(alpha, beta) => each(values, |x| t(alpha) * (t(beta) * x).tanh()),
            Activation::HardSigmoid(alpha, beta) => {
                each(values, |x| between(zero, t(alpha) * x + t(beta), one))
            }
            Activation::Elu(alpha) => each(values, |x| if x < zero { t(alpha) * x.exp_m1() } else { x }),
            Activation::Softsign => each(values, |x| x / (one + x.abs())),
            // With the shift, no exponential overflows.
            Activation::Softplus => each(values, |x| x.max(zero) + (-x.abs()).exp().ln_1p()),
        }
    }
}

/// The nearest number from `least` to `most`. NaN stays NaN, which `max` and `min` would make a number.
pub fn between<T: Real>(least: T, number: T, most: T) -> T {
    let number = if number < least { least } else { number };
    if number > most { most } else { number }
}

fn each<T: Real>(values: &mut [T], function: impl Fn(T) -> T) {
    values.iter_mut().for_each(|value| *value = function(*value));
}

/// Reads the activations of a node: `defaults` for each of its directions when it names none. Parameters are taken from the
/// lists in order, each by the next function that has it.
pub fn read(attributes: &Attributes, defaults: &[&str], directions: usize) -> TractResult<Vec<Activation>> {
    let mut names = attributes.strings("activations")?;
    if names.is_empty() {
        names = defaults.iter().map(|name| (*name).to_owned()).collect();
        names = std::iter::repeat_n(names, directions).flatten().collect();
    }
    let expected = defaults.len() * directions;
    if names.len() != expected {
        return Err(attributes.wrong(format!("`activations` has {} names: expected {expected}", names.len())));
    }
    let mut alphas = attributes.floats("activation_alpha")?.iter().copied();
    let mut betas = attributes.floats("activation_beta")?.iter().copied();
    let mut alpha = |default: f64| alphas.next().map_or(default, f64::from);
    let mut beta = |default: f64| betas.next().map_or(default, f64::from);
    // The standard has no default for the parameters of Affine and ScaledTanh, and programs take different numbers.
    let both = |name: &str, alpha: f64, beta: f64| {
        match alpha.is_nan() || beta.is_nan() {
        true => Err(attributes.wrong(format!(
            "the activation `{name}` needs a number in `activation_alpha` and one in `activation_beta`: the standard has no \
             default for them"
        ))),
        false => Ok((alpha, beta)),
    }
    };
    let one = |name: &String| {
        Ok(match name.to_lowercase().as_str() {
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "affine" => {
                let (alpha, beta) = both(name, alpha(f64::NAN), beta(f64::NAN))?;
                Activation::Affine(alpha, beta)
            }
            "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
            "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
            "scaledtanh" => {
                let (alpha, beta) = both(name, alpha(f64::NAN), beta(f64::NAN))?;
                Activation::ScaledTanh(alpha, beta)
            }
            "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
            "elu" => Activation::Elu(alpha(1.0)),
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            _ => {
                return Err(attributes.wrong(format!("the activation `{name}` is not one of the standard's")));
            }
        })
    };
    names.iter().map(one).collect()
}

/// The limit of the inputs of activations. `None` when there is none.
pub fn clip(attributes: &Attributes) -> TractResult<Option<f32>> {
    if !attributes.has("clip") {
        return Ok(None);
    }
    match attributes.float("clip", 0.0)? {
        clip if clip >= 0.0 => Ok(Some(clip)),
        clip => Err(attributes.wrong(format!("`clip` is {clip}: expected 0 or more"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, float, floats, int, strings};
    use super::*;

    #[test]
    fn parameters_without_a_default_in_the_standard_must_be_there() {
        let run = |more: &[tract_onnx::pb::AttributeProto]| {
            let attributes = [&[int("hidden_size", 1), strings("activations", &["Affine"])], more].concat();
            let one = || Some(tensor3(&[[[1_f32]]]));
            Trial::new(Domain::Onnx, "RNN", &attributes).run(&[one(), one(), one()])
        };
        let (alpha, beta) = (floats("activation_alpha", &[2.0]), floats("activation_beta", &[0.5]));
        let outputs = run(&[alpha.clone(), beta]).unwrap();
        assert_eq!(elements::<f32>(&outputs[0]).unwrap(), [2.5]);
        let error = run(&[alpha]).unwrap_err().to_string();
        assert!(error.contains("`Affine` needs a number in `activation_alpha`"), "{error}");
    }

    #[test]
    fn nan_passes_a_limit_and_a_hard_sigmoid() {
        for activation in ["Tanh", "HardSigmoid"] {
            let attributes = [float("clip", 0.5), strings("activations", &[activation])];
            let input = |value: f32| Some(tensor3(&[[[value]]]));
            let trial = Trial::new(Domain::Onnx, "RNN", &attributes);
            let outputs = trial.run(&[input(f32::NAN), input(1.0), input(1.0)]).unwrap();
            assert!(elements::<f32>(&outputs[0]).unwrap()[0].is_nan(), "{activation}");
        }
    }

    #[test]
    fn a_limit_of_activations_is_not_negative() {
        let trial = Trial::new(Domain::Onnx, "RNN", &[float("clip", -0.5)]);
        let error = trial.run(&[None, None, None]).unwrap_err().to_string();
        assert!(error.contains("`clip` is -0.5: expected 0 or more"), "{error}");
    }

    #[test]
    fn weights_of_another_type_than_the_input_are_an_error() {
        let (x, w) = (Some(tensor3(&[[[1_f32]]])), || Some(tensor3(&[[[1_f64]]])));
        let error = Trial::new(Domain::Onnx, "RNN", &[]).run(&[x, w(), w()]).unwrap_err().to_string();
        assert!(error.contains("`W` is of type F64, and `X` of type F32: expected the same"), "{error}");
    }

    #[test]
    fn a_flag_is_0_or_1() {
        let trial = Trial::new(Domain::Onnx, "RNN", &[int("layout", -1)]);
        let error = trial.run(&[None, None, None]).unwrap_err().to_string();
        assert!(error.contains("`layout` is -1: expected 0 or 1"), "{error}");
    }
}
