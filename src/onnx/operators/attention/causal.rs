//! `CausalConvWithState`: a convolution of each channel over the past, for decoders that get their input in parts. The state
//! has the elements that the next part needs.
//!
//! The convolution is rounded to the type of the input before the activation, as in the function of the standard.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::activation::Function;
use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Causal {
    activation: Option<Function>,
}

/// Builds a `CausalConvWithState` from its node.
pub fn causal(attributes: &Attributes) -> Built {
    let activation = match attributes.string("activation", "none")? {
        "none" => None,
        "silu" | "swish" => Some(Function::Swish { alpha: 1.0 }),
        other => {
            return Err(
                attributes.wrong(format!("`activation` is `{other}`: expected `none`, `silu` or `swish`"))
            );
        }
    };
    built(Causal { activation })
}

impl Operator for Causal {
    fn name(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, weight) = (inputs.required(0, "input")?, inputs.required(1, "weight")?);
        expect_float(input, "input")?;
        if input.rank() != 3
            || weight.rank() != 3
            || inputs.optional(3).is_some_and(|state| state.rank() != 3)
        {
            return Err(TractError::msg(format!(
                "its inputs have the shapes {:?} and {:?}: expected [batch, channels, length] and [channels, 1, k]",
                input.shape, weight.shape
            )));
        }
        let [batch, channels] = [0, 1].map(|at| input.shape[at].clone());
        let state = match weight.shape[2].to_usize() {
            Ok(0) => return Err(TractError::msg("its input `weight` is empty")),
            Ok(taps) => (taps - 1).to_dim(),
            Err(_) => weight.shape[2].clone() - 1,
        };
        Ok(tvec![
            Kind::new(input.datum_type, input.shape.clone()),
            Kind::new(input.datum_type, [batch, channels, state])
        ])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "input")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

impl Causal {
    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, weight) = (inputs.required(0, "input")?, inputs.required(1, "weight")?);
        let datum_type = input.datum_type();
        let [batch, channels, length] = [0, 1, 2].map(|at| input.shape()[at]);
        let taps = weight.shape()[2];
        let bias = inputs.optional(2);
        let past = inputs.optional(3);
        if taps == 0
            || weight.shape()[..2] != [channels, 1]
            || past.is_some_and(|past| past.shape() != [batch, channels, taps - 1])
            || bias.is_some_and(|bias| bias.shape() != [channels])
        {
            return Err(TractError::msg(format!(
                "its inputs do not fit: expected a weight of {:?}, a bias of {:?} and a state of {:?}",
                [channels, 1, taps],
                [channels],
                [batch, channels, taps.saturating_sub(1)]
            )));
        }
        let (input, weight) = (wide::<T>(input)?, wide::<T>(weight)?);
        let (input, weight) = (elements::<T>(&input)?, elements::<T>(&weight)?);
        let bias = bias.map(wide::<T>).transpose()?;
        let bias = bias.as_ref().map(|bias| elements::<T>(bias)).transpose()?;
        let past = past.map(wide::<T>).transpose()?;
        let past = past.as_ref().map(|past| elements::<T>(past)).transpose()?;
        let (mut made, mut state) = (Vec::new(), Vec::new());
        let mut line = vec![T::zero(); taps - 1 + length];
        for number in 0..batch * channels {
            let channel = number % channels;
            match past {
                Some(past) => line[..taps - 1].copy_from_slice(&past[number * (taps - 1)..][..taps - 1]),
                None => line[..taps - 1].fill(T::zero()),
            }
            line[taps - 1..].copy_from_slice(&input[number * length..][..length]);
            let begin = made.len();
            made.resize(begin + length, bias.map_or(T::zero(), |bias| bias[channel]));
            for (tap, factor) in weight[channel * taps..][..taps].iter().enumerate() {
                let to = made[begin..].iter_mut();
                to.zip(&line[tap..]).for_each(|(to, value)| *to += *factor * *value);
            }
            state.extend_from_slice(&line[length..]);
        }
        let shape = [batch, channels, length];
        let output = rounded(Tensor::from_shape(&shape, &made)?, datum_type)?;
        let state = rounded(Tensor::from_shape(&[batch, channels, taps - 1], &state)?, datum_type)?;
        let Some(activation) = self.activation else { return Ok(tvec![output, state]) };
        let mut output = wide::<T>(&output)?.into_owned();
        activation.apply(output.try_as_plain_ram_mut()?.as_slice_mut::<T>()?);
        Ok(tvec![rounded(output, datum_type)?, state])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, string};
    use super::*;

    fn three(values: &[f32]) -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 1, values.len()], values).unwrap())
    }

    #[test]
    fn parts_give_the_same_as_the_whole() {
        let trial = Trial::new(Domain::Onnx, "CausalConvWithState", &[]);
        let weight = || three(&[10.0, 1.0]);
        let whole = trial.run(&[three(&[1.0, 2.0, 3.0]), weight(), Some(tensor1(&[0.5_f32]))]).unwrap();
        assert_eq!(elements::<f32>(&whole[0]).unwrap(), [1.5, 12.5, 23.5]);
        assert_eq!(elements::<f32>(&whole[1]).unwrap(), [3.0]);
        let part = trial.run(&[three(&[3.0]), weight(), None, three(&[2.0])]).unwrap();
        assert_eq!(elements::<f32>(&part[0]).unwrap(), [23.0]);
        let trial = Trial::new(Domain::Onnx, "CausalConvWithState", &[string("activation", "silu")]);
        let active = trial.run(&[three(&[1.0]), weight()]).unwrap();
        assert!((elements::<f32>(&active[0]).unwrap()[0] - 0.731_058_6).abs() < 1e-6);
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let trial = Trial::new(Domain::Onnx, "CausalConvWithState", &[]);
        let error = trial.run(&[three(&[1.0]), three(&[1.0, 2.0]), None, three(&[1.0, 2.0])]).unwrap_err();
        assert!(error.to_string().contains("do not fit"));
    }
}
