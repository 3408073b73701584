//! The state of the server: probes report it, and connections check it before they accept work. The state of
//! single models does not belong here.
//!
//! Invariant: the states follow each other in the order of [`State`].

use std::sync::atomic::{AtomicU8, Ordering};

/// The server's states, in the order in which they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Models are being loaded.
    Starting,
    /// Requests are served.
    Ready,
    /// A stop signal came. Probes report this to routers; requests are still served.
    Leaving,
    /// The time for leaving is over. Accepted requests are answered; new requests are refused.
    Draining,
}

impl State {
    /// The name of the state, as the server reports it.
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
    /// Changes the state for all threads.
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::SeqCst);
    }

    /// The current state.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::SeqCst) {
            0 => State::Starting,
            1 => State::Ready,
            2 => State::Leaving,
            _ => State::Draining,
        }
    }

    /// True only in [`State::Ready`].
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// True when new requests must be refused.
    pub fn is_draining(&self) -> bool {
        self.state() == State::Draining
    }
}
