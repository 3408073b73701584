//! Puts the results of all iterations into one tensor, along a new axis.

use tract_onnx::prelude::*;

use super::super::operators::operator::text_bytes;
use crate::error::{Code, RequestError};
use crate::memory::Share;

/// The order in which the elements of an axis are read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Backward,
}

/// An axis along which there is one element per iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    /// The axis, counted from 0.
    pub axis: usize,
    /// The order of the iterations along it.
    pub order: Order,
}

/// A tensor that grows by one result per iteration.
#[derive(Debug)]
pub struct Stack {
    along: Along,
    /// The number of iterations, if it is known.
    expected: Option<usize>,
    /// The results, along axis 0, with room for more.
    all: Option<Tensor>,
    count: usize,
    memory: Share,
    /// The most bytes of one tensor.
    most: usize,
}

impl Stack {
    /// An empty stack.
    pub fn new(along: Along, expected: Option<usize>, memory: Share, most: usize) -> Stack {
        Stack { along, expected, all: None, count: 0, memory, most }
    }

    /// Adds a result. `node` is the name of the node, for errors.
    pub fn push(&mut self, result: TValue, node: &str) -> TractResult<()> {
        let mut row = result.into_tensor();
        row.insert_axis(0)?;
        self.memory.grow(text_bytes(&row))?;
        let room = self.all.as_ref().map_or(0, |all| all.shape()[0]);
        if self.count == room {
            self.grow(&row, node)?;
        }
        let all = self.all.as_mut().expect("grow() has made it");
        if all.shape()[1..] != row.shape()[1..] {
            return Err(RequestError::invalid(format!(
                "node `{node}` joins the results of its iterations, but one has the shape {:?} and one {:?}",
                &all.shape()[1..],
                &row.shape()[1..]
            ))
            .into());
        }
        let at = match (self.along.order, self.expected) {
            (Order::Backward, Some(expected)) => expected - 1 - self.count,
            _ => self.count,
        };
        all.assign_slice(at..at + 1, &row, 0..1, 0)?;
        self.count += 1;
        Ok(())
    }

    /// Makes room for more results like `row`.
    fn grow(&mut self, row: &Tensor, node: &str) -> TractResult<()> {
        let rows = self.expected.filter(|_| self.count == 0).unwrap_or((self.count * 2).max(1));
        // The other rows may have other texts: their bytes are taken when they are added.
        let bytes = (row.len() * row.datum_type().size_of()).saturating_mul(rows);
        if bytes > self.most {
            let message = format!(
                "node `{node}` would make {bytes} bytes of all iterations: the limit is {}",
                self.most
            );
            return Err(RequestError::new(Code::TooLarge, message).into());
        }
        self.memory.grow(bytes)?;
        let mut shape: TVec<usize> = row.shape().into();
        shape[0] = rows;
        let mut all = empty(row.datum_type(), &shape)?;
        if let Some(old) = self.all.take().filter(|_| self.count > 0) {
            all.assign_slice(0..self.count, &old, 0..self.count, 0)?;
            self.memory.shrink(old.len() * old.datum_type().size_of());
        }
        self.all = Some(all);
        Ok(())
    }

    /// The tensor. `row` is the type and shape of a result, if there was no iteration.
    pub fn finish(self, datum_type: DatumType, row: &[usize]) -> TractResult<TValue> {
        let Some(all) = self.all else {
            let mut shape: TVec<usize> = row.into();
            shape.insert(self.along.axis, 0);
            return Ok(empty(datum_type, &shape)?.into_tvalue());
        };
        let all = if self.count < all.shape()[0] { all.slice(0, 0, self.count)? } else { all };
        Ok(all.move_axis(0, self.along.axis)?.into_tvalue())
    }
}

/// A tensor of zeros or of empty strings.
fn empty(datum_type: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    if datum_type == String::datum_type() {
        return Ok(tract_ndarray::ArrayD::from_elem(shape, String::new()).into_tensor());
    }
    Tensor::zero_dt(datum_type, shape)
}
