//! The wake-up protocol between a connection and the workers that reply to it.
//!
//! The connection declares that it sleeps ([`Waker::sleeps`]), looks once more for replies, and only then sleeps on its
//! bell. A worker puts its reply in first, and then wakes. So either the connection's last look finds the reply, or the
//! worker finds the declaration and rings: no wake-up is lost. While the connection is awake, a wake-up is one atomic
//! operation and no system call. `tests/loom` checks this for every order of steps.

use std::sync::Arc;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

/// What a sleeping connection waits on, and a worker rings.
pub trait Ring {
    fn ring(&self);
}

/// One connection's wake-up, as workers hold it.
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
            // Not rung under the lock: the sleeper often runs at once, and would find it taken.
            let bell = self.bell().clone();
            if let Some(bell) = bell {
                bell.ring();
            }
        }
    }

    /// Gives the connection a bell, or takes it away. Only the connection calls this, while it is awake.
    pub fn equip(&self, bell: Option<Arc<B>>) {
        *self.bell() = bell;
    }

    /// From now on a reply rings the bell, if the connection sleeps for replies at all.
    ///
    /// A swap, though the value before is not needed: it costs what a store of this order costs, and puts the
    /// connection's changes and the workers' into one order without further thought.
    pub fn sleeps(&self, for_replies: bool) {
        self.asleep.swap(for_replies, Ordering::SeqCst);
    }

    /// The connection is awake: a reply needs to ring nothing.
    pub fn is_awake(&self) {
        self.asleep.swap(false, Ordering::SeqCst);
    }

    fn bell(&self) -> MutexGuard<'_, Option<Arc<B>>> {
        // Nothing that runs under this lock can leave half a change.
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
