//! The connections that are open, and what they share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::tls::Identity;
use super::waker::Bells;
use crate::clock::Clock;
use crate::config::Limits;
use crate::memory::Budget;
use crate::metrics::Counters;
use crate::readiness::Readiness;

/// What connections share.
pub struct Shared<S> {
    pub service: S,
    /// Whom TLS clients meet; `None` is a plain port.
    pub identity: Option<Arc<Identity>>,
    pub limits: Limits,
    pub readiness: Arc<Readiness>,
    pub connections: Arc<Connections>,
    pub counters: Arc<Counters>,
    /// What all clients together may make the server hold.
    pub memory: Arc<Budget>,
    pub clock: Clock,
}

/// The connections that are open: who may have one more, and how all are reached at once.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<usize>,
    all_gone: Condvar,
    next: AtomicU64,
    bells: Arc<Bells>,
}

impl Connections {
    pub fn new() -> io::Result<Connections> {
        let bells = Arc::new(Bells::new()?);
        Ok(Connections { open: Mutex::default(), all_gone: Condvar::new(), next: AtomicU64::new(0), bells })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // Nothing that runs under the lock can leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of `most` places; it is given back when the permit is dropped.
    pub(super) fn admit(self: &Arc<Self>, most: usize) -> Option<Permit> {
        let mut open = self.lock();
        if *open >= most {
            return None;
        }
        *open += 1;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(Permit { connections: self.clone(), number })
    }

    pub fn count(&self) -> usize {
        *self.lock()
    }

    pub(super) fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// Wakes every connection, to look at what has changed.
    pub fn ring_all(&self) {
        self.bells.ring_all();
    }

    /// Waits until no connection is left, or the deadline; says how many are.
    pub fn wait_until_gone(&self, deadline: Instant) -> usize {
        let mut open = self.lock();
        while *open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            open = self.all_gone.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *open
    }
}

/// A connection's place among the open ones.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    number: u64,
}

impl Permit {
    /// The connection's number since the start, as its thread and log lines have it.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        *open -= 1;
        if *open == 0 {
            self.connections.all_gone.notify_all();
        }
    }
}
