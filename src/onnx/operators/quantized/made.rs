//! What MatMulInteger and ConvInteger make of their sums when they also do what the nodes after them do.

use onnxd_kernels::functions::Function;
use tract_onnx::prelude::*;

use super::super::operator::{Inputs, Step, elements};
use super::right::pick;

/// FP32 numbers of sums, and what follows.
#[derive(Debug, Clone)]
pub struct Made {
    /// Whether they are multiplied by the only element of the last input, which is not one of the standard's inputs.
    is_scaled: bool,
    /// One for all channels or one for each, as in `offsets`.
    pub factors: Vec<f32>,
    /// What is added to the product with the factors.
    pub offsets: Vec<f32>,
    /// What each number goes through then.
    pub then: TVec<Function>,
}

impl Made {
    /// What an operator makes, and one step more. `None` is the sums themselves. The channels are along `axis`.
    pub fn with(made: Option<&Made>, step: &Step, axis: usize, channels: usize) -> Option<Made> {
        let Some(made) = made else {
            let plain = Made { is_scaled: false, factors: vec![1.0], offsets: vec![0.0], then: tvec![] };
            return matches!(step, Step::Singles).then_some(plain);
        };
        let mut more = made.clone();
        match step {
            Step::Times if made.is_plain() => more.is_scaled = true,
            Step::Function(function) => more.then.push(*function),
            Step::Scale { axis: own, factors, offsets }
                if made.then.is_empty() && *own == axis && factors.len() == channels =>
            {
                let both = factors.iter().zip(&**offsets).enumerate().map(|(at, (factor, offset))| {
                    (pick(&made.factors, at) * factor, pick(&made.offsets, at) * factor + offset)
                });
                (more.factors, more.offsets) = both.unzip();
            }
            _ => return None,
        }
        Some(more)
    }

    /// Whether the sums only became FP32.
    fn is_plain(&self) -> bool {
        !self.is_scaled && self.factors == [1.0] && self.offsets == [0.0] && self.then.is_empty()
    }

    /// The inputs of the standard, and the factor.
    pub fn apart<'a, T>(made: Option<&Made>, inputs: &Inputs<'a, T>) -> (Inputs<'a, T>, Option<&'a T>) {
        let mut standard = inputs.0.clone();
        let is_scaled = made.is_some_and(|made| made.is_scaled);
        let factor = if is_scaled { standard.pop().flatten() } else { None };
        (Inputs(standard), factor)
    }

    /// The number of the factor; 1 without one.
    ///
    /// Errors: it has several elements.
    pub fn factor(factor: Option<&Tensor>) -> TractResult<f32> {
        match factor.map(elements::<f32>).transpose()? {
            None => Ok(1.0),
            Some([factor]) => Ok(*factor),
            Some(_) => Err(TractError::msg("the factor of the sums has several elements: expected one")),
        }
    }
}
