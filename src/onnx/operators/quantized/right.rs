//! The right side of products of matrices of integers, and the shapes of such products.

use onnxd_kernels::integer::Matrix;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::operator::Kind;
use super::product::distances;
use super::steps::integers;

/// The element of a line, of a list that has one element for each line or one for all.
#[inline(always)]
pub fn pick<T: Copy>(list: &[T], line: usize) -> T {
    if list.len() == 1 { list[0] } else { list[line] }
}

/// Checks that a scale, zero point or bias has one element, or one for each line. `None` for `lines` is one line.
pub fn expect_lines(given: Option<&Kind>, lines: Option<&TDim>, name: &str) -> TractResult<()> {
    let Some(given) = given else { return Ok(()) };
    let count: TDim = given.shape.iter().product();
    let fits = count == 1.to_dim() || lines.is_some_and(|lines| *lines == count);
    if fits {
        return Ok(());
    }
    Err(TractError::msg(format!(
        "`{name}` has the shape {:?}: expected one element{}",
        given.shape,
        lines.map(|lines| format!(", or {lines}")).unwrap_or_default()
    )))
}

/// The shape of the product of two matrices, or of stacks of them that are broadcast.
///
/// Errors: a scalar, or lengths that do not fit.
pub fn product_shape<D: DimLike>(a: &[D], b: &[D]) -> TractResult<TVec<D>> {
    let wrong = || TractError::msg(format!("the shapes {a:?} and {b:?} cannot be multiplied"));
    let (inner_a, inner_b) =
        (a.last().ok_or_else(wrong)?, b.iter().rev().nth(1).or(b.last()).ok_or_else(wrong)?);
    let are_known = inner_a.to_i64().is_ok() && inner_b.to_i64().is_ok();
    if are_known && inner_a != inner_b {
        return Err(wrong());
    }
    let stack = |shape: &[D]| TVec::from(&shape[..shape.len().saturating_sub(2)]);
    let mut shape = multi_broadcast(&[stack(a), stack(b)]).map_err(|_| wrong())?;
    if let [.., rows, _] = a {
        shape.push(rows.clone());
    }
    if let [.., _, columns] = b {
        shape.push(columns.clone());
    }
    Ok(shape)
}

/// The right side of a product: one matrix or a stack of them.
#[derive(Debug)]
pub struct Right {
    matrices: Vec<Matrix>,
    /// The shape without the last two lengths.
    stack: TVec<usize>,
    inner: usize,
    columns: usize,
}

impl Right {
    /// The matrices of a tensor of 8-bit integers, whose zero point is one number or one for each column.
    pub fn of(tensor: &Tensor, zero: Option<&Tensor>) -> TractResult<Right> {
        let (stack, inner, columns) = match tensor.shape() {
            [] => return Err(TractError::msg("`B` is a scalar: expected a matrix")),
            [inner] => (&[][..], *inner, 1),
            [stack @ .., inner, columns] => (stack, *inner, *columns),
        };
        let zeros = zero.map_or_else(|| Ok(tvec![0]), integers)?;
        let mut numbers = distances(tensor, columns, |_| 0)?;
        if zeros.iter().any(|zero| *zero != 0) {
            for line in numbers.chunks_mut(columns.max(1)) {
                for (at, number) in line.iter_mut().enumerate() {
                    *number -= pick(&zeros, at) as i16;
                }
            }
        }
        let size = inner * columns;
        let count = stack.iter().product();
        let matrix = |at: usize| {
            let numbers = &numbers[at * size..(at + 1) * size];
            Matrix::for_bytes(inner, columns, |row, column| numbers[row * columns + column])
        };
        Ok(Right { matrices: (0..count).map(matrix).collect(), stack: stack.into(), inner, columns })
    }

    /// The bytes of the matrices.
    pub fn bytes(&self) -> usize {
        self.matrices.iter().map(Matrix::bytes).sum()
    }

    /// The number of columns of each matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The sums of the products with left matrices of this shape, whose zero points are subtracted.
    pub fn times(&self, left: &[i16], shape: &[usize]) -> TractResult<Vec<i32>> {
        let (rows, inner) = match shape {
            [] => return Err(TractError::msg("`A` is a scalar: expected a matrix")),
            [inner] => (1, *inner),
            [.., rows, inner] => (*rows, *inner),
        };
        if inner != self.inner {
            return Err(TractError::msg(format!(
                "a row of `A` has {inner} elements, a column of `B` has {}: expected the same",
                self.inner
            )));
        }
        let stack = &shape[..shape.len().saturating_sub(2)];
        if let [matrix] = &self.matrices[..] {
            let count = rows * stack.iter().product::<usize>();
            return Ok(product(matrix, left, count));
        }
        let whole = multi_broadcast(&[TVec::from(stack), self.stack.clone()])?;
        let mut sums = Vec::new();
        for at in 0..whole.iter().product() {
            let from = place(at, &whole, stack) * rows * inner;
            let matrix = &self.matrices[place(at, &whole, &self.stack)];
            sums.extend(product(matrix, &left[from..from + rows * inner], rows));
        }
        Ok(sums)
    }
}

/// `rows` rows times a matrix. Without terms, all sums are 0.
fn product(matrix: &Matrix, left: &[i16], rows: usize) -> Vec<i32> {
    if left.is_empty() { vec![0; rows * matrix.width()] } else { matrix.product(left) }
}

/// The index in a tensor of the shape `part` that is broadcast to the shape `whole`, for an index there.
pub fn place(mut at: usize, whole: &[usize], part: &[usize]) -> usize {
    let (mut place, mut stride) = (0, 1);
    for (back, length) in whole.iter().rev().enumerate() {
        if let Some(own) = part.iter().rev().nth(back) {
            place += if *own == 1 { 0 } else { at % length * stride };
            stride *= own;
        }
        at /= length;
    }
    place
}
