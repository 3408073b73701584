//! Products of matrices of small integers, and of matrices whose weights are stored as integers.

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};
use tract_onnx::prelude::*;

use super::super::operator::elements;
use super::steps::{Stored, with_stored};

/// A left matrix with fewer rows is multiplied row by row, because the kernels would rearrange the right one first.
const FEW_ROWS: usize = 4;

/// Adds the product of two matrices to `into`.
pub fn multiply(left: ArrayView2<f32>, right: ArrayView2<f32>, mut into: ArrayViewMut2<f32>) {
    if left.nrows() >= FEW_ROWS {
        general_mat_mul(1.0, &left, &right, 1.0, &mut into);
        return;
    }
    for (factors, mut sums) in left.rows().into_iter().zip(into.rows_mut()) {
        let Some(sums) = sums.as_slice_mut() else { continue };
        add_rows(factors.iter().copied(), right, sums);
    }
}

/// Adds rows of a matrix, each times a factor, four at a time.
fn add_rows(factors: impl Iterator<Item = f32>, rows: ArrayView2<f32>, sums: &mut [f32]) {
    let mut four = [(0.0_f32, 0_usize); 4];
    let mut count = 0;
    let row = |at: usize| rows.row(at).to_slice().unwrap_or_default();
    for (at, factor) in factors.enumerate().filter(|(_, factor)| *factor != 0.0) {
        four[count] = (factor, at);
        count += 1;
        if count == 4 {
            count = 0;
            let [(a, first), (b, second), (c, third), (d, fourth)] = four;
            let (first, second, third, fourth) = (row(first), row(second), row(third), row(fourth));
            for ((((sum, first), second), third), fourth) in
                sums.iter_mut().zip(first).zip(second).zip(third).zip(fourth)
            {
                *sum += a * first + b * second + c * third + d * fourth;
            }
        }
    }
    for (factor, at) in &four[..count] {
        for (sum, number) in sums.iter_mut().zip(row(*at)) {
            *sum += factor * number;
        }
    }
}

/// The integers of a tensor of 8 bits without a zero point. `zero(line)` is the zero point of a line of `width` elements.
pub fn distances(tensor: &Tensor, width: usize, zero: impl Fn(usize) -> i32) -> TractResult<Vec<i16>> {
    let mut made = vec![0; tensor.len()];
    with_stored!(tensor.datum_type(), T, {
        let integers = elements::<T>(tensor)?;
        let lines = made.chunks_mut(width.max(1)).zip(integers.chunks(width.max(1)));
        for (at, (to, from)) in lines.enumerate() {
            T::distances(from, to, zero(at));
        }
        TractResult::Ok(())
    })?;
    Ok(made)
}
