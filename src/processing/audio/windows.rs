//! A stream of sound is cut into windows. One window has `context` earlier samples, then `window` new ones. The next
//! window starts `hop` samples later.

use super::AudioStream;
use super::source::{PIECE, Source};
use crate::error::RequestError;
use crate::model::Tensor;
use crate::model::sound::SoundParameters;

/// The windows of one stream. It keeps only what later windows need: the context, and what is not yet part of a whole
/// window.
#[derive(Debug)]
pub struct Windows {
    source: Source,
    /// The samples of the stream from sample `begin` on.
    samples: Vec<f32>,
    /// The number of the sample at the start of `samples`, counted from the start of the stream. It is negative at
    /// first, because the first context lies before the stream.
    begin: i64,
    /// The number of the first new sample of the next window.
    next: i64,
    /// The number of the sample behind the last window.
    covered: i64,
    /// Why the stream could not be read. It is told once.
    fault: Option<RequestError>,
}

/// The end of a stream, or of an utterance in it.
#[derive(Debug)]
pub struct Finished {
    /// Samples since the start of the stream.
    pub length: u64,
    /// The bytes at the end that were no whole sample.
    pub left_over: usize,
}

impl Windows {
    /// Begins a stream. The context of its first window is silence. `said` is what the client says about it.
    pub fn new(stream: &AudioStream, said: SoundParameters) -> Windows {
        let mut windows = Windows {
            source: Source::new(stream, said),
            samples: Vec::new(),
            begin: 0,
            next: 0,
            covered: 0,
            fault: None,
        };
        windows.restart(stream, 0);
        windows
    }

    /// Begins anew, with silence as context. The next sample has the number `at`.
    pub fn restart(&mut self, stream: &AudioStream, at: u64) {
        let at = i64::try_from(at).unwrap_or(i64::MAX / 2);
        self.samples.clear();
        self.samples.resize(stream.context, 0.0);
        (self.begin, self.next, self.covered) = (at - stream.context as i64, at, at);
    }

    /// Returns the number of bytes that are held.
    pub fn bytes(&self) -> usize {
        self.source.memory() + self.samples.len() * size_of::<f32>()
    }

    /// Appends bytes of the stream. A piece may have any length and may end inside a sample.
    pub fn push(&mut self, bytes: &[u8], stream: &AudioStream) {
        self.source.push(bytes);
        self.fill(stream);
    }

    /// Drops what was not heard yet, because there is no memory for it. The client is told `why`.
    pub fn overflow(&mut self, why: RequestError, stream: &AudioStream, said: SoundParameters) {
        let at = self.end();
        self.source = Source::new(stream, said);
        self.restart(stream, at);
        self.fault = Some(why);
    }

    /// Makes samples until the next window is whole.
    fn fill(&mut self, stream: &AudioStream) {
        while self.fault.is_none() && !self.is_whole(stream) {
            // If the hop is longer than the window, the samples between windows are dropped as they come.
            self.trim(stream);
            let had = self.samples.len();
            let missing = self.missing(stream).min(PIECE);
            self.fault = self.source.fill(&mut self.samples, had + missing).err();
            if self.samples.len() == had {
                break;
            }
        }
        self.trim(stream);
    }

    /// How many samples the next window lacks.
    fn missing(&self, stream: &AudioStream) -> usize {
        let wanted = self.next + stream.window as i64 - self.begin;
        usize::try_from(wanted).unwrap_or(0).saturating_sub(self.samples.len())
    }

    fn is_whole(&self, stream: &AudioStream) -> bool {
        self.missing(stream) == 0
    }

    /// The number of the sample that comes next.
    fn end(&self) -> u64 {
        u64::try_from(self.begin + self.samples.len() as i64).unwrap_or(0)
    }

    /// Returns the next whole window: the number of its first new sample, and its tensor. Returns `None` when the
    /// window is not complete yet.
    ///
    /// Errors: the stream cannot be understood.
    pub fn next(&mut self, stream: &AudioStream) -> Option<Result<(u64, Tensor), RequestError>> {
        if !self.is_whole(stream) {
            return self.fault.take().map(Err);
        }
        let from = usize::try_from(self.next - stream.context as i64 - self.begin).ok()?;
        let samples = self.samples.get(from..from + stream.context + stream.window)?;
        let tensor = stream.tensor(samples);
        let offset = u64::try_from(self.next).ok()?;
        self.covered = self.next + stream.window as i64;
        self.next += stream.hop as i64;
        self.fill(stream);
        Some(Ok((offset, tensor)))
    }

    /// Returns whether [`Windows::next`] would return anything.
    pub fn is_ready(&self, stream: &AudioStream) -> bool {
        self.is_whole(stream) || self.fault.is_some()
    }

    /// Ends the sound: a last, partial window is filled with silence, and [`Windows::next`] returns it. Call it when no
    /// window is ready. Then [`Windows::restart`] begins the next stream.
    pub fn finish(&mut self, stream: &AudioStream) -> Finished {
        let left_over = match self.source.finish(&mut self.samples) {
            Ok(left_over) => left_over,
            Err(fault) => {
                self.fault = Some(fault);
                0
            }
        };
        let length = self.end();
        // The resampler's last samples may complete windows; silence completes one more, if there is sound that no window
        // has had.
        let mut last = (self.next, self.covered);
        while last.0 + stream.window as i64 <= length as i64 {
            last = (last.0 + stream.hop as i64, last.0 + stream.window as i64);
        }
        if length as i64 > last.0.max(last.1) {
            let until = last.0 + stream.window as i64 - self.begin;
            self.samples.resize(usize::try_from(until).unwrap_or(0).max(self.samples.len()), 0.0);
        }
        Finished { length, left_over }
    }

    /// Drops the samples that no later window needs.
    fn trim(&mut self, stream: &AudioStream) {
        let behind = self.next - stream.context as i64 - self.begin;
        // If the hop is longer than the window, some samples that will be skipped have not arrived yet.
        let samples = usize::try_from(behind).unwrap_or(0).min(self.samples.len());
        self.samples.drain(..samples);
        self.samples.shrink_to(PIECE);
        self.begin += samples as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::stream;
    use super::*;
    use crate::model::Elements;

    fn taken(windows: &mut Windows, stream: &AudioStream) -> Vec<(u64, Vec<i16>)> {
        let mut cut = Vec::new();
        while windows.is_ready(stream) {
            let (offset, tensor) = windows.next(stream).unwrap().unwrap();
            let Elements::Int16(values) = tensor.into_elements() else { panic!() };
            cut.push((offset, values));
        }
        assert!(windows.next(stream).is_none());
        cut
    }

    fn bytes(samples: std::ops::RangeInclusive<i16>) -> Vec<u8> {
        samples.flat_map(i16::to_le_bytes).collect()
    }

    /// Returns the windows of the samples 1, 2, 3 …, which arrive in pieces of `piece` bytes.
    fn windows(stream: &AudioStream, samples: i16, piece: usize) -> Vec<(u64, Vec<i16>)> {
        let (mut windows, mut cut) = (Windows::new(stream, SoundParameters::default()), Vec::new());
        for piece in bytes(1..=samples).chunks(piece) {
            windows.push(piece, stream);
            cut.extend(taken(&mut windows, stream));
        }
        cut
    }

    #[test]
    fn windows_do_not_depend_on_the_pieces_of_the_stream() {
        for (window, hop, context) in [(4, 4, 0), (4, 2, 0), (4, 4, 2), (4, 7, 1), (3, 1, 5)] {
            let stream = stream(window, hop, context);
            let whole = windows(&stream, 40, 1000);
            assert!(whole.len() > 3);
            for piece in 1..9 {
                assert_eq!(windows(&stream, 40, piece), whole, "{window} {hop} {context}, pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_window_begins_with_its_context_and_the_first_context_is_silence() {
        let cut = windows(&stream(4, 4, 2), 10, 3);
        assert_eq!(cut, [(0, vec![0, 0, 1, 2, 3, 4]), (4, vec![3, 4, 5, 6, 7, 8])]);
        let cut = windows(&stream(2, 3, 1), 8, 3);
        assert_eq!(cut, [(0, vec![0, 1, 2]), (3, vec![3, 4, 5]), (6, vec![6, 7, 8])]);
    }

    #[test]
    fn a_hop_of_many_samples_does_not_keep_those_between() {
        let stream = stream(2, 1_000_000, 0);
        let mut windows = Windows::new(&stream, SoundParameters::default());
        windows.push(&bytes(1..=2), &stream);
        assert_eq!(taken(&mut windows, &stream).len(), 1);
        for _ in 0..100 {
            windows.push(&bytes(1..=10_000), &stream);
            assert!(windows.bytes() < 4 * PIECE, "{}", windows.bytes());
            taken(&mut windows, &stream);
        }
    }

    #[test]
    fn the_last_window_is_filled_with_silence_and_sound_that_was_heard_is_not_heard_again() {
        for (window, hop, context, samples, expected) in [
            (4, 4, 0, 6, Some((4, vec![5, 6, 0, 0]))),
            (4, 4, 0, 8, None),
            (4, 2, 0, 5, Some((2, vec![3, 4, 5, 0]))),
            (4, 2, 0, 6, None),
            (4, 7, 0, 6, None),
            (4, 7, 1, 8, Some((7, vec![7, 8, 0, 0, 0]))),
            (4, 4, 2, 1, Some((0, vec![0, 0, 1, 0, 0, 0]))),
            (4, 4, 0, 0, None),
        ] {
            let stream = stream(window, hop, context);
            let mut windows = Windows::new(&stream, SoundParameters::default());
            windows.push(&bytes(1..=samples), &stream);
            taken(&mut windows, &stream);
            let finished = windows.finish(&stream);
            assert_eq!((finished.length, finished.left_over), (samples as u64, 0));
            assert_eq!(taken(&mut windows, &stream).pop(), expected, "{window} {hop} {context} {samples}");
        }
    }

    #[test]
    fn after_a_restart_the_windows_are_those_of_a_new_stream_with_later_numbers() {
        let stream = stream(4, 2, 3);
        let mut windows = Windows::new(&stream, SoundParameters::default());
        windows.push(&bytes(1..=11), &stream);
        let first = taken(&mut windows, &stream);
        windows.push(&[1], &stream);
        assert_eq!(windows.finish(&stream).left_over, 1, "half a sample");
        taken(&mut windows, &stream);
        windows.restart(&stream, 11);
        windows.push(&bytes(1..=11), &stream);
        let later: Vec<(u64, Vec<i16>)> =
            taken(&mut windows, &stream).into_iter().map(|(offset, values)| (offset - 11, values)).collect();
        assert_eq!(later, first);
    }
}
