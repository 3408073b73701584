//! Functions that turn raw scores into probabilities.

/// From minus infinity … infinity to 0 … 1.
pub fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Writes the probabilities of exclusive classes to `into`.
pub fn softmax(scores: &[f32], into: &mut Vec<f32>) {
    // The largest score is subtracted first, so that `exp` does not overflow.
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    into.clear();
    into.extend(scores.iter().map(|score| (score - largest).exp()));
    let sum: f32 = into.iter().sum();
    into.iter_mut().for_each(|score| *score /= sum);
}
