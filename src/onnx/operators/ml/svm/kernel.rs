//! The kernel of a support vector machine: how near a row is to a support vector.

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::super::linear::product;

/// A kernel with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    /// a·b
    Linear,
    /// (γ a·b + c)^degree
    Polynomial { gamma: f32, offset: f32, degree: f32 },
    /// exp(-γ |a-b|²)
    Radial { gamma: f32 },
    /// tanh(γ a·b + c)
    Sigmoid { gamma: f32, offset: f32 },
}

impl Kernel {
    /// Reads `kernel_type` and `kernel_params`.
    pub fn read(attributes: &Attributes) -> TractResult<Kernel> {
        let name = attributes.string("kernel_type", "LINEAR")?;
        let parameters = || match *attributes.floats("kernel_params")? {
            [gamma, offset, degree] => Ok((gamma, offset, degree)),
            ref other => Err(attributes.wrong(format!(
                "`kernel_params` has {} numbers: expected 3 (gamma, coef0, degree)",
                other.len()
            ))),
        };
        Ok(match name {
            "LINEAR" => Kernel::Linear,
            "POLY" => {
                let (gamma, offset, degree) = parameters()?;
                if degree.fract() != 0.0 {
                    return Err(attributes.wrong(format!(
                        "the degree in `kernel_params` is {degree}: expected an integer (onnxruntime uses the number, \
                         the reference implementation of the standard cuts its fraction off)"
                    )));
                }
                Kernel::Polynomial { gamma, offset, degree }
            }
            "RBF" => Kernel::Radial { gamma: parameters()?.0 },
            "SIGMOID" => {
                let (gamma, offset, _) = parameters()?;
                Kernel::Sigmoid { gamma, offset }
            }
            other => {
                return Err(attributes
                    .wrong(format!("`kernel_type` is {other}: expected LINEAR, POLY, RBF or SIGMOID")));
            }
        })
    }

    /// The kernel of two vectors of the same length.
    pub fn of(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Kernel::Linear => product(a, b),
            Kernel::Polynomial { gamma, offset, degree } => (gamma * product(a, b) + offset).powf(degree),
            Kernel::Radial { gamma } => (-gamma * squared_distance(a, b)).exp(),
            Kernel::Sigmoid { gamma, offset } => (gamma * product(a, b) + offset).tanh(),
        }
    }
}

/// Σ (a-b)², as eight separate sums that the processor computes in parallel.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}
