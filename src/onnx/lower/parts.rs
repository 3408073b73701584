//! `SplitToSequence` into a known number of parts whose lengths only the run determines.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::operators::name_of;
use super::super::operators::operator::{Inputs, Kind, LateLengths, Operator, ints};
use super::sequences::MOST_ELEMENTS;
use super::{Lowering, Value};

/// Cuts `input` along `axis` into the parts whose lengths are the elements of `split`.
///
/// Errors: the number of parts is not known.
pub(super) fn cut(
    lowering: &mut Lowering,
    node: &NodeProto,
    input: OutletId,
    split: Option<OutletId>,
    axis: usize,
) -> TractResult<Value> {
    let parts = match split {
        Some(split) => {
            let shape = &lowering.fact(split)?.shape;
            if shape.rank() == 1 { shape[0].to_usize().ok() } else { None }
        }
        None => None,
    };
    let (Some(count), Some(split)) = (parts.filter(|count| *count <= MOST_ELEMENTS), split) else {
        return Err(TractError::msg(
            "its number of parts is known only during a run: fix the dimension of its `axis` with `inputs[].shape` in \
             model.json, and make `split` constant",
        ));
    };
    let names = |what: &str, count: usize| (0..count).map(|at| format!("{what}{at}")).collect();
    let cut = NodeProto {
        name: name_of(node).to_owned(),
        op_type: node.op_type.clone(),
        input: names("input", 2),
        output: names("part", count),
        ..NodeProto::default()
    };
    let parts = lowering.own(&cut, Arc::new(Parts { axis, count }), &[input, split])?;
    Ok(Value::Sequence(parts.into_iter().map(Value::Tensor).collect()))
}

/// The operator. It has one output for each part.
#[derive(Debug)]
struct Parts {
    axis: usize,
    count: usize,
}

impl Parts {
    /// The lengths of the parts. `length` is that of the axis, if it is known.
    fn lengths(&self, split: &[i64], length: Option<usize>) -> TractResult<Vec<usize>> {
        let lengths: Option<Vec<usize>> = split.iter().map(|length| usize::try_from(*length).ok()).collect();
        let lengths = lengths.filter(|lengths| {
            let sum = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length));
            lengths.len() == self.count && sum.is_some() && length.is_none_or(|length| sum == Some(length))
        });
        lengths.ok_or_else(|| {
            let wanted = length.map_or("the length of the axis".into(), |length| length.to_string());
            TractError::msg(format!("its input `split` is {split:?}: expected lengths whose sum is {wanted}"))
        })
    }
}

impl Operator for Parts {
    fn name(&self) -> &'static str {
        "SplitToSequence"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        let length = input.shape[self.axis].to_usize().ok();
        let known = inputs.required(1, "split")?.ints()?;
        let known = known.map(|split| self.lengths(&split, length)).transpose()?;
        let part = |at: usize| {
            let mut shape = input.shape.clone();
            shape[self.axis] = known.as_ref().map_or_else(|| late.length(at), |known| known[at].into());
            Kind::new(input.datum_type, shape)
        };
        Ok((0..self.count).map(part).collect())
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let split = ints(inputs.required(1, "split")?)?;
        let mut start = 0;
        let mut parts = TVec::new();
        for length in self.lengths(&split, Some(input.shape()[self.axis]))? {
            let mut shape: TVec<usize> = input.shape().into();
            shape[self.axis] = length;
            parts.push(match length {
                0 => Tensor::zero_dt(input.datum_type(), &shape)?,
                _ => input.slice(self.axis, start, start + length)?,
            });
            start += length;
        }
        Ok(parts)
    }
}
