//! The time of the parts of a request, outside the engine and in it: `cargo bench`.
//!
//! Compare two versions side by side in one run, because the figures of different runs differ with the load of the machine.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use divan::Bencher;
use divan::counter::BytesCount;

use onnxd::memory::{Budget, Share};
use onnxd::model::{Datatype, Dim, Elements, Signature, Tensor, TensorMetadata};
use onnxd::onnx::{Fill, Graph, Options, Session};
use onnxd::wire::response::Encoded;
use onnxd::wire::{Defaults, Form, InferResponse, OutputTensor, StreamParameters, decode};

fn main() {
    divan::main();
}

fn signature(shape: &[usize]) -> Signature {
    let tensor = |name: &str| TensorMetadata {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: shape.iter().map(|dim| Dim::Fixed(*dim)).collect(),
        accepts: &[],
        filled_by: None,
    };
    Signature {
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        max_batch_size: None,
        has_state: false,
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 10_000) as f32 / 10_000.0).collect()
}

/// A small vector, and an image of 224 × 224 × 3 as JSON numbers.
const LENGTHS: [usize; 2] = [784, 150_528];

#[divan::bench(args = LENGTHS)]
fn decode_oip_json(bencher: Bencher<'_, '_>, count: usize) {
    let signature = signature(&[1, count]);
    let data: Vec<String> = values(count).iter().map(f32::to_string).collect();
    let text = format!(
        r#"{{"id":"1","inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","data":[{}]}}]}}"#,
        data.join(", ")
    );
    let (defaults, budget) = (Defaults::default(), Budget::unbounded());
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        decode::from_text(divan::black_box(&text), &signature, &defaults, &mut Share::none(&budget)).unwrap()
    });
}

#[divan::bench(args = LENGTHS)]
fn decode_raw(bencher: Bencher<'_, '_>, count: usize) {
    let signature = signature(&[1, count]);
    let payload: Vec<u8> = values(count).iter().flat_map(|value| value.to_le_bytes()).collect();
    let (defaults, budget) = (Defaults::default(), Budget::unbounded());
    bencher.counter(BytesCount::of_slice(&payload)).bench(|| {
        decode::from_raw(divan::black_box(&payload), &signature, &defaults, &mut Share::none(&budget))
            .unwrap()
    });
}

#[divan::bench(args = [10, 1000, 150_528])]
fn encode_oip_json(bencher: Bencher<'_, '_>, count: usize) {
    let tensor = Tensor::new(vec![1, count], Elements::Fp32(values(count))).unwrap();
    let outputs = vec![OutputTensor { name: "y", tensor, binary: false }];
    let response = InferResponse {
        model_name: "m",
        model_version: "1",
        id: None,
        outputs,
        result: None,
        stream: StreamParameters::default(),
    };
    bencher.bench(|| match divan::black_box(&response).encode(Form::Oip).unwrap() {
        Encoded::Json(json) => json.len(),
        Encoded::Binary { json, .. } => json.len(),
    });
}

#[divan::bench]
fn run_digits(bencher: Bencher<'_, '_>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/digits/model.onnx");
    let options = Options { max_batch_size: Some(16), max_tensor_bytes: 1 << 30, ..Options::default() };
    let (session, _) = Session::load(&Graph::read(&path).unwrap(), &options).unwrap();
    let family = 0;
    let inputs = session.sample(family, Fill::Zeros, 1).unwrap();
    let mut runner = session.runner();
    let budget = Budget::unbounded();
    bencher.bench_local(|| runner.run(family, divan::black_box(&inputs), &mut Share::none(&budget)).unwrap());
}
