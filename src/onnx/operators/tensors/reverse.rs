//! `ReverseSequence`: the first steps of each sequence of a batch in the reverse order.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, ints, kept_text};
use super::Built;
use super::axes::invalid;
use super::moves::picked;

#[derive(Debug)]
struct ReverseSequence {
    first: First,
}

/// Which of the first two axes comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum First {
    Time,
    Batch,
}

/// Builds a `ReverseSequence` from its node.
pub fn reverse_sequence(attributes: &Attributes) -> Built {
    let first = match (attributes.int("time_axis", 0)?, attributes.int("batch_axis", 1)?) {
        (0, 1) => First::Time,
        (1, 0) => First::Batch,
        (time, batch) => {
            return Err(attributes.wrong(format!(
                "`time_axis` is {time} and `batch_axis` is {batch}: expected 0 and 1, or 1 and 0"
            )));
        }
    };
    Ok(Arc::new(ReverseSequence { first }))
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        match input.rank() {
            0 | 1 => Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank()))),
            _ => Ok(tvec![Kind::new(input.datum_type, input.shape.clone())]),
        }
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let sizes = ints(inputs.required(1, "sequence_lens")?)?;
        let [a, b, rest @ ..] = input.shape() else {
            return Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank())));
        };
        let (steps, batch) = if self.first == First::Time { (*a, *b) } else { (*b, *a) };
        if sizes.len() != batch || sizes.iter().any(|size| *size < 0 || *size > steps as i64) {
            return Err(invalid(format!(
                "`sequence_lens` is {sizes:?} for {batch} sequences of {steps} steps: expected 0 to {steps} for each"
            )));
        }
        let step = |at: usize, sequence: usize| match sizes[sequence] as usize {
            size if at < size => size - 1 - at,
            _ => at,
        };
        let places: Vec<usize> = match self.first {
            First::Time => (0..steps)
                .flat_map(|at| (0..batch).map(move |sequence| step(at, sequence) * batch + sequence))
                .collect(),
            First::Batch => (0..batch)
                .flat_map(|sequence| (0..steps).map(move |at| sequence * steps + step(at, sequence)))
                .collect(),
        };
        Ok(tvec![picked(input.shape(), input, &places, rest.iter().product())?])
    }
}
