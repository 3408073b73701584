//! Operators whose number of results depends on the values: `Compress`, `NonZero`, `Unique`.

use std::cmp::Ordering;
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::Built;
use super::axes::{axis_of, invalid};
use super::moves::{Axis, Places, along, mapped, picked};

/// Keeps the parts where a condition is true.
#[derive(Debug)]
struct Compress {
    /// Without an axis, the elements are one list.
    axis: Option<i64>,
}

/// Builds a `Compress` from its node.
pub fn compress(attributes: &Attributes) -> Built {
    Ok(Arc::new(Compress { axis: attributes.node.get_attr_opt("axis")? }))
}

/// The places of true elements.
fn trues(condition: &Tensor) -> TractResult<Vec<usize>> {
    let all = elements::<bool>(condition)?.iter().enumerate();
    Ok(all.filter(|(_, is_kept)| **is_kept).map(|(at, _)| at).collect())
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, condition) = (inputs.required(0, "input")?, inputs.required(1, "condition")?);
        let count = match &condition.value {
            Some(condition) => trues(condition)?.len().into(),
            None => late.length(0),
        };
        let Some(axis) = self.axis else { return Ok(tvec![Kind::new(input.datum_type, [count])]) };
        let mut shape = input.shape.clone();
        shape[axis_of(axis, input.rank())?] = count;
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, condition) = (inputs.required(0, "input")?, inputs.required(1, "condition")?);
        let kept = trues(condition)?;
        let view: TVec<usize> = match self.axis {
            Some(_) => input.shape().into(),
            None => tvec![input.len()],
        };
        let axis = axis_of(self.axis.unwrap_or(0), view.len())?;
        if let Some(place) = kept.last().filter(|place| **place >= view[axis]) {
            return Err(invalid(format!(
                "`condition` is true at {place}, but there are {} elements",
                view[axis]
            )));
        }
        let mut shape = view.clone();
        shape[axis] = kept.len();
        let mut places: Vec<Places> = view.iter().map(|length| Places::all(*length)).collect();
        places[axis] = Places::List(kept);
        Ok(tvec![mapped(&shape, input, along(&view, places), None)?])
    }
}

/// The places of all elements that are not 0.
#[derive(Debug)]
struct NonZero;

/// Builds a `NonZero` from its node.
pub fn non_zero(_: &Attributes) -> Built {
    Ok(Arc::new(NonZero))
}

/// The flat places of the elements that are not 0, false or an empty string.
fn set_places(input: &Tensor) -> TractResult<Vec<usize>> {
    fn places<T: Datum + PartialEq>(input: &Tensor) -> TractResult<Vec<usize>> {
        let zero = T::default();
        let all = elements::<T>(input)?.iter().enumerate();
        Ok(all.filter(|(_, element)| **element != zero).map(|(at, _)| at).collect())
    }
    Ok(match input.datum_type() {
        DatumType::Bool => places::<bool>(input)?,
        DatumType::String => places::<String>(input)?,
        DatumType::F16 => places::<f16>(input)?,
        DatumType::F32 => places::<f32>(input)?,
        DatumType::F64 => places::<f64>(input)?,
        DatumType::U8 => places::<u8>(input)?,
        _ => places::<i64>(&*input.cast_to::<i64>()?)?,
    })
}

impl Operator for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        // A scalar counts as a list of one element.
        let rank = inputs.single()?.rank().max(1);
        Ok(tvec![Kind::new(i64::datum_type(), [rank.into(), late.length(0)])])
    }

    fn most_bytes(&self, inputs: &Inputs<Tensor>) -> TractResult<u128> {
        let input = inputs.single()?;
        // The list of places is 8 bytes for each element, too.
        Ok(input.len() as u128 * 8 * (input.rank().max(1) as u128 + 1))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let mut places = set_places(input)?;
        let shape: TVec<usize> = if input.rank() == 0 { tvec![1] } else { input.shape().into() };
        let (rank, count) = (shape.len(), places.len());
        let mut output = vec![0_i64; rank * count];
        for (axis, length) in shape.iter().enumerate().rev() {
            for (at, place) in places.iter_mut().enumerate() {
                output[axis * count + at] = (*place % length) as i64;
                *place /= length;
            }
        }
        Ok(tvec![Tensor::from_shape(&[rank, count], &output)?])
    }
}

/// The different elements, or the different parts along an axis.
#[derive(Debug)]
struct Unique {
    axis: Option<i64>,
    order: Order,
}

/// The order of the different parts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// Ascending.
    Sorted,
    /// As they appear first.
    Appearance,
}

/// Builds a `Unique` from its node.
pub fn unique(attributes: &Attributes) -> Built {
    let order = if attributes.flag("sorted", true)? { Order::Sorted } else { Order::Appearance };
    Ok(Arc::new(Unique { axis: attributes.node.get_attr_opt("axis")?, order }))
}

/// An order of all values, also of NaN, which comes last.
trait Ordered: Datum {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($t:ty),*) => {$(
        impl Ordered for $t {
            fn order(&self, other: &$t) -> Ordering {
                // Where there is no order, one of both is NaN.
                self.partial_cmp(other).unwrap_or_else(|| (self != self).cmp(&(other != other)))
            }
        }
    )*};
}

ordered!(bool, u8, u64, i64, f16, f32, f64, String);

impl Unique {
    /// The tensor as a list of parts: the lengths around the axis, and the axis itself.
    fn view(&self, shape: &[usize]) -> TractResult<[usize; 3]> {
        Ok(match self.axis {
            None => [1, shape.iter().product(), 1],
            Some(axis) => {
                let axis = axis_of(axis, shape.len())?;
                [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
            }
        })
    }

    /// The groups of equal parts, in the order of the result. Each is a list of ascending places.
    fn groups(&self, input: &Tensor, view: [usize; 3]) -> TractResult<Vec<Vec<usize>>> {
        let mut groups = match input.datum_type() {
            DatumType::Bool => grouped::<bool>(input, view)?,
            DatumType::String => grouped::<String>(input, view)?,
            DatumType::F16 => grouped::<f16>(input, view)?,
            DatumType::F32 => grouped::<f32>(input, view)?,
            DatumType::F64 => grouped::<f64>(input, view)?,
            DatumType::U8 => grouped::<u8>(input, view)?,
            DatumType::U64 => grouped::<u64>(input, view)?,
            _ => grouped::<i64>(&*input.cast_to::<i64>()?, view)?,
        };
        if self.order == Order::Appearance {
            groups.sort_by_key(|group| group[0]);
        }
        Ok(groups)
    }
}

/// The groups of equal parts in ascending order.
fn grouped<T: Ordered>(input: &Tensor, [outer, count, inner]: [usize; 3]) -> TractResult<Vec<Vec<usize>>> {
    let all = elements::<T>(input)?;
    let part = |at: usize| (0..outer).flat_map(move |row| &all[(row * count + at) * inner..][..inner]);
    let order = |a: &usize, b: &usize| {
        let unequal = part(*a).zip(part(*b)).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
        unequal.unwrap_or(Ordering::Equal)
    };
    let mut places: Vec<usize> = (0..count).collect();
    // The sort is stable, so the places in a group ascend.
    places.sort_by(order);
    Ok(places.chunk_by(|a, b| order(a, b).is_eq()).map(<[usize]>::to_vec).collect())
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        let shape = match self.axis {
            None => tvec![late.length(0)],
            Some(axis) => {
                let mut shape = input.shape.clone();
                shape[axis_of(axis, input.rank())?] = late.length(0);
                shape
            }
        };
        let count = || Kind::new(i64::datum_type(), [late.length(0)]);
        let whole = match self.axis {
            None => input.shape.iter().product(),
            Some(axis) => input.shape[axis_of(axis, input.rank())?].clone(),
        };
        let inverse = Kind::new(i64::datum_type(), [whole]);
        Ok(tvec![Kind::new(input.datum_type, shape), count(), inverse, count()])
    }

    fn most_bytes(&self, inputs: &Inputs<Tensor>) -> TractResult<u128> {
        let input = inputs.single()?;
        let [_, count, _] = self.view(input.shape())?;
        // The elements, three lists of indices, and the groups.
        Ok(input.len() as u128 * input.datum_type().size_of() as u128 + count as u128 * (3 * 8 + 8 + 32))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let view = self.view(input.shape())?;
        let groups = self.groups(input, view)?;
        let [outer, count, inner] = view;
        let first: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut inverse = vec![0_i64; count];
        for (at, group) in groups.iter().enumerate() {
            group.iter().for_each(|place| inverse[*place] = at as i64);
        }
        let firsts: Vec<i64> = first.iter().map(|place| *place as i64).collect();
        let counts: Vec<i64> = groups.iter().map(|group| group.len() as i64).collect();
        let values = match self.axis {
            None => picked(&[first.len()], input, &first, 1)?,
            Some(axis) => {
                let mut shape: TVec<usize> = input.shape().into();
                shape[axis_of(axis, input.rank())?] = first.len();
                let axes = vec![
                    Axis { stride: count * inner, places: Places::all(outer) },
                    Axis { stride: inner, places: Places::List(first) },
                    Axis { stride: 1, places: Places::all(inner) },
                ];
                mapped(&shape, input, axes, None)?
            }
        };
        Ok(tvec![values, tensor1(&firsts), tensor1(&inverse), tensor1(&counts)])
    }
}
