//! `SVMRegressor`: a number for each row, or whether the row is like those of the training (`one_class`).

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::super::linear::product;
use super::super::{Built, built};
use super::{Vectors, in_rows, rows_of, weighted};

/// What a score is made from.
#[derive(Debug)]
enum Machine {
    /// Kernels with support vectors; one coefficient for each.
    Supported { vectors: Vectors, coefficients: Vec<f32> },
    /// One coefficient for each feature.
    Linear { coefficients: Vec<f32> },
}

#[derive(Debug)]
struct Regressor {
    machine: Machine,
    rho: f32,
    /// The result is 1 for a positive score and -1 for any other.
    one_class: bool,
}

/// Builds an `SVMRegressor` from its node.
pub fn regressor(attributes: &Attributes) -> Built {
    let transform = attributes.string("post_transform", "NONE")?;
    if transform != "NONE" {
        return Err(attributes.wrong(format!(
            "`post_transform` is {transform}: expected NONE (onnxruntime does not apply it; put an operator such as Sigmoid \
             behind this node instead)"
        )));
    }
    let [rho, ..] = *attributes.floats("rho")? else {
        return Err(attributes.wrong("expected a number in `rho`"));
    };
    let coefficients = attributes.floats("coefficients")?.to_vec();
    let count = attributes.int("n_supports", 0)?;
    let machine = match usize::try_from(count) {
        Ok(0) => {
            let kernel = attributes.string("kernel_type", "LINEAR")?;
            if kernel != "LINEAR" || attributes.has("support_vectors") {
                return Err(attributes.wrong(format!(
                    "`n_supports` is 0, with `kernel_type` {kernel} or `support_vectors`: expected LINEAR and no vectors"
                )));
            }
            if coefficients.is_empty() {
                return Err(attributes.wrong("expected numbers in `coefficients`"));
            }
            Machine::Linear { coefficients }
        }
        Ok(count) if count == coefficients.len() => {
            Machine::Supported { vectors: Vectors::read(attributes, count)?, coefficients }
        }
        _ => {
            return Err(attributes.wrong(format!(
                "`n_supports` is {count} with {} `coefficients`: expected one for each support vector",
                coefficients.len()
            )));
        }
    };
    built(Regressor { machine, rho, one_class: attributes.flag("one_class", false)? })
}

impl Regressor {
    fn width(&self) -> usize {
        match &self.machine {
            Machine::Supported { vectors, .. } => vectors.width,
            Machine::Linear { coefficients } => coefficients.len(),
        }
    }
}

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let rows = rows_of(inputs.single()?, self.width())?;
        Ok(tvec![Kind::new(f32::datum_type(), [rows, 1.into()])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, rows) = in_rows(inputs.single()?, self.width())?;
        let mut kernels = match &self.machine {
            Machine::Supported { coefficients, .. } => vec![0.0; coefficients.len()],
            Machine::Linear { .. } => vec![],
        };
        let mut scores = Vec::with_capacity(rows);
        for row in input.chunks_exact(self.width()) {
            let score = match &self.machine {
                Machine::Supported { vectors, coefficients } => {
                    vectors.kernels(row, &mut kernels);
                    (weighted(coefficients, &kernels) + f64::from(self.rho)) as f32
                }
                Machine::Linear { coefficients } => product(row, coefficients) + self.rho,
            };
            scores.push(match self.one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => score,
            });
        }
        Ok(tvec![Tensor::from_shape(&[rows, 1], &scores)?])
    }
}
