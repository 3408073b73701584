//! `Det`: the determinants of square matrices, by elimination in FP64.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::numbers::{Number, filled, on_floats};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, Elements};

/// `Det`.
#[derive(Debug)]
struct Det;

/// Builds a `Det`.
pub fn det(_: &Attributes) -> Built {
    Ok(Arc::new(Det))
}

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        Elements::Floats.check(input.datum_type)?;
        let Some((stack, [rows, columns])) = input.shape.split_last_chunk() else {
            return Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank())));
        };
        if let (Ok(rows), Ok(columns)) = (rows.to_usize(), columns.to_usize())
            && rows != columns
        {
            return Err(not_square(rows, columns));
        }
        Ok(tvec![Kind::new(input.datum_type, stack.iter().cloned())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let (stack, &[rows, columns]) = input
            .shape()
            .split_last_chunk()
            .ok_or_else(|| TractError::msg("its input is no matrix: expected 2 axes or more"))?;
        if rows != columns {
            return Err(not_square(rows, columns));
        }
        on_floats!(input.datum_type(), T => {
            let all = elements::<T>(input)?;
            let output = filled::<T>(stack, |to| {
                for (at, to) in to.iter_mut().enumerate() {
                    let matrix = &all[at * rows * rows..][..rows * rows];
                    *to = T::of_f64(determinant(matrix.iter().map(|x| x.to_f64()).collect(), rows));
                }
                Ok(())
            })?;
            Ok(tvec![output])
        })
    }
}

fn not_square(rows: usize, columns: usize) -> TractError {
    TractError::msg(format!("its matrices have {rows} rows and {columns} columns: expected square ones"))
}

/// The determinant of a matrix of `size` × `size`. Each step takes the row with the largest element.
fn determinant(mut matrix: Vec<f64>, size: usize) -> f64 {
    let mut result = 1.0;
    for step in 0..size {
        let largest =
            |a: &usize, b: &usize| matrix[a * size + step].abs().total_cmp(&matrix[b * size + step].abs());
        let row = (step..size).max_by(largest).unwrap_or(step);
        if row != step {
            (0..size).for_each(|column| matrix.swap(row * size + column, step * size + column));
            result = -result;
        }
        let pivot = matrix[step * size + step];
        result *= pivot;
        if pivot == 0.0 {
            return result;
        }
        let (above, below) = matrix.split_at_mut((step + 1) * size);
        let used = &above[step * size..];
        for line in below.chunks_exact_mut(size) {
            let factor = line[step] / pivot;
            line.iter_mut().zip(used).for_each(|(x, used)| *x -= factor * used);
        }
    }
    result
}
