//! The forms of samples, and how a sample becomes a number from −1 to 1.

use crate::error::RequestError;
use crate::model::manifest::Encoding;
use crate::model::sound::SAMPLE_RATES;

/// The form of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Only in WAV files.
    U8,
    S16,
    /// Only in WAV files.
    S24,
    /// Only in WAV files.
    S32,
    F32,
    Ulaw,
    Alaw,
}

impl From<Encoding> for Sample {
    fn from(encoding: Encoding) -> Sample {
        match encoding {
            Encoding::PcmS16le => Sample::S16,
            Encoding::PcmF32le => Sample::F32,
            Encoding::G711Ulaw => Sample::Ulaw,
            Encoding::G711Alaw => Sample::Alaw,
        }
    }
}

impl Sample {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        match self {
            Sample::U8 | Sample::Ulaw | Sample::Alaw => 1,
            Sample::S16 => 2,
            Sample::S24 => 3,
            Sample::S32 | Sample::F32 => 4,
        }
    }

    /// The sample in `bytes`, which has [`Sample::size`] bytes.
    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Sample::U8, [byte]) => (f32::from(*byte) - 128.0) / 128.0,
            (Sample::S16, [a, b]) => f32::from(i16::from_le_bytes([*a, *b])) / 32768.0,
            (Sample::S24, [a, b, c]) => (i32::from_le_bytes([0, *a, *b, *c]) >> 8) as f32 / 8_388_608.0,
            (Sample::S32, [a, b, c, d]) => i32::from_le_bytes([*a, *b, *c, *d]) as f32 / 2_147_483_648.0,
            (Sample::F32, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
            (Sample::Ulaw, [byte]) => f32::from(ulaw(*byte)) / 32768.0,
            (Sample::Alaw, [byte]) => f32::from(alaw(*byte)) / 32768.0,
            _ => 0.0,
        }
    }
}

/// What the bytes of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub sample: Sample,
    pub channels: usize,
    /// In Hz; `None` means the rate of the model.
    pub rate: Option<u32>,
}

impl Format {
    /// Bytes of one frame: a sample of each channel.
    pub fn frame(self) -> usize {
        self.sample.size() * self.channels
    }

    /// Appends the frames in `bytes`, a whole number of them, as one channel: the mean of all channels.
    pub fn read(self, bytes: &[u8], into: &mut Vec<f32>) {
        let frames = bytes.chunks_exact(self.frame());
        into.reserve(frames.len());
        if self.channels == 1 {
            into.extend(frames.map(|frame| self.sample.read(frame)));
            return;
        }
        let mean = |frame: &[u8]| {
            let sum: f32 = frame.chunks_exact(self.sample.size()).map(|bytes| self.sample.read(bytes)).sum();
            sum / self.channels as f32
        };
        into.extend(frames.map(mean));
    }
}

/// Checks a rate that a WAV header names.
pub fn check_rate(rate: u32) -> Result<(), RequestError> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(());
    }
    Err(RequestError::invalid(format!(
        "the WAV header says {rate} Hz: expected {} to {} Hz",
        SAMPLE_RATES.start(),
        SAMPLE_RATES.end()
    )))
}

/// ITU-T G.711, µ-law: all bits are inverted, then sign, three bits of exponent, four of mantissa.
fn ulaw(byte: u8) -> i16 {
    let bits = !byte;
    let magnitude = ((i16::from(bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4);
    if bits & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// ITU-T G.711, A-law: every second bit is inverted.
fn alaw(byte: u8) -> i16 {
    let bits = byte ^ 0x55;
    let mantissa = i16::from(bits & 0x0f) << 4;
    let magnitude = match (bits & 0x70) >> 4 {
        0 => mantissa + 8,
        exponent => (mantissa + 0x108) << (exponent - 1),
    };
    if bits & 0x80 == 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_has_the_values_of_the_standard() {
        // Values from the tables of ITU-T G.711 in 16 bits.
        let ulaw_values =
            [(0xff, 0), (0x7f, 0), (0x80, 32124), (0x00, -32124), (0xfe, 8), (0xef, 132), (0x8f, 16764)];
        for (byte, value) in ulaw_values {
            assert_eq!(ulaw(byte), value, "{byte:x}");
        }
        for (byte, value) in [(0xd5, 8), (0x55, -8), (0xaa, 32256), (0x2a, -32256), (0x80, 5504), (0xc5, 264)]
        {
            assert_eq!(alaw(byte), value, "{byte:x}");
        }
    }

    #[test]
    fn samples_of_every_width_are_read_from_minus_one_to_one() {
        let read = |sample, bytes: &[u8]| {
            let mut samples = Vec::new();
            Format { sample, channels: 1, rate: None }.read(bytes, &mut samples);
            samples
        };
        assert_eq!(read(Sample::U8, &[0, 128, 192]), [-1.0, 0.0, 0.5]);
        assert_eq!(read(Sample::S16, &[0, 0x80, 0, 0x40]), [-1.0, 0.5]);
        assert_eq!(read(Sample::S24, &[0, 0, 0x80, 0, 0, 0x40]), [-1.0, 0.5]);
        assert_eq!(read(Sample::S32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.5]);
        assert_eq!(read(Sample::F32, &0.25f32.to_le_bytes()), [0.25]);
    }

    #[test]
    fn channels_are_mixed_to_their_mean() {
        let mut samples = Vec::new();
        let bytes: Vec<u8> = [16384i16, -16384, 16384, 0].into_iter().flat_map(i16::to_le_bytes).collect();
        Format { sample: Sample::S16, channels: 2, rate: None }.read(&bytes, &mut samples);
        assert_eq!(samples, [0.0, 0.25]);
    }
}
