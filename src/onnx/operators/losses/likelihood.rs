//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`. The second takes the logarithm of the softmax first, and gives
//! it as its second output.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};

/// The operator.
#[derive(Debug)]
struct Likelihood {
    name: &'static str,
    scores: Scores,
    ignored: Option<i64>,
    reduction: Reduction,
}

/// What the first input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scores {
    /// Logarithms of probabilities.
    Logarithms,
    /// Any numbers: their softmax are probabilities.
    Any,
}

/// How the losses of all elements are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

/// Builds a `NegativeLogLikelihoodLoss` from its node.
pub fn negative_log(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    build(attributes, "NegativeLogLikelihoodLoss", Scores::Logarithms)
}

/// Builds a `SoftmaxCrossEntropyLoss` from its node.
pub fn cross_entropy(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    build(attributes, "SoftmaxCrossEntropyLoss", Scores::Any)
}

fn build(attributes: &Attributes, name: &'static str, scores: Scores) -> TractResult<Arc<dyn Operator>> {
    let reduction = match attributes.string("reduction", "mean")? {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => {
            return Err(
                attributes.wrong(format!("`reduction` is `{other}`: expected `none`, `sum` or `mean`"))
            );
        }
    };
    let ignored = attributes.has("ignore_index").then(|| attributes.int("ignore_index", 0)).transpose()?;
    Ok(Arc::new(Likelihood { name, scores, ignored, reduction }))
}

impl Operator for Likelihood {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (scores, target) = (inputs.required(0, "scores")?, inputs.required(1, "target")?);
        expect_float(scores, "scores")?;
        if scores.rank() < 2 || target.rank() + 1 != scores.rank() || !target.datum_type.is_integer() {
            return Err(TractError::msg(format!(
                "its scores have the shape {:?} and its target {:?} of type {:?}: expected [batch, classes, …] and integers \
                 [batch, …]",
                scores.shape, target.shape, target.datum_type
            )));
        }
        if let Some(weight) = inputs.optional(2)
            && weight.rank() != 1
        {
            return Err(TractError::msg(format!(
                "its weights have {} axes: expected 1, for the classes",
                weight.rank()
            )));
        }
        let shape = if self.reduction == Reduction::None { target.shape.clone() } else { tvec![] };
        let loss = Kind::new(scores.datum_type, shape);
        Ok(match self.scores {
            Scores::Logarithms => tvec![loss],
            Scores::Any => tvec![loss, Kind::new(scores.datum_type, scores.shape.clone())],
        })
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "scores")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

impl Likelihood {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (scores, target) = (inputs.required(0, "scores")?, inputs.required(1, "target")?);
        let (shape, datum_type) = (scores.shape(), scores.datum_type());
        let (classes, plane) = (shape[1], shape[2..].iter().product::<usize>());
        if target.shape().first() != shape.first() || target.shape().get(1..) != shape.get(2..) {
            return Err(TractError::msg(format!(
                "its scores have the shape {shape:?} and its target {:?}: expected [batch, classes, …] and [batch, …]",
                target.shape()
            )));
        }
        let weights = self.weights(inputs.optional(2), classes)?;
        let mut logarithms = wide::<T>(scores)?.into_owned();
        if self.scores == Scores::Any {
            let mut plain = logarithms.try_as_plain_ram_mut()?;
            let images = plain.as_slice_mut::<T>()?.chunks_exact_mut((classes * plane).max(1));
            images.for_each(|image| log_softmax(image, plane));
        }
        let (values, targets) = (elements::<T>(&logarithms)?, ints(target)?);
        let mut losses = Vec::with_capacity(targets.len());
        let (mut total, mut weight_of_all) = (0.0, 0.0);
        for (at, class) in targets.iter().enumerate() {
            if Some(*class) == self.ignored {
                losses.push(T::zero());
                continue;
            }
            let own = usize::try_from(*class).ok().filter(|own| *own < classes).ok_or_else(|| {
                TractError::msg(format!("there is no class {class}: expected 0 to {}", classes as i64 - 1))
            })?;
            let (batch, inner) = (at / plane, at % plane);
            let loss =
                -values[(batch * classes + own) * plane + inner].to_f64().unwrap_or(f64::NAN) * weights[own];
            losses.push(T::of(loss));
            total += loss;
            weight_of_all += weights[own];
        }
        let loss = match self.reduction {
            Reduction::None => Tensor::from_shape(target.shape(), &losses)?,
            Reduction::Sum => tensor0(T::of(total)),
            Reduction::Mean => tensor0(T::of(total / weight_of_all)),
        };
        let loss = rounded(loss, datum_type)?;
        Ok(match self.scores {
            Scores::Logarithms => tvec![loss],
            Scores::Any => tvec![loss, rounded(logarithms, datum_type)?],
        })
    }

    /// The weight of each class.
    fn weights(&self, weights: Option<&Tensor>, classes: usize) -> TractResult<Vec<f64>> {
        let Some(weights) = weights else { return Ok(vec![1.0; classes]) };
        let weights = wide::<f64>(weights)?;
        let weights = elements::<f64>(&weights)?;
        match weights.len() == classes {
            true => Ok(weights.to_vec()),
            false => Err(TractError::msg(format!(
                "it has {} weights: expected those of the classes, {classes}",
                weights.len()
            ))),
        }
    }
}

/// The logarithm of the softmax over the classes of an image, `[classes, plane]`.
fn log_softmax<T: Real>(image: &mut [T], plane: usize) {
    let mut most = vec![T::neg_infinity(); plane];
    for row in image.chunks_exact(plane) {
        most.iter_mut()
            .zip(row)
            .for_each(|(most, value)| *most = if *value > *most { *value } else { *most });
    }
    let mut sums = vec![0_f64; plane];
    for row in image.chunks_exact_mut(plane) {
        for ((value, most), sum) in row.iter_mut().zip(&most).zip(&mut sums) {
            *value = *value - *most;
            *sum += value.exp().to_f64().unwrap_or(f64::NAN);
        }
    }
    let logarithms: Vec<T> = sums.iter().map(|sum| T::of(sum.ln())).collect();
    for row in image.chunks_exact_mut(plane) {
        row.iter_mut().zip(&logarithms).for_each(|(value, logarithm)| *value = *value - *logarithm);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, string};
    use super::*;

    fn scores() -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 2, 3], &[-1_f32, -2.0, -3.0, -4.0, -5.0, -6.0]).unwrap())
    }

    fn run(attributes: &[tract_onnx::pb::AttributeProto], weights: bool) -> Vec<f32> {
        let target = Some(tensor2(&[[0_i64, 1, 1]]));
        let weights = weights.then(|| tensor1(&[2_f32, 1.0]));
        let trial = Trial::new(Domain::Onnx, "NegativeLogLikelihoodLoss", attributes);
        let output = trial.run(&[scores(), target, weights]).unwrap();
        elements::<f32>(&output[0]).unwrap().to_vec()
    }

    #[test]
    fn reductions_weights_and_ignored_classes() {
        assert_eq!(run(&[string("reduction", "none")], false), [1.0, 5.0, 6.0]);
        assert_eq!(run(&[], false), [4.0]);
        assert_eq!(run(&[string("reduction", "sum")], true), [13.0]);
        assert_eq!(run(&[], true), [13.0 / 4.0]);
        assert_eq!(run(&[int("ignore_index", 0)], true), [5.5]);
        assert_eq!(run(&[int("ignore_index", 1), string("reduction", "none")], true), [2.0, 0.0, 0.0]);
    }

    #[test]
    fn cross_entropy_does_not_overflow_and_gives_its_logarithms() {
        let scores = Some(tensor2(&[[1000_f32, 1000.0], [0.0, 1000.0]]));
        let target = Some(tensor1(&[0_i32, 1]));
        let trial = Trial::new(Domain::Onnx, "SoftmaxCrossEntropyLoss", &[string("reduction", "none")]);
        let output = trial.run(&[scores, target]).unwrap();
        let half = std::f32::consts::LN_2;
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [half, 0.0]);
        assert_eq!(elements::<f32>(&output[1]).unwrap(), [-half, -half, -1000.0, 0.0]);
    }

    #[test]
    fn a_class_that_does_not_exist_is_an_error() {
        let trial = Trial::new(Domain::Onnx, "NegativeLogLikelihoodLoss", &[int("ignore_index", 9)]);
        let target = |class: i64| Some(tensor2(&[[class, 9, 0]]));
        assert!(trial.run(&[scores(), target(1)]).is_ok());
        let error = trial.run(&[scores(), target(-1)]).unwrap_err();
        assert!(error.to_string().contains("no class -1: expected 0 to 1"));
    }
}
