//! `ArgMax` and `ArgMin`: the index of the largest or smallest element of an axis.
//!
//! A NaN counts as the extreme, as in the reference evaluator.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::{Split, axis};
use super::super::numbers::{Number, filled, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};

/// Which element is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extreme {
    Largest,
    Smallest,
}

/// Which of equal elements counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ties {
    First,
    Last,
}

/// `ArgMax` or `ArgMin`.
#[derive(Debug)]
struct Arg {
    extreme: Extreme,
    axis: i64,
    keeps_axis: bool,
    ties: Ties,
}

/// Builds an `ArgMax` or `ArgMin` from its node.
pub fn arg(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    let is_max = attributes.node.op_type == "ArgMax";
    let is_last = attributes.flag("select_last_index", false)?;
    Ok(Arc::new(Arg {
        extreme: if is_max { Extreme::Largest } else { Extreme::Smallest },
        axis: attributes.int("axis", 0)?,
        keeps_axis: attributes.flag("keepdims", true)?,
        ties: if is_last { Ties::Last } else { Ties::First },
    }))
}

impl Operator for Arg {
    fn name(&self) -> &'static str {
        match self.extreme {
            Extreme::Largest => "ArgMax",
            Extreme::Smallest => "ArgMin",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        let axis = axis(self.axis, input.rank())?;
        let mut shape = input.shape.clone();
        if self.keeps_axis {
            shape[axis] = 1.into();
        } else {
            shape.remove(axis);
        }
        Ok(tvec![Kind::new(i64::datum_type(), shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let axis = axis(self.axis, input.rank())?;
        let split = Split::at(input.shape(), axis);
        if split.length == 0 {
            return Err(TractError::msg(format!("axis {axis} has no elements: expected at least one")));
        }
        let mut shape = input.shape().to_vec();
        shape[axis] = 1;
        let mut output = filled::<i64>(&shape, |to| {
            on_numbers!(input.datum_type(), T => {
                self.search::<T>(elements(input)?, split, to);
                Ok(())
            })
        })?;
        if !self.keeps_axis {
            output.remove_axis(axis)?;
        }
        Ok(tvec![output])
    }
}

impl Arg {
    fn search<T: Number>(&self, elements: &[T], split: Split, to: &mut [i64]) {
        match (self.extreme, self.ties) {
            (Extreme::Largest, Ties::First) => {
                search(elements, split, to, |a: T, b| a > b || a.is_nan() && !b.is_nan())
            }
            (Extreme::Largest, Ties::Last) => search(elements, split, to, |a: T, b| a >= b || a.is_nan()),
            (Extreme::Smallest, Ties::First) => {
                search(elements, split, to, |a: T, b| a < b || a.is_nan() && !b.is_nan())
            }
            (Extreme::Smallest, Ties::Last) => search(elements, split, to, |a: T, b| a <= b || a.is_nan()),
        }
    }
}

/// Writes the index of the best element of each lane. `is_better` compares an element with the best one before it.
fn search<T: Number>(elements: &[T], split: Split, to: &mut [i64], is_better: impl Fn(T, T) -> bool) {
    let Split { length, inner, .. } = split;
    if split.count() == 0 {
        return;
    }
    if inner == 1 {
        for (row, to) in elements.chunks_exact(length).zip(to) {
            let better =
                |best: (usize, T), next: (usize, T)| if is_better(next.1, best.1) { next } else { best };
            *to = row.iter().copied().enumerate().reduce(better).map_or(0, |(at, _)| at as i64);
        }
        return;
    }
    let mut best: Vec<T> = vec![T::ZERO; inner];
    for (plane, to) in elements.chunks_exact(length * inner).zip(to.chunks_exact_mut(inner)) {
        best.copy_from_slice(&plane[..inner]);
        for (at, row) in plane.chunks_exact(inner).enumerate().skip(1) {
            for ((element, best), to) in row.iter().zip(&mut best).zip(&mut *to) {
                // Written without a branch: the compiler then compares several elements at once.
                let is_new = is_better(*element, *best);
                *best = if is_new { *element } else { *best };
                *to = if is_new { at as i64 } else { *to };
            }
        }
    }
}
