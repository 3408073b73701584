//! The header of a WAV file (RIFF): what its samples are, and where they begin. A header is read from a stream, so it may
//! not be complete yet.

use super::format::{Format, Sample, check_rate};
use crate::error::RequestError;

/// The most bytes of a header. Other chunks, with names and covers, may lie before the samples.
const LONGEST: usize = 256 << 10;

/// What the first bytes of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// More bytes are needed to know it.
    Open,
    /// No WAV header.
    Bare,
    /// A WAV header.
    Wav,
}

/// Looks at the first bytes of a stream.
pub fn beginning(bytes: &[u8]) -> Beginning {
    let fits =
        |from: usize, name: &[u8]| bytes.iter().skip(from).zip(name).all(|(byte, expected)| byte == expected);
    match (fits(0, b"RIFF") && fits(8, b"WAVE"), bytes.len()) {
        (false, _) => Beginning::Bare,
        (true, 0..12) => Beginning::Open,
        (true, _) => Beginning::Wav,
    }
}

/// What follows the samples of a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Another WAV file.
    File,
    /// A chunk, and the number of its bytes, with its name, its length and its padding.
    Other(u64),
}

/// Looks at what follows the samples of a WAV file. `None` when more bytes are needed.
///
/// Errors: it is neither a chunk nor a WAV file.
pub fn chunk(bytes: &[u8]) -> Result<Option<Chunk>, RequestError> {
    let Some(([a, b, c, d, size @ ..], _)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let name = [*a, *b, *c, *d];
    if name == *b"RIFF" {
        return Ok(Some(Chunk::File));
    }
    if !name.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Err(invalid(
            "bytes follow the samples of a WAV file that are neither one of its chunks nor another WAV file: send \
             {\"event\":\"end\"} before other sound"
                .into(),
        ));
    }
    let size = u64::from(u32::from_le_bytes(*size));
    Ok(Some(Chunk::Other(8 + size + size % 2)))
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// Bytes of the header: the samples begin behind them.
    pub length: usize,
    /// Bytes of the samples. `None` when the header does not say it, because the file is written while it is sent.
    pub data: Option<u64>,
}

/// Reads the header at the start of `bytes`. `None` when it is not complete yet.
///
/// Errors: the header is longer than 256 KiB or not valid, or the samples have a form that is not supported.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, RequestError> {
    let (mut at, mut format) = (12, None);
    loop {
        if at > LONGEST {
            return Err(invalid(format!(
                "the WAV header is longer than {LONGEST} bytes: send only the chunks `fmt ` and `data`"
            )));
        }
        let Some((head, rest)) = bytes.get(at..).and_then(|bytes| bytes.split_first_chunk::<8>()) else {
            return Ok(None);
        };
        let [a, b, c, d, size @ ..] = *head;
        let size = u32::from_le_bytes(size);
        match &[a, b, c, d] {
            b"fmt " => {
                // WAVE_FORMAT_EXTENSIBLE has 40 bytes.
                let Some(fields) = rest.get(..(size as usize).min(40)) else { return Ok(None) };
                format = Some(read_format(fields)?);
            }
            b"data" => {
                let format = format
                    .ok_or_else(|| invalid("the WAV file has its samples before the chunk `fmt `".into()))?;
                // Programs that write to a pipe leave 0 or the largest number here.
                let data = Some(u64::from(size)).filter(|size| !matches!(*size, 0 | 0xffff_ff00..));
                return Ok(Some(Header { format, length: at + 8, data }));
            }
            _ => {}
        }
        // A chunk of an odd length is followed by a byte of padding.
        at = at.saturating_add(8).saturating_add(size as usize).saturating_add(size as usize % 2);
    }
}

fn read_format(fields: &[u8]) -> Result<Format, RequestError> {
    let number = |at: usize| fields.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let (Some(tag), Some(channels), Some(bits), Some(rate)) =
        (number(0), number(2), number(14), fields.get(4..8))
    else {
        return Err(invalid(format!(
            "the chunk `fmt ` of the WAV header has {} bytes: expected at least 16",
            fields.len()
        )));
    };
    // WAVE_FORMAT_EXTENSIBLE: the tag is at the start of an identifier.
    let tag = if tag == 0xfffe { number(24).unwrap_or(tag) } else { tag };
    let sample = match (tag, bits) {
        (1, 8) => Sample::U8,
        (1, 16) => Sample::S16,
        (1, 24) => Sample::S24,
        (1, 32) => Sample::S32,
        (3, 32) => Sample::F32,
        (6, 8) => Sample::Alaw,
        (7, 8) => Sample::Ulaw,
        _ => {
            return Err(invalid(format!(
                "the WAV header says format {tag} with {bits} bits: expected PCM (1) with 8, 16, 24 or 32 bits, floats (3) \
                 with 32 bits, or G.711 (6, 7) with 8 bits"
            )));
        }
    };
    let rate = u32::from_le_bytes([rate[0], rate[1], rate[2], rate[3]]);
    check_rate(rate)?;
    if channels == 0 {
        return Err(invalid("the WAV header says 0 channels: expected at least 1".into()));
    }
    Ok(Format { sample, channels: usize::from(channels), rate: Some(rate) })
}

fn invalid(message: String) -> RequestError {
    RequestError::invalid(message)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A WAV file. `extra` is a chunk before the samples.
    pub fn file(format: Format, tag: u16, extra: &[u8], samples: &[u8]) -> Vec<u8> {
        let mut fmt = Vec::new();
        let rate = format.rate.unwrap_or(0);
        fmt.extend(tag.to_le_bytes());
        fmt.extend((format.channels as u16).to_le_bytes());
        fmt.extend(rate.to_le_bytes());
        fmt.extend((rate * format.frame() as u32).to_le_bytes());
        fmt.extend((format.frame() as u16).to_le_bytes());
        fmt.extend((format.sample.size() as u16 * 8).to_le_bytes());
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        for (name, content) in [(b"fmt ", fmt.as_slice()), (b"LIST", extra), (b"data", samples)] {
            file.extend(name);
            file.extend((content.len() as u32).to_le_bytes());
            file.extend(content);
            file.extend(vec![0; content.len() % 2]);
        }
        file
    }

    #[test]
    fn a_header_is_read_when_it_is_complete_and_other_chunks_are_passed() {
        let format = Format { sample: Sample::S16, channels: 2, rate: Some(44_100) };
        let bytes = file(format, 1, b"abc", &[1, 2, 3, 4]);
        let length = bytes.len() - 4;
        for at in 0..length {
            let expected = if at < 12 { Beginning::Open } else { Beginning::Wav };
            assert_eq!(beginning(&bytes[..at]), expected, "{at}");
            assert_eq!(read(&bytes[..at]).unwrap(), None, "{at}");
        }
        assert_eq!(read(&bytes).unwrap(), Some(Header { format, length, data: Some(4) }));
        assert_eq!(beginning(b"RIFX"), Beginning::Bare);
    }

    #[test]
    fn a_header_that_cannot_be_obeyed_is_refused_with_what_it_says() {
        let refused = |format, tag| read(&file(format, tag, &[], &[])).unwrap_err().message;
        let good = Format { sample: Sample::S16, channels: 1, rate: Some(16_000) };
        assert!(refused(good, 2).contains("format 2 with 16 bits"));
        assert!(refused(Format { rate: Some(10), ..good }, 1).contains("10 Hz"));
        assert!(refused(Format { channels: 0, ..good }, 1).contains("0 channels"));
        let endless = file(good, 1, &vec![0; LONGEST], &[]);
        assert!(read(&endless).unwrap_err().message.contains("longer than"));
    }
}
