//! Exact products of matrices of small integers, computed with floats.
//!
//! A sum of integers in single precision is exact as long as no partial sum exceeds 2^24. So the columns of the left and
//! the rows of the right matrix are divided into parts whose sums cannot exceed it. The parts are multiplied with the
//! float kernels, which use the vector instructions of the processor, and are added as integers.

use std::ops::Range;

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};
use tract_onnx::prelude::*;

use super::super::operator::elements;
use super::steps::{Stored, with_stored};

/// Integers up to this size, and sums of them, are exact in single precision.
const EXACT: f32 = 16_777_216.0;

/// The largest distance of a number of 8 bits from its zero point.
const FARTHEST: f32 = 255.0;

/// A left matrix with fewer rows is multiplied row by row, because the kernels would rearrange the right one first.
const FEW_ROWS: usize = 4;

/// Divides the inner axis of a product. `weights` has one line for each index of the inner axis; `line(k)` has what the
/// other matrix is multiplied with. The other matrix has distances of numbers of 8 bits from their zero points.
fn parts(inner: usize, width: usize, mut line: impl FnMut(usize, &mut [f32])) -> Vec<Range<usize>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut sums = vec![0.0_f32; width];
    let mut next = vec![0.0_f32; width];
    for k in 0..inner {
        line(k, &mut next);
        let mut most = 0.0_f32;
        for (sum, weight) in sums.iter_mut().zip(&next) {
            *sum += weight.abs();
            most = most.max(*sum);
        }
        if most * FARTHEST > EXACT {
            parts.push(start..k);
            start = k;
            sums.iter_mut().zip(&next).for_each(|(sum, weight)| *sum = weight.abs());
        }
    }
    parts.push(start..inner);
    parts
}

/// A matrix of integers that are weights, and the parts in which it is multiplied.
#[derive(Debug)]
pub struct Weights {
    /// The integers without their zero points, in rows.
    numbers: Vec<f32>,
    rows: usize,
    columns: usize,
    /// Ranges of the inner axis.
    parts: Vec<Range<usize>>,
}

impl Weights {
    /// A right matrix: its rows are the inner axis.
    pub fn right(numbers: Vec<f32>, rows: usize, columns: usize) -> Weights {
        let parts = parts(rows, columns, |k, line| {
            line.copy_from_slice(&numbers[k * columns..(k + 1) * columns]);
        });
        Weights { numbers, rows, columns, parts }
    }

    /// A left matrix: its columns are the inner axis.
    pub fn left(numbers: Vec<f32>, rows: usize, columns: usize) -> Weights {
        let parts = parts(columns, rows, |k, line| {
            for (row, weight) in line.iter_mut().enumerate() {
                *weight = numbers[row * columns + k];
            }
        });
        Weights { numbers, rows, columns, parts }
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn view(&self) -> TractResult<ArrayView2<'_, f32>> {
        Ok(ArrayView2::from_shape((self.rows, self.columns), &self.numbers)?)
    }

    /// The product with a left matrix of `rows` rows, in rows. `scratch` is memory that is used again.
    pub fn times_left(&self, left: &[f32], rows: usize, scratch: &mut Vec<f32>) -> TractResult<Vec<i32>> {
        let left = ArrayView2::from_shape((rows, self.rows), left)?;
        let right = self.view()?;
        sum_of_parts(&self.parts, (rows, self.columns), scratch, |part, into| {
            multiply_part(left, right, part, into);
        })
    }

    /// The product with a right matrix of `columns` columns, in rows. `scratch` is memory that is used again.
    pub fn times_right(
        &self,
        right: &[f32],
        columns: usize,
        scratch: &mut Vec<f32>,
    ) -> TractResult<Vec<i32>> {
        let right = ArrayView2::from_shape((self.columns, columns), right)?;
        let left = self.view()?;
        sum_of_parts(&self.parts, (self.rows, columns), scratch, |part, into| {
            multiply_part(left, right, part, into);
        })
    }
}

/// Computes every part of a product in floats, and adds them as integers.
fn sum_of_parts(
    parts: &[Range<usize>],
    shape: (usize, usize),
    scratch: &mut Vec<f32>,
    mut multiply: impl FnMut(Range<usize>, ArrayViewMut2<f32>),
) -> TractResult<Vec<i32>> {
    let mut sums = vec![0_i32; shape.0 * shape.1];
    for part in parts {
        scratch.clear();
        scratch.resize(sums.len(), 0.0);
        multiply(part.clone(), ArrayViewMut2::from_shape(shape, scratch)?);
        for (sum, product) in sums.iter_mut().zip(&*scratch) {
            *sum = sum.wrapping_add(*product as i32);
        }
    }
    Ok(sums)
}

/// Adds the product of a range of the inner axis to `into`.
fn multiply_part(
    left: ArrayView2<f32>,
    right: ArrayView2<f32>,
    part: Range<usize>,
    into: ArrayViewMut2<f32>,
) {
    let part = Slice::from(part);
    multiply(left.slice_axis(Axis(1), part), right.slice_axis(Axis(0), part), into);
}

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
pub fn distances(tensor: &Tensor, width: usize, zero: impl Fn(usize) -> i32) -> TractResult<Vec<f32>> {
    let mut made = vec![0.0; tensor.len()];
    with_stored!(tensor.datum_type(), T, {
        let integers = elements::<T>(tensor)?;
        let lines = made.chunks_mut(width.max(1)).zip(integers.chunks(width.max(1)));
        for (at, (to, from)) in lines.enumerate() {
            let zero = zero(at);
            for (to, integer) in to.iter_mut().zip(from) {
                *to = (integer.integer() - zero) as f32;
            }
        }
        TractResult::Ok(())
    })?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integers that look random, between -255 and 255.
    fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
        let next = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 16) % 511) as f32 - 255.0
        };
        (0..count).map(next).collect()
    }

    fn plain(left: &[f32], right: &[f32], inner: usize, columns: usize) -> Vec<i32> {
        let rows = left.len() / inner;
        let element = |at: usize| {
            (0..inner)
                .map(|k| left[at / columns * inner + k] as i32 * right[k * columns + at % columns] as i32)
                .sum()
        };
        (0..rows * columns).map(element).collect()
    }

    #[test]
    fn products_are_exact_beyond_the_exact_range_of_floats() {
        let mut scratch = Vec::new();
        for (rows, inner, columns) in [(1, 2000, 3), (5, 1500, 9), (16, 700, 33), (3, 1, 1)] {
            let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let expected = plain(&left, &right, inner, columns);
            let weights = Weights::right(right.clone(), inner, columns);
            assert_eq!(weights.times_left(&left, rows, &mut scratch).unwrap(), expected);
            let weights = Weights::left(left, rows, inner);
            assert_eq!(weights.times_right(&right, columns, &mut scratch).unwrap(), expected);
        }
    }

    #[test]
    fn the_largest_numbers_are_divided_into_parts() {
        let weights = Weights::right(vec![255.0; 1000], 1000, 1);
        assert!(weights.parts.iter().all(|part| part.len() as f32 * FARTHEST * FARTHEST <= EXACT));
        let sum = weights.times_left(&vec![255.0; 1000], 1, &mut Vec::new()).unwrap();
        assert_eq!(sum, [65_025_000]);
    }

    #[test]
    fn a_product_without_terms_is_zero() {
        let weights = Weights::right(Vec::new(), 0, 2);
        assert_eq!(weights.times_left(&[], 2, &mut Vec::new()).unwrap(), [0; 4]);
    }
}
