//! How another thread rouses a connection that sleeps in `poll`: an `eventfd`, written only when the
//! sleeper is asleep.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::engine::Wake;

/// One connection's bell.
///
/// The sleeper declares itself with [`Waker::prepare_to_sleep`], looks once more for work, and only
/// then polls; a worker that put its reply in before that look is seen by it, one that came after
/// sees the declaration and writes. So no wake-up is lost, and none costs a system call while the
/// connection is awake anyway.
#[derive(Debug)]
pub struct Waker {
    bell: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    pub fn new() -> std::io::Result<Waker> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Waker { bell, asleep: AtomicBool::new(false) })
    }

    /// From now on a wake-up rings the bell.
    pub fn prepare_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// The sleeper is awake again; `rung` is what poll said of the bell.
    pub fn awake(&self, rung: bool) {
        self.asleep.store(false, Ordering::SeqCst);
        if rung {
            // A bell that was rung after poll looked stays rung and cuts the next sleep short, once.
            let mut rings = [0; 8];
            let _ = rustix::io::read(&self.bell, &mut rings);
        }
    }

    /// Rouses the sleeper whatever it declared.
    pub fn ring(&self) {
        // The only error of a write of 1 is a counter that is full: rung enough.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

impl Wake for Waker {
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
