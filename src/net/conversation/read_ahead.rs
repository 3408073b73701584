//! Bytes that were read from the transport before tungstenite asked for them.
//!
//! tungstenite asks for [`READ_BUFFER`](super::READ_BUFFER) bytes at once and keeps a buffer of that size, so it must be
//! small. Here one read of the transport fills a large buffer, which the conversation borrows for the time in which it
//! reads. So a request of several KiB costs one system call, and an idle conversation keeps no large buffer.
//!
//! What the bytes mean does not belong here; see [`super::frame_reader`].
//!
//! Invariant: the bytes come out in the order in which they arrived, also when a buffer was given back in between.

use std::io::{self, Read};

use crate::net::buffers::Buffers;

/// The bytes of one conversation that were read and not passed on.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// The borrowed buffer, or between reads a copy of the bytes that were left in it. Often it has no bytes at all.
    bytes: Box<[u8]>,
    /// Where the bytes that were not passed on begin and end.
    begin: usize,
    end: usize,
}

impl ReadAhead {
    /// Borrows a buffer.
    pub fn borrow_from(&mut self, buffers: &Buffers) {
        let mut buffer = buffers.lend();
        let left = self.left();
        let count = left.len();
        buffer[..count].copy_from_slice(left);
        *self = ReadAhead { bytes: buffer, begin: 0, end: count };
    }

    /// Gives the buffer back, and keeps a copy of the bytes that were not passed on. There are none in
    /// most cases, and at most a whole buffer when the peer sends more than the server takes.
    pub fn give_back_to(&mut self, buffers: &Buffers) {
        let left: Box<[u8]> = self.left().into();
        let end = left.len();
        let buffer = std::mem::replace(self, ReadAhead { bytes: left, begin: 0, end }).bytes;
        buffers.give_back(buffer);
    }

    /// True when no bytes are left.
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Reads from the bytes that are left. When there are none, reads from `source`.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn read(&mut self, source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
        if self.is_empty() {
            if self.bytes.len() <= out.len() {
                return source.read(out);
            }
            (self.begin, self.end) = (0, 0);
            self.end = source.read(&mut self.bytes)?;
        }
        let left = self.left();
        let count = left.len().min(out.len());
        out[..count].copy_from_slice(&left[..count]);
        self.begin += count;
        Ok(count)
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives all its bytes at once, and counts how often it was asked.
    struct Source(Vec<u8>, usize);

    impl Read for Source {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            let count = self.0.len().min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn many_small_reads_are_one_read_of_the_source_and_no_byte_is_lost_between_buffers() {
        let buffers = Buffers::default();
        let sent: Vec<u8> = (0..5000).map(|at| (at % 251) as u8).collect();
        let mut source = Source(sent.clone(), 0);
        let (mut ahead, mut got) = (ReadAhead::default(), Vec::new());
        let mut out = [0; 700];
        for lent in 0..4 {
            ahead.borrow_from(&buffers);
            for _ in 0..2 {
                let count = ahead.read(&mut source, &mut out).unwrap();
                got.extend_from_slice(&out[..count]);
            }
            ahead.give_back_to(&buffers);
            assert_eq!(source.1, 1, "read {lent}");
            assert_eq!(buffers.spare(), 1, "the buffer is lent only while bytes are read");
            assert_eq!(ahead.bytes.len(), 5000 - got.len(), "only the bytes that are left are kept");
        }
        assert_eq!(got, sent);
        assert_eq!(ahead.read(&mut source, &mut out).unwrap(), 0);
        assert_eq!(source.1, 2);
    }
}
