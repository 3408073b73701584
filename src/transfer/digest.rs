//! SHA-256 digests of uploads and downloads. The text form is `sha256:` and 64 hexadecimal digits
//! (OCI image specification, "descriptor"). Other hash functions do not belong here.

use std::fmt;
use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};

/// The SHA-256 of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hashing = Hashing::new(io::sink());
        hashing.context.update(bytes);
        hashing.finish().1
    }

    /// Reads 64 hexadecimal digits, without `sha256:`. `None` for any other text.
    pub fn from_hex(digits: &str) -> Option<Digest> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
        Some(Digest(bytes.filter(|_| rest.is_empty())?.try_into().ok()?))
    }

    /// The digest of all bytes of a reader. Fails when the reader fails.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Digest> {
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut reader, &mut hashing)?;
        Ok(hashing.digest())
    }

    /// The 64 digits without `sha256:`, for file names.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A writer that passes bytes on to `inner`, and counts and hashes those that `inner` took.
pub struct Hashing<W> {
    inner: W,
    context: Context,
    written: u64,
}

impl<W: Write> Hashing<W> {
    /// Starts with no bytes.
    pub fn new(inner: W) -> Hashing<W> {
        Hashing { inner, context: Context::new(&SHA256), written: 0 }
    }

    /// The digest of the bytes so far.
    pub fn digest(&self) -> Digest {
        let digest = self.context.clone().finish();
        Digest(digest.as_ref().try_into().expect("SHA-256 makes 32 bytes"))
    }

    /// The number of bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let (digest, written) = (self.digest(), self.written());
        (self.inner, digest, written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_64_hexadecimal_digits_and_nothing_else() {
        let digest = Digest::of(b"onnxd");
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest.clone()));
        assert_eq!(Digest::from_hex(&digest.hex().to_uppercase()), Some(digest.clone()));
        for wrong in ["", "ab", &digest.to_string(), &digest.hex()[1..], &digest.hex().replace('a', "g")] {
            assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
        }
    }
}
