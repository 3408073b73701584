//! `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization` of onnxruntime: a sum of two inputs and a bias,
//! normalized along the last axis. onnxruntime's optimizer writes them.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::layer::{Affine, Centering};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Skip {
    name: &'static str,
    centering: Centering,
    epsilon: f64,
}

/// Builds a `SkipLayerNormalization` from its node.
pub fn layer(attributes: &Attributes) -> Built {
    let epsilon = f64::from(attributes.float("epsilon", 1e-12)?);
    built(Skip { name: "SkipLayerNormalization", centering: Centering::Mean, epsilon })
}

/// Builds a `SkipSimplifiedLayerNormalization` from its node.
pub fn simplified(attributes: &Attributes) -> Built {
    let epsilon = f64::from(attributes.float("epsilon", 1e-12)?);
    built(Skip { name: "SkipSimplifiedLayerNormalization", centering: Centering::None, epsilon })
}

impl Skip {
    /// The inputs `gamma`, `beta` and `bias`. The simplified form has no `beta`.
    fn parameters<'a, T>(&self, inputs: &Inputs<'a, T>) -> TractResult<[Option<&'a T>; 3]> {
        let gamma = Some(inputs.required(2, "gamma")?);
        Ok(match self.centering {
            Centering::Mean => [gamma, inputs.optional(3), inputs.optional(4)],
            Centering::None => [gamma, None, inputs.optional(3)],
        })
    }

    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let skip = inputs.required(1, "skip")?;
        let [gamma, beta, bias] = self.parameters(inputs)?;
        let datum_type = input.datum_type();
        let mut sums = wide::<T>(input)?.into_owned();
        let mut plain = sums.try_as_plain_ram_mut()?;
        for added in [Some(skip), bias] {
            let all = Affine::<T>::new(None, added, input.shape())?;
            all.apply(plain.as_slice_mut::<T>()?, 0)?;
        }
        let mut output = sums.clone();
        let mut plain = output.try_as_plain_ram_mut()?;
        let length = input.shape().last().copied().unwrap_or(1);
        let affine = Affine::<T>::new(gamma, beta, input.shape())?;
        let (mut means, mut factors) = (Vec::new(), Vec::new());
        for (number, row) in plain.as_slice_mut::<T>()?.chunks_exact_mut(length.max(1)).enumerate() {
            let (mean, factor) = self.centering.normalize(row, self.epsilon);
            affine.apply(row, number * length)?;
            means.push(mean);
            factors.push(factor);
        }
        let mut reduced: Vec<usize> = input.shape().to_vec();
        reduced.iter_mut().last().into_iter().for_each(|last| *last = 1);
        means.resize(reduced.iter().product(), T::nan());
        factors.resize(reduced.iter().product(), T::nan());
        let stashed = |values: &[T]| rounded(Tensor::from_shape(&reduced, values)?, f32::datum_type());
        Ok(tvec![
            rounded(output, datum_type)?,
            stashed(&means)?,
            stashed(&factors)?,
            rounded(sums, datum_type)?
        ])
    }
}

impl Operator for Skip {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, skip) = (inputs.required(0, "input")?, inputs.required(1, "skip")?);
        expect_float(input, "input")?;
        let parameters = self.parameters(inputs)?.into_iter().flatten();
        if parameters.chain([skip]).any(|other| other.datum_type != input.datum_type) || input.rank() == 0 {
            return Err(TractError::msg("its inputs are of different types: expected one type, with axes"));
        }
        let sum = Kind::new(input.datum_type, input.shape.clone());
        let mut reduced = input.shape.clone();
        reduced.iter_mut().last().into_iter().for_each(|last| *last = 1.to_dim());
        let reduced = Kind::new(f32::datum_type(), reduced);
        Ok(tvec![sum.clone(), reduced.clone(), reduced, sum])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "input")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, float};
    use super::*;

    #[test]
    fn the_sum_is_normalized_and_given() {
        let trial = Trial::new(Domain::Microsoft, "SkipLayerNormalization", &[float("epsilon", 0.0)]);
        let input = Tensor::from_shape(&[2, 1, 2], &[1_f32, 2.0, 3.0, 7.0]).unwrap();
        let skip = Tensor::from_shape(&[1, 2], &[0_f32, 1.0]).unwrap();
        let two = |a: f32, b: f32| Some(tensor1(&[a, b]));
        let outputs = trial
            .run(&[Some(input.clone()), Some(skip.clone()), two(1.0, 2.0), two(0.0, 1.0), two(0.0, 1.0)])
            .unwrap();
        assert_eq!(elements::<f32>(&outputs[3]).unwrap(), [1.0, 4.0, 3.0, 9.0]);
        assert_eq!(elements::<f32>(&outputs[0]).unwrap(), [-1.0, 3.0, -1.0, 3.0]);
        assert_eq!(elements::<f32>(&outputs[1]).unwrap(), [2.5, 6.0]);
        let trial =
            Trial::new(Domain::Microsoft, "SkipSimplifiedLayerNormalization", &[float("epsilon", 0.0)]);
        let outputs = trial.run(&[Some(input), Some(skip), two(1.0, 1.0), two(0.0, 1.0)]).unwrap();
        let found = elements::<f32>(&outputs[0]).unwrap();
        assert!((found[1] - 4.0 / 8.5_f32.sqrt()).abs() < 1e-5);
    }
}
