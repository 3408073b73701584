//! `SwiGLU`: a gate, `Swish` of one input, times another input of the same shape.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::unary::Function;
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct SwiGlu {
    alpha: f32,
}

/// Builds a `SwiGLU` from its node.
pub fn swiglu(attributes: &Attributes) -> Built {
    built(SwiGlu { alpha: attributes.float("alpha", 1.0)? })
}

impl Operator for SwiGlu {
    fn name(&self) -> &'static str {
        "SwiGLU"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (gate, value) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        expect_float(gate, "A")?;
        if gate.datum_type != value.datum_type || gate.rank() != value.rank() {
            return Err(TractError::msg(format!(
                "its inputs are of types {:?} and {:?} and shapes {:?} and {:?}: expected equal ones",
                gate.datum_type, value.datum_type, gate.shape, value.shape
            )));
        }
        Ok(tvec![Kind::new(gate.datum_type, gate.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl SwiGlu {
    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (gate, value) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        if gate.shape() != value.shape() {
            return Err(TractError::msg(format!(
                "its inputs have the shapes {:?} and {:?}: expected equal ones",
                gate.shape(),
                value.shape()
            )));
        }
        let mut output = gate.clone();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        Function::Swish { alpha: self.alpha }.apply(values);
        values.iter_mut().zip(elements::<T>(value)?).for_each(|(gate, value)| *gate *= *value);
        Ok(tvec![output])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float};
    use super::*;

    #[test]
    fn alpha_is_honoured_and_shapes_must_be_equal() {
        let trial = Trial::new(Domain::Onnx, "SwiGLU", &[float("alpha", 0.5)]);
        let output = trial.run(&[Some(tensor1(&[1_f32])), Some(tensor1(&[2_f32]))]).unwrap();
        assert!((elements::<f32>(&output[0]).unwrap()[0] - 1.244_918_7).abs() < 1e-6);
        let error = trial.run(&[Some(tensor1(&[1_f32])), Some(tensor1(&[2_f32, 1.0]))]).unwrap_err();
        assert!(error.to_string().contains("expected equal"));
    }
}
