//! Whether the server takes work: what probes ask, and what connections look at.

use std::sync::atomic::{AtomicU8, Ordering};

/// The server's state, in the order in which it is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Models are being loaded.
    Starting,
    /// Requests are served.
    Ready,
    /// A signal to stop came, and routers are told by the probes; requests are served as before.
    Leaving,
    /// The time for that is over: what is accepted is answered, nothing more is taken.
    Draining,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Leaving => "leaving",
            State::Draining => "draining",
        }
    }
}

/// The state, shared between threads.
#[derive(Debug)]
pub struct Readiness(AtomicU8);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(AtomicU8::new(State::Starting as u8))
    }
}

impl Readiness {
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::SeqCst);
    }

    pub fn state(&self) -> State {
        match self.0.load(Ordering::SeqCst) {
            0 => State::Starting,
            1 => State::Ready,
            2 => State::Leaving,
            _ => State::Draining,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    pub fn is_draining(&self) -> bool {
        self.state() == State::Draining
    }
}
