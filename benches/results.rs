//! The time to make detections of an output `[1, 84, 8400]`, as of YOLOv8 with 80 classes: `cargo bench --bench results`.
//!
//! `benches/results.py` runs this, and measures OpenCV's suppression on the same arrays, which this writes to the file that
//! `ONNXD_BENCH_ARRAYS` names.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use onnxd::model::choices::Choices;
use onnxd::model::manifest::ResultManifest;
use onnxd::processing::results::{Canvas, Declared, ResultMaker, View};

const ANCHORS: usize = 8400;
const CLASSES: usize = 80;
const RUNS: usize = 300;

/// Numbers from 0 to 1 without regularity.
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1 << 24) as f32
}

/// Boxes in an image of 640 × 640. `busy` anchors have one class with a score above the threshold.
fn output(busy: usize) -> Vec<f32> {
    let mut state = 7;
    let mut values = vec![0.0; (4 + CLASSES) * ANCHORS];
    for anchor in 0..ANCHORS {
        let center = [random(&mut state) * 640.0, random(&mut state) * 640.0];
        let size = [20.0 + random(&mut state) * 100.0, 20.0 + random(&mut state) * 100.0];
        for (channel, number) in center.into_iter().chain(size).enumerate() {
            values[channel * ANCHORS + anchor] = number;
        }
        for class in 0..CLASSES {
            values[(4 + class) * ANCHORS + anchor] = random(&mut state) * 0.2;
        }
        if anchor < busy {
            let class = (random(&mut state) * CLASSES as f32) as usize % CLASSES;
            values[(4 + class) * ANCHORS + anchor] = 0.3 + random(&mut state) * 0.6;
        }
    }
    values
}

fn main() {
    let spec: ResultManifest =
        serde_json::from_str(r#"{"kind": "detections", "decoder": "yolo", "nms": "all"}"#).unwrap();
    let shape = [1, 4 + CLASSES, ANCHORS];
    let declared = Declared { name: "output0".into(), shape: shape.map(Some).to_vec() };
    let maker = ResultMaker::new(&spec, &[declared], Vec::new(), Canvas::Unknown, None).unwrap();
    let settled = maker.settle(&Choices::default()).unwrap();
    let mut written = Vec::new();
    for busy in [20, 200, ANCHORS] {
        let values = output(busy);
        let view = View::new(&shape, &values).unwrap();
        let mut times = Vec::with_capacity(RUNS);
        let mut found = 0;
        for _ in 0..RUNS {
            let begun = Instant::now();
            let made = maker.make(&[view], &[], 1, None, &settled).unwrap();
            times.push(begun.elapsed());
            found = serde_json::to_value(&made.answer.rows[0]).unwrap().as_array().unwrap().len();
        }
        times.sort_unstable();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, least) = (milliseconds(times[RUNS / 2]), milliseconds(times[0]));
        println!(
            "{busy} candidates: {median:.3} ms (least {least:.3}) to decode and suppress, {found} detections"
        );
        written.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    if let Some(path) = std::env::var_os("ONNXD_BENCH_ARRAYS") {
        std::fs::write(path, written).unwrap();
    }
}
