//! `STFT`: the spectrum of each frame of a signal. The step and the length of frames may be known only during a run.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::dft::{Spectrum, read_line};
use super::fourier::Fourier;
use super::{Built, built, known, length, single};

/// The operator.
#[derive(Debug)]
struct Stft {
    spectrum: Spectrum,
}

/// Builds an `STFT` from its node.
pub fn stft(attributes: &Attributes) -> Built {
    built(Stft { spectrum: Spectrum::read(attributes, true)? })
}

impl Stft {
    fn bins(&self, length: TDim) -> TDim {
        if self.spectrum == Spectrum::Half { length / 2 + 1 } else { length }
    }

    fn compute(&self, inputs: &Inputs<Tensor>) -> TractResult<Tensor> {
        let signal = inputs.required(0, "signal")?;
        let step = inputs.required(1, "frame_step")?;
        let step = length(single(Some(step), "frame_step")?.unwrap_or(0), "frame_step")?;
        let window = inputs.optional(2);
        let (batch, own) = (signal.shape()[0], signal.shape()[1]);
        let parts = signal.shape().get(2).copied().unwrap_or(1);
        let count = match (single(inputs.optional(3), "frame_length")?, window) {
            (Some(count), _) => length(count, "frame_length")?,
            (None, Some(window)) => window.len(),
            (None, None) => own,
        };
        check(own, parts, count, window)?;
        let window = window.map(wide::<f64>).transpose()?;
        let window = window.as_ref().map(|window| elements::<f64>(window)).transpose()?;
        let frames = (own - count) / step + 1;
        let bins = self.bins(count.to_dim()).to_usize()?;
        let mut output = Tensor::zero::<f64>(&[batch, frames, bins, 2])?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = wide::<f64>(signal)?;
        let values = elements::<f64>(&values)?;
        let fourier = Fourier::new(count);
        let mut line = vec![[0.0; 2]; count];
        for (number, result) in plain.as_slice_mut::<f64>()?.chunks_exact_mut((bins * 2).max(1)).enumerate() {
            let begin = number / frames * own + number % frames * step;
            read_line(&mut line, count, parts, values, |at| begin + at);
            if let Some(window) = window {
                line.iter_mut()
                    .zip(window)
                    .for_each(|(value, factor)| *value = value.map(|part| part * factor));
            }
            fourier.transform(&mut line);
            result.copy_from_slice(&line.as_flattened()[..bins * 2]);
        }
        rounded(output, signal.datum_type())
    }
}

fn check(own: usize, parts: usize, count: usize, window: Option<&Tensor>) -> TractResult<()> {
    if !(1..=2).contains(&parts) {
        return Err(TractError::msg(format!(
            "its input `signal` has {parts} elements along its last axis: expected 1 (real) or 2 (complex)"
        )));
    }
    if count == 0 || count > own {
        return Err(TractError::msg(format!(
            "its frames have {count} elements and its signal {own}: expected frames of 1 to {own}"
        )));
    }
    match window {
        Some(window) if window.len() != count => Err(TractError::msg(format!(
            "its window has {} elements and its frames {count}: expected equal numbers",
            window.len()
        ))),
        _ => Ok(()),
    }
}

impl Operator for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (signal, step) = (inputs.required(0, "signal")?, inputs.required(1, "frame_step")?);
        expect_float(signal, "signal")?;
        if !(2..=3).contains(&signal.rank()) || inputs.optional(2).is_some_and(|window| window.rank() != 1) {
            return Err(TractError::msg(format!(
                "its signal has the shape {:?}: expected [batch, length], [batch, length, 1] or [batch, length, 2], and a \
                 window with one axis",
                signal.shape
            )));
        }
        let step = known(Some(step), "frame_step")?.map(|step| length(step, "frame_step")).transpose()?;
        let given = known(inputs.optional(3), "frame_length")?;
        let given = given.map(|count| length(count, "frame_length")).transpose()?;
        let count = match (inputs.optional(3), inputs.optional(2)) {
            (Some(_), None) => given.map(|count| count.to_dim()),
            (None, None) => Some(signal.shape[1].clone()),
            // The window has the length of a frame.
            (_, Some(window)) => given.map(|count| count.to_dim()).or_else(|| Some(window.shape[0].clone())),
        };
        let own = &signal.shape[1];
        if let (Ok(own), Some(Ok(count))) = (own.to_usize(), count.as_ref().map(|count| count.to_usize())) {
            check(own, 1, count, None)?;
        }
        let frames = match (&count, step) {
            (Some(count), Some(step)) => (own.clone() - count) / step + 1,
            _ => late.length(0),
        };
        let bins = count.map_or_else(|| late.length(1), |count| self.bins(count));
        Ok(tvec![Kind::new(signal.datum_type, [signal.shape[0].clone(), frames, bins, 2.to_dim()])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        Ok(tvec![self.compute(inputs)?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    #[test]
    fn frames_are_windowed_and_transformed() {
        let signal = || Some(Tensor::from_shape(&[1, 5, 1], &[1_f32, 2.0, 3.0, 4.0, 5.0]).unwrap());
        let step = || Some(tensor0(2_i64));
        let run = |attributes: &[_], window: Option<Tensor>, length: Option<Tensor>| {
            let output =
                Trial::new(Domain::Onnx, "STFT", attributes).run(&[signal(), step(), window, length]);
            elements::<f32>(&output.unwrap()[0]).unwrap().to_vec()
        };
        let two = || Some(tensor0(2_i64));
        assert_eq!(run(&[], None, two()), [3.0, 0.0, -1.0, 0.0, 7.0, 0.0, -1.0, 0.0]);
        let window = Some(tensor1(&[1_f32, 2.0]));
        assert_eq!(run(&[int("onesided", 0)], window, None), [5.0, 0.0, -3.0, 0.0, 11.0, 0.0, -5.0, 0.0]);
    }

    #[test]
    fn a_frame_that_is_longer_than_the_signal_is_an_error() {
        let signal = Some(tensor2(&[[1_f32, 2.0]]));
        let inputs = [signal, Some(tensor0(1_i64)), None, Some(tensor0(3_i64))];
        let error = Trial::new(Domain::Onnx, "STFT", &[]).run(&inputs).unwrap_err();
        assert!(error.to_string().contains("frames of 1 to 2"));
    }
}
