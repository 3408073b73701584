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

    /// The best candidates, at most [`MOST_CANDIDATES`].
    pub fn into_ranking(self) -> Ranking {
        let mut list = self.list;
        if list.len() > MOST_CANDIDATES {
            list.select_nth_unstable_by(MOST_CANDIDATES, Candidate::order);
            list.truncate(MOST_CANDIDATES);
        }
        Ranking { list, ordered: 0, given: 0 }
    }
}

/// Candidates that are put in order piece by piece: mostly the first ones are enough.
#[derive(Debug)]
pub struct Ranking {
    list: Vec<Candidate>,
    /// Candidates at the front of the list that are in order.
    ordered: usize,
    given: usize,
}

/// Candidates that are put in order first. Each later piece is three times as long as all before it.
const PIECE: usize = 512;

impl Ranking {
    /// Drops candidates before the first is given. `keep` sees them in no order.
    pub fn retain(&mut self, keep: impl FnMut(&Candidate) -> bool) {
        self.list.retain(keep);
    }

    /// The next candidate in the order of scores.
    pub fn next(&mut self) -> Option<Candidate> {
        if self.given == self.ordered {
            let rest = &mut self.list[self.ordered..];
            let piece = (3 * self.ordered).max(PIECE).min(rest.len());
            if piece < rest.len() {
                rest.select_nth_unstable_by(piece, Candidate::order);
            }
            rest[..piece].sort_unstable_by(Candidate::order);
            self.ordered += piece;
        }
        let next = self.list.get(self.given).copied()?;
        self.given += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order(candidates: Candidates) -> Vec<Candidate> {
        let mut ranking = candidates.into_ranking();
        std::iter::from_fn(|| ranking.next()).collect()
    }

    #[test]
    fn candidates_are_in_the_order_of_scores_and_equal_scores_in_the_order_of_the_output() {
        let mut candidates = Candidates::above(0.5);
        for (place, score) in
            [0.6, 0.9, 0.5, 0.6, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate()
        {
            candidates.offer(score, 0, place as u32);
        }
        assert_eq!(candidates.non_finite, 2);
        let places: Vec<u32> = in_order(candidates).iter().map(|candidate| candidate.place).collect();
        assert_eq!(places, [1, 0, 3], "a score that equals the threshold is no candidate");
    }

    #[test]
    fn of_too_many_candidates_the_best_are_kept() {
        let mut candidates = Candidates::above(0.0);
        let count = MOST_CANDIDATES as u32 + 500;
        (0..count).for_each(|place| candidates.offer((place + 1) as f32 / count as f32, 0, place));
        let best = in_order(candidates);
        assert_eq!((best.len(), best[0].place), (MOST_CANDIDATES, count - 1));
    }

    #[test]
    fn pieces_of_the_ranking_join_to_the_order_of_all() {
        let mut candidates = Candidates::above(0.0);
        // Many scores are equal, also across the ends of pieces.
        (0..9_000u32).for_each(|place| candidates.offer(((place * 7919) % 97 + 1) as f32, place % 3, place));
        let mut all = candidates.list.clone();
        all.sort_by(Candidate::order);
        let mut ranking = candidates.into_ranking();
        ranking.retain(|candidate| candidate.class != 1);
        all.retain(|candidate| candidate.class != 1);
        assert_eq!(std::iter::from_fn(|| ranking.next()).collect::<Vec<_>>(), all);
    }
}
