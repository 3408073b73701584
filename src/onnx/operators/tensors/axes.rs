//! Axes, shapes and parameters that are an attribute in one version of the standard and an input in another.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
pub use super::super::axes::{axes_in_order as axes_of, axis as axis_of};
pub use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, ints};

/// The distances of elements along each axis, in row-major order.
pub fn strides(shape: &[usize]) -> TVec<usize> {
    let mut strides: TVec<usize> = shape.into();
    let mut next = 1;
    for (stride, length) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next *= length;
    }
    strides
}

/// Lengths without symbols as sizes.
pub fn dims(shape: &[usize]) -> TVec<TDim> {
    shape.iter().map(|length| length.to_dim()).collect()
}

/// Sizes as lengths.
///
/// Errors: a size has a symbol or is negative.
pub fn lengths(shape: &[TDim]) -> TractResult<TVec<usize>> {
    let length = |size: &TDim| {
        size.to_usize().map_err(|_| TractError::msg(format!("the length {size} of an axis is not possible")))
    };
    shape.iter().map(length).collect()
}

/// Lengths from values.
///
/// Errors: one is negative.
pub fn lengths_of(name: &str, values: &[i64]) -> TractResult<TVec<usize>> {
    let length = |value: &i64| {
        usize::try_from(*value)
            .map_err(|_| invalid(format!("`{name}` is {values:?}: expected 0 or more everywhere")))
    };
    values.iter().map(length).collect()
}

/// As many late lengths, from number `first` on.
pub fn late(lengths: &LateLengths, first: usize, count: usize) -> TVec<TDim> {
    (first..first + count).map(|at| lengths.length(at)).collect()
}

/// A list of integers that is an attribute or an input.
#[derive(Debug, Clone)]
pub struct Ints {
    /// Its name in the standard.
    pub name: &'static str,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Attribute(Vec<i64>),
    /// The input with this number, counted from 0. It may be left out.
    Input(usize),
}

impl Ints {
    /// The attribute `name` if the node has it, else input `at`.
    pub fn read(attributes: &Attributes, name: &'static str, at: usize) -> TractResult<Ints> {
        let place = match attributes.has(name) {
            true => Place::Attribute(attributes.ints(name)?.to_vec()),
            false => Place::Input(at),
        };
        Ok(Ints { name, place })
    }

    /// Input `at`.
    pub fn input(name: &'static str, at: usize) -> Ints {
        Ints { name, place: Place::Input(at) }
    }

    /// How many there are. `None` when the input is left out.
    ///
    /// Errors: the number is not known.
    pub fn count(&self, inputs: &Inputs<Kind>) -> TractResult<Option<usize>> {
        let input = match &self.place {
            Place::Attribute(ints) => return Ok(Some(ints.len())),
            Place::Input(at) => inputs.optional(*at),
        };
        let Some(input) = input else { return Ok(None) };
        let count = input.count();
        let unknown = || {
            TractError::msg(format!(
                "the number of elements of `{}` is not known: expected an input with fixed dimensions",
                self.name
            ))
        };
        count.map(Some).ok_or_else(unknown)
    }

    /// True when it is there.
    pub fn is_given<T>(&self, inputs: &Inputs<T>) -> bool {
        match &self.place {
            Place::Attribute(_) => true,
            Place::Input(at) => inputs.optional(*at).is_some(),
        }
    }

    /// The integers, if they are there and known.
    pub fn known(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Vec<i64>>> {
        match &self.place {
            Place::Attribute(ints) => Ok(Some(ints.clone())),
            Place::Input(at) => Ok(inputs.optional(*at).map(Kind::ints).transpose()?.flatten()),
        }
    }

    /// The integers, if they are there and known; they may contain symbols.
    pub fn sizes(&self, inputs: &Inputs<Kind>) -> TractResult<Option<TVec<TDim>>> {
        match &self.place {
            Place::Attribute(ints) => Ok(Some(ints.iter().map(|int| int.to_dim()).collect())),
            Place::Input(at) => Ok(inputs.optional(*at).map(Kind::sizes).transpose()?.flatten()),
        }
    }

    /// The integers in a run. `None` when the input is left out.
    pub fn now(&self, inputs: &Inputs<Tensor>) -> TractResult<Option<Vec<i64>>> {
        match &self.place {
            Place::Attribute(values) => Ok(Some(values.clone())),
            Place::Input(at) => inputs.optional(*at).map(ints).transpose(),
        }
    }

    /// The integers in a run, which must be there.
    pub fn required(&self, inputs: &Inputs<Tensor>) -> TractResult<Vec<i64>> {
        self.now(inputs)?.ok_or_else(|| TractError::msg(format!("`{}` is missing", self.name)))
    }
}
