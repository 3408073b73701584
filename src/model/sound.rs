//! What a client says about its stream of sound in the query string.

use super::manifest::Encoding;

/// The most channels of a stream.
const MOST_CHANNELS: usize = 32;
/// The sample rates that are taken, in Hz.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// The parameters of a stream. What a client leaves open is as in `model.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoundParameters {
    pub encoding: Option<Encoding>,
    /// In Hz.
    pub sample_rate: Option<u32>,
    /// Interleaved channels, which are mixed to one.
    pub channels: Option<usize>,
}

impl SoundParameters {
    /// Reads a parameter of the query string. Returns false when its name does not concern sound.
    ///
    /// Errors: the parameter cannot have this value. The text says which ones it can have.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "encoding" => {
                let known = Encoding::ALL.iter().find(|encoding| encoding.name() == value);
                let names = || Encoding::ALL.map(|encoding| format!("`{}`", encoding.name())).join(", ");
                self.encoding = Some(*known.ok_or_else(names)?);
            }
            "sample_rate" => {
                let rate = value.parse().ok().filter(|rate| SAMPLE_RATES.contains(rate));
                let expected = || format!("Hz, {} to {}", SAMPLE_RATES.start(), SAMPLE_RATES.end());
                self.sample_rate = Some(rate.ok_or_else(expected)?);
            }
            "channels" => {
                let channels = value.parse().ok().filter(|count| (1..=MOST_CHANNELS).contains(count));
                let expected = || format!("a number of channels, 1 to {MOST_CHANNELS}");
                self.channels = Some(channels.ok_or_else(expected)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the client says anything about its sound.
    pub fn is_some(&self) -> bool {
        *self != SoundParameters::default()
    }
}
