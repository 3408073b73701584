//! The steps of `FlexAttention` (`ai.onnx.preview`): the node is put into the graph in parts, because graphs of the model
//! change the scores and the probabilities between them. The order of the steps is in
//! [`lower::flex`](super::super::super::lower).

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::core::{Heads, mix, products, softmax};

/// The scores: the products of queries and keys, `[batch, heads of queries, queries, keys]`.
#[derive(Debug)]
pub struct Products {
    /// The factor. `None`: 1 ÷ √size.
    pub scale: Option<f64>,
    /// The type of the result.
    pub datum_type: DatumType,
}

/// The softmax over the keys.
#[derive(Debug)]
pub struct Softmax;

/// The means of the values by the probabilities.
#[derive(Debug)]
pub struct Mix;

/// The steps as operators.
pub fn steps(scale: Option<f64>, datum_type: DatumType) -> [Arc<dyn Operator>; 3] {
    [Arc::new(Products { scale, datum_type }), Arc::new(Softmax), Arc::new(Mix)]
}

/// The lengths of an input with four axes.
fn four<'a>(kind: &'a Kind, name: &str) -> TractResult<&'a [TDim]> {
    expect_float(kind, name)?;
    match kind.rank() {
        4 => Ok(&kind.shape),
        other => Err(TractError::msg(format!("its input `{name}` has {other} axes: expected 4"))),
    }
}

impl Operator for Products {
    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let queries = four(inputs.required(0, "Q")?, "Q")?;
        let keys = four(inputs.required(1, "K")?, "K")?;
        let shape = [&queries[0], &queries[1], &queries[2], &keys[2]].map(TDim::clone);
        Ok(tvec![Kind::new(self.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (queries, keys) = (inputs.required(0, "Q")?, inputs.required(1, "K")?);
        Ok(tvec![match self.datum_type {
            DatumType::F64 =>
                products::<f64>(&Heads::read(queries, None)?, &Heads::read(keys, None)?, self.scale)?,
            other => {
                let made =
                    products::<f32>(&Heads::read(queries, None)?, &Heads::read(keys, None)?, self.scale)?;
                rounded(made, other)?
            }
        }])
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let scores = inputs.single()?;
        four(scores, "scores")?;
        Ok(tvec![Kind::new(scores.datum_type, scores.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let scores = inputs.single()?;
        Ok(tvec![match scores.datum_type() {
            DatumType::F64 => softmax_of_rows::<f64>(scores)?,
            _ => softmax_of_rows::<f32>(scores)?,
        }])
    }
}

fn softmax_of_rows<T: Curves>(scores: &Tensor) -> TractResult<Tensor> {
    let keys = scores.shape().last().copied().unwrap_or(1);
    let mut output = wide::<T>(scores)?.into_owned();
    let mut plain = output.try_as_plain_ram_mut()?;
    plain.as_slice_mut::<T>()?.chunks_exact_mut(keys.max(1)).for_each(softmax);
    rounded(output, scores.datum_type())
}

impl Operator for Mix {
    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let probabilities = four(inputs.required(0, "probabilities")?, "probabilities")?;
        let values = inputs.required(1, "V")?;
        let last = four(values, "V")?[3].clone();
        let shape = probabilities[..3].iter().cloned().chain([last]);
        Ok(tvec![Kind::new(values.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (probabilities, values) = (inputs.required(0, "probabilities")?, inputs.required(1, "V")?);
        let is_double = [probabilities, values].iter().any(|tensor| tensor.datum_type() == DatumType::F64);
        let made = match is_double {
            true => mix::<f64>(&Heads::read(probabilities, None)?, &Heads::read(values, None)?)?,
            false => mix::<f32>(&Heads::read(probabilities, None)?, &Heads::read(values, None)?)?,
        };
        Ok(tvec![rounded(made, values.datum_type())?])
    }
}
