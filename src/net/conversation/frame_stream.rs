//! The stream that tungstenite uses: it reads the transport through [`ReadAhead`] and [`FrameReader`], and writes to it
//! directly.
//!
//! Only this connection of the three belongs here.

use std::io::{self, Read, Write};

use super::frame_reader::FrameReader;
use super::read_ahead::ReadAhead;
use crate::net::buffers::Buffers;
use crate::net::transport::Transport;

/// A transport and the reader of its frames.
#[derive(Debug)]
pub struct FrameStream<T> {
    transport: T,
    ahead: ReadAhead,
    reader: FrameReader,
}

impl<T: Transport> FrameStream<T> {
    pub fn new(transport: T, reader: FrameReader) -> FrameStream<T> {
        FrameStream { transport, ahead: ReadAhead::default(), reader }
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

    /// Borrows a large buffer for the reads that follow.
    pub fn borrow_from(&mut self, buffers: &Buffers) {
        self.ahead.borrow_from(buffers);
    }

    /// Gives the large buffer back.
    pub fn give_back_to(&mut self, buffers: &Buffers) {
        self.ahead.give_back_to(buffers);
    }

    /// True when bytes of further messages have been read, except the message that was taken last from the reader.
    pub fn has_more(&self) -> bool {
        !self.ahead.is_empty() || self.reader.has_more()
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
        let mut source = Source { ahead: &mut self.ahead, transport: &mut self.transport };
        self.reader.read(&mut source, out, || clock.now())
    }
}

/// The transport with the bytes that were read from it before.
struct Source<'a, T> {
    ahead: &'a mut ReadAhead,
    transport: &'a mut T,
}

impl<T: Read> Read for Source<'_, T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.ahead.read(self.transport, out)
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
