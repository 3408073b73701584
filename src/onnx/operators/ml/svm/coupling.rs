//! Probabilities of classes from the scores of their pairs: the second method of Wu, Lin and Weng, "Probability Estimates
//! for Multi-class Classification by Pairwise Coupling" (2004), as in LIBSVM.
//!
//! It is an iteration that stops at a limit, so it is computed in single precision and in the order of onnxruntime: another
//! precision could stop one step earlier or later.

use super::super::transform::logistic;

/// The probability of the first class of a pair, by Platt's sigmoid.
fn of_pair(score: f32, a: f32, b: f32) -> f32 {
    (1.0 - logistic(score * a + b)).clamp(1e-7, 1.0 - 1e-7)
}

/// The probability of each class. `scores`, `a` and `b` have one number for each pair of classes, in the order (0,1),
/// (0,2), …, (1,2), ….
pub fn probabilities(scores: &[f32], a: &[f32], b: &[f32], classes: usize) -> Vec<f32> {
    // `pairs[i][j]`: the probability of class i among i and j.
    let mut pairs = vec![0.0; classes * classes];
    let mut all = scores.iter().zip(a).zip(b);
    for i in 0..classes {
        for j in i + 1..classes {
            let Some(((score, a), b)) = all.next() else { break };
            let probability = of_pair(*score, *a, *b);
            pairs[i * classes + j] = probability;
            pairs[j * classes + i] = 1.0 - probability;
        }
    }
    coupled(&pairs, classes)
}

/// The probabilities p that minimise `Σ (pairs[j][i] p[i] - pairs[i][j] p[j])²`.
fn coupled(pairs: &[f32], classes: usize) -> Vec<f32> {
    let limit = 0.005 / classes as f32;
    let mut p = vec![1.0 / classes as f32; classes];
    let mut q = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            let (ij, ji) = (pairs[i * classes + j], pairs[j * classes + i]);
            q[i * classes + i] += ji * ji;
            q[i * classes + j] = -ji * ij;
        }
    }
    let mut qp = vec![0.0; classes];
    for _ in 0..classes.max(100) {
        for (value, row) in qp.iter_mut().zip(q.chunks_exact(classes)) {
            *value = row.iter().zip(&p).map(|(q, p)| q * p).sum();
        }
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        let error = qp.iter().map(|value| (value - pqp).abs()).fold(0.0, f32::max);
        if error < limit {
            break;
        }
        for t in 0..classes {
            let row = &q[t * classes..][..classes];
            let step = (pqp - qp[t]) / row[t];
            p[t] += step;
            pqp = (pqp + step * (step * row[t] + 2.0 * qp[t])) / (1.0 + step) / (1.0 + step);
            for ((qp, p), q) in qp.iter_mut().zip(&mut p).zip(row) {
                *qp = (*qp + step * q) / (1.0 + step);
                *p /= 1.0 + step;
            }
        }
    }
    p
}
