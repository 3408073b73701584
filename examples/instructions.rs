//! Does one thing a number of times, so that a tool can count the instructions of it (`tests/instructions/run`):
//!
//! ```text
//! cargo run --release --example instructions -- COUNT model.onnx   runs a model on zeros
//! cargo run --release --example instructions -- COUNT request      decodes a request of 784 numbers, runs the default model,
//!                                                                  encodes the reply
//! ```
#![allow(clippy::unwrap_used)] // An example: a panic says what is wrong.

use std::hint::black_box;
use std::path::Path;

use onnxd::memory::{Budget, Share};
use onnxd::model::{Input, Tensor};
use onnxd::onnx::{Fill, Graph, Item, Options, Session};
use onnxd::wire::{Defaults, Form, InferResponse, OutputTensor, StreamParameters, decode};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model/digits/model.onnx");

fn session(file: &str) -> Session {
    let graph = Graph::read(Path::new(file)).unwrap();
    let options = Options { max_tensor_bytes: 1 << 30, ..Options::default() };
    Session::load(&graph, &options).unwrap().0
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().expect("COUNT").parse().unwrap();
    match arguments.next().expect("a model's file, or `request`").as_str() {
        "request" => requests(count),
        file => runs(count, &session(file)),
    }
}

fn runs(count: usize, session: &Session) {
    let item = session.sample(0, Fill::Zeros, 1).unwrap();
    let (mut runner, budget) = (session.runner(), Budget::unbounded());
    for _ in 0..count {
        black_box(runner.run(0, black_box(&item), &mut Share::none(&budget)).unwrap());
    }
}

fn requests(count: usize) {
    let session = session(DIGITS);
    let data: Vec<String> = (0..784).map(|at| (at as f32 / 784.0).to_string()).collect();
    let data = data.join(",");
    let text = format!(
        r#"{{"id":"1","inputs":[{{"name":"image","shape":[1,1,28,28],"datatype":"FP32","data":[{data}]}}]}}"#
    );
    let id = serde_json::value::to_raw_value("1").unwrap();
    let (mut runner, defaults, budget) = (session.runner(), Defaults::default(), Budget::unbounded());
    for _ in 0..count {
        let mut share = Share::none(&budget);
        let request =
            decode::from_text(black_box(&text), session.signature(), &defaults, &mut share).unwrap();
        let tensors: Vec<Tensor> = request.inputs.into_iter().map(ready).collect();
        let result = runner.run(0, &Item { tensors, states: Vec::new() }, &mut share).unwrap();
        let [tensor] = <[Tensor; 1]>::try_from(result.tensors).unwrap();
        let outputs = vec![OutputTensor { name: "logits", tensor, binary: false }];
        let stream = StreamParameters::default();
        let reply = InferResponse {
            model_name: "digits",
            model_version: "1",
            id: Some(&id),
            outputs,
            result: None,
            stream,
        };
        black_box(reply.encode(Form::Oip).unwrap());
    }
}

fn ready(input: Input) -> Tensor {
    match input {
        Input::Tensor(tensor) => tensor,
        other => panic!("{other:?}: expected a tensor"),
    }
}
