//! The stream that tungstenite uses: it reads the transport through [`FrameReader`], and writes to it directly.
//!
//! Only this connection of the two belongs here.

use std::io::{self, Read, Write};

use super::frame_reader::FrameReader;
use crate::net::transport::Transport;

/// A transport and the reader of its frames.
#[derive(Debug)]
pub struct FrameStream<T> {
    transport: T,
    reader: FrameReader,
}

impl<T: Transport> FrameStream<T> {
    pub fn new(transport: T, reader: FrameReader) -> FrameStream<T> {
        FrameStream { transport, reader }
    }

    /// The stream below.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// The stream below, without the frame reader and its bytes.
    pub fn into_transport(self) -> T {
        self.transport
    }

    /// The reader of the peer's frames.
    pub fn reader(&self) -> &FrameReader {
        &self.reader
    }

    pub fn reader_mut(&mut self) -> &mut FrameReader {
        &mut self.reader
    }
}

impl<T: Transport> Read for FrameStream<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let clock = self.transport.clock().clone();
        self.reader.read(&mut self.transport, out, || clock.now())
    }
}

impl<T: Transport> Write for FrameStream<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.transport.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.transport.flush()
    }
}
