//! Several threads for one run, where it was measured that they help: lone large requests on a machine with many
//! cores. Off unless asked for, because several workers fill the cores as well, and serve several requests.
//!
//! A feature of the build (`intra-op`), for its library brings a thread pool of its own.

/// A run with threads must take less than this share of the time without.
const WORTHWHILE: f64 = 0.9;

/// What was found out about threads.
#[derive(Debug, Clone)]
pub struct ThreadFinding {
    pub threads: usize,
    /// Milliseconds of a run, with one thread and with all.
    pub alone: f64,
    pub together: f64,
}

impl ThreadFinding {
    pub fn helps(&self) -> bool {
        self.together < self.alone * WORTHWHILE
    }
}

#[cfg(feature = "intra-op")]
pub(super) use with::Threads;
#[cfg(not(feature = "intra-op"))]
pub(super) use without::Threads;

#[cfg(feature = "intra-op")]
mod with {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tract_onnx::tract_core::tract_linalg::multithread::{Executor, multithread_tract_scope};

    use super::super::LoadError;

    /// A pool, shared by all workers of a model.
    #[derive(Debug, Clone)]
    pub struct Threads(Executor);

    impl Threads {
        pub fn new(count: usize) -> Result<Threads, LoadError> {
            // It panics where threads cannot be had.
            let pool = catch_unwind(AssertUnwindSafe(|| Executor::multithread_with_name(count, "intra-op")));
            pool.map(Threads).map_err(|_| LoadError {
                what: "intra_op_threads",
                cause: format!("{count} threads cannot be started"),
                advice: None,
            })
        }

        pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
            multithread_tract_scope(self.0.clone(), work)
        }
    }
}

#[cfg(not(feature = "intra-op"))]
mod without {
    use std::convert::Infallible;

    use super::super::LoadError;

    /// There are none.
    #[derive(Debug, Clone)]
    pub struct Threads(Infallible);

    impl Threads {
        pub fn new(_count: usize) -> Result<Threads, LoadError> {
            Err(LoadError {
                what: "intra_op_threads",
                cause: "this onnxd was built without threads inside a run".into(),
                advice: Some("leave it out, or build with `--features intra-op`".into()),
            })
        }

        pub fn run<T>(&self, _work: impl FnOnce() -> T) -> T {
            match self.0 {}
        }
    }
}
