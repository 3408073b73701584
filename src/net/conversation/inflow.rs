//! The stream that tungstenite reads and writes: a transport, whose input goes through [`Frames`].

use std::io::{self, Read, Write};

use super::frames::Frames;
use crate::net::transport::Transport;

#[derive(Debug)]
pub struct Inflow<T> {
    transport: T,
    frames: Frames,
}

impl<T: Transport> Inflow<T> {
    pub fn new(transport: T, frames: Frames) -> Inflow<T> {
        Inflow { transport, frames }
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

    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    pub fn frames_mut(&mut self) -> &mut Frames {
        &mut self.frames
    }
}

impl<T: Transport> Read for Inflow<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let clock = self.transport.clock().clone();
        self.frames.read(&mut self.transport, out, || clock.now())
    }
}

impl<T: Transport> Write for Inflow<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.transport.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.transport.flush()
    }
}
