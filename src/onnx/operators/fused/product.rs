//! `FusedMatMul` and `FusedGemm` of onnxruntime: matrix products with a factor, transpositions and an activation.

use std::sync::Arc;

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::activation::Function;
use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::super::stretch::{Along, stretched};
use super::activation::named;

/// The operator.
#[derive(Debug)]
struct Product {
    name: &'static str,
    alpha: f32,
    /// The factor of the third input.
    beta: f32,
    sides: [Side; 2],
    activation: Option<Function>,
}

/// How the last two axes of an input are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    AsItIs,
    Transposed,
}

fn sides(attributes: &Attributes) -> TractResult<[Side; 2]> {
    let side = |name: &str| -> TractResult<Side> {
        Ok(if attributes.flag(name, false)? { Side::Transposed } else { Side::AsItIs })
    };
    Ok([side("transA")?, side("transB")?])
}

/// Builds a `FusedMatMul` or `TransposeMatMul` from its node.
pub fn matmul(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    if attributes.flag("transBatchA", false)? || attributes.flag("transBatchB", false)? {
        return Err(attributes.wrong("`transBatchA` and `transBatchB` must be 0"));
    }
    let (alpha, sides) = (attributes.float("alpha", 1.0)?, sides(attributes)?);
    Ok(Arc::new(Product { name: "FusedMatMul", alpha, beta: 0.0, sides, activation: None }))
}

/// Builds a `FusedGemm` from its node.
pub fn gemm(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        if attributes.has(name) {
            parameters.push(attributes.float(name, 0.0)?);
        }
    }
    let activation = named(attributes.string("activation", "")?, &parameters);
    Ok(Arc::new(Product {
        name: "FusedGemm",
        alpha: attributes.float("alpha", 1.0)?,
        beta: attributes.float("beta", 1.0)?,
        sides: sides(attributes)?,
        activation: activation.map_err(|cause| attributes.wrong(cause))?,
    }))
}

/// The last two lengths as they are read, and those before. A vector is a row on the left and a column on the right.
fn split<D: Clone>(shape: &[D], side: Side, one: D, is_left: bool) -> (Vec<D>, D, D) {
    match shape {
        [] => (Vec::new(), one.clone(), one),
        [length] if is_left => (Vec::new(), one, length.clone()),
        [length] => (Vec::new(), length.clone(), one),
        [outer @ .., rows, columns] => match side {
            Side::AsItIs => (outer.to_vec(), rows.clone(), columns.clone()),
            Side::Transposed => (outer.to_vec(), columns.clone(), rows.clone()),
        },
    }
}

/// A matrix as it is read.
fn matrix<T>(values: &[T], rows: usize, columns: usize, side: Side) -> TractResult<ArrayView2<'_, T>> {
    let view = match side {
        Side::AsItIs => ArrayView2::from_shape((rows, columns), values),
        Side::Transposed => ArrayView2::from_shape((columns, rows), values).map(ArrayView2::reversed_axes),
    };
    view.map_err(TractError::msg)
}

impl Product {
    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        let (outer_a, rows, inner) = split(a.shape(), self.sides[0], 1, true);
        let (outer_b, inner_b, columns) = split(b.shape(), self.sides[1], 1, false);
        let outer = multi_broadcast(&[&outer_a[..], &outer_b[..]]);
        let Some(outer) = outer.ok().filter(|_| inner == inner_b) else {
            return Err(TractError::msg(format!(
                "its inputs have the shapes {:?} and {:?}: expected matrices that can be multiplied",
                a.shape(),
                b.shape()
            )));
        };
        let (wide_a, wide_b) = (wide::<T>(a)?, wide::<T>(b)?);
        let (of_a, of_b) = (elements::<T>(&wide_a)?, elements::<T>(&wide_b)?);
        let mut values = vec![T::zero(); outer.iter().product::<usize>() * rows * columns];
        let alpha = T::of(f64::from(self.alpha));
        for (number, to) in values.chunks_exact_mut((rows * columns).max(1)).enumerate() {
            let part_a = place(number, &outer, &outer_a) * rows * inner;
            let part_b = place(number, &outer, &outer_b) * inner * columns;
            let left = matrix(&of_a[part_a..part_a + rows * inner], rows, inner, self.sides[0])?;
            let right = matrix(&of_b[part_b..part_b + inner * columns], inner, columns, self.sides[1])?;
            let to = &mut ArrayViewMut2::from_shape((rows, columns), to).map_err(TractError::msg)?;
            general_mat_mul(alpha, &left, &right, T::zero(), to);
        }
        let mut shape: Vec<usize> = outer.to_vec();
        shape.extend((a.rank() != 1).then_some(rows));
        shape.extend((b.rank() != 1).then_some(columns));
        if let Some(c) = inputs.optional(2) {
            let c = stretched(&*wide::<T>(c)?, &shape)?;
            let beta = T::of(f64::from(self.beta));
            Along::new(elements::<T>(&c)?).pair(&mut values, |value, c| value + beta * c);
        }
        if let Some(activation) = self.activation {
            activation.apply(&mut values);
        }
        Ok(tvec![rounded(Tensor::from_shape(&shape, &values)?, a.datum_type())?])
    }
}

/// The matrix of an operand for a matrix of the result: lengths of 1 are repeated.
fn place(number: usize, outer: &[usize], own: &[usize]) -> usize {
    let (mut rest, mut place, mut volume) = (number, 0, 1);
    for back in 1..=outer.len() {
        let length = outer[outer.len() - back];
        let at = rest % length;
        rest /= length;
        if let Some(own) = own.len().checked_sub(back).map(|axis| own[axis]) {
            place += if own == 1 { 0 } else { at * volume };
            volume *= own;
        }
    }
    place
}

impl Operator for Product {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        expect_float(a, "A")?;
        if a.datum_type != b.datum_type || a.rank() == 0 || b.rank() == 0 {
            return Err(TractError::msg("its inputs are of different types or have no axes"));
        }
        let (outer_a, rows, inner) = split(&a.shape, self.sides[0], 1.to_dim(), true);
        let (outer_b, inner_b, columns) = split(&b.shape, self.sides[1], 1.to_dim(), false);
        if let (Ok(inner), Ok(other)) = (inner.to_usize(), inner_b.to_usize())
            && inner != other
        {
            return Err(TractError::msg(format!(
                "its inputs have the shapes {:?} and {:?}: expected matrices that can be multiplied",
                a.shape, b.shape
            )));
        }
        let mut shape: TVec<TDim> = multi_broadcast(&[&outer_a[..], &outer_b[..]])?;
        shape.extend((a.rank() != 1).then_some(rows));
        shape.extend((b.rank() != 1).then_some(columns));
        Ok(tvec![Kind::new(a.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "A")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int, string};
    use super::*;

    #[test]
    fn transposed_factors_and_batches() {
        let a = Tensor::from_shape(&[2, 2, 1], &[1_f32, 2.0, 3.0, 4.0]).unwrap();
        let b = tensor2(&[[1_f32, 10.0], [2.0, 20.0]]);
        let attributes = [int("transA", 1), float("alpha", 2.0)];
        let output = Trial::new(Domain::Microsoft, "FusedMatMul", &attributes)
            .run(&[Some(a.clone()), Some(b.clone())])
            .unwrap();
        assert_eq!(output[0].shape(), [2, 1, 2]);
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [10.0, 100.0, 22.0, 220.0]);
        let both = [int("transA", 1), int("transB", 1)];
        let output = Trial::new(Domain::Microsoft, "FusedMatMul", &both).run(&[Some(a), Some(b)]).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [21.0, 42.0, 43.0, 86.0]);
    }

    #[test]
    fn a_gemm_with_an_activation() {
        let attributes =
            [string("activation", "LeakyRelu"), float("activation_alpha", 0.5), float("beta", 2.0)];
        let trial = Trial::new(Domain::Microsoft, "FusedGemm", &attributes);
        let inputs =
            [tensor2(&[[1_f32, -1.0]]), tensor2(&[[1_f32, 2.0], [3.0, 1.0]]), tensor1(&[0_f32, 1.0])];
        let output = trial.run(&inputs.map(Some)).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [-1.0, 3.0]);
    }

    #[test]
    fn matrices_that_do_not_fit_are_an_error() {
        let trial = Trial::new(Domain::Microsoft, "FusedMatMul", &[]);
        let error = trial.run(&[Some(tensor2(&[[1_f32, 2.0]])), Some(tensor2(&[[1_f32]]))]).unwrap_err();
        assert!(error.to_string().contains("can be multiplied"));
    }
}
