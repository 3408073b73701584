//! `SVMClassifier`: a machine for each pair of classes, and a vote of all of them.

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::super::linear::{highest, product};
use super::super::transform::{Transform, logistic};
use super::super::{Built, Labels, built};
use super::coupling::probabilities;
use super::{Vectors, in_rows, rows_of, weighted};

/// What the scores are made from.
#[derive(Debug)]
enum Machine {
    /// One machine for each pair of classes. Classes are in the order of the support vectors.
    Pairs {
        vectors: Vectors,
        /// The first vector of each class, and at last the number of vectors.
        starts: Vec<usize>,
        /// `[classes - 1, vectors]`, row-major.
        coefficients: Vec<f32>,
        /// One for each pair.
        rho: Vec<f32>,
        /// Platt's sigmoid: two numbers for each pair. `None`: the scores are not made into probabilities.
        sigmoids: Option<(Vec<f32>, Vec<f32>)>,
    },
    /// One row of coefficients for each class.
    Linear { coefficients: Vec<f32>, rho: f32, width: usize },
}

#[derive(Debug)]
struct Classifier {
    machine: Machine,
    labels: Labels,
    transform: Transform,
}

/// Builds an `SVMClassifier` from its node.
pub fn classifier(attributes: &Attributes) -> Built {
    let labels = Labels::read(attributes, "classlabels_ints", "classlabels_strings")?;
    let transform = Transform::read(attributes)?;
    let machine = match attributes.ints("vectors_per_class")?.iter().any(|count| *count != 0) {
        true => pairs(attributes, labels.len())?,
        false => linear(attributes, labels.len())?,
    };
    let is_single_score = labels.len() == 2 && matches!(machine, Machine::Pairs { sigmoids: None, .. });
    if is_single_score && !matches!(transform, Transform::None | Transform::Logistic) {
        return Err(attributes.wrong(
            "`post_transform` of two classes without `prob_a`: expected NONE or LOGISTIC (onnxruntime and the reference \
             implementation of the standard give different results for others)",
        ));
    }
    built(Classifier { machine, labels, transform })
}

fn pairs(attributes: &Attributes, classes: usize) -> TractResult<Machine> {
    let counts = attributes.ints("vectors_per_class")?;
    let mut starts = vec![0_usize];
    for count in counts {
        let end = usize::try_from(*count).ok().and_then(|count| starts.last()?.checked_add(count));
        starts.push(end.ok_or_else(|| {
            attributes
                .wrong(format!("`vectors_per_class` contains {count}: expected numbers of support vectors"))
        })?);
    }
    if counts.len() != classes || classes < 2 {
        return Err(attributes.wrong(format!(
            "`vectors_per_class` has {} numbers for {classes} labels: expected one for each of two labels or more",
            counts.len()
        )));
    }
    let count = starts.last().copied().unwrap_or_default();
    let (pairs, expected) = (classes.checked_mul(classes - 1), count.checked_mul(classes - 1));
    let (coefficients, rho) = (attributes.floats("coefficients")?, attributes.floats("rho")?);
    let (a, b) = (attributes.floats("prob_a")?, attributes.floats("prob_b")?);
    let pairs = pairs.map(|pairs| pairs / 2);
    if expected != Some(coefficients.len()) {
        return Err(attributes.wrong(format!(
            "it has {} `coefficients` for {count} support vectors of {classes} classes: expected the number of vectors, \
             times one less than the number of classes",
            coefficients.len()
        )));
    }
    if pairs != Some(rho.len()) || a.len() != b.len() || !(a.is_empty() || a.len() == rho.len()) {
        return Err(attributes.wrong(format!(
            "it has {} numbers in `rho`, {} in `prob_a` and {} in `prob_b`: expected one for each pair of {classes} classes",
            rho.len(),
            a.len(),
            b.len()
        )));
    }
    Ok(Machine::Pairs {
        vectors: Vectors::read(attributes, count)?,
        starts,
        coefficients: coefficients.to_vec(),
        rho: rho.to_vec(),
        sigmoids: (!a.is_empty()).then(|| (a.to_vec(), b.to_vec())),
    })
}

fn linear(attributes: &Attributes, classes: usize) -> TractResult<Machine> {
    let kernel = attributes.string("kernel_type", "LINEAR")?;
    if kernel != "LINEAR" || attributes.has("support_vectors") || attributes.has("prob_a") || classes < 3 {
        return Err(attributes.wrong(format!(
            "it has no `vectors_per_class`: expected `kernel_type` LINEAR, no `support_vectors`, no `prob_a` and three \
             labels or more, but it has {classes} labels and {kernel} (LinearClassifier serves two labels)"
        )));
    }
    let coefficients = attributes.floats("coefficients")?.to_vec();
    let width = coefficients.len() / classes;
    if width == 0 || width * classes != coefficients.len() {
        return Err(attributes.wrong(format!(
            "it has {} `coefficients` for {classes} classes: expected the same number for each",
            coefficients.len()
        )));
    }
    let [rho, ..] = *attributes.floats("rho")? else {
        return Err(attributes.wrong("expected a number in `rho`"));
    };
    Ok(Machine::Linear { coefficients, rho, width })
}

impl Classifier {
    fn width(&self) -> usize {
        match &self.machine {
            Machine::Pairs { vectors, .. } => vectors.width,
            Machine::Linear { width, .. } => *width,
        }
    }

    /// The number of scores of a row.
    fn columns(&self) -> usize {
        match &self.machine {
            Machine::Pairs { sigmoids: None, rho, .. } => rho.len().max(2),
            _ => self.labels.len(),
        }
    }

    /// The class of a row, and its scores. `kernels` has room for one kernel for each support vector.
    fn classify(&self, row: &[f32], kernels: &mut [f32], scores: &mut [f32]) -> usize {
        match &self.machine {
            Machine::Pairs { vectors, starts, coefficients, rho, sigmoids } => {
                vectors.kernels(row, kernels);
                let (of_pairs, votes) = self.vote(kernels, starts, coefficients, rho);
                match (sigmoids, &of_pairs[..]) {
                    (Some((a, b)), _) => {
                        scores.copy_from_slice(&probabilities(&of_pairs, a, b, self.labels.len()));
                        self.transform.apply(scores);
                    }
                    (None, [score]) if self.transform == Transform::Logistic => {
                        scores.copy_from_slice(&[logistic(-score), logistic(*score)]);
                    }
                    (None, [score]) => scores.copy_from_slice(&[-score, *score]),
                    (None, _) => {
                        scores.copy_from_slice(&of_pairs);
                        self.transform.apply(scores);
                    }
                }
                highest(&votes)
            }
            Machine::Linear { coefficients, rho, width } => {
                for (score, coefficients) in scores.iter_mut().zip(coefficients.chunks_exact(*width)) {
                    *score = product(row, coefficients) + rho;
                }
                let class = highest(scores);
                self.transform.apply(scores);
                class
            }
        }
    }

    /// The score of each pair of classes, and the number of pairs that each class wins.
    fn vote(
        &self,
        kernels: &[f32],
        starts: &[usize],
        coefficients: &[f32],
        rho: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let (classes, vectors) = (self.labels.len(), kernels.len());
        let (mut scores, mut votes) = (Vec::with_capacity(rho.len()), vec![0.0; classes]);
        // The part of a pair's score that comes from the vectors of one of its classes.
        let part = |class: usize, row: usize| {
            let (start, end) = (starts[class], starts[class + 1]);
            weighted(&coefficients[row * vectors..][start..end], &kernels[start..end])
        };
        for i in 0..classes {
            for j in i + 1..classes {
                let sum = f64::from(rho[scores.len()]) + part(i, j - 1) + part(j, i);
                let score = sum as f32;
                votes[if score > 0.0 { i } else { j }] += 1.0;
                scores.push(score);
            }
        }
        (scores, votes)
    }
}

impl Operator for Classifier {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let rows = rows_of(inputs.single()?, self.width())?;
        Ok(tvec![
            Kind::new(self.labels.datum_type(), [rows.clone()]),
            Kind::new(f32::datum_type(), [rows, self.columns().into()]),
        ])
    }

    fn longest_text(&self) -> usize {
        self.labels.longest_text()
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, rows) = in_rows(inputs.single()?, self.width())?;
        let columns = self.columns();
        let mut kernels = match &self.machine {
            Machine::Pairs { starts, .. } => vec![0.0; starts.last().copied().unwrap_or_default()],
            Machine::Linear { .. } => vec![],
        };
        let mut scores = vec![0.0; rows * columns];
        let mut classes = Vec::with_capacity(rows);
        for (row, scores) in input.chunks_exact(self.width()).zip(scores.chunks_exact_mut(columns)) {
            classes.push(self.classify(row, &mut kernels, scores));
        }
        Ok(tvec![self.labels.of(&classes)?, Tensor::from_shape(&[rows, columns], &scores)?])
    }
}
