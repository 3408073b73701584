//! From the trees' scores to the operators' outputs: base values, averages, classes.

use super::super::transform::Transform;
use super::forest::{Real, Score};

/// What a target's score starts from; nothing where the file gives none.
#[derive(Debug, Clone)]
pub struct Base<T>(Vec<T>);

impl<T: Real> Base<T> {
    pub fn new(values: &[f64]) -> Base<T> {
        Base(values.iter().copied().map(T::from_f64).collect())
    }

    fn added(&self, target: usize, score: T) -> T {
        self.0.get(target).map_or(score, |base| score.plus(*base))
    }
}

/// A regression's targets, or those of a `TreeEnsemble`.
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

/// How a classifier's scores become a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The class with the highest score, of equals the first, of those that have one.
    Highest,
    /// Of two classes only one has weights, and its score alone decides.
    Binary {
        column: usize,
        /// No weight is negative: scores are probabilities, and a half decides. Otherwise zero does.
        probabilities: bool,
    },
}

/// One row of a classifier: its class, and the scores of all classes into `outputs`.
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
                // The one score is that of the second class, though the file files it under the first.
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

/// The two outputs that one score stands for: a probability and its complement, or a distance and its
/// opposite. A softmax of these would be none, and is left out.
fn both<T: Real>(score: T, probabilities: bool, transform: Transform, outputs: &mut [f32]) {
    let single = score.to_f32();
    let first = match (transform, probabilities) {
        (Transform::Logistic, _) | (_, false) => -single,
        // In the score's own precision.
        (_, true) => T::from_f64(1.0).minus(score).to_f32(),
    };
    outputs.copy_from_slice(&[first, single]);
    if matches!(transform, Transform::Logistic | Transform::Probit) {
        transform.apply(outputs);
    }
}

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
