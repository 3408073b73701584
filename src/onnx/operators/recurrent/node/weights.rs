//! The weights of a recurrent operator, in the form in which they are multiplied.

use tract_onnx::prelude::*;

use super::super::super::operator::{Inputs, elements};
use super::super::cell;
use super::super::product::Recurring;
use super::{Places, Recurrent};

/// The weights of one direction.
#[derive(Debug)]
pub struct Weights<T: Recurring> {
    /// The number of features of the input.
    pub features: usize,
    /// `[input, gates · hidden]`
    pub input: T::Matrix,
    /// `[hidden, gates · hidden]`; of a GRU without the last gate.
    pub recurrent: T::Matrix,
    /// `[hidden, hidden]`: of a GRU, the last gate, whose product needs the others when the reset comes first.
    pub candidate: Option<T::Matrix>,
    /// `[gates · hidden]`: the biases that are added before anything else. Of a GRU with `linear_before_reset`, without the
    /// recurrent bias of the last gate.
    pub bias: Vec<T>,
    /// `[hidden]`: that recurrent bias.
    pub late_bias: Vec<T>,
    pub peepholes: Option<Vec<T>>,
}

impl Recurrent {
    /// The hidden size by the shape of R.
    pub fn hidden(&self, recurrent: &[usize]) -> TractResult<usize> {
        let rows = self.cell.gates();
        let hidden = match recurrent {
            [directions, height, width] if *directions == self.directions() => match self.is_quantized {
                true if *width == rows * height => Some(*height),
                false if *height == rows * width => Some(*width),
                _ => None,
            },
            _ => None,
        };
        hidden.filter(|size| self.hidden.is_none_or(|said| said == *size)).ok_or_else(|| {
            TractError::msg(format!(
                "its input `R` has the shape {recurrent:?}, which does not fit {} directions, {rows} gates and the hidden size {:?}",
                self.directions(),
                self.hidden
            ))
        })
    }

    /// Weights of eight bits as real numbers.
    fn widened(&self, inputs: &Inputs<Tensor>, which: usize, name: &str) -> TractResult<Tensor> {
        let weights = inputs.required(which, name)?;
        if !self.is_quantized {
            return Ok(weights.clone());
        }
        let at = Places::SCALES + 2 * (which - Places::W);
        let scales = inputs.required(at, "scale")?.cast_to::<f32>()?.into_owned();
        let zeros = inputs.required(at + 1, "zero point")?.cast_to::<i32>()?.into_owned();
        let values = weights.cast_to::<i32>()?.into_owned();
        let &[directions, _, width] = weights.shape() else {
            return Err(TractError::msg(format!(
                "its input `{name}` has {} axes: expected 3",
                weights.rank()
            )));
        };
        let (values, scales, zeros) =
            (elements::<i32>(&values)?, elements::<f32>(&scales)?, elements::<i32>(&zeros)?);
        let of = |list: usize, direction: usize, column: usize| match list {
            1 => Some(0),
            list if list == directions => Some(direction),
            list if list == directions * width => Some(direction * width + column),
            _ => None,
        };
        let block = weights.len() / directions.max(1);
        let real = values.iter().enumerate().map(|(at, value)| {
            let (direction, column) = (at / block, at % width);
            let scale = of(scales.len(), direction, column).map(|at| scales[at])?;
            let zero = of(zeros.len(), direction, column).map(|at| zeros[at])?;
            Some((*value - zero) as f32 * scale)
        });
        let real: Option<Vec<f32>> = real.collect();
        let real =
            real.ok_or_else(|| TractError::msg(format!("the scales of `{name}` do not fit its shape")))?;
        Tensor::from_shape(weights.shape(), &real)
    }

    /// Makes the weights of all directions.
    pub fn pack<T: Recurring>(&self, inputs: &Inputs<Tensor>) -> TractResult<Vec<Weights<T>>> {
        let (input, recurrent) =
            (self.widened(inputs, Places::W, "W")?, self.widened(inputs, Places::R, "R")?);
        let hidden = self.hidden(recurrent.shape())?;
        let (directions, rows) = (self.directions(), self.cell.gates() * hidden);
        // The columns of a matrix are rows of the tensor, but not when the weights have eight bits.
        let matrix = |block: &[T], columns: std::ops::Range<usize>| {
            let width = block.len() / rows;
            let element = |row: usize, column: usize| match self.is_quantized {
                true => block[row * rows + columns.start + column],
                false => block[(columns.start + column) * width + row],
            };
            T::pack(width, columns.len(), element)
        };
        let blocks = |tensor: &Tensor, name: &str| -> TractResult<Vec<Vec<T>>> {
            let width = tensor.len().checked_div(directions * rows).unwrap_or(0);
            let expected =
                if self.is_quantized { [directions, width, rows] } else { [directions, rows, width] };
            if tensor.shape() != expected {
                return Err(TractError::msg(format!(
                    "its input `{name}` has the shape {:?}: expected {expected:?}",
                    tensor.shape()
                )));
            }
            Ok(elements::<T>(tensor)?.chunks(tensor.len() / directions).map(<[T]>::to_vec).collect())
        };
        let lists = |at: usize, name: &str, length: usize| -> TractResult<Option<Vec<Vec<T>>>> {
            let Some(tensor) = inputs.optional(at) else { return Ok(None) };
            if tensor.shape() != [directions, length] {
                return Err(TractError::msg(format!(
                    "its input `{name}` has the shape {:?}: expected [{directions}, {length}]",
                    tensor.shape()
                )));
            }
            Ok(Some(elements::<T>(tensor)?.chunks(length).map(<[T]>::to_vec).collect()))
        };
        let biases = lists(Places::B, "B", 2 * rows)?;
        let peepholes = match self.cell {
            cell::Kind::Lstm => lists(Places::PEEPHOLES, "P", 3 * hidden)?,
            _ => None,
        };
        let (input, recurrent) = (blocks(&input, "W")?, blocks(&recurrent, "R")?);
        let late = rows - hidden;
        let each = input.into_iter().zip(recurrent).enumerate().map(|(at, (input, recurrent))| {
            let both = biases.as_ref().map_or_else(|| vec![T::zero(); 2 * rows], |biases| biases[at].clone());
            let (first, second) = both.split_at(rows);
            let mut bias: Vec<T> = first.iter().zip(second).map(|(a, b)| *a + *b).collect();
            if self.resets_after_product {
                bias[late..].copy_from_slice(&first[late..]);
            }
            let peepholes = peepholes.as_ref().map(|all| all[at].clone());
            let is_gru = self.cell == cell::Kind::Gru;
            Weights {
                features: input.len() / rows,
                input: matrix(&input, 0..rows),
                recurrent: matrix(&recurrent, 0..if is_gru { late } else { rows }),
                candidate: is_gru.then(|| matrix(&recurrent, late..rows)),
                bias,
                late_bias: second[late..].to_vec(),
                peepholes,
            }
        });
        Ok(each.collect())
    }
}
