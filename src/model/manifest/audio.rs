//! The input kind `audio`: how sound, and a stream of sound, becomes tensors.

use serde::Deserialize;

use super::checks::within;
use super::kind::InputKind;

/// Samples of a window: six minutes at 44.1 kHz.
const MOST_SAMPLES: usize = 1 << 24;
/// In Hz.
const MOST_SAMPLE_RATE: u32 = 10_000_000;
/// The largest absolute value of `scale` and `mean`.
const MOST_LEVEL: f32 = 1e6;

/// How sound becomes tensors: value = sample × scale − mean. All lengths are in samples. `inputs[].audio` of `model.json`.
///
/// The stream is cut into windows. Each run of the model gets one window, with `context` older samples before it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioInput {
    /// The form of a sample in the client's bytes. Default: `pcm_s16le`.
    #[serde(default)]
    pub encoding: Encoding,
    /// In Hz. A stream with another rate is resampled to it.
    pub sample_rate: Option<u32>,
    /// The samples of a window. Default: the tensor's length without `context`.
    pub window: Option<usize>,
    /// The distance from the start of one window to the start of the next. Default: `window`.
    pub hop: Option<usize>,
    /// The samples that come before the window in the tensor; zeros at the start of the stream. Default: 0.
    #[serde(default)]
    pub context: usize,
    /// The factor for every sample, for an input of floats. Default: 1/32768 for integers, which makes values from −1 to
    /// 1, and 1 for `pcm_f32le`.
    pub scale: Option<f32>,
    /// What is taken from every value after `scale`, for an input of floats. Default: 0.
    pub mean: Option<f32>,
}

/// The form of a sample in bytes without a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 16-bit integers, −32768 to 32767, little-endian.
    #[default]
    PcmS16le,
    /// 32-bit floats, from −1 to 1, little-endian.
    PcmF32le,
    /// A byte of ITU-T G.711, µ-law, which stands for a 16-bit integer.
    G711Ulaw,
    /// A byte of ITU-T G.711, A-law.
    G711Alaw,
}

impl Encoding {
    pub const ALL: [Encoding; 4] =
        [Encoding::PcmS16le, Encoding::PcmF32le, Encoding::G711Ulaw, Encoding::G711Alaw];

    /// Its name in `model.json` and in a query string.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::PcmS16le => "pcm_s16le",
            Encoding::PcmF32le => "pcm_f32le",
            Encoding::G711Ulaw => "g711_ulaw",
            Encoding::G711Alaw => "g711_alaw",
        }
    }
}

impl InputKind for AudioInput {
    fn validate(&self) -> Result<(), String> {
        for (field, value) in [("window", self.window), ("hop", self.hop)] {
            if value == Some(0) {
                return Err(format!("{field} is 0: it is a number of samples, expected at least 1"));
            }
            within(field, value, 1, MOST_SAMPLES)?;
        }
        if self.scale == Some(0.0) {
            return Err("scale is 0, which would make all sound equal: expected another number".into());
        }
        for (field, value) in [("scale", self.scale), ("mean", self.mean)] {
            if let Some(wrong) = value.filter(|value| !value.is_finite() || value.abs() > MOST_LEVEL) {
                return Err(format!("{field} is {wrong}: expected -{MOST_LEVEL:e} to {MOST_LEVEL:e}"));
            }
        }
        within("context", Some(self.context), 0, MOST_SAMPLES)?;
        within("sample_rate", self.sample_rate, 1, MOST_SAMPLE_RATE)
    }
}
