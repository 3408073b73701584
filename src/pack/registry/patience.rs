//! Repeats failed requests to a registry: which errors are worth another attempt, and how long to wait before it.

use std::thread;
use std::time::Duration;

use http::StatusCode;

use super::{PackError, RegistryError};
use crate::transfer::Progress;
use crate::transfer::agent::is_passing;

/// The waits between attempts that make no progress. When all are used, the next failure is final.
pub const BACK_OFF: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Why an attempt failed.
pub enum Failure {
    /// Another attempt may succeed.
    Again(RegistryError),
    /// Another attempt would fail too.
    Final(PackError),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        match error {
            RegistryError::Unreachable { .. } => Failure::Again(error),
            _ => Failure::Final(error.into()),
        }
    }
}

impl Failure {
    /// The failure for an error that came with `status`.
    pub fn of(status: StatusCode, error: RegistryError) -> Failure {
        if is_passing(status) { Failure::Again(error) } else { Failure::Final(error.into()) }
    }
}

/// Calls `attempt` until it succeeds, fails with [`Failure::Final`], or has failed once more than there are waits in
/// [`BACK_OFF`]. `attempt` must be safe to repeat. `what` names it in messages.
pub fn patiently<T>(
    what: &str,
    progress: &Progress,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, PackError> {
    let mut waits = BACK_OFF.iter();
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again(error)) => error,
        };
        let Some(wait) = waits.next() else { return Err(error.into()) };
        progress.say(&format!("{what}: {error}; again in {} ms", wait.as_millis()));
        thread::sleep(*wait);
    }
}
