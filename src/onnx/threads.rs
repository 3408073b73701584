//! Several threads for one request. The kernels share their work with other threads, if these help
//! ([`onnxd_kernels::crew`]). Some models get faster by that, and others consist of operators that are too short to be shared.
//! So a run is measured both ways.
//!
//! What does not belong here: which threads help, and when (`engine`).

use super::trial;

pub use onnxd_kernels::crew::{Help, Shift};

/// A run with threads must take less than this share of the time of a run without them.
const WORTHWHILE: f64 = 0.9;

/// Each way is measured this often, in turns, because other programs disturb single measurements.
const TURNS: usize = 2;

/// The result of measuring a run with threads.
#[derive(Debug, Clone)]
pub struct ThreadFinding {
    /// The number of threads.
    pub threads: usize,
    /// Milliseconds of a run with one thread.
    pub alone: f64,
    /// Milliseconds of a run with all threads.
    pub together: f64,
}

impl ThreadFinding {
    /// Returns whether the threads make a run faster by at least 10 %.
    pub fn helps(&self) -> bool {
        self.together < self.alone * WORTHWHILE
    }
}

/// Measures `run` with one thread, and with `threads` of them. `None`: a run fails.
pub(super) fn measure(threads: usize, mut run: impl FnMut() -> bool) -> Option<ThreadFinding> {
    let (mut alone, mut together) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        alone = alone.min(trial::least_of_clock(&mut run)?);
        let shift = Shift::open()?;
        let helped = std::thread::scope(|scope| {
            // It ends before the scope waits for the threads that help.
            let shift = shift;
            for _ in 1..threads {
                let help = shift.help();
                scope.spawn(move || help.work(|| false));
            }
            trial::least_of_clock(&mut run)
        });
        together = together.min(helped?);
    }
    Some(ThreadFinding { threads, alone, together })
}
