//! The activation of a fused operator: a name, and parameters in the order of onnxruntime.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::activation::Function;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};

/// The activation with this name. An empty name is none. A parameter that is left out has the standard's default.
///
/// Errors: there is no such activation.
pub fn named(name: &str, parameters: &[f32]) -> Result<Option<Function>, String> {
    let at = |place: usize, default: f32| parameters.get(place).copied().unwrap_or(default);
    Ok(Some(match name {
        "" => return Ok(None),
        "Relu" => Function::Relu,
        "Tanh" => Function::Tanh,
        "Sigmoid" => Function::Sigmoid,
        "Softplus" => Function::Softplus,
        "Softsign" => Function::Softsign,
        "LeakyRelu" => Function::LeakyRelu { alpha: at(0, 0.01) },
        "Elu" => Function::Elu { alpha: at(0, 1.0) },
        "ThresholdedRelu" => Function::ThresholdedRelu { alpha: at(0, 1.0) },
        "HardSigmoid" => Function::HardSigmoid { alpha: at(0, 0.2), beta: at(1, 0.5) },
        "HardSwish" => Function::HardSwish,
        "Clip" => Function::Clip { min: at(0, f32::MIN), max: at(1, f32::MAX) },
        other => {
            return Err(format!(
                "`activation` is `{other}`: expected Clip, Elu, HardSigmoid, HardSwish, LeakyRelu, Relu, Sigmoid, Softplus, \
                 Softsign, Tanh or ThresholdedRelu"
            ));
        }
    }))
}

/// An activation as an operator of one input.
pub fn operator(function: Function) -> Arc<dyn Operator> {
    Arc::new(Activation(function))
}

#[derive(Debug)]
struct Activation(Function);

impl Operator for Activation {
    fn name(&self) -> &'static str {
        "FusedConv"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "X")?;
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        match input.datum_type() {
            DatumType::F64 => self.compute::<f64>(input),
            _ => self.compute::<f32>(input),
        }
    }
}

impl Activation {
    fn compute<T: Curves>(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let mut output = wide::<T>(input)?.into_owned();
        self.0.apply(output.try_as_plain_ram_mut()?.as_slice_mut::<T>()?);
        Ok(tvec![rounded(output, input.datum_type())?])
    }
}
