//! `GlobalAveragePool`, `GlobalMaxPool` and `GlobalLpPool`: one result for each plane.
//!
//! A NaN in a plane makes the maximum NaN, as in the reference evaluator.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals, largest, sum};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::pool::{exponent, power};
use super::{Built, built};

/// One of the three operators.
#[derive(Debug)]
enum Global {
    Mean,
    Most,
    Norm(f64),
}

/// Builds a `GlobalAveragePool` from its node.
pub fn average(_attributes: &Attributes) -> Built {
    built(Global::Mean)
}

/// Builds a `GlobalMaxPool` from its node.
pub fn max(_attributes: &Attributes) -> Built {
    built(Global::Most)
}

/// Builds a `GlobalLpPool` from its node.
pub fn norm(attributes: &Attributes) -> Built {
    built(Global::Norm(exponent(attributes)?))
}

impl Operator for Global {
    fn name(&self) -> &'static str {
        match self {
            Global::Mean => "GlobalAveragePool",
            Global::Most => "GlobalMaxPool",
            Global::Norm(_) => "GlobalLpPool",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "X")?;
        if input.rank() < 2 {
            return Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank())));
        }
        let ones = std::iter::repeat_n(1.to_dim(), input.rank() - 2);
        Ok(tvec![Kind::new(input.datum_type, input.shape[..2].iter().cloned().chain(ones))])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl Global {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let shape = input.shape();
        let size: usize = shape[2..].iter().product();
        if size == 0 {
            return Err(TractError::msg(format!(
                "its input has the shape {shape:?}: expected one element or more behind the batch and the channels"
            )));
        }
        let planes = elements::<T>(input)?.chunks_exact(size);
        let results: Vec<T> = planes.map(|plane| self.of_plane(plane)).collect();
        let mut made: TVec<usize> = tvec![1; shape.len()];
        made[..2].copy_from_slice(&shape[..2]);
        Ok(tvec![Tensor::from_shape(&made, &results)?])
    }

    fn of_plane<T: Real>(&self, plane: &[T]) -> T {
        match self {
            Global::Mean => T::of(sum(plane) / plane.len() as f64),
            Global::Most => largest(plane).unwrap_or_else(T::nan),
            Global::Norm(exponent) => {
                let total: f64 =
                    plane.iter().map(|element| power(element.to_f64().unwrap_or(f64::NAN), *exponent)).sum();
                T::of(super::pool::root(total, *exponent))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    fn run(name: &str, attributes: &[tract_onnx::pb::AttributeProto], input: Tensor) -> TractResult<Tensor> {
        Ok(Trial::new(Domain::Onnx, name, attributes).run(&[Some(input)])?.remove(0))
    }

    #[test]
    fn each_plane_has_one_result() {
        let input = Tensor::from_shape(&[1, 2, 2, 1], &[3.0_f32, -4.0, 1.0, 1.0]).unwrap();
        let expect = |name, attributes: &[_], expected: [f32; 2]| {
            let output = run(name, attributes, input.clone()).unwrap();
            assert_eq!(output.shape(), [1, 2, 1, 1]);
            assert_eq!(elements::<f32>(&output).unwrap(), expected, "{name}");
        };
        expect("GlobalAveragePool", &[], [-0.5, 1.0]);
        expect("GlobalMaxPool", &[], [3.0, 1.0]);
        expect("GlobalLpPool", &[], [5.0, 2.0_f32.sqrt()]);
        expect("GlobalLpPool", &[int("p", 1)], [7.0, 2.0]);
    }

    #[test]
    fn an_empty_plane_is_an_error() {
        let input = Tensor::zero::<f32>(&[1, 2, 0, 3]).unwrap();
        let error = run("GlobalMaxPool", &[], input).unwrap_err().to_string();
        assert!(error.contains("expected one element or more"), "{error}");
    }
}
