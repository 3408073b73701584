//! Heads with one box for each query, and a score for each query and class: DETR, RT-DETR, RF-DETR, D-FINE.

use super::Head;
use super::candidates::Candidates;
use super::shape::{BoxRule, Shape};
use crate::model::manifest::ScoreActivation;
use crate::processing::results::activation::{sigmoid, softmax};
use crate::processing::results::view::{View, show};

/// How the two outputs are read.
#[derive(Debug, Clone, PartialEq)]
pub struct DetrRule {
    pub boxes: BoxRule,
    pub activation: ScoreActivation,
    /// The number of classes, where it is known.
    pub classes: Option<usize>,
}

impl DetrRule {
    /// Checks the shapes of `logits` and `boxes`, in which some lengths may be unknown.
    pub fn check(&self, logits: &[Option<usize>], boxes: &[Option<usize>]) -> Result<(), String> {
        let [_, queries, classes] = logits else {
            return Err(format!("the shape of `logits` is {}: expected [N, queries, classes]", show(logits)));
        };
        // With softmax, one more class means "no object".
        let more = usize::from(self.activation == ScoreActivation::Softmax);
        if let (Some(classes), Some(labels)) = (classes, self.classes)
            && *classes != labels + more
        {
            return Err(format!(
                "the shape of `logits` is {}: expected {} classes at the end, because there are {labels} labels{}",
                show(logits),
                labels + more,
                if more == 1 { " and the class \"no object\"" } else { "" }
            ));
        }
        if classes.is_some_and(|classes| classes <= more) {
            return Err(format!("the shape of `logits` is {}: it has no classes", show(logits)));
        }
        if queries
            .zip(*classes)
            .is_some_and(|(queries, classes)| u32::try_from(queries.saturating_mul(classes)).is_err())
        {
            return Err(format!("the shape of `logits` is {}: it has too many scores", show(logits)));
        }
        let fits = |a: Option<usize>, b: Option<usize>| a.is_none() || b.is_none() || a == b;
        match boxes {
            [_, count, four] if fits(*count, *queries) && fits(*four, Some(4)) => Ok(()),
            _ => Err(format!(
                "the shape of `boxes` is {}: expected [N, queries, 4], as `logits` has the shape {}",
                show(boxes),
                show(logits)
            )),
        }
    }

    /// Reads one row of the outputs.
    pub fn bind<'a>(&'a self, logits: View<'a>, boxes: View<'a>, row: usize) -> Result<Detr<'a>, String> {
        self.check(&logits.known_shape(), &boxes.known_shape())?;
        let classes = logits.shape()[2];
        Ok(Detr { rule: self, classes, logits: logits.row(row).values(), boxes: boxes.row(row).values() })
    }
}

/// One row of the outputs. The place of a candidate is query × classes + class.
#[derive(Debug)]
pub struct Detr<'a> {
    rule: &'a DetrRule,
    classes: usize,
    logits: &'a [f32],
    boxes: &'a [f32],
}

impl Head for Detr<'_> {
    fn find(&self, candidates: &mut Candidates) {
        let mut probabilities = Vec::new();
        for (query, logits) in self.logits.chunks_exact(self.classes).enumerate() {
            let first = query * self.classes;
            if self.rule.activation != ScoreActivation::Softmax {
                for (class, logit) in logits.iter().enumerate() {
                    let score = match self.rule.activation {
                        ScoreActivation::None => *logit,
                        _ => sigmoid(*logit),
                    };
                    candidates.offer(score, class as u32, (first + class) as u32);
                }
                continue;
            }
            softmax(logits, &mut probabilities);
            let classes = probabilities.iter().take(self.classes - 1).enumerate();
            let best =
                classes.reduce(|best, next| if *next.1 > *best.1 || best.1.is_nan() { next } else { best });
            if let Some((class, score)) = best {
                candidates.offer(*score, class as u32, (first + class) as u32);
            }
        }
    }

    fn shape(&self, place: u32) -> Shape {
        let query = place as usize / self.classes;
        Shape::Upright(self.rule.boxes.sides([0, 1, 2, 3].map(|at| self.boxes[query * 4 + at])))
    }
}
