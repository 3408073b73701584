//! QGemm of com.microsoft: `alpha · A · B + C` of 8-bit integers, with a result in floats or in 8-bit integers.
//!
//! C has integers of 32 bits in the unit of the sums.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::product::distances;
use super::right::{Right, expect_lines, pick, place};
use super::steps::{Steps, expect_bytes, floats, scale, tensor_of, zero};
use super::{Built, built};

/// Builds `QGemm`.
pub fn gemm(attributes: &Attributes) -> Built {
    built(Gemm {
        alpha: attributes.float("alpha", 1.0)?,
        is_a_transposed: attributes.flag("transA", false)?,
        is_b_transposed: attributes.flag("transB", false)?,
        right: None,
    })
}

#[derive(Debug)]
struct Gemm {
    alpha: f32,
    is_a_transposed: bool,
    is_b_transposed: bool,
    /// The right matrix, when it is constant.
    right: Option<Arc<Right>>,
}

impl Gemm {
    fn right(&self, b: &Tensor, zero: Option<&Tensor>) -> TractResult<Right> {
        match self.is_b_transposed {
            true => Right::of(&b.clone().permute_axes(&[1, 0])?, zero),
            false => Right::of(b, zero),
        }
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "QGemm"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(3, "B")?);
        expect_bytes(a.datum_type, "A")?;
        expect_bytes(b.datum_type, "B")?;
        let ([a0, a1], [b0, b1]) = (&a.shape[..], &b.shape[..]) else {
            return Err(TractError::msg("its matrices have other shapes: expected 2 axes each"));
        };
        let rows = if self.is_a_transposed { a1 } else { a0 };
        let columns = if self.is_b_transposed { b0 } else { b1 };
        expect_lines(inputs.optional(4), Some(columns), "b_scale")?;
        expect_lines(inputs.optional(5), Some(columns), "b_zero_point")?;
        let datum_type = match (inputs.optional(7), inputs.optional(8)) {
            (None, _) => DatumType::F32,
            (Some(_), Some(zero)) => Steps::of(zero.datum_type)?.datum_type,
            (Some(_), None) => a.datum_type,
        };
        Ok(tvec![Kind::new(datum_type, [rows.clone(), columns.clone()])])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        let (Some(b), Some(zero)) =
            (&inputs.required(3, "B")?.value, &inputs.required(5, "b_zero_point")?.value)
        else {
            return Ok(None);
        };
        let right = Some(Arc::new(self.right(b, Some(zero))?));
        Ok(Some(Arc::new(Gemm { right, ..*self })))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(3, "B")?);
        let right = match &self.right {
            Some(right) => right.clone(),
            None => Arc::new(self.right(b, inputs.optional(5))?),
        };
        let turned;
        let a = if self.is_a_transposed {
            turned = a.clone().permute_axes(&[1, 0])?;
            &turned
        } else {
            a
        };
        let a_zero = zero(inputs.optional(2), "a_zero_point")?;
        let mut sums = right.times(&distances(a, a.len(), |_| a_zero)?, a.shape())?;
        let shape = [a.shape()[0], right.columns()];
        if let Some(c) = inputs.optional(6) {
            let added = elements::<i32>(c)?;
            let own: TVec<usize> = c.shape().into();
            if own.len() > 2
                || own.iter().rev().zip(shape.iter().rev()).any(|(own, all)| own != all && *own != 1)
            {
                return Err(TractError::msg(format!("`C` has the shape {own:?}: it does not fit {shape:?}")));
            }
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = sum.wrapping_add(added[place(at, &shape, &own)]);
            }
        }
        let unit = self.alpha * scale(inputs.required(1, "a_scale")?, "a_scale")?;
        let mut scales: Vec<f32> =
            floats(inputs.required(4, "b_scale")?)?.iter().map(|scale| unit * scale).collect();
        let numbers = |scales: &[f32]| -> Vec<f32> {
            let number = |(at, sum): (usize, &i32)| *sum as f32 * pick(scales, at % shape[1]);
            sums.iter().enumerate().map(number).collect()
        };
        let Some(y_scale) = inputs.optional(7) else {
            return Ok(tvec![Tensor::from_shape(&shape, &numbers(&scales))?]);
        };
        let y_scale = scale(y_scale, "y_scale")?;
        scales.iter_mut().for_each(|scale| *scale /= y_scale);
        let steps = Steps::of(inputs.optional(8).map_or(a.datum_type(), Tensor::datum_type))?;
        let y_zero = zero(inputs.optional(8), "y_zero_point")?;
        let made: Vec<i32> = numbers(&scales).iter().map(|number| steps.nearest(*number, y_zero)).collect();
        Ok(tvec![tensor_of(steps, &shape, &made)?])
    }
}
