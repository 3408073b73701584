//! `BatchNormalization` with given means and variances, as models are served. The training mode computes them from the
//! batch, so that the answer to a request would depend on other requests: it is refused.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::{Built, built, expect_per_channel};

/// The names of the parameters in the standard, from input 1 on.
const PARAMETERS: [&str; 4] = ["scale", "B", "input_mean", "input_var"];

/// The operator.
#[derive(Debug)]
struct Batch {
    epsilon: f64,
}

/// Builds a `BatchNormalization` from its node.
pub fn batch(attributes: &Attributes) -> Built {
    check(attributes).map_err(|cause| attributes.wrong(cause))?;
    built(Batch { epsilon: f64::from(attributes.float("epsilon", 1e-5)?) })
}

/// Whether the node only uses given means and variances, one for each channel.
fn check(attributes: &Attributes) -> Result<(), String> {
    let flag = |name: &str, default| attributes.flag(name, default).map_err(|error| error.to_string());
    let outputs = attributes.node.output.iter().filter(|name| !name.is_empty()).count();
    if flag("training_mode", false)? || outputs > 1 {
        return Err(format!(
            "it is in training mode (`training_mode` is {}, and it has {outputs} outputs): export the model in inference \
             mode (in PyTorch: `model.eval()`)",
            i64::from(flag("training_mode", false)?)
        ));
    }
    if !flag("spatial", true)? {
        return Err("`spatial` is 0: expected 1, means and variances of channels".into());
    }
    Ok(())
}

impl Operator for Batch {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        expect_float(input, "X")?;
        for (at, name) in PARAMETERS.iter().enumerate() {
            expect_per_channel(inputs.required(at + 1, name)?, name)?;
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn as_step(&self, inputs: &Inputs<Kind>) -> Option<Step> {
        let input = inputs.optional(0).filter(|input| input.datum_type == DatumType::F32)?;
        let channels = input.shape.get(1)?.to_usize().ok()?;
        let values: Option<TVec<Arc<Tensor>>> =
            (1..5).map(|at| inputs.optional(at).and_then(|kind| kind.value.clone())).collect();
        let values = values?;
        let first: TVec<Option<&Tensor>> =
            std::iter::once(None).chain(values.iter().map(|value| Some(&**value))).collect();
        let [scale, bias, mean, variance] = parameters(&Inputs(first), channels).ok()?;
        let factors: Vec<f64> = scale
            .iter()
            .zip(&variance)
            .map(|(scale, variance)| scale / (variance + self.epsilon).sqrt())
            .collect();
        let offsets =
            factors.iter().zip(mean.iter().zip(&bias)).map(|(factor, (mean, bias))| bias - mean * factor);
        Some(Step::Scale {
            axis: 1,
            offsets: offsets.map(|offset| offset as f32).collect(),
            factors: factors.iter().map(|factor| *factor as f32).collect(),
        })
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "X")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

/// The parameters, with a number for each channel.
fn parameters(inputs: &Inputs<Tensor>, channels: usize) -> TractResult<[Vec<f64>; 4]> {
    let parameters = (1..5).map(|at| {
        let parameter = wide::<f64>(inputs.required(at, PARAMETERS[at - 1])?)?.into_owned();
        match parameter.len() == channels {
            true => Ok(elements::<f64>(&parameter)?.to_vec()),
            false => Err(TractError::msg(format!(
                "its input `{}` has {} elements: expected those of the channels, {channels}",
                PARAMETERS[at - 1],
                parameter.len()
            ))),
        }
    });
    Ok(parameters.collect::<TractResult<Vec<_>>>()?.try_into().expect("there are four parameters"))
}

impl Batch {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let channels = input.shape().get(1).copied().unwrap_or(1);
        let [scale, bias, mean, variance] = parameters(inputs, channels)?;
        let plane: usize = input.shape().iter().skip(2).product();
        let mut output = wide::<T>(input)?.into_owned();
        let mut plain = output.try_as_plain_ram_mut()?;
        for (number, values) in plain.as_slice_mut::<T>()?.chunks_exact_mut(plane.max(1)).enumerate() {
            let channel = number % channels.max(1);
            let slope = scale[channel] / (variance[channel] + self.epsilon).sqrt();
            let (slope, mean, bias) = (T::of(slope), T::of(mean[channel]), T::of(bias[channel]));
            values.iter_mut().for_each(|value| *value = (*value - mean) * slope + bias);
        }
        Ok(tvec![rounded(output, input.datum_type())?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int};
    use super::*;

    fn parameters() -> [Option<Tensor>; 4] {
        [&[1_f32, 2.0], &[0_f32, 1.0], &[1_f32, 2.0], &[4_f32, 1.0]].map(|values| Some(tensor1(values)))
    }

    #[test]
    fn each_channel_has_its_parameters() {
        let trial = Trial::new(Domain::Onnx, "BatchNormalization", &[float("epsilon", 0.0)]);
        let input = Tensor::from_shape(&[1, 2, 2], &[1_f32, 3.0, 2.0, 5.0]).unwrap();
        let [scale, bias, mean, variance] = parameters();
        let output = trial.run(&[Some(input), scale, bias, mean, variance]).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [0.0, 1.0, 1.0, 7.0]);
    }

    #[test]
    fn parameters_that_do_not_fit_are_an_error() {
        let trial = Trial::new(Domain::Onnx, "BatchNormalization", &[]);
        let input = Tensor::from_shape(&[1, 3], &[1_f32; 3]).unwrap();
        let [scale, bias, mean, variance] = parameters();
        let error = trial.run(&[Some(input), scale, bias, mean, variance]).unwrap_err();
        assert!(error.to_string().contains("channels, 3"));
    }

    #[test]
    #[should_panic(expected = "model.eval()")]
    fn the_training_mode_is_refused() {
        let trial = Trial::new(Domain::Onnx, "BatchNormalization", &[int("training_mode", 1)]);
        let [scale, bias, mean, variance] = parameters();
        trial.run(&[Some(tensor2(&[[1_f32, 2.0]])), scale, bias, mean, variance]).unwrap();
    }
}
