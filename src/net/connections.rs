//! The connections that are open, and what they share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::waker::Waker;
use crate::config::Limits;
use crate::ops::health::Readiness;

/// What connections share.
pub struct Shared<S> {
    pub service: S,
    pub limits: Limits,
    pub readiness: Arc<Readiness>,
    pub connections: Arc<Connections>,
}

/// The connections that are open: who may have one more, and how all are reached at once.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Waker>>>,
    all_gone: Condvar,
    next: AtomicU64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Waker>>> {
        // Nothing that runs under the lock can leave the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of `most` places; it is given back when the permit is dropped.
    pub(super) fn admit(self: &Arc<Self>, most: usize, waker: &Arc<Waker>) -> Option<Permit> {
        let mut open = self.lock();
        if open.len() >= most {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, waker.clone());
        Some(Permit { connections: self.clone(), number })
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Wakes every connection, to look at the readiness.
    pub fn ring_all(&self) {
        self.lock().values().for_each(|waker| waker.ring());
    }

    /// Waits until no connection is left, or the deadline; says how many are.
    pub fn wait_until_gone(&self, deadline: Instant) -> usize {
        let mut open = self.lock();
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            open = self.all_gone.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        open.len()
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
        open.remove(&self.number);
        if open.is_empty() {
            self.connections.all_gone.notify_all();
        }
    }
}
