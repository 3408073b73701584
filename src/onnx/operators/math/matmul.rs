//! `MatMul` and `Gemm` in the forms that tract does not have: integers, FP64, and the product of two vectors. Those with a
//! constant matrix in FP32 become [`Linear`].
//!
//! Integers wrap. `Gemm` of integers with a factor that is not an integer is computed in FP64 and rounded toward 0.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, pairs};
use super::super::numbers::{Number, filled, mapped, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::linear::{self, Linear, unequal};
use super::product::add_product;
use super::{Built, Elements};

/// `MatMul`.
#[derive(Debug)]
struct MatMul;

/// Builds a `MatMul`.
pub fn matmul(_: &Attributes) -> Built {
    Ok(Arc::new(MatMul))
}

/// Whether tract serves a `MatMul`.
pub fn has_matrix(_: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    match (inputs.optional(0), inputs.optional(1)) {
        _ if linear::of_matmul(inputs).is_some() => Err("ours is faster".into()),
        (Some(a), Some(b)) if !have_known_stacks(a, b) => Err("a stack may be broadcast to another".into()),
        (Some(a), Some(b)) if has_elements(a) && has_elements(b) && a.rank() + b.rank() > 2 => Ok(()),
        _ => Err("a factor has no elements, or both are vectors".into()),
    }
}

/// Whether it is known which axes of two stacks of matrices are broadcast. An open length may be 1.
fn have_known_stacks(a: &Kind, b: &Kind) -> bool {
    let stack = |kind: &Kind| kind.shape.iter().rev().skip(2).cloned().collect::<TVec<TDim>>();
    let one = TDim::from(1);
    stack(a).iter().zip(&stack(b)).all(|(a, b)| a == b || *a == one || *b == one)
}

/// True unless an axis is known to have the length 0.
fn has_elements(kind: &Kind) -> bool {
    kind.shape.iter().all(|length| *length != TDim::from(0))
}

/// The factors as stacks of matrices, and the axes of the result that are left out because a factor is a vector.
struct Stacks<D> {
    a: TVec<D>,
    b: TVec<D>,
    dropped: TVec<usize>,
}

impl<D: Clone + From<usize>> Stacks<D> {
    fn new(a: &[D], b: &[D]) -> TractResult<Stacks<D>> {
        if a.is_empty() || b.is_empty() {
            return Err(TractError::msg("a factor is a single number: expected vectors or matrices"));
        }
        let rank = a.len().max(b.len()).max(2);
        let mut stacks = Stacks { a: a.into(), b: b.into(), dropped: TVec::new() };
        if b.len() == 1 {
            stacks.b.push(1.into());
            stacks.dropped.push(rank - 1);
        }
        if a.len() == 1 {
            stacks.a.insert(0, 1.into());
            stacks.dropped.push(rank - 2);
        }
        Ok(stacks)
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        check_factors(a, b)?;
        let Stacks { a: left, b: right, dropped } = Stacks::new(&a.shape, &b.shape)?;
        let (m, k) = (&left[left.len() - 2], &left[left.len() - 1]);
        let (other_k, n) = (&right[right.len() - 2], &right[right.len() - 1]);
        check_depth(k, other_k)?;
        let stack = |shape: &[TDim]| Kind::new(a.datum_type, shape[..shape.len() - 2].iter().cloned());
        let mut shape = broadcast::shape(&[&stack(&left), &stack(&right)])?;
        shape.extend([m.clone(), n.clone()]);
        for axis in dropped {
            shape.remove(axis);
        }
        Ok(tvec![Kind::new(a.datum_type, shape)])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        let Some(matrix) = linear::of_matmul(inputs) else { return Ok(None) };
        let rank = inputs.required(0, "A")?.rank();
        Ok(Some(Arc::new(Linear::new("MatMul", rank, matrix, false, 1.0)?)))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        on_numbers!(a.datum_type(), T => Ok(tvec![product::<T>(a, b)?]))
    }
}

fn check_factors(a: &Kind, b: &Kind) -> TractResult<()> {
    Elements::Numbers.check(a.datum_type)?;
    if a.datum_type == b.datum_type {
        return Ok(());
    }
    Err(TractError::msg(format!(
        "its factors are of types {:?} and {:?}: expected the same type",
        a.datum_type, b.datum_type
    )))
}

fn check_depth(k: &TDim, other: &TDim) -> TractResult<()> {
    match (k.to_usize(), other.to_usize()) {
        (Ok(k), Ok(other)) if k != other => Err(unequal(k, other)),
        _ => Ok(()),
    }
}

/// The product of two stacks of matrices.
fn product<T: Number>(a: &Tensor, b: &Tensor) -> TractResult<Tensor> {
    let Stacks { a: left, b: right, dropped } = Stacks::new(a.shape(), b.shape())?;
    let (left_stack, &[m, k]) = left.split_last_chunk().expect("a stack has two axes at least");
    let (right_stack, &[other, n]) = right.split_last_chunk().expect("a stack has two axes at least");
    if k != other {
        return Err(unequal(k, other));
    }
    // The index of the left and of the right matrix of each product.
    let numbers = |stack: &[usize]| {
        let count: usize = stack.iter().product();
        Tensor::from_shape(stack, &(0..count as u64).collect::<Vec<u64>>())
    };
    let met = pairs::<u64, u64, u64>(&numbers(left_stack)?, &numbers(right_stack)?, |a, b| a << 32 | b)?;
    let shape: TVec<usize> = met.shape().iter().copied().chain([m, n]).collect();
    let (a, b) = (elements::<T>(a)?, elements::<T>(b)?);
    let mut output = filled::<T>(&shape, |to| {
        for (to, numbers) in to.chunks_exact_mut((m * n).max(1)).zip(elements::<u64>(&met)?) {
            let (at_a, at_b) = ((numbers >> 32) as usize, (numbers & 0xffff_ffff) as usize);
            add_product(&a[at_a * m * k..][..m * k], &b[at_b * k * n..][..k * n], to, k, n);
        }
        Ok(())
    })?;
    for axis in dropped {
        output.remove_axis(axis)?;
    }
    Ok(output)
}

/// `Gemm`: alpha · A · B + beta · C.
#[derive(Debug)]
struct Gemm {
    alpha: f32,
    beta: f32,
    is_a_turned: bool,
    is_b_turned: bool,
}

/// Builds a `Gemm`.
pub fn gemm(attributes: &Attributes) -> Built {
    Ok(Arc::new(Gemm {
        alpha: attributes.float("alpha", 1.0)?,
        beta: attributes.float("beta", 1.0)?,
        is_a_turned: attributes.flag("transA", false)?,
        is_b_turned: attributes.flag("transB", false)?,
    }))
}

/// Whether tract serves a `Gemm`.
pub fn has_common_form(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let flags = [attributes.int("transA", 0), attributes.int("transB", 0)];
    if flags.iter().any(|flag| !matches!(flag, Ok(0 | 1))) {
        return Err("`transA` and `transB` must be 0 or 1".into());
    }
    let [is_a_turned, is_b_turned] = flags.map(|flag| matches!(flag, Ok(1)));
    match (inputs.optional(0), inputs.optional(1)) {
        _ if !is_a_turned && linear::of_gemm(inputs, is_b_turned).is_some() => Err("ours is faster".into()),
        (Some(a), Some(b)) if has_elements(a) && has_elements(b) && a.rank() == 2 && b.rank() == 2 => Ok(()),
        _ => Err("a factor has no elements, or is no matrix".into()),
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        check_factors(a, b)?;
        let ([a0, a1], [b0, b1]) = (&a.shape[..], &b.shape[..]) else {
            return Err(TractError::msg(format!(
                "its factors have {} and {} axes: expected 2",
                a.rank(),
                b.rank()
            )));
        };
        let (m, k) = if self.is_a_turned { (a1, a0) } else { (a0, a1) };
        let (other, n) = if self.is_b_turned { (b1, b0) } else { (b0, b1) };
        check_depth(k, other)?;
        let result = Kind::new(a.datum_type, [m.clone(), n.clone()]);
        if let Some(c) = inputs.optional(2) {
            let together = broadcast::shape(&[&result, c])?;
            let is_same =
                together.iter().zip(&result.shape).all(|(a, b)| a.to_usize().ok() == b.to_usize().ok());
            if c.datum_type != a.datum_type || together.len() != 2 || !is_same {
                return Err(TractError::msg(format!(
                    "`C` is of type {:?} and shape {:?}: expected type {:?} and a shape that is broadcast to {:?}",
                    c.datum_type, c.shape, a.datum_type, result.shape
                )));
            }
        }
        Ok(tvec![result])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        let usual = linear::of_gemm(inputs, self.is_b_turned).filter(|_| !self.is_a_turned);
        let Some((matrix, bias)) = usual else { return Ok(None) };
        let linear = Linear::new("Gemm", 2, matrix, self.is_b_turned, self.alpha)?;
        Ok(Some(Arc::new(match bias.filter(|_| self.beta != 0.0) {
            Some(bias) => linear.with_bias(bias, self.beta)?,
            None => linear,
        })))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let is_turned = [self.is_a_turned, self.is_b_turned];
        let turned = |at: usize, name: &str| -> TractResult<Tensor> {
            let factor = inputs.required(at, name)?.clone();
            if is_turned[at] { factor.permute_axes(&[1, 0]) } else { Ok(factor) }
        };
        let (a, b) = (turned(0, "A")?, turned(1, "B")?);
        on_numbers!(a.datum_type(), T => {
            let result = scaled::<T>(product::<T>(&a, &b)?, self.alpha)?;
            match inputs.optional(2).filter(|_| self.beta != 0.0) {
                Some(c) => {
                    let c = scaled::<T>(c.clone(), self.beta)?;
                    Ok(tvec![pairs::<T, T, T>(&result, &c, |a, b| a.plus(*b))?])
                }
                None => Ok(tvec![result]),
            }
        })
    }
}

/// A tensor times a factor.
fn scaled<T: Number>(tensor: Tensor, factor: f32) -> TractResult<Tensor> {
    if factor == 1.0 {
        return Ok(tensor);
    }
    if T::datum_type().is_float() {
        let factor = T::of_f64(factor.into());
        return mapped::<T, T>(&tensor, |x| x.times(factor));
    }
    mapped::<T, T>(&tensor, |x| T::of_f64(x.to_f64() * f64::from(factor)))
}
