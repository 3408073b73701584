//! QuantizeLinear and DequantizeLinear, of ai.onnx and of com.microsoft.
//!
//! QuantizeLinear divides in single precision, or in half precision when both the input and the scale have it, or in double
//! precision when the input has integers. That is what the ONNX reference does.

use half::f16;
use half::slice::HalfFloatSliceExt;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Quantization, elements};
use super::grid::Grid;
use super::steps::{Steps, Stored, expect_stored, floats, integers, tensor_of, with_stored};
use super::{Built, built};

/// `TensorProto.DataType` of FLOAT and of FLOAT16.
const FLOAT: i64 = 1;
const FLOAT16: i64 = 10;

/// The axis and the length of blocks along it.
#[derive(Debug, Clone, Copy)]
struct Axis {
    axis: i64,
    block: i64,
}

impl Axis {
    fn read(attributes: &Attributes) -> TractResult<Axis> {
        Ok(Axis { axis: attributes.int("axis", 1)?, block: attributes.int("block_size", 0)? })
    }

    fn grid(&self, input: &Tensor, scale: &Tensor, zero: Option<&Tensor>) -> TractResult<Grid> {
        if let Some(zero) = zero
            && zero.len() != scale.len()
        {
            return Err(TractError::msg(format!(
                "the zero point has the shape {:?}, the scale {:?}: expected the same",
                zero.shape(),
                scale.shape()
            )));
        }
        Grid::new(input.shape(), scale.shape(), self.axis, self.block)
    }
}

/// Builds `QuantizeLinear`.
pub fn quantize(attributes: &Attributes) -> Built {
    let named = match attributes.int("output_dtype", 0)? {
        0 => None,
        number => Some(Steps::numbered(number)?),
    };
    let precision = match attributes.int("precision", 0)? {
        0 => None,
        FLOAT => Some(Precision::Single),
        FLOAT16 => Some(Precision::Half),
        other => {
            return Err(attributes.wrong(format!(
                "`precision` is the type number {other}: expected 0, 1 (FLOAT) or 10 (FLOAT16)"
            )));
        }
    };
    built(Quantize { axis: Axis::read(attributes)?, named, precision })
}

/// In which precision a number is divided by its scale.
#[derive(Debug, Clone, Copy)]
enum Precision {
    Half,
    Single,
    Double,
}

#[derive(Debug)]
struct Quantize {
    axis: Axis,
    /// The type that the attribute `output_dtype` names.
    named: Option<Steps>,
    precision: Option<Precision>,
}

impl Quantize {
    fn steps(&self, zero: Option<DatumType>) -> TractResult<Steps> {
        let Some(zero) = zero else {
            return self.named.map_or_else(|| Steps::of(DatumType::U8), Ok);
        };
        match self.named {
            Some(named) if named.datum_type == zero => Ok(named),
            Some(named) => Err(TractError::msg(format!(
                "`output_dtype` names {:?}, but the zero point is of type {zero:?}: expected the same",
                named.datum_type
            ))),
            None => Steps::of(zero),
        }
    }

    fn precision(&self, input: DatumType, scale: DatumType) -> TractResult<Precision> {
        let precision = match (input, scale) {
            (DatumType::F16, DatumType::F16) => Precision::Half,
            (DatumType::I32, DatumType::F32 | DatumType::F16) => Precision::Double,
            (DatumType::F32 | DatumType::F16, DatumType::F32 | DatumType::F16) => Precision::Single,
            _ => {
                return Err(TractError::msg(format!(
                    "the input is of type {input:?} and the scale of type {scale:?}: expected F32, F16 or I32, and F32 \
                     or F16"
                )));
            }
        };
        Ok(self.precision.unwrap_or(precision))
    }
}

impl Operator for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (x, scale) = (inputs.required(0, "x")?, inputs.required(1, "y_scale")?);
        self.precision(x.datum_type, scale.datum_type)?;
        let steps = self.steps(inputs.optional(2).map(|zero| zero.datum_type))?;
        Ok(tvec![Kind::new(steps.datum_type, x.shape.clone())])
    }

    fn quantization(&self, inputs: &Inputs<Kind>) -> Option<Quantization> {
        let (x, scale) = (inputs.optional(0)?, inputs.optional(1)?);
        let precision = self.precision(x.datum_type, scale.datum_type).ok()?;
        let is_single = x.datum_type == DatumType::F32 && matches!(precision, Precision::Single);
        let steps = self.steps(inputs.optional(2).map(|zero| zero.datum_type)).ok()?;
        quantization(inputs, Some((steps.low, steps.high))).filter(|_| is_single && self.axis.block == 0)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, scale, zero) = (inputs.required(0, "x")?, inputs.required(1, "y_scale")?, inputs.optional(2));
        let steps = self.steps(zero.map(Tensor::datum_type))?;
        let grid = self.axis.grid(x, scale, zero)?;
        let precision = self.precision(x.datum_type(), scale.datum_type())?;
        let scales = floats(scale)?;
        let zeros = zero.map_or_else(|| Ok(scales.iter().map(|_| 0).collect()), integers)?;
        if matches!(precision, Precision::Double) {
            let numbers = elements::<i32>(x)?;
            let mut made = vec![0; numbers.len()];
            grid.runs(|run, scales_run| {
                for (at, element) in run.enumerate() {
                    let scale = scales_run.start + if scales_run.len() == 1 { 0 } else { at };
                    let rounded = (f64::from(numbers[element]) / f64::from(scales[scale])).round_ties_even();
                    let sum = rounded as i64 + i64::from(zeros[scale]);
                    made[element] = sum.clamp(i64::from(steps.low), i64::from(steps.high)) as i32;
                }
            });
            return Ok(tvec![tensor_of(steps, x.shape(), &made)?]);
        }
        let numbers = x.cast_to::<f32>()?;
        let numbers = elements::<f32>(&numbers)?;
        let is_half = matches!(precision, Precision::Half);
        with_stored!(steps.datum_type, T, {
            let mut made: Vec<T> = vec![T::stored(0); numbers.len()];
            grid.runs(|run, at| {
                let (to, from) = (&mut made[run.clone()], &numbers[run]);
                let (scales, zeros) = (&scales[at.clone()], &zeros[at]);
                if is_half {
                    quantize_halves(steps, to, from, scales, zeros);
                } else {
                    T::quantize(steps, from, to, scales, zeros);
                }
            });
            Ok(tvec![Tensor::from_shape(x.shape(), &made)?])
        })
    }
}

/// The constant scale and zero point, if there is one of each and the scale is FP32.
fn quantization(inputs: &Inputs<Kind>, limits: Option<(i32, i32)>) -> Option<Quantization> {
    let [scale] = elements::<f32>(inputs.optional(1)?.value.as_ref()?).ok()? else { return None };
    let zero = match inputs.optional(2) {
        Some(zero) => match integers(zero.value.as_ref()?).ok()?[..] {
            [zero] => zero,
            _ => return None,
        },
        None => 0,
    };
    Some(Quantization { scale: *scale, zero, limits })
}

/// Quantizes numbers that have one scale, or one scale each, in half precision.
fn quantize_halves<T: Stored>(steps: Steps, to: &mut [T], from: &[f32], scales: &[f32], zeros: &[i32]) {
    let pick = |at: usize| if scales.len() == 1 { 0 } else { at };
    for (at, (to, number)) in to.iter_mut().zip(from).enumerate() {
        let quotient = f16::from_f32(f16::from_f32(*number).to_f32() / scales[pick(at)]).to_f32();
        *to = T::stored(steps.nearest(quotient, zeros[pick(at)]));
    }
}

/// Builds `DequantizeLinear`.
pub fn dequantize(attributes: &Attributes) -> Built {
    let named = match attributes.int("output_dtype", 0)? {
        0 => None,
        FLOAT => Some(DatumType::F32),
        FLOAT16 => Some(DatumType::F16),
        other => {
            return Err(attributes.wrong(format!(
                "`output_dtype` is the type number {other}: expected 0, 1 (FLOAT) or 10 (FLOAT16)"
            )));
        }
    };
    built(Dequantize { axis: Axis::read(attributes)?, named })
}

#[derive(Debug)]
struct Dequantize {
    axis: Axis,
    /// The type that the attribute `output_dtype` names.
    named: Option<DatumType>,
}

impl Operator for Dequantize {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (x, scale) = (inputs.required(0, "x")?, inputs.required(1, "x_scale")?);
        expect_stored(x.datum_type)?;
        if !matches!(scale.datum_type, DatumType::F32 | DatumType::F16) {
            return Err(TractError::msg(format!(
                "the scale is of type {:?}: expected F32 or F16",
                scale.datum_type
            )));
        }
        if let Some(zero) = inputs.optional(2)
            && zero.datum_type != x.datum_type
        {
            return Err(TractError::msg(format!(
                "the input is of type {:?}, the zero point of type {:?}: expected the same",
                x.datum_type, zero.datum_type
            )));
        }
        Ok(tvec![Kind::new(self.named.unwrap_or(scale.datum_type), x.shape.clone())])
    }

    fn quantization(&self, inputs: &Inputs<Kind>) -> Option<Quantization> {
        let makes_single = self.named.is_none_or(|named| named == DatumType::F32);
        quantization(inputs, None).filter(|_| makes_single && self.axis.block == 0)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, scale, zero) = (inputs.required(0, "x")?, inputs.required(1, "x_scale")?, inputs.optional(2));
        let grid = self.axis.grid(x, scale, zero)?;
        let scales = floats(scale)?;
        let zeros = zero.map_or_else(|| Ok(scales.iter().map(|_| 0).collect()), integers)?;
        let mut made = vec![0.0; x.len()];
        with_stored!(x.datum_type(), T, {
            let integers = elements::<T>(x)?;
            grid.runs(|run, at| {
                let (to, from) = (&mut made[run.clone()], &integers[run]);
                T::dequantize(from, to, &scales[at.clone()], &zeros[at]);
            });
            TractResult::Ok(())
        })?;
        if self.named.unwrap_or(scale.datum_type()) == DatumType::F32 {
            return Ok(tvec![Tensor::from_shape(x.shape(), &made)?]);
        }
        let mut halves = vec![f16::ZERO; made.len()];
        halves.convert_from_f32_slice(&made);
        Ok(tvec![Tensor::from_shape(x.shape(), &halves)?])
    }
}
