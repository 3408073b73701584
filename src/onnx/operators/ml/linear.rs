//! `LinearClassifier` and `LinearRegressor`: a product with constant coefficients, and a transform.
//!
//! tract has both, but not all transforms. With two classes and one score it also gives other results than onnxruntime.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::transform::{Transform, logistic};
use super::{Built, Labels, built};

/// Scores = coefficients × features + intercepts.
#[derive(Debug)]
struct Linear {
    name: &'static str,
    /// `[targets, width]`, row-major.
    coefficients: Vec<f32>,
    /// One per target.
    intercepts: Vec<f32>,
    /// The number of features of a row.
    width: usize,
    transform: Transform,
    /// The labels of a classifier. With two labels and one target, the score decides between the two classes.
    labels: Option<Labels>,
}

/// Builds a `LinearClassifier` from its node.
pub fn classifier(attributes: &Attributes) -> Built {
    let labels = Labels::read(attributes, "classlabels_ints", "classlabels_strings")?;
    let of_two = labels.len() == 2 && attributes.int("multi_class", 0)? == 0;
    let targets = match attributes.floats("intercepts")?.len() {
        0 if of_two => 1,
        0 => labels.len(),
        targets => targets,
    };
    if targets != labels.len() && !(targets == 1 && labels.len() == 2) {
        return Err(attributes.wrong(format!(
            "it has {targets} `intercepts` for {} labels: expected one per label",
            labels.len()
        )));
    }
    built(Linear::read(attributes, "LinearClassifier", targets, Some(labels))?)
}

/// Builds a `LinearRegressor` from its node.
pub fn regressor(attributes: &Attributes) -> Built {
    let targets = attributes.int("targets", 1)?;
    let targets = usize::try_from(targets).ok().filter(|targets| *targets > 0);
    let targets = targets.ok_or_else(|| attributes.wrong("`targets`: expected 1 or more"))?;
    built(Linear::read(attributes, "LinearRegressor", targets, None)?)
}

impl Linear {
    fn read(
        attributes: &Attributes,
        name: &'static str,
        targets: usize,
        labels: Option<Labels>,
    ) -> TractResult<Linear> {
        let coefficients = attributes.floats("coefficients")?.to_vec();
        let mut intercepts = attributes.floats("intercepts")?.to_vec();
        if intercepts.is_empty() {
            intercepts = vec![0.0; targets];
        }
        let width = coefficients.len() / targets;
        if width == 0 || width * targets != coefficients.len() || intercepts.len() != targets {
            return Err(attributes.wrong(format!(
                "it has {} `coefficients` and {} `intercepts`: expected the same number for each of {targets} targets",
                coefficients.len(),
                intercepts.len()
            )));
        }
        let transform = Transform::read(attributes)?;
        Ok(Linear { name, coefficients, intercepts, width, transform, labels })
    }

    /// True for a classifier of two classes with a single score, which is that of the second class.
    fn is_of_two(&self) -> bool {
        self.intercepts.len() == 1 && self.labels.as_ref().is_some_and(|labels| labels.len() == 2)
    }

    /// Computes the scores of a row, before the transform.
    fn scores(&self, row: &[f32], scores: &mut [f32]) {
        let rows = self.coefficients.chunks_exact(self.width);
        for ((score, coefficients), intercept) in scores.iter_mut().zip(rows).zip(&self.intercepts) {
            *score = product(row, coefficients) + intercept;
        }
    }
}

/// The dot product, as eight separate sums that the processor computes in parallel.
pub fn product(a: &[f32], b: &[f32]) -> f32 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The index of the highest score; the first one if several are equal.
pub fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = at;
        }
    }
    best
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let Kind { shape, .. } = inputs.single()?;
        let [rows, features] = &shape[..] else {
            return Err(TractError::msg(format!(
                "the input has {} dimensions: expected 2, rows of features",
                shape.len()
            )));
        };
        if features.to_i64().is_ok_and(|features| features != self.width as i64) {
            return Err(TractError::msg(format!(
                "a row of the input has {features} features: expected {}",
                self.width
            )));
        }
        let columns = if self.is_of_two() { 2 } else { self.intercepts.len() };
        let scores = Kind::new(f32::datum_type(), tvec![rows.clone(), TDim::from(columns)]);
        Ok(match &self.labels {
            Some(labels) => {
                tvec![Kind::new(labels.datum_type(), tvec![rows.clone()]), scores]
            }
            None => tvec![scores],
        })
    }

    fn longest_text(&self) -> usize {
        self.labels.as_ref().map_or(0, Labels::longest_text)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?.cast_to::<f32>()?;
        let &[rows, width] = input.shape() else { return Err(TractError::msg("expected 2 dimensions")) };
        if width != self.width {
            return Err(invalid(format!("a row of the input has {width} features: expected {}", self.width)));
        }
        let input = input.try_as_plain_ram()?;
        let columns = if self.is_of_two() { 2 } else { self.intercepts.len() };
        let mut outputs = vec![0.0; rows * columns];
        let mut classes = Vec::with_capacity(rows);
        for (row, scores) in
            input.as_slice::<f32>()?.chunks_exact(width).zip(outputs.chunks_exact_mut(columns))
        {
            self.scores(row, scores);
            if self.is_of_two() {
                let score = scores[0];
                classes.push(usize::from(score > 0.0));
                match self.transform {
                    Transform::Logistic => scores.copy_from_slice(&[logistic(-score), logistic(score)]),
                    _ => scores.copy_from_slice(&[1.0 - score, score]),
                }
            } else {
                classes.push(highest(scores));
                self.transform.apply(scores);
            }
        }
        let scores = Tensor::from_shape(&[rows, columns], &outputs)?;
        Ok(match &self.labels {
            Some(labels) => tvec![labels.of(&classes)?, scores],
            None => tvec![scores],
        })
    }
}
