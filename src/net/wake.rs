//! The wake-up protocol between a connection and the workers that reply to it.
//!
//! The connection first declares that it will sleep ([`Waker::sleeps`]), then looks for replies once more, and only then
//! waits for its bell. A worker first sends its reply, and then calls [`Waker::wake`]. So either the connection finds the
//! reply in its last look, or the worker sees the declaration and rings the bell.
//!
//! Only the protocol belongs here. Bells and `poll` are in [`super::waker`] and [`super::socket`].
//!
//! Invariants: no wake-up is lost; `tests/loom` checks this for every order of steps. While the connection is awake, a
//! wake-up costs one atomic operation and no system call.

use std::sync::Arc;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

/// What a sleeping connection waits for, and a worker rings.
pub trait Ring {
    /// Ends the current or the next wait for this bell. Never blocks.
    fn ring(&self);
}

/// Wakes one connection. The connection and all workers that reply to it share it.
#[derive(Debug)]
pub struct Waker<B> {
    asleep: AtomicBool,
    bell: Mutex<Option<Arc<B>>>,
}

impl<B> Default for Waker<B> {
    fn default() -> Self {
        Waker { asleep: AtomicBool::new(false), bell: Mutex::new(None) }
    }
}

impl<B: Ring> Waker<B> {
    /// Rings the bell if the connection sleeps for replies.
    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The lock is free before the ring: the connection often runs at once, and would have to wait for it.
            let bell = self.bell().clone();
            if let Some(bell) = bell {
                bell.ring();
            }
        }
    }

    /// Sets or removes the connection's bell. Only the connection calls this, while it is awake.
    pub fn equip(&self, bell: Option<Arc<B>>) {
        *self.bell() = bell;
    }

    /// Declares that the connection is about to sleep. With `for_replies`, the next [`Waker::wake`] rings the bell.
    ///
    /// This is a swap although the old value is not used: it costs as much as a sequentially consistent store, and it
    /// puts the changes of the connection and of the workers into one order that is easy to reason about.
    pub fn sleeps(&self, for_replies: bool) {
        self.asleep.swap(for_replies, Ordering::SeqCst);
    }

    /// Declares that the connection is awake: [`Waker::wake`] rings nothing.
    pub fn is_awake(&self) {
        self.asleep.swap(false, Ordering::SeqCst);
    }

    fn bell(&self) -> MutexGuard<'_, Option<Arc<B>>> {
        // A panic cannot leave the value half changed, so a poisoned lock is usable.
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
