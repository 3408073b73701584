//! Changes the sample rate of a stream. The stream may come in pieces of any length: what comes out does not depend on them.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use crate::error::RequestError;

/// Input samples of one step, about: at 48 kHz, 10 ms. A longer step has a sharper filter and a longer delay.
const STEP: usize = 512;

/// The largest number in the ratio of two rates. Rates without a simple ratio would need long steps, and much memory.
const LONGEST_RATIO: usize = 2048;

/// Resamples one stream of one channel.
pub struct Resampler {
    inner: Fft<f32>,
    rates: [u32; 2],
    /// Input samples that do not fill a step yet.
    waiting: Vec<f32>,
    /// Output samples at the start that belong to no input: the delay of the filter.
    skip: usize,
    /// Samples that came in, and that went out.
    taken: u64,
    given: u64,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler").field("rates", &self.rates).finish_non_exhaustive()
    }
}

impl Resampler {
    /// Begins a stream that comes at the rate `from` and leaves at the rate `to`, in Hz.
    ///
    /// Errors: the rates have no simple ratio.
    pub fn new(from: u32, to: u32) -> Result<Resampler, RequestError> {
        let divisor = greatest_common_divisor(from, to);
        let ratio = [from / divisor, to / divisor].map(|part| part as usize);
        if ratio[0].max(ratio[1]) > LONGEST_RATIO {
            return Err(RequestError::invalid(format!(
                "sound of {from} Hz cannot be resampled to the {to} Hz of the model: their ratio is {}:{}, and both may \
                 be at most {LONGEST_RATIO}; send a common rate such as {to}, 16000, 44100 or 48000 Hz",
                ratio[0], ratio[1]
            )));
        }
        // The delay of the filter is half a step. With an even number of ratios in a step it is a whole number of samples.
        let step = STEP.div_ceil(ratio[0]).next_multiple_of(2) * ratio[0];
        let inner = Fft::new_custom(
            from as usize,
            to as usize,
            step,
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        );
        let inner = inner.map_err(|error| RequestError::invalid(format!("{from} Hz to {to} Hz: {error}")))?;
        let skip = inner.output_delay();
        Ok(Resampler { inner, rates: [from, to], waiting: Vec::new(), skip, taken: 0, given: 0 })
    }

    /// The rates that come in and go out, in Hz.
    pub fn rates(&self) -> [u32; 2] {
        self.rates
    }

    /// Resamples `samples`, and appends what is ready.
    pub fn push(&mut self, samples: &[f32], into: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        self.step(samples, into);
    }

    fn step(&mut self, samples: &[f32], into: &mut Vec<f32>) {
        self.waiting.extend_from_slice(samples);
        let step = self.inner.input_frames_next();
        let mut at = 0;
        while let Some(input) = self.waiting.get(at..at + step) {
            let begin = into.len();
            let room = self.inner.output_frames_next();
            into.resize(begin + room, 0.0);
            let input = SequentialSlice::new(input, 1, step);
            let output = SequentialSlice::new_mut(&mut into[begin..], 1, room);
            let written = match (input, output) {
                (Ok(input), Ok(mut output)) => self.inner.process_into_buffer(&input, &mut output, None),
                // The lengths above are those that the resampler has asked for.
                _ => unreachable!("one channel of a known length"),
            };
            let written = written.map_or(0, |(_, written)| written);
            into.truncate(begin + written);
            let skipped = self.skip.min(written);
            into.drain(begin..begin + skipped);
            self.skip -= skipped;
            self.given += (written - skipped) as u64;
            at += step;
        }
        self.waiting.drain(..at);
    }

    /// Ends the stream: appends the rest, so that as much time has gone out as came in. The next sample begins a new stream.
    pub fn finish(&mut self, into: &mut Vec<f32>) {
        let [from, to] = self.rates.map(u64::from);
        let expected = (self.taken * to).div_ceil(from);
        let silence = vec![0.0; self.inner.input_frames_next()];
        while self.given < expected {
            self.step(&silence, into);
        }
        let surplus = (self.given - expected) as usize;
        into.truncate(into.len().saturating_sub(surplus));
        self.inner.reset();
        self.waiting.clear();
        (self.skip, self.taken, self.given) = (self.inner.output_delay(), 0, 0);
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, hertz: f64, count: usize) -> Vec<f32> {
        let step = hertz * std::f64::consts::TAU / f64::from(rate);
        (0..count).map(|at| (at as f64 * step).sin() as f32 * 0.5).collect()
    }

    fn resampled(from: u32, to: u32, samples: &[f32], piece: usize) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(from, to).unwrap(), Vec::new());
        samples.chunks(piece).for_each(|piece| resampler.push(piece, &mut out));
        resampler.finish(&mut out);
        out
    }

    #[test]
    fn a_tone_keeps_its_pitch_its_level_and_its_place_at_every_rate() {
        for from in [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            let seconds = sine(from, 440.0, from as usize);
            let out = resampled(from, 16_000, &seconds, 1000);
            let expected = sine(16_000, 440.0, 16_000);
            assert_eq!(out.len(), expected.len(), "{from}");
            // The filter rings where the tone begins and ends.
            for at in 400..15_600 {
                let error = (out[at] - expected[at]).abs();
                assert!(error < 1e-3, "{from} Hz, sample {at}: {} for {}", out[at], expected[at]);
            }
        }
    }

    #[test]
    fn what_comes_out_does_not_depend_on_the_pieces() {
        let samples = sine(44_100, 1000.0, 5_000);
        let whole = resampled(44_100, 16_000, &samples, 5_000);
        for piece in [1, 7, 512, 513] {
            assert_eq!(resampled(44_100, 16_000, &samples, piece), whole, "{piece}");
        }
    }

    #[test]
    fn tones_that_the_new_rate_cannot_have_are_removed() {
        let out = resampled(48_000, 16_000, &sine(48_000, 12_000.0, 48_000), 480);
        let loudest = out[400..15_600].iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
        assert!(loudest < 1e-3, "{loudest}");
    }

    #[test]
    fn rates_without_a_simple_ratio_are_refused_with_those_that_fit() {
        let error = Resampler::new(44_101, 16_000).unwrap_err();
        assert!(error.message.contains("44101:16000") && error.message.contains("48000"), "{error}");
    }
}
