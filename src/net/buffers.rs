//! Large buffers that connections borrow for the time in which they read.
//!
//! Invariant: a sleeping connection has no buffer, so there are about as many as running threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a buffer.
pub const BUFFER: usize = 32 << 10;

/// The most buffers that are kept for the next reads. Only running threads need one, so there are seldom more than the
/// machine has cores.
const SPARE: usize = 16;

/// The buffers that nobody has borrowed.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    /// Lends a buffer of [`BUFFER`] bytes.
    pub fn lend(&self) -> Box<[u8]> {
        let spare = self.lock().pop();
        spare.unwrap_or_else(|| vec![0; BUFFER].into())
    }

    /// Takes a buffer back.
    pub fn give_back(&self, buffer: Box<[u8]>) {
        let mut spare = self.lock();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }

    /// How many buffers nobody has borrowed.
    pub fn spare(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // A panic cannot leave the list half changed, so a poisoned lock is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
