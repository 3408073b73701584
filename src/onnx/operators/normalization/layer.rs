//! `LayerNormalization` and `RMSNormalization`: all axes from `axis` on are a row, and each row is normalized.
//!
//! `SimplifiedLayerNormalization` is onnxruntime's name of the second, with another second output. The computation of a row
//! is shared with `skip` and `embed`.

use onnxd_kernels::rows;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::axis;
use super::super::floats::{Real, expect_float, rounded, sum, sum_of_squares, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::stretch::{Along, stretched};
use super::{Built, built};

/// What is done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centering {
    /// The mean is subtracted first.
    Mean,
    /// Nothing is subtracted: the row is divided by its root mean square.
    None,
}

impl Centering {
    /// Normalizes a row, and returns its mean and the factor by which it was scaled. An empty row has NaN.
    pub fn normalize<T: Real>(self, row: &mut [T], epsilon: f64) -> (T, T) {
        let count = row.len() as f64;
        let mean = match self {
            Centering::Mean => T::of(sum(row) / count),
            Centering::None => T::zero(),
        };
        if let Some(row) = T::singles_mut(row) {
            let mean = mean.to_f32().unwrap_or(f32::NAN);
            if self == Centering::Mean {
                rows::normalize(row, mean, 1.0);
            }
            let factor = (1.0 / (sum_of_squares(row) / count + epsilon).sqrt()) as f32;
            rows::normalize(row, 0.0, factor);
            return (T::of(mean.into()), T::of(factor.into()));
        }
        if self == Centering::Mean {
            row.iter_mut().for_each(|value| *value = *value - mean);
        }
        let factor = T::of(1.0 / (sum_of_squares(row) / count + epsilon).sqrt());
        row.iter_mut().for_each(|value| *value *= factor);
        (mean, factor)
    }
}

/// The operator.
#[derive(Debug)]
struct Layer {
    name: &'static str,
    centering: Centering,
    axis: i64,
    epsilon: f64,
    extra: Extra,
}

/// The outputs after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    /// None.
    None,
    /// The factor.
    Factor,
    /// The mean and the factor.
    MeanAndFactor,
}

fn build(attributes: &Attributes, name: &'static str, centering: Centering, extra: Extra) -> Built {
    let stash = attributes.int("stash_type", 1)?;
    if stash != 1 {
        return Err(attributes.wrong(format!("`stash_type` is {stash}: expected 1 (FP32)")));
    }
    let epsilon = f64::from(attributes.float("epsilon", 1e-5)?);
    built(Layer { name, centering, axis: attributes.int("axis", -1)?, epsilon, extra })
}

/// Builds a `LayerNormalization` from its node.
pub fn layer(attributes: &Attributes) -> Built {
    build(attributes, "LayerNormalization", Centering::Mean, Extra::MeanAndFactor)
}

/// Builds an `RMSNormalization` from its node.
pub fn rms(attributes: &Attributes) -> Built {
    build(attributes, "RMSNormalization", Centering::None, Extra::None)
}

/// Builds a `SimplifiedLayerNormalization` of onnxruntime from its node.
pub fn simplified(attributes: &Attributes) -> Built {
    build(attributes, "SimplifiedLayerNormalization", Centering::None, Extra::Factor)
}

/// The type of means and factors: that of `stash_type` 1. Those of an FP64 input are computed in FP64 and rounded.
const STASH: DatumType = DatumType::F32;

impl Operator for Layer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, scale) = (inputs.required(0, "X")?, inputs.required(1, "Scale")?);
        expect_float(input, "X")?;
        expect_float(scale, "Scale")?;
        let axis = axis(self.axis, input.rank())?;
        let result = if self.centering == Centering::None { scale.datum_type } else { input.datum_type };
        let one = std::iter::repeat_n(1.to_dim(), input.rank() - axis);
        let reduced = Kind::new(STASH, input.shape[..axis].iter().cloned().chain(one));
        let extra = match self.extra {
            Extra::None => 0,
            Extra::Factor => 1,
            Extra::MeanAndFactor => 2,
        };
        let first = Kind::new(result, input.shape.clone());
        Ok(std::iter::once(first).chain(std::iter::repeat_n(reduced, extra)).collect())
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "X")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

impl Layer {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, scale) = (inputs.required(0, "X")?, inputs.required(1, "Scale")?);
        let axis = axis(self.axis, input.rank())?;
        let length: usize = input.shape()[axis..].iter().product();
        let affine = Affine::<T>::new(Some(scale), inputs.optional(2), input.shape())?;
        let mut output = wide::<T>(input)?.into_owned();
        let mut plain = output.try_as_plain_ram_mut()?;
        let (mut means, mut factors) = (Vec::new(), Vec::new());
        for (number, row) in plain.as_slice_mut::<T>()?.chunks_exact_mut(length.max(1)).enumerate() {
            let (mean, factor) = self.centering.normalize(row, self.epsilon);
            affine.apply(row, number * length)?;
            means.push(mean);
            factors.push(factor);
        }
        let reduced: Vec<usize> =
            input.shape().iter().enumerate().map(|(at, all)| if at < axis { *all } else { 1 }).collect();
        let rows = reduced.iter().product();
        means.resize(rows, T::nan());
        factors.resize(rows, T::nan());
        let stashed = |values: &[T]| rounded(Tensor::from_shape(&reduced, values)?, STASH);
        let result = if self.centering == Centering::None { scale.datum_type() } else { input.datum_type() };
        let mut outputs = tvec![rounded(output, result)?];
        if self.extra == Extra::MeanAndFactor {
            outputs.push(stashed(&means)?);
        }
        if self.extra != Extra::None {
            outputs.push(stashed(&factors)?);
        }
        Ok(outputs)
    }
}

/// A scale and a bias, broadcast to the shape of what they are applied to.
#[derive(Debug)]
pub struct Affine<T> {
    scale: Option<Tensor>,
    bias: Option<Tensor>,
    of: std::marker::PhantomData<T>,
}

impl<T: Real> Affine<T> {
    /// Broadcasts the inputs to a shape.
    pub fn new(scale: Option<&Tensor>, bias: Option<&Tensor>, shape: &[usize]) -> TractResult<Affine<T>> {
        let broadcast = |input: Option<&Tensor>| -> TractResult<Option<Tensor>> {
            input.map(|input| stretched(&*wide::<T>(input)?, shape)).transpose()
        };
        Ok(Affine { scale: broadcast(scale)?, bias: broadcast(bias)?, of: std::marker::PhantomData })
    }

    /// Scales and shifts a row that begins at an element of the whole.
    pub fn apply(&self, row: &mut [T], begin: usize) -> TractResult<()> {
        if let Some(scale) = &self.scale {
            let part = Along::new(elements::<T>(scale)?).part(begin, row.len());
            match (T::singles(part.elements()), T::singles_mut(row)) {
                (Some(factors), Some(row)) => rows::scale(row, factors),
                _ => part.pair(row, |value, scale| value * scale),
            }
        }
        if let Some(bias) = &self.bias {
            let part = Along::new(elements::<T>(bias)?).part(begin, row.len());
            match (T::singles(part.elements()), T::singles_mut(row)) {
                (Some(terms), Some(row)) => rows::shift(row, terms),
                _ => part.pair(row, |value, bias| value + bias),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int};
    use super::*;

    fn near(found: &Tensor, expected: &[f32]) {
        let found = found.cast_to::<f32>().unwrap();
        let found = elements::<f32>(&found).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        }
    }

    #[test]
    fn all_outputs_of_layer_normalization() {
        let input = tensor2(&[[1_f32, 2.0, 3.0], [0.0, 0.0, 6.0]]);
        let trial = Trial::new(Domain::Onnx, "LayerNormalization", &[float("epsilon", 0.0)]);
        let scale = tensor1(&[1_f32, 2.0, 1.0]);
        let outputs =
            trial.run(&[Some(input.clone()), Some(scale), Some(tensor1(&[0_f32, 0.0, 1.0]))]).unwrap();
        let (half, two) = (std::f32::consts::FRAC_1_SQRT_2, std::f32::consts::SQRT_2);
        near(&outputs[0], &[-1.224_744_9, 0.0, 2.224_744_9, -half, -two, two + 1.0]);
        near(&outputs[1], &[2.0, 2.0]);
        near(&outputs[2], &[1.224_744_9, 0.353_553_4]);
        assert_eq!(outputs[1].shape(), [2, 1]);
        let trial = Trial::new(Domain::Onnx, "LayerNormalization", &[int("axis", 0)]);
        let outputs = trial.run(&[Some(input), Some(tensor2(&[[1_f32], [0.0]]))]).unwrap();
        near(&outputs[1], &[2.0]);
        near(&outputs[0].slice(0, 1, 2).unwrap(), &[0.0, 0.0, 0.0]);
    }

    #[test]
    fn large_means_of_half_precision_do_not_overflow() {
        let input = tensor1(&[f16::from_f32(60_000.0), f16::from_f32(59_968.0)]);
        let one = tensor1(&[f16::ONE, f16::ONE]);
        let outputs =
            Trial::new(Domain::Onnx, "LayerNormalization", &[]).run(&[Some(input), Some(one)]).unwrap();
        near(&outputs[0], &[1.0, -1.0]);
        near(&outputs[1], &[59_984.0]);
    }

    #[test]
    fn means_and_factors_are_single_precision_for_every_input() {
        let (input, one) = (tensor1(&[1_f64, 3.0]), tensor1(&[1_f64, 1.0]));
        let outputs =
            Trial::new(Domain::Onnx, "LayerNormalization", &[]).run(&[Some(input), Some(one)]).unwrap();
        assert_eq!(outputs[0].datum_type(), DatumType::F64);
        near(&outputs[1], &[2.0]);
        assert_eq!(outputs[2].datum_type(), DatumType::F32);
    }

    #[test]
    fn root_mean_square() {
        let input = tensor2(&[[3_f32, 4.0]]);
        let trial = Trial::new(Domain::Onnx, "RMSNormalization", &[float("epsilon", 0.0)]);
        let outputs = trial.run(&[Some(input.clone()), Some(tensor1(&[1_f32, 2.0]))]).unwrap();
        near(&outputs[0], &[0.848_528_1, 2.262_741_7]);
        let trial = Trial::new(Domain::Microsoft, "SimplifiedLayerNormalization", &[float("epsilon", 0.0)]);
        let outputs = trial.run(&[Some(input), Some(tensor1(&[1_f32, 2.0]))]).unwrap();
        near(&outputs[1], &[0.282_842_7]);
    }

    #[test]
    fn wrong_nodes_are_errors() {
        let input = || Some(tensor1(&[1_f32]));
        let trial = Trial::new(Domain::Onnx, "LayerNormalization", &[int("axis", 1)]);
        assert!(trial.run(&[input(), input()]).unwrap_err().to_string().contains("axis"));
        let trial = Trial::new(Domain::Onnx, "LayerNormalization", &[]);
        let error = trial.run(&[input(), Some(tensor1(&[1_f32, 2.0]))]).unwrap_err();
        assert!(error.to_string().contains("broadcast"));
    }
}
