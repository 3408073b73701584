//! `MelWeightMatrix`: triangular filters from the bins of a spectrum to the mel scale. All inputs may be known only during a
//! run.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::rounded;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built, datatype, known, number, single};

/// The operator.
#[derive(Debug)]
struct Mel {
    datum_type: DatumType,
}

/// Builds a `MelWeightMatrix` from its node.
pub fn mel(attributes: &Attributes) -> Built {
    built(Mel { datum_type: datatype(attributes)? })
}

impl Operator for Mel {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let filters = known(Some(inputs.required(0, "num_mel_bins")?), "num_mel_bins")?;
        let count = known(Some(inputs.required(1, "dft_length")?), "dft_length")?;
        let bins = match count {
            Some(count) => (number(count, "dft_length")? / 2 + 1).to_dim(),
            None => late.length(0),
        };
        let filters = match filters {
            Some(filters) => number(filters, "num_mel_bins")?.to_dim(),
            None => late.length(1),
        };
        Ok(tvec![Kind::new(self.datum_type, [bins, filters])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let whole = |at: usize, name: &str| -> TractResult<usize> {
            number(single(Some(inputs.required(at, name)?), name)?.unwrap_or(0), name)
        };
        let (filters, count) = (whole(0, "num_mel_bins")?, whole(1, "dft_length")?);
        let rate = whole(2, "sample_rate")?;
        let edge = |at: usize, name: &str| -> TractResult<f64> {
            let tensor = inputs.required(at, name)?;
            match tensor.len() {
                1 => tensor.cast_to_scalar::<f64>(),
                other => Err(TractError::msg(format!("its input `{name}` has {other} elements: expected 1"))),
            }
        };
        let (lower, upper) = (edge(3, "lower_edge_hertz")?, edge(4, "upper_edge_hertz")?);
        let bins = count / 2 + 1;
        let corners = corners(filters, count, rate as f64, lower, upper)?;
        let mut weights = vec![0_f64; bins * filters];
        for (filter, corner) in corners.windows(3).enumerate() {
            let [first, middle, last] = [corner[0], corner[1], corner[2]];
            if first > middle || middle > last || last > bins || middle >= bins {
                return Err(TractError::msg(format!(
                    "its `upper_edge_hertz` is {upper} and its `sample_rate` {rate}: expected an edge up to half of the rate"
                )));
            }
            for bin in first..middle {
                weights[bin * filters + filter] = (bin - first) as f64 / (middle - first) as f64;
            }
            weights[middle * filters + filter] = 1.0;
            for bin in middle..last {
                weights[bin * filters + filter] = (last - bin) as f64 / (last - middle) as f64;
            }
        }
        Ok(tvec![rounded(Tensor::from_shape(&[bins, filters], &weights)?, self.datum_type)?])
    }
}

/// The bins where the filters begin, have their tops and end.
fn corners(filters: usize, count: usize, rate: f64, lower: f64, upper: f64) -> TractResult<Vec<usize>> {
    if !(lower >= 0.0 && upper >= lower && upper <= rate) {
        return Err(TractError::msg(format!(
            "its edges are {lower} and {upper} Hz: expected 0 or more, in this order, up to half of `sample_rate`, {rate}"
        )));
    }
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
    let hertz = |mel: f64| 700.0 * (mel / 2595.0 * std::f64::consts::LN_10).exp_m1();
    let step = (mel(upper) - mel(lower)) / (filters + 2) as f64;
    let bin = |at: usize| ((count + 1) as f64 * hertz(mel(lower) + at as f64 * step) / rate).floor();
    Ok((0..filters + 2).map(|at| bin(at).max(0.0) as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::Trial;
    use super::*;

    fn run(upper: f32) -> TractResult<Vec<Tensor>> {
        let whole = |value: i64| Some(tensor0(value));
        let edges = [Some(tensor0(0_f32)), Some(tensor0(upper))];
        let [low, high] = edges;
        Trial::new(Domain::Onnx, "MelWeightMatrix", &[]).run(&[whole(2), whole(8), whole(8000), low, high])
    }

    #[test]
    fn filters_are_triangles() {
        let output = run(4000.0).unwrap();
        assert_eq!(output[0].shape(), [5, 2]);
        // By the reference evaluator of ONNX.
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_edge_above_half_of_the_rate_is_an_error() {
        assert!(run(9000.0).unwrap_err().to_string().contains("half"));
    }
}
