//! The clock for everything that has a deadline. It is the system's clock, or in tests a clock that stands still until
//! the test advances it: so a test of "after 20 s" does not wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A monotonic clock. Clones are cheap, and all clones of a stopped clock show the same time.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Hand>>);

/// The state of a stopped clock.
struct Hand {
    /// The time when the clock was made.
    begun: Instant,
    /// How far it was advanced since then.
    nanoseconds: AtomicU64,
    /// Called after each advance, to wake threads that sleep until a deadline.
    rouse: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Clock {
    /// The system's monotonic clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that only [`Clock::advance`] moves.
    pub fn stopped() -> Clock {
        let (begun, rouse) = (Instant::now(), Mutex::default());
        Clock(Some(Arc::new(Hand { begun, nanoseconds: AtomicU64::new(0), rouse })))
    }

    /// The time of this clock.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(hand) => hand.begun + Duration::from_nanos(hand.nanoseconds.load(Ordering::SeqCst)),
        }
    }

    /// The longest time to sleep until `deadline`. `None` with a stopped clock before the deadline: sleep without a
    /// timeout, [`Clock::advance`] ends the sleep.
    pub fn until(&self, deadline: Instant) -> Option<Duration> {
        let left = deadline.saturating_duration_since(self.now());
        if self.0.is_some() && !left.is_zero() { None } else { Some(left) }
    }

    /// Calls `rouse` after every advance of a stopped clock. Does nothing with the system's clock.
    pub fn on_advance(&self, rouse: impl Fn() + Send + 'static) {
        if let Some(hand) = &self.0 {
            hand.rouse.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(rouse));
        }
    }

    /// Advances a stopped clock.
    ///
    /// # Panics
    /// If this is the system's clock.
    pub fn advance(&self, by: Duration) {
        let hand = self.0.as_ref().expect("only a stopped clock can be advanced");
        let nanoseconds = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        hand.nanoseconds.fetch_add(nanoseconds, Ordering::SeqCst);
        hand.rouse.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|rouse| rouse());
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a stopped clock" } else { "the system's clock" })
    }
}
