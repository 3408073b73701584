//! `TopK`: the largest or smallest elements of an axis, in order, and their indices.
//!
//! Of equal elements the one with the lower index comes first. A NaN counts as the largest. With `sorted` 0 the standard
//! allows any order; it is the same one here.

use std::cmp::Ordering;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::axes::{Split, axis};
use super::super::invalid;
use super::super::numbers::{Number, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::{Built, Elements};

/// Which elements come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Largest,
    Smallest,
}

/// `TopK`.
#[derive(Debug)]
struct TopK {
    axis: i64,
    first: First,
    /// The number of elements, which is an attribute before version 10.
    count: Option<i64>,
}

/// Builds a `TopK`.
pub fn topk(attributes: &Attributes) -> Built {
    let first = if attributes.flag("largest", true)? { First::Largest } else { First::Smallest };
    let count = if attributes.has("k") { Some(attributes.int("k", 0)?) } else { None };
    Ok(Arc::new(TopK { axis: attributes.int("axis", -1)?, first, count }))
}

/// The number of elements, checked against the length of the axis.
fn checked(counts: &[i64], length: Option<usize>) -> TractResult<usize> {
    // A client may have sent it, so this is an error of the request.
    let &[count] = counts else {
        return Err(invalid(format!("`K` has {} numbers: expected 1", counts.len())));
    };
    match (usize::try_from(count), length) {
        (Ok(count), Some(length)) if count <= length => Ok(count),
        (Ok(count), None) => Ok(count),
        (_, Some(length)) => {
            Err(invalid(format!("`K` is {count}: expected 0 to {length}, the axis's length")))
        }
        _ => Err(invalid(format!("`K` is {count}: expected a number that is not negative"))),
    }
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        Elements::Numbers.check(input.datum_type)?;
        let axis = axis(self.axis, input.rank())?;
        let known = match self.count {
            Some(count) => Some(vec![count]),
            None => inputs.required(1, "K")?.ints()?,
        };
        let mut shape = input.shape.clone();
        let length = shape[axis].to_usize().ok();
        shape[axis] = match known {
            Some(counts) => checked(&counts, length)?.into(),
            None => late.length(0),
        };
        Ok(tvec![Kind::new(input.datum_type, shape.clone()), Kind::new(i64::datum_type(), shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let axis = axis(self.axis, input.rank())?;
        let split = Split::at(input.shape(), axis);
        let counts = match self.count {
            Some(count) => vec![count],
            None => ints(inputs.required(1, "K")?)?,
        };
        let count = checked(&counts, Some(split.length))?;
        let mut shape = input.shape().to_vec();
        shape[axis] = count;
        on_numbers!(input.datum_type(), T => {
            let mut values = Tensor::zero_dt(T::datum_type(), &shape)?;
            let mut places = Tensor::zero_dt(i64::datum_type(), &shape)?;
            let mut search = Search { first: self.first, lane: Vec::new() };
            search.fill(
                elements::<T>(input)?,
                split,
                count,
                values.try_as_plain_ram_mut()?.as_slice_mut::<T>()?,
                places.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?,
            );
            Ok(tvec![values, places])
        })
    }
}

/// The search in one lane after the other.
struct Search<T> {
    first: First,
    /// Elements of a lane and their indices: the first ones so far, and some more.
    lane: Vec<(T, usize)>,
}

impl<T: Number> Search<T> {
    fn fill(&mut self, from: &[T], split: Split, count: usize, values: &mut [T], places: &mut [i64]) {
        let Split { outer, length, inner } = split;
        if count == 0 {
            return;
        }
        for (outer, inner_at) in (0..outer).flat_map(|outer| (0..inner).map(move |at| (outer, at))) {
            let begin = outer * length * inner + inner_at;
            self.choose(from[begin..].iter().step_by(inner).take(length), count);
            let to = outer * count * inner + inner_at;
            for (at, (value, place)) in self.lane.iter().enumerate() {
                values[to + at * inner] = *value;
                places[to + at * inner] = *place as i64;
            }
        }
    }

    /// Keeps the first `count` elements of a lane, in order.
    fn choose<'a>(&mut self, lane: impl Iterator<Item = &'a T>, count: usize)
    where
        T: 'a,
    {
        let order: fn(&(T, usize), &(T, usize)) -> Ordering = match self.first {
            First::Largest => |a, b| ascending(b.0, a.0).then(a.1.cmp(&b.1)),
            First::Smallest => |a, b| ascending(a.0, b.0).then(a.1.cmp(&b.1)),
        };
        let is_largest = self.first == First::Largest;
        self.lane.clear();
        // With this many elements, all but the first ones are left out. So an element is only kept if it could be one of these.
        let most = count.saturating_mul(2);
        let mut last: Option<T> = None;
        for (at, element) in lane.enumerate() {
            let is_behind = match last {
                None => false,
                // Of equal elements the earlier one is first. NaN is in no order: it is kept.
                Some(last) if is_largest => *element <= last,
                Some(last) => *element >= last,
            };
            if is_behind {
                continue;
            }
            self.lane.push((*element, at));
            if self.lane.len() == most || (self.lane.len() == count && last.is_none()) {
                let (_, middle, _) = self.lane.select_nth_unstable_by(count - 1, order);
                last = Some(middle.0);
                self.lane.truncate(count);
            }
        }
        self.lane.sort_unstable_by(order);
        self.lane.truncate(count);
    }
}

/// The order of numbers, with NaN as the largest.
fn ascending<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
