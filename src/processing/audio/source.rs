//! The bytes of a client's stream become samples of the model's rate: headers are read, channels mixed, rates changed.
//!
//! Bytes are turned into samples only when samples are wanted, so a stream takes little more memory than its bytes.

use super::format::Format;
use super::resample::{self, Resampler};
use super::wav::{self, Beginning, Chunk};
use super::{AudioStream, Sample};
use crate::error::RequestError;
use crate::model::sound::SoundParameters;

/// Bytes that are turned into samples at once.
pub const PIECE: usize = 4096;

/// The sound of one stream.
#[derive(Debug)]
pub struct Source {
    /// Bytes that are no samples yet.
    bytes: Vec<u8>,
    /// How many of `bytes` are done with.
    done: usize,
    /// What bytes without a header are.
    bare: Format,
    /// Whether the client says how many channels there are, so that they are mixed.
    mixes: bool,
    /// The rate of the model.
    rate: Option<u32>,
    state: State,
    /// Bytes that fill up the chunk of samples to an even length: 0 or 1.
    padding: u64,
    resampler: Option<Resampler>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The stream begins here: with a WAV header, or with samples.
    Begin,
    /// Samples follow, and this is the number of their bytes. `None`: until the end.
    Samples(Format, Option<u64>),
    /// A chunk of a WAV file follows its samples, or another WAV file.
    Between,
    /// This many bytes are not sound.
    Skip(u64),
    /// The stream could not be understood. What follows is passed over until a WAV header comes, or the end.
    Refused,
}

impl Source {
    /// Begins a stream for `stream`. `said` is what the client says about it.
    pub fn new(stream: &AudioStream, said: SoundParameters) -> Source {
        let bare = Format {
            sample: said.encoding.map_or(Sample::from(stream.encoding), Sample::from),
            channels: said.channels.unwrap_or(1),
            rate: said.sample_rate,
        };
        let (rate, mixes) = (stream.sample_rate, said.channels.is_some());
        Source {
            bytes: Vec::new(),
            done: 0,
            bare,
            mixes,
            rate,
            state: State::Begin,
            padding: 0,
            resampler: None,
        }
    }

    /// Bytes of sound that are held.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.len() + if self.resampler.is_some() { resample::MEMORY } else { 0 }
    }

    /// Appends bytes of the stream. A piece may have any length and may end inside a sample.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state == State::Refused {
            if wav::beginning(bytes) != Beginning::Wav {
                return;
            }
            self.state = State::Begin;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Turns bytes into samples until there are `wanted`, or no more can be made.
    ///
    /// Errors: a header cannot be obeyed. The rest of that stream is passed over.
    pub fn fill(&mut self, into: &mut Vec<f32>, wanted: usize) -> Result<(), RequestError> {
        let filled = self.fill_from(into, wanted);
        if filled.is_err() {
            (self.state, self.done) = (State::Refused, self.bytes.len());
        }
        self.forget();
        filled
    }

    /// Drops the bytes that are done with.
    fn forget(&mut self) {
        // Moving the rest costs time, so it happens when most bytes are done with.
        if self.done * 2 >= self.bytes.len() {
            self.bytes.drain(..self.done);
            self.bytes.shrink_to(PIECE);
            self.done = 0;
        }
    }

    fn fill_from(&mut self, into: &mut Vec<f32>, wanted: usize) -> Result<(), RequestError> {
        while into.len() < wanted {
            let bytes = &self.bytes[self.done..];
            match self.state {
                State::Refused => return Ok(()),
                State::Begin => match wav::beginning(bytes) {
                    Beginning::Open => return Ok(()),
                    Beginning::Bare => self.begin(self.bare, None, into)?,
                    Beginning::Wav => {
                        let Some(header) = wav::read(bytes)? else { return Ok(()) };
                        self.check_channels(header.format)?;
                        self.done += header.length;
                        self.begin(header.format, header.data, into)?;
                    }
                },
                State::Between => match wav::chunk(bytes)? {
                    None => return Ok(()),
                    Some(Chunk::File) => self.state = State::Begin,
                    Some(Chunk::Other(length)) => self.state = State::Skip(length),
                },
                State::Skip(left) => {
                    let skipped = (bytes.len() as u64).min(left);
                    self.done += skipped as usize;
                    self.state = if skipped == left { State::Between } else { State::Skip(left - skipped) };
                    if skipped < left {
                        return Ok(());
                    }
                }
                State::Samples(format, left) => {
                    let most = left.map_or(PIECE, |left| PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
                    let whole = bytes.len().min(most) / format.frame() * format.frame();
                    match (whole, left) {
                        // A file may end inside a frame; and a chunk of an odd length has a byte of padding.
                        (0, Some(left)) if left < format.frame() as u64 => {
                            self.state = State::Skip(left + self.padding);
                        }
                        (0, _) => return Ok(()),
                        _ => self.read(format, whole, left, into),
                    }
                }
            }
        }
        Ok(())
    }

    /// Turns `length` bytes into samples. `left` is the number of bytes up to the end of the file.
    fn read(&mut self, format: Format, length: usize, left: Option<u64>, into: &mut Vec<f32>) {
        let bytes = &self.bytes[self.done..self.done + length];
        match &mut self.resampler {
            None => format.read(bytes, into),
            Some(resampler) => {
                let mut samples = Vec::new();
                format.read(bytes, &mut samples);
                resampler.push(&samples, into);
            }
        }
        self.done += length;
        self.state = State::Samples(format, left.map(|left| left - length as u64));
    }

    fn check_channels(&self, format: Format) -> Result<(), RequestError> {
        if format.channels == 1 || self.mixes && format.channels == self.bare.channels {
            return Ok(());
        }
        Err(RequestError::invalid(format!(
            "the WAV header says {0} channels, but the model takes one: send one channel, or mix them with \
             ?channels={0}",
            format.channels
        )))
    }

    /// Samples of `format` follow, `bytes` bytes of them.
    fn begin(&mut self, format: Format, bytes: Option<u64>, into: &mut Vec<f32>) -> Result<(), RequestError> {
        let resampler = match (format.rate, self.rate) {
            (Some(rate), Some(own)) if rate != own => Some(Resampler::new(rate, own)?),
            (Some(rate), None) => {
                return Err(RequestError::invalid(format!(
                    "the sound has {rate} Hz, but nothing says the model's rate: add `sample_rate` to `audio` in model.json"
                )));
            }
            _ => None,
        };
        // Files that follow each other are one stream, so a resampler of the same rates goes on.
        if self.resampler.as_ref().map(Resampler::rates) != resampler.as_ref().map(Resampler::rates) {
            if let Some(before) = &mut self.resampler {
                before.finish(into);
            }
            self.resampler = resampler;
        }
        self.padding = bytes.map_or(0, |bytes| bytes % 2);
        self.state = State::Samples(format, bytes);
        Ok(())
    }

    /// Ends the stream: appends the samples that were held back. Returns the number of bytes that were no whole frame. The
    /// next byte begins a new stream. Call it when [`Source::fill`] could not make more samples.
    pub fn finish(&mut self, into: &mut Vec<f32>) -> Result<usize, RequestError> {
        let mut filled = Ok(());
        if self.state == State::Begin
            && self.len() > 0
            && wav::beginning(&self.bytes[self.done..]) == Beginning::Open
        {
            // Too short for a header, so it is sound.
            filled = self.begin(self.bare, None, into);
        }
        let filled = filled.and_then(|()| self.fill(into, usize::MAX));
        let left = self.len();
        if let Some(resampler) = &mut self.resampler {
            resampler.finish(into);
        }
        (self.bytes, self.done, self.state) = (Vec::new(), 0, State::Begin);
        filled.map(|()| left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wav::tests::file;
    use super::*;
    use crate::processing::audio::tests::stream_of_rate;

    const SAMPLE: Format = Format { sample: Sample::S16, channels: 1, rate: Some(16_000) };

    fn pcm(samples: impl IntoIterator<Item = i16>) -> Vec<u8> {
        samples.into_iter().flat_map(i16::to_le_bytes).collect()
    }

    /// The samples of a stream in steps of 1/32768, sent in pieces, and the bytes that were left over.
    fn heard(said: SoundParameters, bytes: &[u8], piece: usize) -> Result<(Vec<i32>, usize), RequestError> {
        let mut source = Source::new(&stream_of_rate(Some(16_000)), said);
        let mut samples = Vec::new();
        for piece in bytes.chunks(piece) {
            source.push(piece);
            source.fill(&mut samples, usize::MAX)?;
        }
        let left = source.finish(&mut samples)?;
        Ok((samples.iter().map(|sample| (sample * 32768.0).round() as i32).collect(), left))
    }

    #[test]
    fn a_wav_header_is_never_sound_however_the_file_is_sent() {
        let one = file(SAMPLE, 1, b"a name", &pcm([1, 2, 3]));
        // Two files in one stream, with a chunk behind the samples of the first one.
        let both = [one.as_slice(), b"LIST\x03\0\0\0abc\0", &one].concat();
        for piece in [1, 2, 5, 43, 1000] {
            let nothing = SoundParameters::default();
            assert_eq!(heard(nothing, &both, piece).unwrap(), (vec![1, 2, 3, 1, 2, 3], 0), "{piece}");
        }
        let odd = file(Format { sample: Sample::U8, ..SAMPLE }, 1, &[], &[128, 129, 130]);
        let both = [odd.as_slice(), &odd].concat();
        assert_eq!(heard(SoundParameters::default(), &both, 7).unwrap().0, [0, 256, 512, 0, 256, 512]);
    }

    #[test]
    fn a_file_of_unknown_length_is_sound_until_the_end() {
        let mut endless = file(SAMPLE, 1, &[], &[]);
        endless.extend(pcm([7, 8]));
        endless.push(9);
        assert_eq!(heard(SoundParameters::default(), &endless, 3).unwrap(), (vec![7, 8], 1));
    }

    #[test]
    fn sound_without_a_header_is_read_as_the_client_says() {
        let said = |encoding, channels| SoundParameters { encoding, channels, ..SoundParameters::default() };
        assert_eq!(heard(said(None, None), &pcm([5, -6]), 1).unwrap().0, [5, -6]);
        assert_eq!(heard(said(None, Some(2)), &pcm([4, 8, -6, 0]), 3).unwrap().0, [6, -3]);
        let ulaw = said(Some(crate::model::manifest::Encoding::G711Ulaw), None);
        assert_eq!(heard(ulaw, &[0xff, 0xef], 2).unwrap().0, [0, 132]);
        assert_eq!(heard(said(None, None), b"RI", 1).unwrap().0.len(), 1, "too short for a header");
    }

    #[test]
    fn sound_of_another_rate_keeps_its_length_in_time() {
        let said = SoundParameters { sample_rate: Some(48_000), ..SoundParameters::default() };
        assert_eq!(heard(said, &pcm(vec![0; 4_800]), 999).unwrap().0.len(), 1_600);
    }

    #[test]
    fn a_header_that_cannot_be_obeyed_ends_the_stream_until_the_next_one() {
        let stereo = file(Format { channels: 2, ..SAMPLE }, 1, &[], &pcm([1, 2]));
        let error = heard(SoundParameters::default(), &stereo, 1000).unwrap_err();
        assert!(error.message.contains("?channels=2"), "{error}");
        let mut source = Source::new(&stream_of_rate(Some(16_000)), SoundParameters::default());
        let mut samples = Vec::new();
        source.push(&stereo);
        source.fill(&mut samples, 10).unwrap_err();
        source.push(&pcm([3, 4]));
        source.fill(&mut samples, 10).unwrap();
        assert_eq!((samples.len(), source.len()), (0, 0), "the rest of that file is no sound");
        source.push(&file(SAMPLE, 1, &[], &pcm([5])));
        source.fill(&mut samples, 10).unwrap();
        assert_eq!(samples.len(), 1);
        let unknown = file(SAMPLE, 1, &[], &pcm([1]));
        let mut source = Source::new(&stream_of_rate(None), SoundParameters::default());
        source.push(&unknown);
        assert!(source.fill(&mut samples, 10).unwrap_err().message.contains("add `sample_rate`"));
    }
}
