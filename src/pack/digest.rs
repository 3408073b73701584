//! SHA-256 in the form of the image specifications: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::io::{self, Write};

use ring::digest::{Context, SHA256};

/// A content's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hashing = Hashing::new(io::sink());
        hashing.context.update(bytes);
        hashing.finish().1
    }

    /// The digits alone, as file names have them.
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

/// Passes bytes on, and counts and hashes them on the way.
pub struct Hashing<W> {
    inner: W,
    context: Context,
    written: u64,
}

impl<W: Write> Hashing<W> {
    pub fn new(inner: W) -> Hashing<W> {
        Hashing { inner, context: Context::new(&SHA256), written: 0 }
    }

    /// What was written into, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let digest = self.context.finish();
        let bytes = digest.as_ref().try_into().expect("SHA-256 makes 32 bytes");
        (self.inner, Digest(bytes), self.written)
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
