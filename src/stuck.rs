//! Detects a run that never ends. A thread cannot be stopped from outside, so with `--stuck-timeout` the server becomes
//! not ready and ends, and an orchestrator starts it again.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::inference::Workers;
use crate::readiness::{Readiness, State};

/// Watches the workers of a server.
pub struct StuckWatch {
    /// The workers. They are dropped when the server ends, and then the watch ends too.
    pub workers: Weak<Workers>,
    /// Becomes "leaving" when a worker is stuck.
    pub readiness: Arc<Readiness>,
    /// The longest time that a worker may be busy with one request or batch.
    pub limit: Duration,
}

impl StuckWatch {
    /// Starts the thread. It calls `stuck` once when a worker has been busy for longer than the limit, and ends.
    pub fn start(self, stuck: impl FnOnce() + Send + 'static) -> io::Result<()> {
        // So a stuck run is detected at most a quarter of the limit (or one second) too late.
        let pause = (self.limit / 4).clamp(Duration::from_millis(1), Duration::from_secs(1));
        std::thread::Builder::new().name("stuck".into()).spawn(move || {
            while let Some(workers) = self.workers.upgrade() {
                if self.judge(workers.busiest()) {
                    return stuck();
                }
                drop(workers);
                std::thread::sleep(pause);
            }
        })?;
        Ok(())
    }

    /// Whether `busiest`, the worker that has been busy for the longest time, is stuck. If so, the server is no longer
    /// ready.
    fn judge(&self, busiest: Option<(String, Duration)>) -> bool {
        let Some((worker, busy)) = busiest.filter(|(_, busy)| *busy > self.limit) else { return false };
        // A server that is draining is not ready already.
        if self.readiness.state() == State::Ready {
            self.readiness.set(State::Leaving);
        }
        log::error!(
            "worker {worker} has been busy with one request for {busy:?}, longer than --stuck-timeout ({:?}): the \
             server is no longer ready, and ends",
            self.limit
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_takes_too_long_makes_the_server_unready() {
        let readiness = Arc::new(Readiness::default());
        readiness.set(State::Ready);
        let limit = Duration::from_secs(5);
        let watch = StuckWatch { workers: Weak::new(), readiness: readiness.clone(), limit };
        let busy = |seconds| Some(("m-w0".to_owned(), Duration::from_secs(seconds)));
        assert!(!watch.judge(None) && !watch.judge(busy(5)) && readiness.is_ready());
        assert!(watch.judge(busy(6)) && !readiness.is_ready());
    }
}
