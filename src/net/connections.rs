//! The open connections: their number, their limit, and what they share.
//!
//! Here belongs the state of a listener as a whole. One connection is served in [`super::connection`].
//!
//! Invariant: each open connection holds one [`Permit`], and there are never more permits than the limit.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::tls::Identity;
use super::waker::Bells;
use crate::clock::Clock;
use crate::config::Limits;
use crate::memory::Budget;
use crate::metrics::Counters;
use crate::readiness::Readiness;

/// What all connections of a listener share.
pub struct Shared<S> {
    pub service: S,
    /// The TLS certificate and key; `None` for a port without TLS.
    pub identity: Option<Arc<Identity>>,
    pub limits: Limits,
    pub readiness: Arc<Readiness>,
    pub connections: Arc<Connections>,
    pub counters: Arc<Counters>,
    /// The memory budget of all clients together.
    pub memory: Arc<Budget>,
    pub clock: Clock,
}

/// Counts the open connections, and wakes all of them at once.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<usize>,
    all_gone: Condvar,
    next: AtomicU64,
    /// Conversations that have noticed the drain.
    departures: Departures,
    bells: Arc<Bells>,
    buffers: Buffers,
}

impl Connections {
    /// # Errors
    /// When the process has no free file descriptor for the common bell.
    pub fn new() -> io::Result<Connections> {
        Ok(Connections {
            open: Mutex::default(),
            all_gone: Condvar::new(),
            next: AtomicU64::new(0),
            departures: Departures::default(),
            bells: Arc::new(Bells::new()?),
            buffers: Buffers::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // A panic cannot leave the number half changed, so a poisoned lock is usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for one more connection, or `None` when `most` are open. Dropping the permit frees the place.
    pub(super) fn admit(self: &Arc<Self>, most: usize) -> Option<Permit> {
        let mut open = self.lock();
        if *open >= most {
            return None;
        }
        *open += 1;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(Permit { connections: self.clone(), number })
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        *self.lock()
    }

    /// The buffers that conversations borrow while they read.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// When conversations leave at a drain.
    pub(super) fn departures(&self) -> &Departures {
        &self.departures
    }

    pub(super) fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// Wakes every connection, so that it notices what has changed.
    pub fn ring_all(&self) {
        self.bells.ring_all();
    }

    /// Waits until no connection is open, or until `deadline`. Returns how many are still open.
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

/// Spreads the ends of conversations over a time, so that their clients do not all come back at once.
#[derive(Debug, Default)]
pub struct Departures(AtomicU64);

impl Departures {
    /// The part of `spread` that the next conversation stays. Any number of them is spread evenly, because the parts are
    /// multiples of the golden ratio without their whole numbers.
    pub(super) fn next(&self, spread: Duration) -> Duration {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let number = self.0.fetch_add(1, Ordering::Relaxed) as f64;
        spread.mul_f64((number * GOLDEN).fract())
    }
}

/// The right to have one connection open.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    number: u64,
}

impl Permit {
    /// The connection's number, from 0 since the start. Its thread is named `conn-<number>`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departures_are_spread_evenly_over_the_whole_time() {
        let (departures, spread) = (Departures::default(), Duration::from_secs(10));
        let mut counts = [0; 10];
        for _ in 0..1000 {
            counts[departures.next(spread).as_secs() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (95..=105).contains(count)), "{counts:?}");
        assert_eq!(departures.next(Duration::ZERO), Duration::ZERO);
    }
}
