//! The pieces of work on a model that may be under way at the same time: as many as it has workers.
//!
//! A worker begins one before it serves jobs, and so does a [`guest`](super::guest). So a model never uses more cores than
//! `instance_group.count` says. This module also knows how long runs take, and how many guests have jobs.
//!
//! Which jobs are served does not belong here.
//!
//! Invariants: there are never more [`Run`]s than places. While a worker waits for a place, or while many guests have jobs,
//! no guest gets a place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::{Code, RequestError};
use crate::panics::panic_message;

/// What one place is busy with, and since when: decoding a request's files, one run of the engine, pooling, or making a
/// result. `None` inside means that it is not busy.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<(Instant, Thread)>>>);

impl Pulse {
    fn set(&self, busy: Option<(Instant, Thread)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = busy;
    }

    /// How long the current piece of work has taken, and the thread that does it; `None` when the place is not busy.
    pub fn busy(&self) -> Option<(Duration, Thread)> {
        let busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        busy.as_ref().map(|(since, thread)| (since.elapsed(), thread.clone()))
    }

    /// Does one piece of work. A panic in the engine or in a file's decoder becomes the error `inference_failed`.
    pub fn during<T>(&self, work: impl FnOnce() -> Result<T, RequestError>) -> Result<T, RequestError> {
        self.set(Some((Instant::now(), std::thread::current())));
        let done = caught(work);
        self.set(None);
        done
    }
}

/// Does a piece of work. A panic in it becomes the error `inference_failed`.
pub fn caught<T>(work: impl FnOnce() -> Result<T, RequestError>) -> Result<T, RequestError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = format!("the engine panicked on this input: {}", panic_message(panic.as_ref()));
        Err(RequestError::new(Code::InferenceFailed, message))
    })
}

/// The places of one model, and how long its runs take.
#[derive(Debug)]
pub struct Runs {
    places: Mutex<Places>,
    freed: Condvar,
    /// For each family of plans, the nanoseconds of the last run that shows what the next one takes.
    durations: Box<[AtomicU64]>,
}

#[derive(Debug)]
struct Places {
    all: usize,
    free: Vec<Pulse>,
    /// How many workers wait for a place.
    waiting: usize,
    /// When the current period began, in which guests are counted.
    period: Instant,
    /// How many guests have had jobs in the current period, and in the one before.
    seen: usize,
    seen_before: usize,
}

/// The period in which a guest was counted last.
#[derive(Debug, Default)]
pub struct Visit(Option<Instant>);

/// The most guests with jobs, for each place. With more of them, workers serve the same jobs in less time: they run many in
/// succession or in a batch, and the answers then leave together, so that fewer threads must be woken.
const GUESTS_OF_A_PLACE: usize = 2;

impl Places {
    /// Counts a guest that has a job. A period has the time of some ten runs of `duration`, with all that belongs to them.
    fn count(&mut self, visit: &mut Visit, duration: Duration, now: Instant) {
        const LEAST: Duration = Duration::from_micros(200);
        const RUNS: u32 = 10;
        let length = LEAST + duration * RUNS;
        let passed = now.saturating_duration_since(self.period);
        if passed >= length {
            self.seen_before = if passed < length * 2 { self.seen } else { 0 };
            (self.period, self.seen) = (now, 0);
        }
        if visit.0 != Some(self.period) {
            visit.0 = Some(self.period);
            self.seen += 1;
        }
    }

    fn is_crowded(&self) -> bool {
        self.seen.max(self.seen_before) > GUESTS_OF_A_PLACE * self.all
    }
}

/// A piece of work that is under way. Dropping it frees its place.
#[derive(Debug)]
pub struct Run {
    runs: Arc<Runs>,
    pulse: Pulse,
}

impl Runs {
    /// One place for each of `pulses`, which show whether it is busy. `families` is the number of the session's families.
    pub fn new(pulses: Vec<Pulse>, families: usize) -> Arc<Runs> {
        Arc::new(Runs {
            places: Mutex::new(Places {
                all: pulses.len(),
                free: pulses,
                waiting: 0,
                period: Instant::now(),
                seen: 0,
                seen_before: 0,
            }),
            freed: Condvar::new(),
            durations: (0..families).map(|_| AtomicU64::new(u64::MAX)).collect(),
        })
    }

    /// Waits for a place. Only workers may wait.
    pub fn begin(self: &Arc<Self>) -> Run {
        let mut places = self.lock();
        places.waiting += 1;
        let pulse = loop {
            match places.free.pop() {
                Some(pulse) => break pulse,
                None => places = self.freed.wait(places).unwrap_or_else(PoisonError::into_inner),
            }
        };
        places.waiting -= 1;
        Run { runs: self.clone(), pulse }
    }

    /// Takes a place for a guest if one is free, no worker waits for it, and few guests have jobs now.
    pub fn try_begin(self: &Arc<Self>, visit: &mut Visit) -> Option<Run> {
        let mut places = self.lock();
        places.count(visit, self.shortest(), Instant::now());
        if places.waiting > 0 || places.is_crowded() {
            return None;
        }
        let pulse = places.free.pop()?;
        Some(Run { runs: self.clone(), pulse })
    }

    /// Takes a place for a worker that helps another one, if one is free.
    pub fn try_help(self: &Arc<Self>) -> Option<Run> {
        let mut places = self.lock();
        let pulse = if places.waiting == 0 { places.free.pop() } else { None };
        Some(Run { runs: self.clone(), pulse: pulse? })
    }

    /// Remembers how long a run of `family` took, for runs that do the same work.
    pub fn took(&self, family: usize, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.durations[family].store(nanoseconds, Ordering::Relaxed);
    }

    /// Whether the last run of `family` took at most `limit`. False when none is known.
    pub fn is_short(&self, family: usize, limit: Duration) -> bool {
        Duration::from_nanos(self.durations[family].load(Ordering::Relaxed)) <= limit
    }

    /// The time of the last run of the family with the shortest runs; more than any limit when none is known.
    pub fn shortest(&self) -> Duration {
        let all = self.durations.iter().map(|duration| duration.load(Ordering::Relaxed));
        Duration::from_nanos(all.min().unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // A panic cannot leave the values half changed, so a poisoned lock is usable.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// What shows that the place is busy.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A panic may have ended the work before its end.
        self.pulse.set(None);
        let mut places = self.runs.lock();
        places.free.push(self.pulse.clone());
        if places.waiting > 0 {
            self.runs.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_during_work_is_an_error_of_the_request_and_the_place_is_free_again() {
        let pulse = Pulse::default();
        let error = pulse.during::<()>(|| panic!("out of bounds")).unwrap_err();
        assert_eq!(error.code, Code::InferenceFailed);
        assert_eq!(error.message, "the engine panicked on this input: out of bounds");
        assert!(pulse.busy().is_none());
        assert!(pulse.during(|| Ok(pulse.busy().is_some())).unwrap());
    }

    #[test]
    fn there_are_never_more_runs_than_places_and_a_waiting_worker_is_next() {
        let runs = Runs::new(vec![Pulse::default(); 2], 1);
        let visit = &mut Visit::default();
        let (first, second) = (runs.try_begin(visit).unwrap(), runs.begin());
        assert!(runs.try_begin(visit).is_none());
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| runs.begin());
            while runs.lock().waiting == 0 {
                std::thread::yield_now();
            }
            // The place becomes free, but the worker has not noticed it yet.
            let mut places = runs.lock();
            places.free.push(Pulse::default());
            drop(places);
            assert!(runs.try_begin(visit).is_none(), "a guest goes behind a waiting worker");
            drop(first);
            drop(worker.join().unwrap());
        });
        drop(second);
        assert!(runs.try_begin(visit).is_some());
    }

    #[test]
    fn guests_get_no_place_while_there_are_many_and_get_places_again_when_there_are_few() {
        let runs = Runs::new(vec![Pulse::default()], 1);
        let (mut places, mut visits) = (runs.lock(), [Visit(None), Visit(None), Visit(None)]);
        let (begun, run) = (places.period, Duration::from_micros(30));
        let mut count = |guest: usize, micros| {
            places.count(&mut visits[guest], run, begun + Duration::from_micros(micros));
            places.is_crowded()
        };
        assert!((0..10).all(|at| !count(at % 2, 10 * at as u64)), "two are few, however many jobs they have");
        assert!(count(2, 499));
        assert!(count(0, 500), "there were many in the period before");
        assert!(!count(0, 1000));
        assert!(!count(1, 1001) && count(2, 1002));
        assert!(!count(0, 9000), "nothing came for a long time");
    }

    #[test]
    fn a_family_is_short_only_after_a_short_run_of_its_own() {
        let (runs, limit) = (Runs::new(vec![Pulse::default()], 2), Duration::from_micros(100));
        assert!(runs.shortest() > Duration::from_secs(3600));
        runs.took(1, Duration::from_micros(100));
        assert!(runs.is_short(1, limit) && !runs.is_short(0, limit) && runs.shortest() == limit);
        runs.took(1, Duration::from_micros(101));
        assert!(!runs.is_short(1, limit));
    }
}
