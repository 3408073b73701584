//! What a conversation reads from and writes to: a socket, or in tests a pair of buffers in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::clock::Clock;
use crate::engine::Wake;

/// A stream that never blocks: `WouldBlock` says that nothing is there, or that nothing more is taken.
pub trait Transport: Read + Write {
    fn clock(&self) -> &Clock;

    /// What a worker calls when a reply is there.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Bytes read so far: a sign of life.
    fn received(&self) -> u64;

    /// Bytes written so far: how a slow peer is told from one that has stopped.
    fn written(&self) -> u64;

    /// Lets `read` take so many bytes more; then it says `WouldBlock`, and [`Transport::starved`] that there may be
    /// more. So a peer that never pauses cannot keep its reader for itself.
    fn refill(&mut self, bytes: usize);

    fn starved(&self) -> bool;
}
