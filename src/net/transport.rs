//! The stream under a conversation: a socket, or in tests a pair of buffers in memory.
//!
//! Only the trait belongs here. [`super::socket`] implements it for sockets, `conversation::tests` for memory.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::clock::Clock;
use crate::engine::Wake;

/// A stream that never blocks. `read` returns `WouldBlock` when nothing has arrived, `write` when the peer's window is
/// full.
pub trait Transport: Read + Write {
    /// The clock for all deadlines of the connection.
    fn clock(&self) -> &Clock;

    /// What a worker calls after it has sent a reply.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Total bytes received. A change shows that the peer is alive.
    fn received(&self) -> u64;

    /// Total bytes sent. A change shows that a slow peer still reads.
    fn written(&self) -> u64;

    /// Allows `read` to take `bytes` bytes from now on. After them `read` returns `WouldBlock`, and
    /// [`Transport::starved`] is true. Without this limit, a peer that sends without a pause would keep the thread
    /// reading, and answers would never be written.
    fn refill(&mut self, bytes: usize);

    /// True when the limit of [`Transport::refill`] is used up, so more bytes may be waiting.
    fn starved(&self) -> bool;
}
