//! Heads with one row of numbers for each anchor: four for the box, maybe one for "any object", one for each class, and
//! maybe more for an angle, for keypoints and for masks. YOLOv5 to YOLO11, and YOLOX.

use super::Head;
use super::candidates::Candidates;
use super::shape::{BoxRule, Shape};
use crate::model::manifest::{KeypointsManifest, Order, ScoreActivation};
use crate::processing::results::activation::sigmoid;
use crate::processing::results::view::{View, show};

/// The numbers of an anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct YoloRule {
    pub boxes: BoxRule,
    /// The order of the axes, where model.json gives it.
    pub order: Option<Order>,
    pub has_objectness: bool,
    /// The number of classes, where it is known.
    pub classes: Option<usize>,
    pub activation: ScoreActivation,
    pub keypoints: Option<KeypointsManifest>,
    pub is_rotated: bool,
    pub mask_coefficients: usize,
    /// The grids that boxes are relative to (YOLOX): for each, its columns, its cells, and the pixels of a cell.
    pub grids: Vec<Grid>,
}

/// A grid of cells with one anchor each, in the order of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    pub columns: usize,
    pub cells: usize,
    pub stride: f32,
}

/// How the numbers of an output are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lengths {
    order: Order,
    anchors: usize,
    classes: usize,
}

impl YoloRule {
    /// The numbers of an anchor that are no scores of classes.
    fn others(&self) -> usize {
        let keypoints = self.keypoints.map_or(0, |keypoints| keypoints.count * keypoints.dimensions);
        4 + usize::from(self.has_objectness)
            + usize::from(self.is_rotated)
            + keypoints
            + self.mask_coefficients
    }

    /// Checks a shape in which some lengths may be unknown.
    ///
    /// Errors: no output of this shape can be decoded.
    pub fn check(&self, shape: &[Option<usize>]) -> Result<(), String> {
        self.lengths(shape).map(|_| ())
    }

    /// The lengths of a shape; `None` when the shape leaves them open.
    fn lengths(&self, shape: &[Option<usize>]) -> Result<Option<Lengths>, String> {
        let least = self.others() + 1;
        let expected = |problem: &str| {
            let numbers = match self.classes {
                Some(classes) => format!(
                    "{} numbers for each anchor ({} + {classes} classes)",
                    self.others() + classes,
                    self.others()
                ),
                None => format!("{least} or more numbers for each anchor ({} + classes)", self.others()),
            };
            Err(format!(
                "the shape is {}{problem}: expected [N, numbers, anchors] or [N, anchors, numbers], with {numbers}; \
                 `order` in model.json says which axis has the numbers",
                show(shape)
            ))
        };
        let [_, first, last] = shape else { return expected("") };
        let fits = |length: Option<usize>| match self.classes {
            Some(classes) => length.is_none_or(|length| length == self.others() + classes),
            None => length.is_none_or(|length| length >= least),
        };
        let order = match (self.order, fits(*first), fits(*last)) {
            (Some(Order::ChannelsFirst), true, _) | (None, true, false) => Order::ChannelsFirst,
            (Some(Order::ChannelsLast), _, true) | (None, false, true) => Order::ChannelsLast,
            (None, true, true) => match (first, last) {
                (Some(first), Some(last)) if first <= last => Order::ChannelsFirst,
                (Some(_), Some(_)) => Order::ChannelsLast,
                // One length is open: the anchors, if the other one is known to fit.
                (Some(_), None) => Order::ChannelsFirst,
                (None, Some(_)) => Order::ChannelsLast,
                (None, None) => return Ok(None),
            },
            _ => return expected(""),
        };
        let (numbers, anchors) = match order {
            Order::ChannelsFirst => (*first, *last),
            Order::ChannelsLast => (*last, *first),
        };
        if !self.grids.is_empty() {
            let cells: usize = self.grids.iter().map(|grid| grid.cells).sum();
            if anchors.is_some_and(|anchors| anchors != cells) {
                return expected(&format!(", but the grids of the strides have {cells} cells"));
            }
        }
        let (Some(numbers), Some(anchors)) = (numbers, anchors) else { return Ok(None) };
        if u32::try_from(anchors).is_err() {
            return expected(", which are too many anchors");
        }
        Ok(Some(Lengths { order, anchors, classes: numbers - self.others() }))
    }

    /// Reads one row of an output. `shape` is the whole output's.
    pub fn bind<'a>(&'a self, output: View<'a>, row: usize) -> Result<Yolo<'a>, String> {
        let lengths = self.lengths(&output.known_shape())?.expect("a known shape has known lengths");
        Ok(Yolo { rule: self, lengths, values: output.row(row).values() })
    }
}

/// One row of an output.
#[derive(Debug)]
pub struct Yolo<'a> {
    rule: &'a YoloRule,
    lengths: Lengths,
    values: &'a [f32],
}

/// Anchors whose best scores are kept at hand while the classes are walked through: the lists stay in the cache.
const BLOCK: usize = 1024;

impl Yolo<'_> {
    fn number(&self, channel: usize, anchor: usize) -> f32 {
        let Lengths { order, anchors, classes } = self.lengths;
        match order {
            Order::ChannelsFirst => self.values[channel * anchors + anchor],
            Order::ChannelsLast => self.values[anchor * (classes + self.rule.others()) + channel],
        }
    }

    /// The channel of the first class.
    fn first_class(&self) -> usize {
        4 + usize::from(self.rule.has_objectness)
    }

    fn offer(&self, candidates: &mut Candidates, best: f32, class: u32, anchor: usize) {
        let active = |score: f32| match self.rule.activation {
            ScoreActivation::Sigmoid => sigmoid(score),
            _ => score,
        };
        let score = match self.rule.has_objectness {
            true => active(best) * active(self.number(4, anchor)),
            false => active(best),
        };
        candidates.offer(score, class, anchor as u32);
    }

    /// The best class of each anchor when the scores of a class are next to each other.
    fn find_by_classes(&self, candidates: &mut Candidates) {
        let Lengths { anchors, classes, .. } = self.lengths;
        let scores = &self.values[self.first_class() * anchors..];
        for start in (0..anchors).step_by(BLOCK) {
            let count = BLOCK.min(anchors - start);
            let (mut best, mut class) = ([f32::NEG_INFINITY; BLOCK], [0u32; BLOCK]);
            let mut unordered = 0u32;
            for at in 0..classes {
                let row = &scores[at * anchors + start..][..count];
                for ((score, best), class) in row.iter().zip(&mut best).zip(&mut class) {
                    let is_better = *score > *best;
                    *best = if is_better { *score } else { *best };
                    *class = if is_better { at as u32 } else { *class };
                    unordered += u32::from(score.is_nan());
                }
            }
            candidates.non_finite += unordered as usize;
            for (at, (best, class)) in best.iter().zip(&class).take(count).enumerate() {
                self.offer(candidates, *best, *class, start + at);
            }
        }
    }

    /// The best class of each anchor when the scores of an anchor are next to each other.
    fn find_by_anchors(&self, candidates: &mut Candidates) {
        let Lengths { anchors, classes, .. } = self.lengths;
        let numbers = classes + self.rule.others();
        for (anchor, row) in self.values.chunks_exact(numbers).take(anchors).enumerate() {
            let row = &row[self.first_class()..][..classes];
            let largest = largest(row);
            candidates.non_finite += row.iter().map(|score| u32::from(score.is_nan())).sum::<u32>() as usize;
            let class = row.iter().position(|score| *score == largest).unwrap_or(0);
            self.offer(candidates, largest, class as u32, anchor);
        }
    }
}

/// The largest number, or minus infinity if there is none. Eight partial results let the processor compare eight numbers
/// at once.
fn largest(row: &[f32]) -> f32 {
    let (eights, rest) = row.as_chunks::<8>();
    let mut best = [f32::NEG_INFINITY; 8];
    for eight in eights {
        for (best, score) in best.iter_mut().zip(eight) {
            *best = if *score > *best { *score } else { *best };
        }
    }
    best.iter().chain(rest).fold(f32::NEG_INFINITY, |best, score| if *score > best { *score } else { best })
}

impl Head for Yolo<'_> {
    fn find(&self, candidates: &mut Candidates) {
        match self.lengths.order {
            Order::ChannelsFirst => self.find_by_classes(candidates),
            Order::ChannelsLast => self.find_by_anchors(candidates),
        }
    }

    fn shape(&self, place: u32) -> Shape {
        let anchor = place as usize;
        let mut numbers = [0, 1, 2, 3].map(|channel| self.number(channel, anchor));
        let mut first = 0;
        for grid in &self.rule.grids {
            if anchor < first + grid.cells {
                let cell = anchor - first;
                let (column, row) = ((cell % grid.columns) as f32, (cell / grid.columns) as f32);
                let [x, y, width, height] = numbers;
                let [x, y] = [(x + column) * grid.stride, (y + row) * grid.stride];
                numbers = [x, y, width.exp() * grid.stride, height.exp() * grid.stride];
                break;
            }
            first += grid.cells;
        }
        if !self.rule.is_rotated {
            return Shape::Upright(self.rule.boxes.sides(numbers));
        }
        let [x, y] = self.rule.boxes.scale;
        let angle = self.number(self.lengths.classes + self.rule.others() - 1, anchor);
        Shape::Turned {
            center: [numbers[0] * x, numbers[1] * y],
            size: [numbers[2] * x, numbers[3] * y],
            angle,
        }
    }

    fn coefficients(&self, place: u32) -> Vec<f32> {
        let first = self.first_class() + self.lengths.classes;
        let number = |at: usize| self.number(first + at, place as usize);
        (0..self.rule.mask_coefficients).map(number).collect()
    }

    fn keypoints(&self, place: u32) -> Vec<Vec<f32>> {
        let Some(keypoints) = self.rule.keypoints else { return Vec::new() };
        let first = self.first_class() + self.lengths.classes + self.rule.mask_coefficients;
        let [x, y] = self.rule.boxes.scale;
        let point = |at: usize| {
            let number = |part: usize| self.number(first + at * keypoints.dimensions + part, place as usize);
            let mut point = vec![number(0) * x, number(1) * y];
            point.extend((keypoints.dimensions == 3).then(|| number(2)));
            point
        };
        (0..keypoints.count).map(point).collect()
    }
}
