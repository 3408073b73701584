//! Time, as everything that has a deadline sees it: the machine's, or in tests a clock that stands still
//! until it is set forward, so that a test of "after 20 s" waits for nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Cheap to clone; all clones of a stopped clock move together.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Hand>>);

/// A clock's hand that is moved by [`Clock::advance`].
struct Hand {
    begun: Instant,
    nanoseconds: AtomicU64,
    /// Called after each move: sleepers must look at the time again.
    rouse: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Clock {
    /// The machine's monotonic clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that only [`Clock::advance`] moves.
    pub fn stopped() -> Clock {
        let (begun, rouse) = (Instant::now(), Mutex::default());
        Clock(Some(Arc::new(Hand { begun, nanoseconds: AtomicU64::new(0), rouse })))
    }

    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(hand) => hand.begun + Duration::from_nanos(hand.nanoseconds.load(Ordering::SeqCst)),
        }
    }

    /// How long a sleep until `deadline` may last; `None` when it ends by being roused.
    pub fn until(&self, deadline: Instant) -> Option<Duration> {
        let left = deadline.saturating_duration_since(self.now());
        if self.0.is_some() && !left.is_zero() { None } else { Some(left) }
    }

    /// Has `rouse` called whenever a stopped clock is moved.
    pub fn on_advance(&self, rouse: impl Fn() + Send + 'static) {
        if let Some(hand) = &self.0 {
            hand.rouse.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(rouse));
        }
    }

    /// Sets a stopped clock forward.
    ///
    /// # Panics
    /// When it is the machine's clock.
    pub fn advance(&self, by: Duration) {
        let hand = self.0.as_ref().expect("only a stopped clock can be set forward");
        let nanoseconds = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        hand.nanoseconds.fetch_add(nanoseconds, Ordering::SeqCst);
        hand.rouse.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|rouse| rouse());
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a stopped clock" } else { "the machine's clock" })
    }
}
