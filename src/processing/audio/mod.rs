//! Turns sound into tensors: bytes into samples of the model's rate (`source`), and samples into windows (`windows`).
//!
//! What belongs here: sound in, tensors out. What does not: connections, and what the model makes of it.
//!
//! Invariants: each window has exactly `context + window` samples, and the windows do not depend on the pieces in
//! which the stream arrives. A header is never heard as sound.

mod format;
mod resample;
mod source;
mod wav;
mod windows;

use self::format::Sample;
use self::resample::Resampler;
use self::source::Source;
use super::Allowance;
use super::results::Pace;
use crate::error::RequestError;
use crate::model::manifest::{AudioInput, Encoding};
use crate::model::sound::SoundParameters;
use crate::model::{Datatype, Elements, Tensor, TensorMetadata};

/// The media types that an input for sound accepts besides its tensor.
pub const MEDIA_TYPES: &[&str] = &["audio/pcm", "audio/wav"];

pub use self::windows::Windows;

/// The integer of 16 bits for a sample of 1.
const LOUDEST: f32 = 32768.0;

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
        if !matches!(input.datatype, Datatype::Fp32 | Datatype::Int16) {
            return Err(format!("input `{name}` is {}: sound becomes FP32 or INT16", input.datatype));
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
            // Samples are held as numbers from −1 to 1, whatever the encoding.
            scale: match said.encoding {
                Encoding::PcmF32le => said.scale.unwrap_or(1.0),
                _ => said.scale.map_or(1.0, |scale| scale * LOUDEST),
            },
            mean: said.mean.unwrap_or(0.0),
        })
    }

    /// Returns one line for the report of `onnxd check`.
    pub fn describe(&self) -> String {
        let encoding = self.encoding.name();
        let rate = self.sample_rate.map(|rate| format!(", {rate} Hz")).unwrap_or_default();
        let AudioStream { window, hop, context, .. } = self;
        format!(
            "{encoding}{rate}: {window} new samples every {hop}, behind {context} from before, are one request"
        )
    }

    /// The time from one window to the next: samples, and milliseconds. `None` when the rate is not known.
    pub fn pace(&self) -> Option<Pace> {
        let hop_ms = self.hop as f64 * 1000.0 / f64::from(self.sample_rate?);
        Some(Pace { hop: Some(self.hop), hop_ms })
    }

    /// Checks what a client says about its stream.
    ///
    /// Errors: it names a rate, but the rate of the model is not known or far from it.
    pub fn check(&self, said: SoundParameters) -> Result<(), RequestError> {
        let Some(rate) = said.sample_rate else { return Ok(()) };
        match self.sample_rate {
            Some(own) if own == rate => Ok(()),
            Some(own) => Resampler::new(rate, own).map(|_| ()),
            None => Err(RequestError::invalid(format!(
                "sample_rate is {rate}, but nothing says the model's rate: add `sample_rate` to `audio` in model.json"
            ))),
        }
    }

    /// Makes a tensor from files, with one row for each file. Each file is one window of PCM bytes or a WAV file, with or
    /// without its context. A missing context becomes silence.
    ///
    /// Errors: a file has another length or cannot be read, the request is no longer wanted, or the budget is used up.
    pub fn decode(&self, files: &[Vec<u8>], allowance: &mut Allowance<'_>) -> Result<Tensor, RequestError> {
        let length = self.context + self.window;
        let row = length * self.datatype.size().unwrap_or(1);
        let bytes = row.saturating_mul(files.len());
        // Each row is first samples, and a tensor of its own; then the rows are joined. So memory is needed for all of
        // them.
        let samples = (length + source::PIECE) * size_of::<f32>();
        let _rows = allowance.memory.take_beside(bytes.saturating_add(row).saturating_add(samples))?;
        allowance.memory.grow(bytes)?;
        let rows = files.iter().enumerate().map(|(at, bytes)| {
            (allowance.is_due)()?;
            self.row(bytes).map_err(|error| error.within(&format!("element {at}")))
        });
        let rows: Vec<Tensor> = rows.collect::<Result<_, _>>()?;
        Tensor::concat(0, &rows.iter().collect::<Vec<_>>()).map_err(RequestError::invalid)
    }

    /// The tensor of one file.
    fn row(&self, file: &[u8]) -> Result<Tensor, RequestError> {
        let length = self.context + self.window;
        let mut samples = Vec::new();
        let mut source = Source::new(self, SoundParameters::default());
        source.push(file);
        // One more than a window, to see whether the file is longer.
        source.fill(&mut samples, length + 1)?;
        let left = if samples.len() > length { 0 } else { source.finish(&mut samples)? };
        if left > 0 || samples.len() != self.window && samples.len() != length {
            let size = Sample::from(self.encoding).size();
            return Err(RequestError::invalid(match wav::beginning(file) {
                wav::Beginning::Wav => format!(
                    "the file has {} samples at the model's rate: a window is {}",
                    if samples.len() > length {
                        format!("more than {length}")
                    } else {
                        samples.len().to_string()
                    },
                    self.window
                ),
                _ => format!(
                    "it has {} bytes: a window is {} samples of {size} bytes",
                    file.len(),
                    self.window
                ),
            }));
        }
        let missing = length - samples.len();
        samples.splice(..0, std::iter::repeat_n(0.0, missing));
        Ok(self.tensor(&samples))
    }

    /// Makes the tensor of one window. `samples` are the context and the new samples, from −1 to 1.
    fn tensor(&self, samples: &[f32]) -> Tensor {
        let elements = match self.datatype {
            // `as` cuts off what is too loud.
            Datatype::Int16 => {
                Elements::Int16(samples.iter().map(|sample| (sample * LOUDEST).round() as i16).collect())
            }
            _ => Elements::Fp32(samples.iter().map(|sample| sample * self.scale - self.mean).collect()),
        };
        Tensor::new(self.shape.clone(), elements).expect("the shape was held against the window's length")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::memory::{Budget, Share};
    use crate::model::Dim;

    /// A stream of windows for an input of INT16.
    pub fn stream(window: usize, hop: usize, context: usize) -> AudioStream {
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

    pub fn stream_of_rate(sample_rate: Option<u32>) -> AudioStream {
        AudioStream { sample_rate, ..stream(4, 4, 0) }
    }

    #[test]
    fn a_file_is_one_window_and_another_length_is_an_error() {
        let stream = stream(2, 2, 1);
        let bytes = |samples: &[i16]| samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
        let mut memory = Share::none(&Budget::new(100_000));
        let mut decode = |files: &[Vec<u8>]| {
            stream.decode(files, &mut Allowance { memory: &mut memory, is_due: &|| Ok(()) })
        };
        let tensor = decode(&[bytes(&[7, 8]), bytes(&[6, 7, 8])]).unwrap();
        assert_eq!(tensor.shape(), [2, 3]);
        assert_eq!(tensor.elements(), &Elements::Int16(vec![0, 7, 8, 6, 7, 8]));
        let error = decode(&[bytes(&[1])]).unwrap_err();
        assert_eq!(error.message, "element 0: it has 2 bytes: a window is 2 samples of 2 bytes");
    }

    /// The values of a window of three samples.
    fn values(audio: &str, datatype: Datatype, bytes: &[u8]) -> Result<Vec<f32>, String> {
        let manifest = format!(r#"{{"inputs":[{{"name":"x","audio":{audio}}}]}}"#);
        let manifest = crate::model::Manifest::parse(&manifest)?;
        let shape = vec![Dim::Fixed(1), Dim::Fixed(3)];
        let input = TensorMetadata { name: "x".into(), datatype, shape, accepts: &[], filled_by: None };
        let stream = AudioStream::new(manifest.inputs[0].audio.as_ref().unwrap(), &input)?;
        let tensor = stream.row(bytes).map_err(|error| error.message)?;
        let Elements::Fp32(values) = tensor.into_elements() else { panic!() };
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
