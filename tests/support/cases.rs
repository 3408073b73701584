//! Cases: requests, and what onnxruntime answers to them (`tests/models/oracle.py` describes the files).

use std::path::Path;

use serde_json::Value;
use tungstenite::Message;

use super::{Client, ask, split_v2};

/// Reads the bytes of a tensor as numbers.
type Floats = fn(&[u8]) -> Vec<f64>;

/// How far an output of floating-point numbers may be from onnxruntime's. Other outputs must be equal.
#[derive(Debug, Clone, Copy)]
pub enum Tolerance {
    /// The largest difference of a number.
    Each(f64),
    /// The largest sum of all differences, as a share of the sum of all numbers. A millionth more is allowed for each number,
    /// for an output of which all numbers are nearly 0.
    Share(f64),
}

impl Tolerance {
    fn check(self, what: &str, expected: &[f64], ours: &[f64]) {
        assert_eq!(expected.len(), ours.len(), "{what}");
        let pairs = expected.iter().zip(ours);
        match self {
            Tolerance::Each(largest) => {
                for (at, (expected, ours)) in pairs.enumerate() {
                    let difference = (expected - ours).abs();
                    assert!(difference <= largest, "{what}[{at}] is {ours}: expected {expected}");
                }
            }
            Tolerance::Share(share) => {
                let sum: f64 = expected.iter().map(|expected| expected.abs()).sum();
                let difference: f64 = pairs.map(|(expected, ours)| (expected - ours).abs()).sum();
                let allowed = share * sum + 1e-6 * expected.len() as f64;
                assert!(
                    difference <= allowed,
                    "{what}: the differences are {difference}: expected {allowed}"
                );
            }
        }
    }
}

/// Asks every case of a folder and holds the answers against onnxruntime's.
///
/// # Panics
/// When a tensor differs in name, datatype or shape, or by more than `tolerance` (absolute).
pub fn check_cases(client: &mut Client, cases: &Path, tolerance: f64) -> usize {
    check_cases_within(client, cases, Tolerance::Each(tolerance))
}

/// Asks every case of a folder and holds the answers against onnxruntime's.
///
/// # Panics
/// When a tensor differs in name, datatype or shape, or by more than `tolerance`.
pub fn check_cases_within(client: &mut Client, cases: &Path, tolerance: Tolerance) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let Some(case) = path.to_str().unwrap().strip_suffix(".request.bin") else { continue };
        let expected = std::fs::read(format!("{case}.expected.bin")).unwrap();
        let reply = ask(client, Message::binary(std::fs::read(&path).unwrap()));
        assert!(reply.is_binary(), "{case}: {}", reply.to_text().unwrap_or_default());
        let reply = reply.into_data();
        compare(case, split_v2(&expected), split_v2(&reply), tolerance);
        count += 1;
    }
    count
}

/// The number with these bits in half precision.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2.0_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn compare(case: &str, expected: (Value, &[u8]), reply: (Value, &[u8]), tolerance: Tolerance) {
    let ((expected, mut expected_bytes), (reply, mut reply_bytes)) = (expected, reply);
    let outputs = expected["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), reply["outputs"].as_array().unwrap().len(), "{case}: {reply}");
    for output in outputs {
        let name = output["name"].as_str().unwrap();
        let ours = reply["outputs"].as_array().unwrap().iter().find(|ours| ours["name"] == *name);
        let ours = ours.unwrap_or_else(|| panic!("{case}: no output {name} in {reply}"));
        assert_eq!(
            (&output["datatype"], &output["shape"]),
            (&ours["datatype"], &ours["shape"]),
            "{case}: {name}"
        );
        let size = output["parameters"]["binary_data_size"].as_u64().unwrap() as usize;
        let (expected, rest) = expected_bytes.split_at(size);
        expected_bytes = rest;
        let (ours, rest) = reply_bytes.split_at(size);
        reply_bytes = rest;
        let floats: Option<Floats> = match output["datatype"].as_str() {
            Some("FP16") => Some(|bytes| {
                bytes.as_chunks::<2>().0.iter().map(|chunk| half(u16::from_le_bytes(*chunk))).collect()
            }),
            Some("FP32") => Some(|bytes| {
                bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk).into()).collect()
            }),
            Some("FP64") => Some(|bytes| {
                bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect()
            }),
            _ => None,
        };
        if let Some(floats) = floats {
            tolerance.check(&format!("{case}: {name}"), &floats(expected), &floats(ours));
        } else {
            assert_eq!(expected, ours, "{case}: {name}");
        }
    }
}
