//! Operators that take elements at the places in a tensor of indices: `Gather`, `GatherElements`, `GatherND`. An index that
//! is out of range is an error.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, ints};
use super::Built;
use super::axes::{axis_of, invalid, strides};
use super::moves::{Axis, Places, mapped, picked};

/// The place of an index on an axis of this length; a negative one counts from the end.
pub fn place_of(index: i64, length: usize) -> TractResult<usize> {
    let place = if index < 0 { index + length as i64 } else { index };
    usize::try_from(place).ok().filter(|place| *place < length).ok_or_else(|| {
        invalid(format!(
            "the index {index} is out of range for an axis of the length {length}: expected -{length} or more, and less \
             than {length}"
        ))
    })
}

/// Takes parts along an axis.
#[derive(Debug)]
struct Gather {
    axis: i64,
}

/// Builds a `Gather` from its node.
pub fn gather(attributes: &Attributes) -> Built {
    Ok(Arc::new(Gather { axis: attributes.int("axis", 0)? }))
}

/// The shape of `Gather`.
fn gathered<D: Clone>(data: &[D], indices: &[D], axis: usize) -> TVec<D> {
    data[..axis].iter().chain(indices).chain(&data[axis + 1..]).cloned().collect()
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let axis = axis_of(self.axis, data.rank())?;
        Ok(tvec![Kind::new(data.datum_type, gathered(&data.shape, &indices.shape, axis))])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let axis = axis_of(self.axis, data.rank())?;
        let (shape, stride) = (data.shape(), strides(data.shape())[axis]);
        let places = ints(indices)?.into_iter().map(|index| place_of(index, shape[axis]));
        let outer = shape[..axis].iter().product();
        let axes = vec![
            Axis { stride: stride * shape[axis], places: Places::all(outer) },
            Axis { stride, places: Places::List(places.collect::<TractResult<_>>()?) },
            Axis { stride: 1, places: Places::all(stride) },
        ];
        Ok(tvec![mapped(&gathered(shape, indices.shape(), axis), data, axes, None)?])
    }
}

/// The form of `Gather` that tract serves: constant indices in the range of an axis with a fixed length.
pub fn constant_indices(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let check = || -> TractResult<bool> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let axis = axis_of(attributes.int("axis", 0)?, data.rank())?;
        let (Ok(length), Some(indices)) = (data.shape[axis].to_usize(), indices.ints()?) else {
            return Ok(false);
        };
        Ok(indices.iter().all(|index| place_of(*index, length).is_ok()))
    };
    match check() {
        Ok(true) => Ok(()),
        Ok(false) => Err("the engine serves only constant indices in range".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes one element for each index.
#[derive(Debug)]
struct GatherElements {
    axis: i64,
}

/// Builds a `GatherElements` from its node.
pub fn gather_elements(attributes: &Attributes) -> Built {
    Ok(Arc::new(GatherElements { axis: attributes.int("axis", 0)? }))
}

/// The places in a tensor of the shape `data`, for each element of `indices`: the element's own place, but with its index on
/// `axis`. The result's places are flat.
pub fn places_of_elements(data: &[usize], indices: &Tensor, axis: i64) -> TractResult<Vec<usize>> {
    let shape = indices.shape();
    if data.len() != shape.len() {
        return Err(TractError::msg(format!(
            "indices of the shape {shape:?} for data of the shape {data:?}: expected the same number of axes"
        )));
    }
    let axis = axis_of(axis, data.len())?;
    if let Some(at) = (0..data.len()).find(|at| *at != axis && shape[*at] > data[*at]) {
        return Err(TractError::msg(format!(
            "indices of the shape {shape:?} for data of the shape {data:?}: axis {at} is too long"
        )));
    }
    let (all, strides) = (ints(indices)?, strides(data));
    let inner = &shape[axis + 1..];
    let inner_places = flat_places(inner, &strides[axis + 1..]);
    let mut places = Vec::with_capacity(all.len());
    if all.is_empty() {
        return Ok(places);
    }
    let mut rows = all.chunks_exact(inner_places.len());
    for outer in flat_places(&shape[..axis], &strides[..axis]) {
        for row in rows.by_ref().take(shape[axis]) {
            for (index, inner) in row.iter().zip(&inner_places) {
                places.push(outer + place_of(*index, data[axis])? * strides[axis] + inner);
            }
        }
    }
    Ok(places)
}

/// The flat places of all elements of a tensor of this shape in one with these strides.
fn flat_places(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (length, stride) in shape.iter().zip(strides) {
        let inner = |place: usize| (0..*length).map(move |at| place + at * stride);
        places = places.into_iter().flat_map(inner).collect();
    }
    places
}

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        axis_of(self.axis, data.rank())?;
        Ok(tvec![Kind::new(data.datum_type, indices.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let places = places_of_elements(data.shape(), indices, self.axis)?;
        Ok(tvec![picked(indices.shape(), data, &places, 1)?])
    }
}

/// Takes a part for each row of indices.
#[derive(Debug)]
struct GatherNd {
    batch_axes: usize,
}

/// Builds a `GatherND` from its node.
pub fn gather_nd(attributes: &Attributes) -> Built {
    let batch_axes = attributes.int("batch_dims", 0)?;
    let batch_axes = usize::try_from(batch_axes)
        .map_err(|_| attributes.wrong(format!("`batch_dims` is {batch_axes}: expected 0 or more")))?;
    Ok(Arc::new(GatherNd { batch_axes }))
}

/// The blocks of a tensor of the shape `data` that the rows of `indices` name, after `batch_axes` common axes.
pub struct Rows {
    /// The number of each block.
    pub places: Vec<usize>,
    /// The number of elements of a block.
    pub block: usize,
}

impl Rows {
    /// Reads the rows. Each has one index for each axis after the common ones, or for the first of them.
    pub fn read(data: &[usize], indices: &Tensor, batch_axes: usize) -> TractResult<Rows> {
        let wrong = || {
            TractError::msg(format!(
                "indices of the shape {:?} for data of the shape {data:?} with {batch_axes} common axes",
                indices.shape()
            ))
        };
        let (width, outer) = indices.shape().split_last().ok_or_else(wrong)?;
        let is_possible = batch_axes <= outer.len()
            && batch_axes + width <= data.len()
            && outer[..batch_axes] == data[..batch_axes];
        if !is_possible {
            return Err(wrong());
        }
        let indexed = &data[batch_axes..batch_axes + width];
        let (block, strides) = (data[batch_axes + width..].iter().product(), strides(indexed));
        let batches: usize = outer[..batch_axes].iter().product();
        let rows: usize = outer[batch_axes..].iter().product();
        let (all, of_batch) = (ints(indices)?, indexed.iter().product::<usize>());
        let mut places = Vec::with_capacity(batches * rows);
        for at in 0..batches * rows {
            let mut place = at / rows * of_batch;
            for ((index, length), stride) in all[at * width..][..*width].iter().zip(indexed).zip(&strides) {
                place += place_of(*index, *length)? * stride;
            }
            places.push(place);
        }
        Ok(Rows { places, block })
    }
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let (width, outer) = indices
            .shape
            .split_last()
            .ok_or_else(|| TractError::msg("`indices` is a scalar: expected an axis"))?;
        let width = width.to_usize().map_err(|_| {
            TractError::msg(
                "the last axis of `indices` is open: expected a fixed length, which gives the number of axes",
            )
        })?;
        let rest = data.shape.get(self.batch_axes + width..).filter(|_| self.batch_axes <= outer.len());
        let rest = rest.ok_or_else(|| {
            TractError::msg(format!(
                "rows of {width} indices after {} common axes, for data of {} axes and indices of {}",
                self.batch_axes,
                data.rank(),
                indices.rank()
            ))
        })?;
        Ok(tvec![Kind::new(data.datum_type, outer.iter().chain(rest).cloned())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (data, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let Rows { places, block } = Rows::read(data.shape(), indices, self.batch_axes)?;
        let width = indices.shape().last().copied().unwrap_or(0);
        let outer = &indices.shape()[..indices.rank() - 1];
        let rest = &data.shape()[self.batch_axes + width..];
        let shape: TVec<usize> = outer.iter().chain(rest).copied().collect();
        Ok(tvec![picked(&shape, data, &places, block)?])
    }
}
