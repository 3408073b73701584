//! `MatMul` and `Gemm` in FP32 with a constant matrix, by the kernels: the layers of dense networks and of transformers. The
//! operators after it are done while it stores its result: a bias, an activation, and the sum with another tensor.

use std::sync::Arc;

use onnxd_kernels::product::Matrix;
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::following::Following;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};

/// The operator.
#[derive(Debug, Clone)]
pub struct Linear {
    name: &'static str,
    /// The number of axes of the result.
    rank: usize,
    matrix: Arc<Matrix>,
    /// A number for each column, or none.
    bias: Arc<[f32]>,
    following: Following,
}

/// The error for factors that do not fit together.
pub fn unequal(k: usize, other: usize) -> TractError {
    TractError::msg(format!(
        "the first factor has {k} columns, and the second {other} rows: expected the same number"
    ))
}

/// The second factor, if it is a constant matrix with elements, and all inputs are of type FP32.
fn constant_matrix<'a>(inputs: &Inputs<'a, Kind>) -> Option<&'a Tensor> {
    let are_single = inputs.0.iter().flatten().all(|kind| kind.datum_type == DatumType::F32);
    let matrix = inputs.optional(1)?.value.as_deref()?;
    Some(matrix).filter(|_| are_single && matrix.rank() == 2 && matrix.len() > 0)
}

/// The matrix of a `MatMul` that the kernels compute.
pub fn of_matmul<'a>(inputs: &Inputs<'a, Kind>) -> Option<&'a Tensor> {
    constant_matrix(inputs).filter(|_| inputs.optional(0).is_some_and(|a| a.rank() >= 2))
}

/// The matrix of a `Gemm` that the kernels compute, and its bias, if it has one.
pub fn of_gemm<'a>(inputs: &Inputs<'a, Kind>, is_b_turned: bool) -> Option<(&'a Tensor, Option<&'a Tensor>)> {
    let matrix = constant_matrix(inputs).filter(|_| inputs.optional(0).is_some_and(|a| a.rank() == 2))?;
    let Some(bias) = inputs.optional(2) else { return Some((matrix, None)) };
    let bias = bias.value.as_deref()?;
    let columns = matrix.shape()[usize::from(!is_b_turned)];
    let is_for_columns = bias.rank() <= 2 && bias.len() == columns && bias.shape().last() == Some(&columns);
    (is_for_columns || bias.len() == 1).then_some((matrix, Some(bias)))
}

impl Linear {
    /// `alpha` · A · `matrix`, for results with `rank` axes. The matrix has two axes; its rows are those of A's last axis, or
    /// its columns are, if it `is_turned`.
    pub fn new(
        name: &'static str,
        rank: usize,
        matrix: &Tensor,
        is_turned: bool,
        alpha: f32,
    ) -> TractResult<Linear> {
        let (numbers, rows, columns) = (elements::<f32>(matrix)?, matrix.shape()[0], matrix.shape()[1]);
        let matrix = match is_turned {
            false => Matrix::new(rows, columns, |row, column| alpha * numbers[row * columns + column]),
            true => Matrix::new(columns, rows, |row, column| alpha * numbers[column * columns + row]),
        };
        let following = Following::default();
        Ok(Linear { name, rank, matrix: Arc::new(matrix), bias: [].into(), following })
    }

    /// The same, with a number added to each column, or one to all of them.
    pub fn with_bias(self, bias: &Tensor, beta: f32) -> TractResult<Linear> {
        let all = match elements::<f32>(bias)? {
            [one] => vec![*one; self.matrix.width()],
            all => all.to_vec(),
        };
        Ok(Linear { bias: all.iter().map(|number| number * beta).collect(), ..self })
    }

    fn check_depth(&self, depth: usize) -> TractResult<()> {
        match self.matrix.depth() {
            rows if rows == depth => Ok(()),
            rows => Err(unequal(depth, rows)),
        }
    }
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let mut shape = inputs.required(0, "A")?.shape.clone();
        let Some(last) = shape.last_mut().filter(|_| self.rank >= 2) else {
            return Err(TractError::msg("the first factor has no axes: expected 2 or more"));
        };
        if let Ok(depth) = last.to_usize() {
            self.check_depth(depth)?;
        }
        *last = self.matrix.width().to_dim();
        Ok(tvec![Kind::new(DatumType::F32, shape)])
    }

    fn needs(&self, input: usize) -> bool {
        input == 0
    }

    fn weight_bytes(&self) -> usize {
        self.matrix.bytes() + size_of_val(&*self.bias)
    }

    fn channel_axis(&self) -> usize {
        self.rank - 1
    }

    fn then(&self, step: &Step) -> Option<Arc<dyn Operator>> {
        let mut more = self.clone();
        let width = self.matrix.width();
        match step {
            Step::Scale { axis, factors, offsets }
                if self.following.is_nothing() && *axis == self.channel_axis() && factors.len() == width =>
            {
                if factors.iter().any(|factor| *factor != 1.0) {
                    more.matrix = Arc::new(self.matrix.scaled(factors));
                }
                let bias = |at: usize| self.bias.get(at).copied().unwrap_or(0.0);
                more.bias = (0..width).map(|at| bias(at) * factors[at] + offsets[at]).collect();
            }
            other => more.following = self.following.with(other)?,
        }
        Some(Arc::new(more))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "A")?;
        let Some((depth, before)) = input.shape().split_last() else {
            return Err(TractError::msg("the first factor has no axes: expected 2 or more"));
        };
        self.check_depth(*depth)?;
        let shape: TVec<usize> = before.iter().copied().chain([self.matrix.width()]).collect();
        let after = self.following.after(inputs, &shape)?;
        let rows = elements(input)?;
        Ok(tvec![written(&shape, |to| self.matrix.product(rows, to, &self.bias, after))?])
    }
}
