//! The candidates for detections: places of an output whose score is larger than the threshold.

use std::cmp::Ordering;

/// Candidates for non-maximum suppression. When there are more, those with the lowest scores are dropped.
pub const MOST_CANDIDATES: usize = 30_000;

/// A place of an output whose score is larger than the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub score: f32,
    pub class: u32,
    /// The place in the output, such as the number of the anchor.
    pub place: u32,
}

impl Candidate {
    /// The order of detections: the best score first; of equal scores the one that is first in the output.
    pub fn order(&self, other: &Candidate) -> Ordering {
        let scores = other.score.total_cmp(&self.score);
        scores.then(self.place.cmp(&other.place)).then(self.class.cmp(&other.class))
    }
}

/// Collects candidates.
#[derive(Debug)]
pub struct Candidates {
    floor: f32,
    list: Vec<Candidate>,
    /// The number of scores that are no finite number, and of boxes with such a number.
    pub non_finite: usize,
}

impl Candidates {
    /// Begins with no candidate. Only scores larger than `floor` become candidates.
    pub fn above(floor: f32) -> Candidates {
        Candidates { floor, list: Vec::new(), non_finite: 0 }
    }

    /// Takes a place of the output if its score is larger than the threshold.
    #[inline]
    pub fn offer(&mut self, score: f32, class: u32, place: u32) {
        if score > self.floor && score.is_finite() {
            self.list.push(Candidate { score, class, place });
        } else if score.is_nan() || score == f32::INFINITY {
            self.non_finite += 1;
        }
    }

    /// The best candidates, at most [`MOST_CANDIDATES`], in their order.
    pub fn into_best(self) -> Vec<Candidate> {
        let mut list = self.list;
        if list.len() > MOST_CANDIDATES {
            list.select_nth_unstable_by(MOST_CANDIDATES, Candidate::order);
            list.truncate(MOST_CANDIDATES);
        }
        list.sort_unstable_by(Candidate::order);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_in_the_order_of_scores_and_equal_scores_in_the_order_of_the_output() {
        let mut candidates = Candidates::above(0.5);
        for (place, score) in
            [0.6, 0.9, 0.5, 0.6, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate()
        {
            candidates.offer(score, 0, place as u32);
        }
        assert_eq!(candidates.non_finite, 2);
        let places: Vec<u32> = candidates.into_best().iter().map(|candidate| candidate.place).collect();
        assert_eq!(places, [1, 0, 3], "a score that equals the threshold is no candidate");
    }

    #[test]
    fn of_too_many_candidates_the_best_are_kept() {
        let mut candidates = Candidates::above(0.0);
        let count = MOST_CANDIDATES as u32 + 500;
        (0..count).for_each(|place| candidates.offer((place + 1) as f32 / count as f32, 0, place));
        let best = candidates.into_best();
        assert_eq!((best.len(), best[0].place), (MOST_CANDIDATES, count - 1));
    }
}
