//! `HannWindow`, `HammingWindow` and `BlackmanWindow`: sums of cosines. The size may be known only during a run.

use std::f64::consts::PI;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::rounded;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built, datatype, known, number, single};

/// The operator.
#[derive(Debug)]
struct Window {
    name: &'static str,
    /// The factors of 1, of the cosine of one period and of the cosine of two periods.
    factors: [f64; 3],
    ends: Ends,
    datum_type: DatumType,
}

/// Where a period ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// One element after the last (`periodic`).
    After,
    /// At the last element: the window is symmetric.
    AtLast,
}

fn build(attributes: &Attributes, name: &'static str, factors: [f64; 3]) -> Built {
    let ends = if attributes.flag("periodic", true)? { Ends::After } else { Ends::AtLast };
    built(Window { name, factors, ends, datum_type: datatype(attributes)? })
}

/// Builds a `HannWindow` from its node.
pub fn hann(attributes: &Attributes) -> Built {
    build(attributes, "HannWindow", [0.5, -0.5, 0.0])
}

/// Builds a `HammingWindow` from its node.
pub fn hamming(attributes: &Attributes) -> Built {
    let alpha = 25.0 / 46.0;
    build(attributes, "HammingWindow", [alpha, alpha - 1.0, 0.0])
}

/// Builds a `BlackmanWindow` from its node.
pub fn blackman(attributes: &Attributes) -> Built {
    build(attributes, "BlackmanWindow", [0.42, -0.5, 0.08])
}

impl Operator for Window {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let size = inputs.required(0, "size")?;
        let length = match known(Some(size), "size")? {
            Some(size) => number(size, "size")?.to_dim(),
            None => late.length(0),
        };
        Ok(tvec![Kind::new(self.datum_type, [length])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let size = single(Some(inputs.required(0, "size")?), "size")?.unwrap_or(0);
        let size = number(size, "size")?;
        let period = if self.ends == Ends::After { size as f64 } else { size as f64 - 1.0 };
        let [constant, once, twice] = self.factors;
        let value = |at: usize| {
            let angle = 2.0 * PI * at as f64 / period;
            constant + once * angle.cos() + twice * (2.0 * angle).cos()
        };
        let values: Vec<f64> = (0..size).map(value).collect();
        if self.datum_type.is_float() {
            return Ok(tvec![rounded(tensor1(&values), self.datum_type)?]);
        }
        // An integer loses the fraction: a 1 that is 0.9999999999999999 in FP64 must not become 0.
        let single: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        Ok(tvec![rounded(tensor1(&single), self.datum_type)?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, int};
    use super::*;

    fn run(name: &str, attributes: &[tract_onnx::pb::AttributeProto], size: i32) -> Tensor {
        Trial::new(Domain::Onnx, name, attributes).run(&[Some(tensor0(size))]).unwrap().remove(0)
    }

    fn near(name: &str, attributes: &[tract_onnx::pb::AttributeProto], expected: &[f32]) {
        let found = run(name, attributes, expected.len() as i32);
        for (found, expected) in elements::<f32>(&found).unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} instead of {expected}");
        }
    }

    #[test]
    fn windows_with_and_without_the_end_of_the_period() {
        near("HannWindow", &[], &[0.0, 0.5, 1.0, 0.5]);
        near("HannWindow", &[int("periodic", 0)], &[0.0, 0.5, 1.0, 0.5, 0.0]);
        near("HammingWindow", &[], &[0.086_956_52, 0.543_478_3, 1.0, 0.543_478_3]);
        near("BlackmanWindow", &[], &[0.0, 0.34, 1.0, 0.34]);
    }

    #[test]
    fn the_datatype_is_that_of_the_attribute() {
        assert_eq!(run("HannWindow", &[int("output_datatype", 11)], 3).datum_type(), DatumType::F64);
        let integers = run("HannWindow", &[int("output_datatype", 7)], 4);
        assert_eq!(elements::<i64>(&integers).unwrap(), [0, 0, 1, 0]);
        assert_eq!(run("HannWindow", &[], 0).len(), 0);
        // 0.42 + 0.5 + 0.08 is less than 1 in FP64.
        let blackman = run("BlackmanWindow", &[int("output_datatype", 3)], 4);
        assert_eq!(elements::<i8>(&blackman).unwrap(), [0, 0, 1, 0]);
    }

    #[test]
    fn a_negative_size_is_an_error() {
        let error = Trial::new(Domain::Onnx, "HannWindow", &[]).run(&[Some(tensor0(-1_i64))]).unwrap_err();
        assert!(error.to_string().contains("`size` is -1"));
    }
}
