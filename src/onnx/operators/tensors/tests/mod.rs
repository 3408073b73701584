//! Tests of operators that move elements, with expected values of NumPy, the reference evaluator, or the standard's text.

mod indices;
mod resize;
mod shapes;

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::trial::Trial;

/// The first output.
fn run(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> TractResult<Tensor> {
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    run_some(name, attributes, &inputs)
}

/// The first output; `None` is an input that is left out.
fn run_some(name: &str, attributes: &[AttributeProto], inputs: &[Option<Tensor>]) -> TractResult<Tensor> {
    Ok(Trial::new(Domain::Onnx, name, attributes).run(inputs)?.remove(0))
}

/// The message of a run that must fail.
fn error(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> String {
    run(name, attributes, inputs).expect_err("the run must fail").to_string()
}

/// The numbers 0, 1, 2 and so on in a tensor of this shape.
fn ramp(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|at: usize| at as f32).collect();
    Tensor::from_shape(shape, &values).unwrap()
}

fn words(all: &[&str]) -> Tensor {
    tensor1(&all.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>())
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.cast_to::<f32>().unwrap().try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}
