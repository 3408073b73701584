//! `LpNormalization`: the elements along an axis are divided by their norm. Where the norm is 0, the result is 0.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::axis;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Lp {
    axis: i64,
    norm: Norm,
}

/// The norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Norm {
    /// The sum of the absolute values.
    One,
    /// The root of the sum of the squares.
    Two,
}

/// Builds an `LpNormalization` from its node.
pub fn lp(attributes: &Attributes) -> Built {
    let norm = match attributes.int("p", 2)? {
        1 => Norm::One,
        2 => Norm::Two,
        other => return Err(attributes.wrong(format!("`p` is {other}: expected 1 or 2"))),
    };
    built(Lp { axis: attributes.int("axis", -1)?, norm })
}

impl Operator for Lp {
    fn name(&self) -> &'static str {
        "LpNormalization"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "input")?;
        axis(self.axis, input.rank())?;
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl Lp {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let mut output = inputs.single()?.clone();
        let axis = axis(self.axis, output.rank())?;
        let (length, inner) = (output.shape()[axis], output.shape()[axis + 1..].iter().product::<usize>());
        let mut plain = output.try_as_plain_ram_mut()?;
        let mut norms = vec![0_f64; inner];
        for block in plain.as_slice_mut::<T>()?.chunks_exact_mut((length * inner).max(1)) {
            norms.fill(0.0);
            for row in block.chunks_exact(inner) {
                for (norm, value) in norms.iter_mut().zip(row) {
                    let value = value.to_f64().unwrap_or(f64::NAN);
                    *norm += if self.norm == Norm::One { value.abs() } else { value * value };
                }
            }
            if self.norm == Norm::Two {
                norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
            }
            for row in block.chunks_exact_mut(inner) {
                for (value, norm) in row.iter_mut().zip(&norms) {
                    *value = if *norm == 0.0 { T::zero() } else { *value / T::of(*norm) };
                }
            }
        }
        Ok(tvec![output])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, int};
    use super::*;

    #[test]
    fn norms_along_an_axis() {
        let input = || Some(tensor2(&[[3_f32, 0.0], [-4.0, 0.0]]));
        let run = |attributes: &[_]| {
            let output = Trial::new(Domain::Onnx, "LpNormalization", attributes).run(&[input()]).unwrap();
            elements::<f32>(&output[0]).unwrap().to_vec()
        };
        assert_eq!(run(&[int("axis", 0)]), [0.6, 0.0, -0.8, 0.0]);
        assert_eq!(run(&[int("axis", 0), int("p", 1)]), [3.0 / 7.0, 0.0, -4.0 / 7.0, 0.0]);
        assert_eq!(run(&[]), [1.0, 0.0, -1.0, 0.0]);
    }
}
