//! DynamicQuantizeLinear: quantizes to 8 bits with a scale that is computed from the smallest and the largest number.

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

/// The smallest and the largest number, and zero.
fn limits(numbers: &[f32]) -> (f32, f32) {
    // Several limits at once, so that the compiler can use vectors.
    let (mut least, mut most) = ([0.0_f32; 16], [0.0_f32; 16]);
    let chunks = numbers.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for at in 0..16 {
            least[at] = if chunk[at] < least[at] { chunk[at] } else { least[at] };
            most[at] = if chunk[at] > most[at] { chunk[at] } else { most[at] };
        }
    }
    (
        least.iter().chain(rest).copied().fold(0.0, f32::min),
        most.iter().chain(rest).copied().fold(0.0, f32::max),
    )
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
        let made: Vec<u8> = numbers.iter().map(|number| BYTE.nearest(number / scale, zero) as u8).collect();
        Ok(tvec![Tensor::from_shape(x.shape(), &made)?, Tensor::from(scale), Tensor::from(zero as u8)])
    }
}
