//! Changes the sample rate of a stream. The stream may come in pieces of any length: what comes out does not depend on them.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

use crate::error::RequestError;

/// Input samples of one step: at 48 kHz, 5 ms.
const STEP: usize = 256;

/// Input samples that an output sample is made of. More of them make the filter sharper.
const LENGTH: usize = 128;

/// The number of points between two samples at which the filter is stored. The sound is shifted by the distance of two
/// such points, 1 µs at 8 kHz.
const POINTS: usize = 128;

/// Bytes that a resampler takes: the filter, and a step of samples that come in and go out.
pub const MEMORY: usize = (LENGTH * POINTS + 2 * STEP + 2 * LENGTH) * size_of::<f32>();

/// The largest ratio of two rates. Beyond it, the filter would be too short.
const LARGEST_RATIO: u32 = 16;

/// Resamples one stream of one channel.
pub struct Resampler {
    inner: Async<f32>,
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
    /// Errors: one rate is far larger than the other.
    pub fn new(from: u32, to: u32) -> Result<Resampler, RequestError> {
        if from.max(to) / from.min(to).max(1) > LARGEST_RATIO {
            return Err(RequestError::invalid(format!(
                "sound of {from} Hz cannot be resampled to the {to} Hz of the model: expected {} to {} Hz",
                to.div_ceil(LARGEST_RATIO),
                to.saturating_mul(LARGEST_RATIO)
            )));
        }
        let parameters = SincInterpolationParameters {
            oversampling_factor: POINTS,
            interpolation: SincInterpolationType::Cubic,
            ..SincInterpolationParameters::new(LENGTH, WindowFunction::BlackmanHarris2)
        };
        let ratio = f64::from(to) / f64::from(from);
        let inner = Async::new_sinc(ratio, 1.0, &parameters, STEP, 1, FixedAsync::Input);
        let inner = inner.map_err(|error| RequestError::invalid(format!("{from} Hz to {to} Hz: {error}")))?;
        let mut resampler =
            Resampler { inner, rates: [from, to], waiting: Vec::new(), skip: 0, taken: 0, given: 0 };
        resampler.begin();
        Ok(resampler)
    }

    /// Begins a stream. The filter delays by half its length. With some silence before the first sample, this becomes a whole
    /// number of output samples, which can be left out.
    fn begin(&mut self) {
        let [from, to] = self.rates;
        let ratio = (from / greatest_common_divisor(from, to)) as usize;
        let delay = LENGTH / 2;
        // Rates without a simple ratio keep a shift of less than a sample.
        let silence = if ratio <= STEP * 16 { delay.next_multiple_of(ratio) - delay } else { 0 };
        self.waiting.clear();
        self.waiting.resize(silence, 0.0);
        let delayed = (delay + silence) as u64 * u64::from(to) / u64::from(from);
        self.skip = (delayed as usize).saturating_sub(1);
        (self.taken, self.given) = (0, 0);
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
        self.begin();
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
                assert!(error < 2e-3, "{from} Hz, sample {at}: {} for {}", out[at], expected[at]);
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
    fn rates_without_a_simple_ratio_are_resampled_too_and_far_ones_are_refused_with_those_that_fit() {
        let out = resampled(44_101, 16_000, &sine(44_101, 440.0, 44_101), 1000);
        assert_eq!(out.len(), 16_000);
        let error = Resampler::new(384_000, 16_000).unwrap_err();
        assert!(error.message.contains("expected 1000 to 256000 Hz"), "{error}");
    }

    #[test]
    fn a_stream_after_the_end_of_another_is_as_the_first_one() {
        let samples = sine(48_000, 440.0, 3_000);
        let (mut resampler, mut first, mut second) =
            (Resampler::new(48_000, 16_000).unwrap(), vec![], vec![]);
        for out in [&mut first, &mut second] {
            resampler.push(&samples, out);
            resampler.finish(out);
        }
        assert_eq!(first, second);
    }
}
