//! The stream that tungstenite reads and writes: a transport, whose input goes through [`FrameReader`].

use std::io::{self, Read, Write};

use super::frame_reader::FrameReader;
use crate::net::transport::Transport;

#[derive(Debug)]
pub struct FrameStream<T> {
    transport: T,
    reader: FrameReader,
}

impl<T: Transport> FrameStream<T> {
    pub fn new(transport: T, reader: FrameReader) -> FrameStream<T> {
        FrameStream { transport, reader }
    }

    pub fn transport(&self) -> &T {
        &self.transport
    }

    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    pub fn into_transport(self) -> T {
        self.transport
    }

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
