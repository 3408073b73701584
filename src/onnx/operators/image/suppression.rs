//! `NonMaxSuppression`: the boxes with the highest scores that do not overlap each other too much.
//!
//! As in onnxruntime, boxes are listed by batch, class and falling score, a lower index first where scores are equal, and all
//! areas are computed in single precision.

use std::cmp::Ordering;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct NonMaxSuppression {
    format: Format,
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// y and x of a corner, and those of the opposite one.
    Corners,
    /// x and y of the centre, width and height.
    Center,
}

/// Builds a `NonMaxSuppression` from its node.
pub fn suppression(attributes: &Attributes) -> Built {
    let format = match attributes.int("center_point_box", 0)? {
        0 => Format::Corners,
        1 => Format::Center,
        other => return Err(attributes.wrong(format!("`center_point_box` is {other}: expected 0 or 1"))),
    };
    built(NonMaxSuppression { format })
}

/// A box by its least and greatest coordinates.
#[derive(Debug, Clone, Copy)]
struct Area {
    from: [f32; 2],
    to: [f32; 2],
}

impl Area {
    fn new(numbers: &[f32], format: Format) -> Area {
        let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
        match format {
            Format::Corners => Area { from: [a.min(c), b.min(d)], to: [a.max(c), b.max(d)] },
            Format::Center => {
                let (wide, high) = (c / 2.0, d / 2.0);
                Area { from: [b - high, a - wide], to: [b + high, a + wide] }
            }
        }
    }

    fn size(&self) -> f32 {
        (self.to[0] - self.from[0]) * (self.to[1] - self.from[1])
    }

    /// Whether the intersection is more than this part of the union.
    fn overlaps(&self, other: &Area, threshold: f32) -> bool {
        let length = |axis: usize| self.to[axis].min(other.to[axis]) - self.from[axis].max(other.from[axis]);
        let (high, wide) = (length(0), length(1));
        if high <= 0.0 || wide <= 0.0 {
            return false;
        }
        let common = high * wide;
        let (first, second) = (self.size(), other.size());
        let union = first + second - common;
        first > 0.0 && second > 0.0 && union > 0.0 && common / union > threshold
    }
}

/// What the optional inputs say.
#[derive(Debug)]
struct Limits {
    /// The most boxes of a class.
    most: usize,
    overlap: f32,
    score: Option<f32>,
}

impl Limits {
    fn read(inputs: &Inputs<Tensor>) -> TractResult<Limits> {
        let most = match inputs.optional(2) {
            Some(most) => single(&ints(most)?, "max_output_boxes_per_class")?,
            None => 0,
        };
        let number = |at: usize, name: &str| -> TractResult<Option<f32>> {
            inputs.optional(at).map(|input| single(elements::<f32>(input)?, name)).transpose()
        };
        let overlap = number(3, "iou_threshold")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&overlap) {
            return Err(TractError::msg(format!("its input `iou_threshold` is {overlap}: expected 0 to 1")));
        }
        let most = usize::try_from(most.max(0)).unwrap_or(usize::MAX);
        Ok(Limits { most, overlap, score: number(4, "score_threshold")? })
    }
}

/// The only element of an input.
fn single<T: Copy>(elements: &[T], name: &str) -> TractResult<T> {
    match elements {
        [one] => Ok(*one),
        other => Err(TractError::msg(format!("its input `{name}` has {} elements: expected 1", other.len()))),
    }
}

/// The number of batches, classes and boxes.
fn sizes(inputs: &Inputs<Tensor>) -> TractResult<[usize; 3]> {
    let (boxes, scores) = (inputs.required(0, "boxes")?.shape(), inputs.required(1, "scores")?.shape());
    match (boxes, scores) {
        ([batches, count, 4], [batch, classes, others]) if batches == batch && count == others => {
            Ok([*batches, *classes, *count])
        }
        _ => Err(TractError::msg(format!(
            "its input `boxes` has the shape {boxes:?} and `scores` {scores:?}: expected [batches, boxes, 4] and \
             [batches, classes, boxes]"
        ))),
    }
}

impl Operator for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let names = ["boxes", "scores", "max_output_boxes_per_class", "iou_threshold", "score_threshold"];
        inputs.required(0, names[0])?;
        inputs.required(1, names[1])?;
        for (at, name) in names.into_iter().enumerate() {
            let Some(kind) = inputs.optional(at) else { continue };
            let expected = if at == 2 { DatumType::I64 } else { DatumType::F32 };
            if kind.datum_type != expected || (at < 2) != (kind.rank() == 3) || (at >= 2 && kind.rank() > 1) {
                return Err(TractError::msg(format!(
                    "its input `{name}` is of type {:?} and has {} axes: expected {expected:?} and {}",
                    kind.datum_type,
                    kind.rank(),
                    if at < 2 { "3 axes" } else { "one element" }
                )));
            }
        }
        Ok(tvec![Kind::new(DatumType::I64, [late.length(0), 3.to_dim()])])
    }

    fn most_bytes(&self, inputs: &Inputs<Tensor>) -> TractResult<u128> {
        let [batches, classes, boxes] = sizes(inputs)?;
        let most = Limits::read(inputs)?.most.min(boxes);
        let row = 3 * size_of::<i64>();
        Ok(batches as u128 * classes as u128 * most as u128 * row as u128)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let [batches, classes, count] = sizes(inputs)?;
        let limits = Limits::read(inputs)?;
        let boxes = elements::<f32>(inputs.required(0, "boxes")?)?;
        let scores = elements::<f32>(inputs.required(1, "scores")?)?;
        let mut chosen: Vec<i64> = Vec::new();
        for batch in 0..batches {
            let areas: Vec<Area> = boxes[batch * count * 4..][..count * 4]
                .chunks_exact(4)
                .map(|numbers| Area::new(numbers, self.format))
                .collect();
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * count..][..count];
                let of_class = choose(&areas, scores, &limits);
                chosen.extend(of_class.into_iter().flat_map(|at| [batch as i64, class as i64, at as i64]));
            }
        }
        Ok(tvec![Tensor::from_shape(&[chosen.len() / 3, 3], &chosen)?])
    }
}

/// The indices of the boxes of a class.
fn choose(areas: &[Area], scores: &[f32], limits: &Limits) -> Vec<usize> {
    if limits.most == 0 {
        return Vec::new();
    }
    let passes = |at: &usize| limits.score.is_none_or(|least| scores[*at] > least);
    let mut order: Vec<usize> = (0..areas.len()).filter(passes).collect();
    // The sort is stable: a lower index stays first. A NaN has no order, and is last.
    order.sort_by(|a, b| {
        let (a, b) = (scores[*a], scores[*b]);
        b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()).then(Ordering::Equal))
    });
    let mut chosen: Vec<usize> = Vec::new();
    for at in order {
        if chosen.len() == limits.most {
            break;
        }
        if !chosen.iter().any(|other| areas[at].overlaps(&areas[*other], limits.overlap)) {
            chosen.push(at);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    const BOXES: [f32; 16] =
        [0.0, 0.0, 1.0, 1.0, 1.0, 1.1, 0.0, 0.1, 0.0, 10.0, 1.0, 11.0, 0.0, 10.1, 1.0, 11.1];

    fn run(boxes: &[f32], format: i64, inputs: [Option<Tensor>; 3]) -> TractResult<Vec<i64>> {
        let boxes = Tensor::from_shape(&[1, boxes.len() / 4, 4], boxes)?;
        let scores = Tensor::from_shape(&[1, 1, 4], &[0.5_f32, 0.9, 0.5, 0.5])?;
        let inputs: Vec<_> = [Some(boxes), Some(scores)].into_iter().chain(inputs).collect();
        let outputs =
            Trial::new(Domain::Onnx, "NonMaxSuppression", &[int("center_point_box", format)]).run(&inputs)?;
        Ok(elements::<i64>(&outputs[0])?.chunks(3).map(|row| row[2]).collect())
    }

    #[test]
    fn boxes_that_overlap_a_better_one_are_left_out() {
        let limits = || [Some(tensor1(&[9_i64])), Some(tensor1(&[0.5_f32])), None];
        assert_eq!(run(&BOXES, 0, limits()).unwrap(), [1, 2]);
        let mut high = limits();
        high[2] = Some(tensor0(0.5_f32));
        assert_eq!(run(&BOXES, 0, high).unwrap(), [1], "a score must be above the threshold");
        let mut one = limits();
        one[0] = Some(tensor0(1_i64));
        assert_eq!(run(&BOXES, 0, one).unwrap(), [1]);
        let exact = [Some(tensor1(&[9_i64])), Some(tensor1(&[1.0_f32])), None];
        assert_eq!(
            run(&BOXES, 0, exact).unwrap(),
            [1, 0, 2, 3],
            "equal scores in the order of their indices"
        );
    }

    #[test]
    fn boxes_by_their_centre() {
        let boxes = [0.5, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0, 10.5, 0.5, 1.0, 1.0, 10.5, 0.6, 1.0, 1.0];
        let limits = [Some(tensor1(&[9_i64])), Some(tensor1(&[0.5_f32])), None];
        assert_eq!(run(&boxes, 1, limits).unwrap(), [1, 2]);
    }

    #[test]
    fn without_a_number_of_boxes_there_are_none() {
        assert!(run(&BOXES, 0, [None, None, None]).unwrap().is_empty());
        let threshold = [Some(tensor1(&[1_i64])), Some(tensor1(&[1.5_f32])), None];
        assert!(run(&BOXES, 0, threshold).unwrap_err().to_string().contains("expected 0 to 1"));
    }
}
