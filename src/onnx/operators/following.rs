//! What an operator by the kernels does after its sums: functions, the sum with another tensor, and more functions.

use onnxd_kernels::after::After;
use onnxd_kernels::functions::Function;
use tract_onnx::prelude::*;

use super::operator::{Inputs, Step, elements};

/// The steps that an operator does while it stores its result.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// What each number goes through first.
    first: TVec<Function>,
    /// Whether another tensor is added then, the last input.
    adds: bool,
    /// What follows the sum.
    then: TVec<Function>,
}

impl Following {
    /// Whether nothing follows the sums.
    pub fn is_nothing(&self) -> bool {
        self.first.is_empty() && !self.adds
    }

    /// The same with one more step. `None`: it cannot be done here.
    pub fn with(&self, step: &Step) -> Option<Following> {
        let mut more = self.clone();
        match step {
            Step::Function(function) if self.adds => more.then.push(*function),
            Step::Function(function) => more.first.push(*function),
            Step::Add if !self.adds => more.adds = true,
            _ => return None,
        }
        Some(more)
    }

    /// The steps in the form that the kernels take, for a result of this shape.
    ///
    /// Errors: the tensor that is added has another shape.
    pub fn after<'a, 'b: 'a>(
        &'a self,
        inputs: &Inputs<'b, Tensor>,
        shape: &[usize],
    ) -> TractResult<After<'a>> {
        let add = inputs.0.last().copied().flatten().filter(|_| self.adds);
        if let Some(add) = add.filter(|add| add.shape() != shape) {
            return Err(TractError::msg(format!(
                "the tensor that is added has the shape {:?}: expected {shape:?}",
                add.shape()
            )));
        }
        let add = add.map(elements::<f32>).transpose()?;
        Ok(After { first: &self.first, add, then: &self.then })
    }
}
