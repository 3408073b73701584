//! DynamicQuantizeLinear: quantizes to 8 bits with a scale that is computed from the smallest and the largest number.

use onnxd_kernels::quantize::{Stored, limits};
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::steps::Steps;
use super::{Built, built};

/// Builds `DynamicQuantizeLinear`.
pub fn dynamic(_: &Attributes) -> Built {
    built(Dynamic)
}

/// How numbers are quantized to unsigned integers of 8 bits.
#[derive(Debug, Clone, Copy)]
pub struct Quantization {
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero: i32,
}

/// The type to which numbers are quantized dynamically.
pub const BYTE: Steps = Steps { datum_type: DatumType::U8, low: 0, high: 255 };

/// The quantization that covers all numbers and zero.
pub fn quantization(numbers: &[f32]) -> Quantization {
    let (least, most) = limits(numbers);
    let range = if most == least { 1.0 } else { most - least };
    let scale = range / 255.0;
    Quantization { scale, zero: BYTE.nearest((0.0 - least) / scale, 0) }
}

#[derive(Debug)]
struct Dynamic;

impl Operator for Dynamic {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let x = inputs.single()?;
        if x.datum_type != DatumType::F32 {
            return Err(TractError::msg(format!("its input is of type {:?}: expected F32", x.datum_type)));
        }
        Ok(tvec![
            Kind::new(DatumType::U8, x.shape.clone()),
            Kind::new(DatumType::F32, []),
            Kind::new(DatumType::U8, [])
        ])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let x = inputs.single()?;
        let numbers = elements::<f32>(x)?;
        let Quantization { scale, zero } = quantization(numbers);
        let mut made = vec![0; numbers.len()];
        u8::quantize(numbers, &mut made, &[scale], &[zero], BYTE.range());
        Ok(tvec![Tensor::from_shape(x.shape(), &made)?, Tensor::from(scale), Tensor::from(zero as u8)])
    }
}
