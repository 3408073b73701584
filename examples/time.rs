//! Times models in the engine alone, without the server:
//! `cargo run --release --example time -- SECONDS BATCH MODEL...`
//!
//! One line a model: the minimum and the median of a run in microseconds, on one thread, on rows of
//! pseudo-random numbers from -2 to 2, the same that `tests/zoo/time.py` gives to onnxruntime. A run is
//! what a worker does: the tensor in, the plan, the tensors out.
#![allow(clippy::unwrap_used)] // An example: a panic says what is wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use onnxd::memory::{Budget, Share};
use onnxd::model::{Elements, Tensor};
use onnxd::onnx::{Graph, Item, Options, Session};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().expect("SECONDS").parse().unwrap();
    let batch: usize = arguments.next().expect("BATCH").parse().unwrap();
    for model in arguments {
        let graph = Graph::read(Path::new(&model)).unwrap();
        let options = Options { max_tensor_bytes: 1 << 30, ..Options::default() };
        let (session, _) = Session::load(&graph, &options).unwrap();
        let mut shape = session.signature().inputs[0].shape_with_open(1);
        shape[0] = batch;
        let values = numbers(shape.iter().product());
        let tensors = vec![Tensor::new(shape, Elements::Fp32(values)).unwrap()];
        let item = Item { tensors, states: Vec::new() };
        let family = session.family_of(&item.tensors).unwrap();
        let mut runner = session.runner();
        let mut memory = Share::none(&Budget::unbounded());
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs_f64(seconds) {
            let run = Instant::now();
            std::hint::black_box(runner.run(family, &item, &mut memory).unwrap());
            times.push(run.elapsed());
        }
        times.sort_unstable();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!("{:.2} {:.2}", micros(times[0]), micros(times[times.len() / 2]));
    }
}

/// A linear congruential generator's numbers: the same in any language.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (state as f64 / f64::from(1_u32 << 31) * 4.0 - 2.0) as f32
    };
    (0..count).map(|_| next()).collect()
}
