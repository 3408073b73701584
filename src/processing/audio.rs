//! Turns sound into tensors: PCM bytes into samples, and a stream of samples into windows.
//!
//! What belongs here: PCM and windows. What does not: files with headers such as WAV, resampling, and connections.
//! Invariant: each window has exactly `context + window` samples, and the windows do not depend on the pieces in
//! which the stream arrives.

use super::Allowance;
use crate::error::RequestError;
use crate::model::manifest::{AudioInput, Encoding};
use crate::model::{Datatype, Elements, Tensor, TensorMetadata};

/// The media types that an input for sound accepts besides its tensor.
pub const MEDIA_TYPES: &[&str] = &["audio/pcm"];

/// The rule that turns the sound of an input into its tensor. One window has `context` earlier samples, then `window`
/// new ones. The next window starts `hop` samples later.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioStream {
    encoding: Encoding,
    sample_rate: Option<u32>,
    datatype: Datatype,
    /// The shape of the tensor for one window.
    shape: Vec<usize>,
    context: usize,
    window: usize,
    hop: usize,
    /// A value of floats is sample × scale − mean.
    scale: f32,
    mean: f32,
}

impl AudioStream {
    /// Compares the declaration in the manifest with the input.
    ///
    /// Errors: a sentence about the first thing that does not agree: the datatype, the shape, or the number of
    /// samples.
    pub fn new(said: &AudioInput, input: &TensorMetadata) -> Result<AudioStream, String> {
        let name = &input.name;
        let fits = match said.encoding {
            Encoding::PcmS16le => matches!(input.datatype, Datatype::Fp32 | Datatype::Int16),
            Encoding::PcmF32le => input.datatype == Datatype::Fp32,
        };
        if !fits {
            return Err(format!(
                "input `{name}` is {}: sound becomes FP32, and pcm_s16le also INT16",
                input.datatype
            ));
        }
        if input.datatype == Datatype::Int16 && (said.scale.is_some() || said.mean.is_some()) {
            return Err(format!(
                "input `{name}` is INT16, which takes the samples as they are: leave audio.scale and audio.mean out"
            ));
        }
        let open = || input.shape.iter().enumerate().skip(1).filter(|(_, dim)| dim.fixed().is_none());
        let mut shape = input.shape_with_open(1);
        let length = match (open().next(), open().count(), said.window) {
            // If one dimension besides the batch is open, it is the time.
            (Some((axis, _)), 1, Some(window)) => {
                shape[axis] = said.context + window;
                shape.iter().product()
            }
            (None, ..) => shape.iter().product::<usize>(),
            _ => {
                return Err(format!(
                    "input `{name}` has the shape {:?}: fix it with `shape`, or say audio.window",
                    input.shape_i64()
                ));
            }
        };
        let window = said.window.unwrap_or(length.saturating_sub(said.context));
        if window == 0 || said.context + window != length {
            return Err(format!(
                "input `{name}` takes {length} samples, but audio.context and audio.window are {} and {window}: together they must be that",
                said.context
            ));
        }
        let hop = said.hop.unwrap_or(window);
        Ok(AudioStream {
            encoding: said.encoding,
            sample_rate: said.sample_rate,
            datatype: input.datatype,
            shape,
            context: said.context,
            window,
            hop,
            scale: said.scale.unwrap_or(match said.encoding {
                Encoding::PcmS16le => 1.0 / 32768.0,
                Encoding::PcmF32le => 1.0,
            }),
            mean: said.mean.unwrap_or(0.0),
        })
    }

    /// Returns one line for the report of `onnxd check`.
    pub fn describe(&self) -> String {
        let encoding = match self.encoding {
            Encoding::PcmS16le => "pcm_s16le",
            Encoding::PcmF32le => "pcm_f32le",
        };
        let rate = self.sample_rate.map(|rate| format!(", {rate} Hz")).unwrap_or_default();
        let AudioStream { window, hop, context, .. } = self;
        format!(
            "{encoding}{rate}: {window} new samples every {hop}, behind {context} from before, are one request"
        )
    }

    /// Makes a tensor from files, with one row for each file. Each file is one window of PCM bytes, with or without
    /// its context. A missing context becomes silence.
    ///
    /// Errors: a file has another length, the request is no longer wanted, or the budget is used up.
    pub fn decode(&self, files: &[Vec<u8>], allowance: &mut Allowance<'_>) -> Result<Tensor, RequestError> {
        let size = self.encoding.size();
        let row = (self.context + self.window) * self.datatype.size().unwrap_or(1);
        let bytes = row.saturating_mul(files.len());
        // Each row is first a tensor of its own; then the rows are joined. So memory is needed for both.
        let _rows = allowance.memory.take_beside(bytes.saturating_add(row))?;
        allowance.memory.grow(bytes)?;
        let rows = files.iter().enumerate().map(|(at, bytes)| {
            (allowance.is_due)()?;
            let samples = bytes.len() / size;
            if bytes.len() % size != 0 || samples != self.window && samples != self.window + self.context {
                return Err(RequestError::invalid(format!(
                    "element {at} has {} bytes: a window is {} samples of {size} bytes",
                    bytes.len(),
                    self.window
                )));
            }
            let missing = self.context + self.window - samples;
            let padded: Vec<u8> =
                std::iter::repeat_n(0, missing * size).chain(bytes.iter().copied()).collect();
            Ok(self.tensor(&padded))
        });
        let rows: Vec<Tensor> = rows.collect::<Result<_, _>>()?;
        Tensor::concat(0, &rows.iter().collect::<Vec<_>>()).map_err(RequestError::invalid)
    }

    /// Makes the tensor of one window. `bytes` holds the context and the new samples, `context + window` samples in
    /// all.
    fn tensor(&self, bytes: &[u8]) -> Tensor {
        let (pairs, quads) = (bytes.as_chunks::<2>().0, bytes.as_chunks::<4>().0);
        let elements = match (self.encoding, self.datatype) {
            (Encoding::PcmS16le, Datatype::Int16) => {
                Elements::Int16(pairs.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect())
            }
            (Encoding::PcmS16le, _) => {
                let sample = |bytes: &[u8; 2]| f32::from(i16::from_le_bytes(*bytes));
                Elements::Fp32(pairs.iter().map(|bytes| self.value(sample(bytes))).collect())
            }
            (Encoding::PcmF32le, _) => {
                Elements::Fp32(quads.iter().map(|bytes| self.value(f32::from_le_bytes(*bytes))).collect())
            }
        };
        Tensor::new(self.shape.clone(), elements).expect("the shape was held against the window's length")
    }

    fn value(&self, sample: f32) -> f32 {
        sample * self.scale - self.mean
    }
}

/// The windows of one stream. It keeps only the bytes that later windows need: the context, and the samples that are
/// not yet part of a whole window.
#[derive(Debug)]
pub struct Windows {
    /// The bytes of the stream from sample `begin` on.
    held: Vec<u8>,
    /// The number of the sample at the start of `held`, counted from the start of the stream. It is negative at
    /// first, because the first context lies before the stream.
    begin: i64,
    /// The number of the first new sample of the next window.
    next: i64,
}

impl Windows {
    /// Begins a stream. The context of its first window is silence.
    pub fn new(stream: &AudioStream) -> Windows {
        let context = stream.context as i64;
        Windows { held: vec![0; stream.context * stream.encoding.size()], begin: -context, next: 0 }
    }

    /// Returns the number of bytes that are held.
    pub fn bytes(&self) -> usize {
        self.held.len()
    }

    /// Appends bytes of the stream. A piece may have any length and may end inside a sample.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Returns the next whole window: the number of its first new sample, and its tensor. Returns `None` when the
    /// window is not complete yet.
    pub fn next(&mut self, stream: &AudioStream) -> Option<(u64, Tensor)> {
        let size = stream.encoding.size();
        let from = usize::try_from(self.next - stream.context as i64 - self.begin).ok()? * size;
        let bytes = self.held.get(from..from + (stream.context + stream.window) * size)?;
        let tensor = stream.tensor(bytes);
        let offset = u64::try_from(self.next).ok()?;
        self.next += stream.hop as i64;
        Some((offset, tensor))
    }

    /// Returns whether [`Windows::next`] would return a window.
    pub fn is_ready(&self, stream: &AudioStream) -> bool {
        let needed = (self.next + stream.window as i64 - self.begin) * stream.encoding.size() as i64;
        self.held.len() as i64 >= needed
    }

    /// Drops the bytes that no later window needs. It moves the bytes that remain, so call it only when no whole
    /// window is left.
    pub fn trim(&mut self, stream: &AudioStream) {
        let size = stream.encoding.size();
        let behind = self.next - stream.context as i64 - self.begin;
        // If the hop is longer than the window, some samples that will be skipped have not arrived yet.
        let samples = usize::try_from(behind).unwrap_or(0).min(self.held.len() / size);
        self.held.drain(..samples * size);
        self.held.shrink_to(4096);
        self.begin += samples as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Budget, Share};
    use crate::model::Dim;

    fn stream(window: usize, hop: usize, context: usize) -> AudioStream {
        let input = TensorMetadata {
            name: "x".into(),
            datatype: Datatype::Int16,
            shape: vec![Dim::Open(None), Dim::Fixed(context + window)],
            accepts: &[],
            filled_by: None,
        };
        let said = AudioInput {
            encoding: Encoding::PcmS16le,
            sample_rate: None,
            window: Some(window),
            hop: Some(hop),
            context,
            scale: None,
            mean: None,
        };
        AudioStream::new(&said, &input).unwrap()
    }

    /// Returns the windows of the samples 1, 2, 3 …, which arrive in pieces of `piece` bytes.
    fn windows(stream: &AudioStream, samples: i16, piece: usize) -> Vec<(u64, Vec<i16>)> {
        let bytes: Vec<u8> = (1..=samples).flat_map(i16::to_le_bytes).collect();
        let (mut windows, mut cut) = (Windows::new(stream), Vec::new());
        for piece in bytes.chunks(piece) {
            windows.push(piece);
            while windows.is_ready(stream) {
                let (offset, tensor) = windows.next(stream).unwrap();
                let Elements::Int16(values) = tensor.into_elements() else { panic!() };
                cut.push((offset, values));
            }
            windows.trim(stream);
            assert!(windows.next(stream).is_none());
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
    fn a_file_is_one_window_and_another_length_is_an_error() {
        let stream = stream(2, 2, 1);
        let bytes = |samples: &[i16]| samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
        let mut memory = Share::none(&Budget::new(1000));
        let mut decode = |files: &[Vec<u8>]| {
            stream.decode(files, &mut Allowance { memory: &mut memory, is_due: &|| Ok(()) })
        };
        let tensor = decode(&[bytes(&[7, 8]), bytes(&[6, 7, 8])]).unwrap();
        assert_eq!(tensor.shape(), [2, 3]);
        assert_eq!(tensor.elements(), &Elements::Int16(vec![0, 7, 8, 6, 7, 8]));
        let error = decode(&[bytes(&[1])]).unwrap_err();
        assert_eq!(error.message, "element 0 has 2 bytes: a window is 2 samples of 2 bytes");
    }

    /// The values of a window of three samples.
    fn values(audio: &str, datatype: Datatype, bytes: &[u8]) -> Result<Vec<f32>, String> {
        let manifest = format!(r#"{{"inputs":[{{"name":"x","audio":{audio}}}]}}"#);
        let manifest = crate::model::Manifest::parse(&manifest)?;
        let shape = vec![Dim::Fixed(1), Dim::Fixed(3)];
        let input = TensorMetadata { name: "x".into(), datatype, shape, accepts: &[], filled_by: None };
        let stream = AudioStream::new(manifest.inputs[0].audio.as_ref().unwrap(), &input)?;
        let Elements::Fp32(values) = stream.tensor(bytes).into_elements() else { panic!() };
        Ok(values)
    }

    #[test]
    fn samples_are_scaled_and_centred_as_declared_and_lie_between_one_and_minus_one_without_it() {
        let whole: Vec<u8> = [-32768i16, 3, 16384].into_iter().flat_map(i16::to_le_bytes).collect();
        let of_whole = |audio| values(audio, Datatype::Fp32, &whole).unwrap();
        assert_eq!(of_whole("{}"), [-1.0, 3.0 / 32768.0, 0.5]);
        assert_eq!(of_whole(r#"{"scale":1}"#), [-32768.0, 3.0, 16384.0]);
        assert_eq!(of_whole(r#"{"scale":0.5,"mean":2}"#), [-16386.0, -0.5, 8190.0]);
        let floats: Vec<u8> = [-1.0f32, 0.25, 1.0].into_iter().flat_map(f32::to_le_bytes).collect();
        let of_floats = |audio| values(audio, Datatype::Fp32, &floats).unwrap();
        assert_eq!(of_floats(r#"{"encoding":"pcm_f32le"}"#), [-1.0, 0.25, 1.0]);
        assert_eq!(of_floats(r#"{"encoding":"pcm_f32le","scale":32767}"#), [-32767.0, 8191.75, 32767.0]);
    }

    #[test]
    fn a_scale_that_cannot_be_used_is_an_error() {
        let error = |audio, datatype| values(audio, datatype, &[0; 6]).unwrap_err();
        assert!(error(r#"{"scale":0}"#, Datatype::Fp32).contains("scale is 0"));
        assert!(error(r#"{"mean":1e30}"#, Datatype::Fp32).contains("mean is 1000000"));
        assert!(error(r#"{"mean":1}"#, Datatype::Int16).contains("leave audio.scale and audio.mean out"));
    }
}
