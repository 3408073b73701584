//! Axes of a tensor: their numbers as the standard writes them, and a tensor as outer × axis × inner elements.
//!
//! Axes can be values that a client sends. So a wrong one is an error of the request.

use tract_onnx::prelude::*;

use super::invalid;

/// An axis counted from the first. The standard lets −1 stand for the last axis.
///
/// Errors: there is no such axis.
pub fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let from_first = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(from_first) {
        Ok(found) if found < rank => Ok(found),
        _ => Err(invalid(format!(
            "there is no axis {axis} in a tensor with {rank} axes: expected -{rank} to {}",
            rank as i64 - 1
        ))),
    }
}

/// Several axes, counted from the first and in ascending order.
///
/// Errors: an axis does not exist, or is there twice.
pub fn axes(axes: &[i64], rank: usize) -> TractResult<Vec<usize>> {
    if axes.len() > rank {
        return Err(invalid(format!("there are {} axes for a tensor with {rank} axes", axes.len())));
    }
    let mut found = axes_in_order(axes, rank)?;
    found.sort_unstable();
    Ok(found)
}

/// Several axes in the given order.
///
/// Errors: an axis does not exist, or is there twice.
pub fn axes_in_order(axes: &[i64], rank: usize) -> TractResult<Vec<usize>> {
    let found: Vec<usize> = axes.iter().map(|one| axis(*one, rank)).collect::<TractResult<_>>()?;
    for (at, one) in found.iter().enumerate() {
        if found[..at].contains(one) {
            return Err(invalid(format!("axis {one} is named twice")));
        }
    }
    Ok(found)
}

/// A tensor in row-major order as `outer` × `length` × `inner` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The product of the lengths before the axis.
    pub outer: usize,
    /// The length of the axis.
    pub length: usize,
    /// The product of the lengths after the axis.
    pub inner: usize,
}

impl Split {
    /// Splits a shape at an axis that exists.
    pub fn at(shape: &[usize], axis: usize) -> Split {
        Split {
            outer: shape[..axis].iter().product(),
            length: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        }
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.outer * self.length * self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_do_not_exist_or_are_named_twice_are_errors() {
        assert_eq!(axes(&[-1, 0], 3).unwrap(), [0, 2]);
        assert!(axis(3, 3).unwrap_err().to_string().contains("expected -3 to 2"));
        assert!(axis(i64::MIN, 3).is_err());
        assert!(axis(0, 0).is_err());
        assert!(axes(&[2, -1], 3).unwrap_err().to_string().contains("twice"));
    }
}
