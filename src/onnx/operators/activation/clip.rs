//! `Clip` and `Relu`: limits, for all numbers. NaN stays NaN. Where the limits are in the wrong order, the result is `max`.

use onnxd_kernels::functions::{Function, apply};
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Clip {
    name: &'static str,
    limits: Limits,
}

/// Where the limits come from.
#[derive(Debug)]
enum Limits {
    /// From attributes: `Clip` before version 11, and `Relu`.
    Attributes { min: Option<f32>, max: Option<f32> },
    /// From the inputs `min` and `max`.
    Inputs,
}

/// Builds a `Clip` from its node.
pub fn clip(attributes: &Attributes) -> Built {
    let (has_min, has_max) = (attributes.has("min"), attributes.has("max"));
    let limits = if (1..11).contains(&attributes.version()) {
        Limits::Attributes {
            min: has_min.then(|| attributes.float("min", 0.0)).transpose()?,
            max: has_max.then(|| attributes.float("max", 0.0)).transpose()?,
        }
    } else if has_min || has_max {
        return Err(attributes.wrong("`min` and `max` are attributes: expected inputs since version 11"));
    } else {
        Limits::Inputs
    };
    built(Clip { name: "Clip", limits })
}

/// Builds a `Relu` from its node.
pub fn relu(_: &Attributes) -> Built {
    built(Clip { name: "Relu", limits: Limits::Attributes { min: Some(0.0), max: None } })
}

impl Operator for Clip {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        if !input.datum_type.is_number() {
            return Err(TractError::msg(format!(
                "its input is of type {:?}: expected numbers",
                input.datum_type
            )));
        }
        if inputs.len() > 1 && matches!(self.limits, Limits::Attributes { .. }) {
            return Err(TractError::msg(format!("it has {} inputs: expected 1", inputs.len())));
        }
        for (at, name) in [(1, "min"), (2, "max")] {
            if let Some(limit) = inputs.optional(at)
                && (limit.datum_type != input.datum_type || limit.count().is_some_and(|count| count != 1))
            {
                return Err(TractError::msg(format!(
                    "its input `{name}` is of type {:?} and has the shape {:?}: expected one {:?}",
                    limit.datum_type, limit.shape, input.datum_type
                )));
            }
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn as_step(&self, inputs: &Inputs<Kind>) -> Option<Step> {
        let is_single = |kind: &&Kind| kind.datum_type == DatumType::F32;
        inputs.optional(0).filter(is_single)?;
        let value = |at: usize| inputs.optional(at).and_then(|kind| kind.value.as_deref());
        let limits = match self.limits {
            Limits::Attributes { min, max } => (min, max),
            Limits::Inputs => (single::<f32>(value(1)).ok()?, single::<f32>(value(2)).ok()?),
        };
        function(limits).map(Step::Function)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        match input.datum_type() {
            DatumType::F16 => self.limit::<f16>(inputs),
            DatumType::F32 => self.limit_singles(inputs),
            DatumType::F64 => self.limit::<f64>(inputs),
            DatumType::I8 => self.limit::<i8>(inputs),
            DatumType::I16 => self.limit::<i16>(inputs),
            DatumType::I32 => self.limit::<i32>(inputs),
            DatumType::I64 => self.limit::<i64>(inputs),
            DatumType::U8 => self.limit::<u8>(inputs),
            DatumType::U16 => self.limit::<u16>(inputs),
            DatumType::U32 => self.limit::<u32>(inputs),
            DatumType::U64 => self.limit::<u64>(inputs),
            other => Err(TractError::msg(format!("its input is of type {other:?}: expected numbers"))),
        }
    }
}

/// The kernel for these limits. `None`: there are none, or they are in the wrong order.
fn function(limits: (Option<f32>, Option<f32>)) -> Option<Function> {
    match limits {
        (None, None) => None,
        (Some(0.0), None) => Some(Function::Relu),
        (least, most) => {
            let (least, most) = (least.unwrap_or(f32::NEG_INFINITY), most.unwrap_or(f32::INFINITY));
            Some(Function::Between { least, most }).filter(|_| least <= most)
        }
    }
}

impl Clip {
    fn limit_singles(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let limits = match self.limits {
            Limits::Attributes { min, max } => (min, max),
            Limits::Inputs => (single(inputs.optional(1))?, single(inputs.optional(2))?),
        };
        let Some(function) = function(limits) else { return self.limit::<f32>(inputs) };
        let mut output = inputs.required(0, "input")?.clone();
        apply(function, output.try_as_plain_ram_mut()?.as_slice_mut()?);
        Ok(tvec![output])
    }

    fn limit<T: Datum + Copy + PartialOrd>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (min, max) = match self.limits {
            Limits::Attributes { min, max } => (constant::<T>(min)?, constant::<T>(max)?),
            Limits::Inputs => (single::<T>(inputs.optional(1))?, single::<T>(inputs.optional(2))?),
        };
        let mut output = inputs.required(0, "input")?.clone();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        if let Some(min) = min {
            values.iter_mut().for_each(|value| *value = if *value < min { min } else { *value });
        }
        if let Some(max) = max {
            values.iter_mut().for_each(|value| *value = if *value > max { max } else { *value });
        }
        Ok(tvec![output])
    }
}

/// A limit of an attribute in the type of the input.
fn constant<T: Datum + Copy>(limit: Option<f32>) -> TractResult<Option<T>> {
    limit.map(|limit| tensor0(limit).cast_to_scalar::<T>()).transpose()
}

/// A limit of an input.
fn single<T: Datum + Copy>(limit: Option<&Tensor>) -> TractResult<Option<T>> {
    let Some(limit) = limit else { return Ok(None) };
    match elements::<T>(limit)? {
        [limit] => Ok(Some(*limit)),
        all => Err(TractError::msg(format!("a limit has {} elements: expected 1", all.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float};
    use super::*;

    #[test]
    fn nan_stays_and_limits_of_all_types_are_kept() {
        let trial = Trial::new(Domain::Onnx, "Clip", &[]);
        let output = trial
            .run(&[Some(tensor1(&[f32::NAN, -5.0, 0.5, 5.0])), Some(tensor0(-1_f32)), Some(tensor0(1_f32))])
            .unwrap();
        let found = elements::<f32>(&output[0]).unwrap();
        assert!(found[0].is_nan());
        assert_eq!(found[1..], [-1.0, 0.5, 1.0]);
        let output = trial.run(&[Some(tensor1(&[1_u8, 200])), None, Some(tensor0(7_u8))]).unwrap();
        assert_eq!(elements::<u8>(&output[0]).unwrap(), [1, 7]);
        // Limits in the wrong order.
        let output =
            trial.run(&[Some(tensor1(&[0_i64])), Some(tensor0(3_i64)), Some(tensor0(1_i64))]).unwrap();
        assert_eq!(elements::<i64>(&output[0]).unwrap(), [1]);
    }

    #[test]
    fn limits_of_old_versions_are_attributes() {
        let trial = Trial::new(Domain::Onnx, "Clip", &[float("min", -1.0), float("max", 1.0)]);
        let output = trial.clone().version(6).run(&[Some(tensor1(&[-3_f32, 0.0, 3.0]))]).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [-1.0, 0.0, 1.0]);
        let output = Trial::new(Domain::Onnx, "Clip", &[float("min", 0.0)]).version(6);
        let output = output.run(&[Some(tensor1(&[f16::from_f32(-3.0), f16::INFINITY]))]).unwrap();
        assert_eq!(elements::<f16>(&output[0]).unwrap(), [f16::ZERO, f16::INFINITY]);
    }

    #[test]
    fn relu_keeps_nan_and_takes_integers() {
        let trial = Trial::new(Domain::Onnx, "Relu", &[]);
        let output = trial.run(&[Some(tensor1(&[f32::NAN, -1.0, f32::INFINITY]))]).unwrap();
        let found = elements::<f32>(&output[0]).unwrap();
        assert!(found[0].is_nan() && found[1] == 0.0 && found[2] == f32::INFINITY);
        let output = trial.run(&[Some(tensor1(&[i8::MIN, 5]))]).unwrap();
        assert_eq!(elements::<i8>(&output[0]).unwrap(), [0, 5]);
    }

    #[test]
    fn a_limit_of_several_elements_is_an_error() {
        let trial = Trial::new(Domain::Onnx, "Clip", &[]);
        let error = trial.run(&[Some(tensor1(&[0_f32])), Some(tensor1(&[0_f32, 1.0]))]).unwrap_err();
        assert!(error.to_string().contains("expected 1"));
    }
}
