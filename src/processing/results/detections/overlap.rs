//! Non-maximum suppression: of detections that overlap, only the one with the best score is kept.

use super::candidates::Candidate;
use super::shape::Shape;
use crate::model::manifest::Suppression;

/// Decides for one candidate after the other, in the order of scores, whether it is kept.
///
/// The time grows with candidates × kept ones.
#[derive(Debug)]
pub struct Suppressor {
    threshold: f32,
    scope: Suppression,
    /// The boxes that are kept: those of each class apart, or all together.
    groups: Vec<Group>,
    group_of_class: Vec<Option<usize>>,
}

impl Suppressor {
    /// A candidate is dropped when its overlap with one that is kept is larger than `threshold`.
    pub fn new(threshold: f32, scope: Suppression) -> Suppressor {
        Suppressor { threshold, scope, groups: Vec::new(), group_of_class: Vec::new() }
    }

    /// Whether the next candidate is kept.
    pub fn keeps(&mut self, candidate: &Candidate, shape: &Shape) -> bool {
        let class = match self.scope {
            Suppression::None => return true,
            Suppression::All => 0,
            Suppression::PerClass => candidate.class as usize,
        };
        if self.group_of_class.len() <= class {
            self.group_of_class.resize(class + 1, None);
        }
        let group = *self.group_of_class[class].get_or_insert_with(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        let is_kept = !self.groups[group].overlaps(shape, self.threshold);
        if is_kept {
            self.groups[group].push(shape);
        }
        is_kept
    }
}

/// Boxes that are kept. The numbers of upright boxes are in lists of their own, so that the loop over them is fast.
#[derive(Debug, Default)]
struct Group {
    left: Vec<f32>,
    top: Vec<f32>,
    right: Vec<f32>,
    bottom: Vec<f32>,
    area: Vec<f32>,
    turned: Vec<Gaussian>,
}

/// Boxes that are compared before the result is looked at.
const STEP: usize = 8;

impl Group {
    fn push(&mut self, shape: &Shape) {
        match shape {
            Shape::Upright([left, top, right, bottom]) => {
                self.left.push(*left);
                self.top.push(*top);
                self.right.push(*right);
                self.bottom.push(*bottom);
                self.area.push((right - left).max(0.0) * (bottom - top).max(0.0));
            }
            Shape::Turned { center, size, angle } => self.turned.push(Gaussian::of(*center, *size, *angle)),
        }
    }

    fn overlaps(&self, shape: &Shape, threshold: f32) -> bool {
        match shape {
            Shape::Upright(sides) => self.overlaps_upright(sides, threshold),
            Shape::Turned { center, size, angle } => {
                let ours = Gaussian::of(*center, *size, *angle);
                self.turned.iter().any(|other| ours.overlap(other) > f64::from(threshold))
            }
        }
    }

    fn overlaps_upright(&self, [left, top, right, bottom]: &[f32; 4], threshold: f32) -> bool {
        let area = (right - left).max(0.0) * (bottom - top).max(0.0);
        let mut start = 0;
        while start < self.left.len() {
            let end = (start + STEP).min(self.left.len());
            let others = self.left[start..end].iter().zip(&self.top[start..end]);
            let others = others.zip(&self.right[start..end]).zip(&self.bottom[start..end]);
            let mut found = false;
            for ((((x1, y1), x2), y2), other) in others.zip(&self.area[start..end]) {
                let width = (right.min(*x2) - left.max(*x1)).max(0.0);
                let height = (bottom.min(*y2) - top.max(*y1)).max(0.0);
                let both = width * height;
                // Without a division: two boxes without area do not overlap.
                found |= both > threshold * (area + other - both);
            }
            if found {
                return true;
            }
            start = end;
        }
        false
    }
}

/// A turned box as a normal distribution of points, for the overlap "ProbIoU" (Llerena and others, 2021), which
/// Ultralytics uses for turned boxes.
#[derive(Debug, Clone, Copy)]
struct Gaussian {
    center: [f64; 2],
    /// The covariance: of x, of y, of both.
    a: f64,
    b: f64,
    c: f64,
}

impl Gaussian {
    fn of(center: [f32; 2], size: [f32; 2], angle: f32) -> Gaussian {
        let [width, height] = size.map(|side| f64::from(side) * f64::from(side) / 12.0);
        let (sin, cos) = f64::from(angle).sin_cos();
        Gaussian {
            center: center.map(f64::from),
            a: width * cos * cos + height * sin * sin,
            b: width * sin * sin + height * cos * cos,
            c: (width - height) * cos * sin,
        }
    }

    /// 1 minus the Hellinger distance.
    fn overlap(&self, other: &Gaussian) -> f64 {
        const LEAST: f64 = 1e-7;
        let (a, b, c) = (self.a + other.a, self.b + other.b, self.c + other.c);
        let (x, y) = (self.center[0] - other.center[0], self.center[1] - other.center[1]);
        let determinant = a * b - c * c;
        let first = (a * y * y + b * x * x) / (determinant + LEAST) * 0.25;
        let second = -(c * x * y) / (determinant + LEAST) * 0.5;
        let alone = |gaussian: &Gaussian| (gaussian.a * gaussian.b - gaussian.c * gaussian.c).max(0.0);
        let third = (determinant / (4.0 * (alone(self) * alone(other)).sqrt() + LEAST) + LEAST).ln() * 0.5;
        let distance = (first + second + third).clamp(LEAST, 100.0);
        1.0 - (1.0 - (-distance).exp() + LEAST).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of those that are kept, at most `max`.
    fn kept(
        candidates: &[Candidate],
        shapes: &[Shape],
        threshold: f32,
        scope: Suppression,
        max: usize,
    ) -> Vec<usize> {
        let mut suppressor = Suppressor::new(threshold, scope);
        let all = candidates.iter().zip(shapes).enumerate();
        let kept = all.filter(|(_, (candidate, shape))| suppressor.keeps(candidate, shape));
        kept.map(|(at, _)| at).take(max).collect()
    }

    fn run(boxes: &[(u32, [f32; 4])], threshold: f32, scope: Suppression, max: usize) -> Vec<usize> {
        let candidates: Vec<Candidate> = boxes
            .iter()
            .enumerate()
            .map(|(place, (class, _))| Candidate { score: 0.5, class: *class, place: place as u32 })
            .collect();
        let shapes: Vec<Shape> = boxes.iter().map(|(_, sides)| Shape::Upright(*sides)).collect();
        kept(&candidates, &shapes, threshold, scope, max)
    }

    #[test]
    fn an_overlap_that_equals_the_threshold_is_kept_and_a_larger_one_is_not() {
        // The second box covers half of the first: the overlap is 0.5.
        let boxes = [(0, [0.0, 0.0, 10.0, 10.0]), (0, [0.0, 0.0, 10.0, 5.0])];
        assert_eq!(run(&boxes, 0.5, Suppression::PerClass, 9), [0, 1]);
        assert_eq!(run(&boxes, 0.49, Suppression::PerClass, 9), [0]);
    }

    #[test]
    fn boxes_of_different_classes_are_compared_only_when_asked_for() {
        let boxes = [(7, [0.0, 0.0, 10.0, 10.0]), (3, [0.0, 0.0, 10.0, 9.0]), (7, [0.0, 0.0, 10.0, 8.0])];
        assert_eq!(run(&boxes, 0.5, Suppression::PerClass, 9), [0, 1]);
        assert_eq!(run(&boxes, 0.5, Suppression::All, 9), [0]);
        assert_eq!(run(&boxes, 0.5, Suppression::None, 9), [0, 1, 2]);
        assert_eq!(run(&boxes, 0.5, Suppression::None, 2), [0, 1]);
        assert_eq!(run(&boxes, 0.99, Suppression::All, 2), [0, 1]);
    }

    #[test]
    fn a_box_that_was_dropped_drops_no_other() {
        let boxes = [(0, [0.0, 0.0, 10.0, 1.0]), (0, [4.0, 0.0, 14.0, 1.0]), (0, [8.0, 0.0, 18.0, 1.0])];
        assert_eq!(run(&boxes, 0.4, Suppression::All, 9), [0, 2]);
    }

    #[test]
    fn boxes_without_area_are_kept() {
        let point = [5.0, 5.0, 5.0, 5.0];
        assert_eq!(
            run(&[(0, point), (0, point), (0, [0.0, 0.0, 9.0, 9.0])], 0.0, Suppression::All, 9),
            [0, 1, 2]
        );
    }

    #[test]
    fn turned_boxes_overlap_by_their_true_place() {
        let turned = |x: f32, angle: f32| Shape::Turned { center: [x, 0.0], size: [100.0, 4.0], angle };
        let shapes = [turned(0.0, 0.0), turned(0.0, 0.01), turned(0.0, 1.5)];
        let candidates: Vec<Candidate> =
            (0..3).map(|place| Candidate { score: 0.5, class: 0, place }).collect();
        assert_eq!(kept(&candidates, &shapes, 0.5, Suppression::All, 9), [0, 2]);
    }
}
