//! What is worth another attempt, and when.

use std::thread;
use std::time::Duration;

use http::StatusCode;

use super::{PackError, RegistryError};
use crate::transfer::Progress;
use crate::transfer::agent::is_passing;

/// Waits between attempts that bring nothing further; after the last, it has failed.
pub const BACK_OFF: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

pub enum Failure {
    /// It may be better next time.
    Again(RegistryError),
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
    /// By the status that was answered.
    pub fn of(status: StatusCode, error: RegistryError) -> Failure {
        if is_passing(status) { Failure::Again(error) } else { Failure::Final(error.into()) }
    }
}

/// Does what can be done twice, until it is done or has failed for good.
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
