//! Counts the workers and the guests of all models together. How they work does not belong here: see
//! [`worker`](super::worker) and [`guest`](super::guest).
//!
//! Invariant: there are never more than the limits here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most workers that all models together may have. When the system has no memory for another thread's stack,
/// the whole program can end instead of returning an error. This limit stays far below that point.
pub const MOST_WORKERS: usize = 4096;

/// The most guests of all models together that run jobs. Each keeps memory in its thread, as [`guest`](super::guest) says.
pub const MOST_GUESTS: usize = 32;

/// Counts the workers and the guests of all models.
#[derive(Debug, Clone, Default)]
pub struct Places {
    workers: Arc<AtomicUsize>,
    guests: Arc<AtomicUsize>,
}

/// The place of one worker or guest. Dropping it makes the place free again.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// The place of a worker, or an error when there are [`MOST_WORKERS`].
    pub(super) fn take_worker(&self) -> std::io::Result<Place> {
        Place::take(&self.workers, MOST_WORKERS).ok_or_else(|| {
            std::io::Error::other(format!(
                "all models together may have {MOST_WORKERS} workers: give them fewer with `instance_group.count` in \
                 model.json, or with --workers"
            ))
        })
    }

    /// The place of a guest, or `None` when there are [`MOST_GUESTS`].
    pub(super) fn take_guest(&self) -> Option<Place> {
        Place::take(&self.guests, MOST_GUESTS)
    }
}

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        let fits = |taken: usize| (taken < most).then_some(taken + 1);
        let result = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        result.is_ok().then(|| Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_can_be_used_again() {
        let places = Places::default();
        let taken: Vec<Place> = (0..MOST_WORKERS).map(|_| places.take_worker().unwrap()).collect();
        let error = places.take_worker().expect_err("there is one too many").to_string();
        assert!(error.contains("instance_group.count"), "{error}");
        drop(taken);
        assert!(places.take_worker().is_ok());
    }
}
