//! Boxes, scores, classes and their count in outputs of their own: TensorFlow's detectors, torchvision's detectors.

use super::Head;
use super::candidates::Candidates;
use super::shape::{BoxRule, Shape};
use crate::processing::results::view::{View, show};

/// How the outputs are read.
#[derive(Debug, Clone, PartialEq)]
pub struct SsdRule {
    pub boxes: BoxRule,
    /// The number of classes, where it is known.
    pub classes: Option<usize>,
}

/// The parts of an SSD head: one value for each output.
#[derive(Debug, Clone, Copy)]
pub struct Parts<T> {
    pub boxes: T,
    pub scores: T,
    /// `None` when `scores` has one score for each class.
    pub classes: Option<T>,
    /// The number of boxes that count; `None` when all do.
    pub count: Option<T>,
}

impl SsdRule {
    /// Checks the shapes of the outputs, in which some lengths may be unknown.
    pub fn check(&self, parts: Parts<&[Option<usize>]>) -> Result<(), String> {
        let wrong = |part: &str, shape: &[Option<usize>], expected: &str| {
            let boxes = show(parts.boxes);
            Err(format!(
                "the shape of `{part}` is {}: expected {expected}, as `boxes` has the shape {boxes}",
                show(shape)
            ))
        };
        let fits = |a: Option<usize>, b: Option<usize>| a.is_none() || b.is_none() || a == b;
        let (rows, last) = match parts.boxes {
            [rows @ .., four] if matches!(rows.len(), 1 | 2) => (rows, *four),
            _ => return wrong("boxes", parts.boxes, "[N, boxes, 4], or [boxes, 4] for one image"),
        };
        if !fits(last, Some(4)) {
            return wrong("boxes", parts.boxes, "[N, boxes, 4], or [boxes, 4] for one image");
        }
        let same = |shape: &[Option<usize>]| {
            shape.len() == rows.len() && shape.iter().zip(rows).all(|(a, b)| fits(*a, *b))
        };
        match parts.classes {
            Some(classes) if !same(classes) => return wrong("classes", classes, "one class for each box"),
            Some(_) if !same(parts.scores) => return wrong("scores", parts.scores, "one score for each box"),
            None => match parts.scores {
                // One class.
                scores if same(scores) => {}
                [before @ .., classes] if same(before) => {
                    if let (Some(classes), Some(labels)) = (classes, self.classes)
                        && *classes != labels
                    {
                        return wrong(
                            "scores",
                            parts.scores,
                            &format!("{labels} scores for each box, one for each label"),
                        );
                    }
                }
                scores => {
                    return wrong("scores", scores, "one score for each box, or one for each box and class");
                }
            },
            Some(_) => {}
        }
        match parts.count {
            Some(count) if count.len() > 2 || count.iter().skip(1).any(|length| !fits(*length, Some(1))) => {
                wrong("count", count, "[N]")
            }
            _ => Ok(()),
        }
    }

    /// Reads one row of the outputs.
    pub fn bind<'a>(&'a self, parts: Parts<View<'a>>, row: usize) -> Result<Ssd<'a>, String> {
        let shapes = [Some(parts.boxes), Some(parts.scores), parts.classes, parts.count]
            .map(|part| part.map(|part| part.known_shape()));
        let [boxes, scores, classes, count] = &shapes;
        self.check(Parts {
            boxes: boxes.as_deref().unwrap_or_default(),
            scores: scores.as_deref().unwrap_or_default(),
            classes: classes.as_deref(),
            count: count.as_deref(),
        })?;
        // A head without an axis of rows has the boxes of one image.
        let has_rows = parts.boxes.shape().len() == 3;
        let own = |part: View<'a>| if has_rows { part.row(row).values() } else { part.values() };
        let boxes = own(parts.boxes);
        let all = boxes.len() / 4;
        let count = match parts.count.and_then(|count| count.values().get(if has_rows { row } else { 0 })) {
            None => all,
            Some(count) if *count >= 0.0 && *count <= all as f32 => *count as usize,
            Some(count) => {
                return Err(format!("`count` holds {count}: expected 0 to {all}, the number of boxes"));
            }
        };
        let scores = own(parts.scores);
        let scores_of_box = scores.len().checked_div(all).unwrap_or(0);
        Ok(Ssd { rule: self, boxes, scores, scores_of_box, classes: parts.classes.map(own), count })
    }
}

/// One row of the outputs.
#[derive(Debug)]
pub struct Ssd<'a> {
    rule: &'a SsdRule,
    boxes: &'a [f32],
    scores: &'a [f32],
    scores_of_box: usize,
    classes: Option<&'a [f32]>,
    count: usize,
}

impl Head for Ssd<'_> {
    fn find(&self, candidates: &mut Candidates) {
        for place in 0..self.count {
            let scores = &self.scores[place * self.scores_of_box..][..self.scores_of_box];
            match self.classes {
                Some(classes) if classes[place] >= 0.0 && classes[place].is_finite() => {
                    candidates.offer(scores[0], classes[place] as u32, place as u32);
                }
                Some(classes) => candidates.non_finite += usize::from(!classes[place].is_finite()),
                None => {
                    candidates.non_finite += scores.iter().filter(|score| score.is_nan()).count();
                    let scores = scores.iter().enumerate().filter(|(_, score)| !score.is_nan());
                    let best = scores.reduce(|best, next| if next.1 > best.1 { next } else { best });
                    if let Some((class, score)) = best {
                        candidates.offer(*score, class as u32, place as u32);
                    }
                }
            }
        }
    }

    fn shape(&self, place: u32) -> Shape {
        Shape::Upright(self.rule.boxes.sides([0, 1, 2, 3].map(|at| self.boxes[place as usize * 4 + at])))
    }
}
