//! Makes the outputs of the operators from the scores of the trees: base values, averages, classes, transforms.

use super::super::transform::Transform;
use super::forest::{Real, Score};

/// The values that the scores start from: one per target, or none.
#[derive(Debug, Clone)]
pub struct Base<T>(Vec<T>);

impl<T: Real> Base<T> {
    /// Base values in the precision of the scores.
    pub fn new(values: &[f64]) -> Base<T> {
        Base(values.iter().copied().map(T::from_f64).collect())
    }

    /// The score of a target with its base value.
    fn added(&self, target: usize, score: T) -> T {
        self.0.get(target).map_or(score, |base| score.plus(*base))
    }
}

/// The output of a `TreeEnsembleRegressor` or a `TreeEnsemble`: `[rows, targets]`, row-major, from scores of the same
/// shape. For an average, `average_of` is the number of trees.
pub fn targets<T: Real>(
    scores: &[Score<T>],
    targets: usize,
    base: &Base<T>,
    average_of: Option<usize>,
    transform: Transform,
) -> Vec<T> {
    let mut all = Vec::with_capacity(scores.len());
    for row in scores.chunks_exact(targets) {
        for (target, score) in row.iter().enumerate() {
            let score = average_of.map_or(score.value, |count| score.value.divided_by(count));
            all.push(base.added(target, score));
        }
    }
    if transform != Transform::None {
        let mut single: Vec<f32> = all.iter().map(|value| value.to_f32()).collect();
        single.chunks_exact_mut(targets).for_each(|row| transform.apply(row));
        all = single.iter().map(|value| T::from_f64(f64::from(*value))).collect();
    }
    all
}

/// How the scores of a row become a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The class with the highest score, the first one if several are equal. Classes without a score do not count.
    Highest,
    /// Only one of two classes has weights, and its score decides.
    Binary {
        /// The class with weights.
        column: usize,
        /// True when no weight is negative. Then scores are probabilities and the limit is 0.5, else it is 0.
        probabilities: bool,
    },
}

/// Returns the class of a row, and writes the scores of all classes to `outputs`.
pub fn classify<T: Real>(
    scores: &[Score<T>],
    base: &Base<T>,
    decision: Decision,
    transform: Transform,
    outputs: &mut [f32],
) -> usize {
    let class = match decision {
        Decision::Binary { column, probabilities } => {
            let score = base.added(column, scores[column].value);
            let is_second = score > T::from_f64(if probabilities { 0.5 } else { 0.0 });
            if column == 0 {
                // The score is that of the second class, although its weights are in the column of the first.
                both(score, probabilities, transform, outputs);
                return usize::from(is_second);
            }
            usize::from(is_second)
        }
        Decision::Highest => highest(scores, base),
    };
    for (at, (output, score)) in outputs.iter_mut().zip(scores).enumerate() {
        *output = base.added(at, score.value).to_f32();
    }
    transform.apply(outputs);
    class
}

/// Writes the outputs of two classes for a single score: a probability and its complement, or a distance and its
/// negative. A softmax is not applied to these, as in onnxruntime.
fn both<T: Real>(score: T, probabilities: bool, transform: Transform, outputs: &mut [f32]) {
    let single = score.to_f32();
    let first = match (transform, probabilities) {
        (Transform::Logistic, _) | (_, false) => -single,
        // Subtracted in the precision of the scores.
        (_, true) => T::from_f64(1.0).minus(score).to_f32(),
    };
    outputs.copy_from_slice(&[first, single]);
    if matches!(transform, Transform::Logistic | Transform::Probit) {
        transform.apply(outputs);
    }
}

/// The class with the highest score among those that have one; 0 when none has.
fn highest<T: Real>(scores: &[Score<T>], base: &Base<T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (class, score) in scores.iter().enumerate() {
        let value = base.added(class, score.value);
        let counts = score.voted || !base.0.is_empty();
        if counts && best.is_none_or(|(_, most)| value > most) {
            best = Some((class, value));
        }
    }
    best.map_or(0, |(class, _)| class)
}
