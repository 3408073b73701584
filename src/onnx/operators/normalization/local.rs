//! `LRN`: local response normalization. Each element is divided by a power of the sum of squares of its neighbours in the
//! channels near it.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Lrn {
    alpha: f64,
    beta: f64,
    bias: f64,
    size: usize,
}

/// Builds an `LRN` from its node.
pub fn lrn(attributes: &Attributes) -> Built {
    let size = attributes.int("size", 0)?;
    let size = usize::try_from(size).ok().filter(|size| *size > 0);
    built(Lrn {
        alpha: f64::from(attributes.float("alpha", 1e-4)?),
        beta: f64::from(attributes.float("beta", 0.75)?),
        bias: f64::from(attributes.float("bias", 1.0)?),
        size: size.ok_or_else(|| attributes.wrong("`size` must be there and be 1 or more"))?,
    })
}

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "X")?;
        if input.rank() < 2 {
            return Err(TractError::msg(format!(
                "its input has {} axes: expected 2 or more, [batch, channels, …]",
                input.rank()
            )));
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl Lrn {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let (channels, plane) = (input.shape()[1], input.shape()[2..].iter().product::<usize>());
        let mut output = Tensor::zero::<T>(input.shape())?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let image = (channels * plane).max(1);
        let images = elements::<T>(input)?.chunks_exact(image);
        let (before, after) = ((self.size - 1) / 2, self.size / 2);
        let (bias, factor) = (T::of(self.bias), T::of(self.alpha / self.size as f64));
        for (image, results) in images.zip(plain.as_slice_mut::<T>()?.chunks_exact_mut(image)) {
            for (channel, results) in results.chunks_exact_mut(plane.max(1)).enumerate() {
                let near = channel.saturating_sub(before)..(channel.saturating_add(after) + 1).min(channels);
                for other in image[near.start * plane..near.end * plane].chunks_exact(plane) {
                    results.iter_mut().zip(other).for_each(|(sum, value)| *sum += *value * *value);
                }
                let own = &image[channel * plane..][..plane];
                let power = T::of(self.beta);
                let norm = |sum: T| (bias + factor * sum).powf(power);
                results.iter_mut().zip(own).for_each(|(sum, value)| *sum = *value / norm(*sum));
            }
        }
        Ok(tvec![output])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int};
    use super::*;

    #[test]
    fn an_even_size_takes_one_more_channel_after_than_before() {
        let input = Tensor::from_shape(&[1, 3, 1], &[1_f32, 2.0, 3.0]).unwrap();
        let attributes = [int("size", 2), float("alpha", 2.0), float("beta", 1.0), float("bias", 1.0)];
        let output = Trial::new(Domain::Onnx, "LRN", &attributes).run(&[Some(input)]).unwrap();
        let found = elements::<f32>(&output[0]).unwrap();
        for (found, expected) in found.iter().zip([1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
    }
}
