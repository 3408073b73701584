//! Runs one request with several threads, if a measurement shows that this is faster. It helps with single large
//! requests on a machine with many cores. It is off by default, because several workers also use all cores, and they
//! serve several requests at once.
//!
//! It is a feature of the build (`intra-op`), because its library adds a thread pool. What does not belong here: the
//! threads of workers (`engine`). Invariant: both builds have the same functions.

/// A run with threads must take less than this share of the time of a run without them.
const WORTHWHILE: f64 = 0.9;

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

#[cfg(feature = "intra-op")]
pub(super) use with::Threads;
#[cfg(not(feature = "intra-op"))]
pub(super) use without::Threads;

#[cfg(feature = "intra-op")]
mod with {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tract_onnx::tract_core::tract_linalg::multithread::{Executor, multithread_tract_scope};

    use super::super::LoadError;

    /// A pool of threads that all workers of a model share.
    #[derive(Debug, Clone)]
    pub struct Threads(Executor);

    impl Threads {
        /// Starts `count` threads.
        pub fn new(count: usize) -> Result<Threads, LoadError> {
            // The library panics if the threads cannot be started.
            let pool = catch_unwind(AssertUnwindSafe(|| Executor::multithread_with_name(count, "intra-op")));
            pool.map(Threads).map_err(|_| LoadError {
                what: "intra_op_threads",
                cause: format!("{count} threads cannot be started"),
                advice: None,
            })
        }

        /// Does `work`; tract divides it among the threads.
        pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
            multithread_tract_scope(self.0.clone(), work)
        }
    }
}

#[cfg(not(feature = "intra-op"))]
mod without {
    use std::convert::Infallible;

    use super::super::LoadError;

    /// A type without values: this build has no thread pools.
    #[derive(Debug, Clone)]
    pub struct Threads(Infallible);

    impl Threads {
        /// Always fails: this build has no threads inside a run.
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
