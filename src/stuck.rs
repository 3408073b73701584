//! Runs that never end. Nothing can stop one from outside: a thread cannot be ended. So with `--stuck-timeout` the server
//! says that it is not ready, and ends; an orchestrator starts it again.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::inference::Workers;
use crate::readiness::{Readiness, State};

/// What is looked at, and how long a worker may be busy with one thing.
pub struct StuckWatch {
    /// Gone when the server is.
    pub workers: Weak<Workers>,
    pub readiness: Arc<Readiness>,
    pub limit: Duration,
}

impl StuckWatch {
    /// Starts its thread, which calls `stuck` when a worker has been busy for too long, and ends.
    pub fn start(self, stuck: impl FnOnce() + Send + 'static) -> io::Result<()> {
        // A run is found out to be too long by a quarter of the limit too late at most.
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

    /// Whether the worker that has been busy for longest is stuck; then the server is not ready from now on.
    fn judge(&self, busiest: Option<(String, Duration)>) -> bool {
        let Some((worker, busy)) = busiest.filter(|(_, busy)| *busy > self.limit) else { return false };
        // While it drains it says so already.
        if self.readiness.state() == State::Ready {
            self.readiness.set(State::Leaving);
        }
        log::error!(
            "worker {worker} has been busy with one request for {busy:?}, longer than --stuck-timeout ({:?}): the \
             server is not ready any more, and ends",
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
