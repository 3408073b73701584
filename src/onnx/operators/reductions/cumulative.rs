//! `CumSum` and `CumProd`: each element joined with all elements before it.
//!
//! FP16 is computed in FP32. Integers wrap.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::{Split, axis};
use super::super::numbers::{Number, filled, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Sum,
    Product,
}

/// `CumSum` or `CumProd`.
#[derive(Debug)]
struct Cumulative {
    of: Of,
    /// The element itself is not counted.
    is_exclusive: bool,
    /// The elements after it are counted instead of those before it.
    is_reversed: bool,
}

/// Builds a `CumSum` or `CumProd` from its node.
pub fn cumulative(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    let of = if attributes.node.op_type == "CumProd" { Of::Product } else { Of::Sum };
    let is_exclusive = attributes.flag("exclusive", false)?;
    let is_reversed = attributes.flag("reverse", false)?;
    Ok(Arc::new(Cumulative { of, is_exclusive, is_reversed }))
}

/// The axis among its integers.
fn only(axes: &[i64], rank: usize) -> TractResult<usize> {
    match axes {
        [one] => axis(*one, rank),
        _ => Err(TractError::msg(format!("`axis` has {} numbers: expected 1", axes.len()))),
    }
}

impl Operator for Cumulative {
    fn name(&self) -> &'static str {
        match self.of {
            Of::Sum => "CumSum",
            Of::Product => "CumProd",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "x")?;
        if let Some(axes) = inputs.required(1, "axis")?.ints()? {
            only(&axes, input.rank())?;
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "x")?;
        let axis = only(&ints(inputs.required(1, "axis")?)?, input.rank())?;
        let split = Split::at(input.shape(), axis);
        on_numbers!(input.datum_type(), T => {
            let from = elements::<T>(input)?;
            let output = filled::<T>(input.shape(), |to| {
                match self.of {
                    Of::Sum => self.fill(from, to, split, T::ZERO, T::plus),
                    Of::Product => self.fill(from, to, split, T::ONE, T::times),
                }
                Ok(())
            })?;
            Ok(tvec![output])
        })
    }
}

impl Cumulative {
    fn fill<T: Number>(&self, from: &[T], to: &mut [T], split: Split, empty: T, join: impl Fn(T, T) -> T) {
        let Split { length, inner, .. } = split;
        if split.count() == 0 {
            return;
        }
        let mut so_far = vec![empty; inner];
        for (from, to) in from.chunks_exact(length * inner).zip(to.chunks_exact_mut(length * inner)) {
            so_far.fill(empty);
            for step in 0..length {
                let begin = inner * if self.is_reversed { length - 1 - step } else { step };
                let rows = from[begin..][..inner].iter().zip(&mut to[begin..][..inner]);
                for ((from, to), so_far) in rows.zip(&mut so_far) {
                    let joined = join(*so_far, *from);
                    *to = if self.is_exclusive { *so_far } else { joined };
                    *so_far = joined;
                }
            }
        }
    }
}
