//! Bells (`eventfd`s) with which another thread wakes a connection that sleeps in `poll`.
//!
//! A connection borrows its own bell from a pool, and only while it waits for a reply. So an idle connection uses one
//! file descriptor, its socket. All connections also poll one common bell, which announces what concerns all of them: the
//! server stops, or the tokens have changed. A common bell is rung once and then replaced.
//!
//! The order of steps that loses no wake-up is in [`super::wake`]; `poll` itself is called in [`super::socket`].
//!
//! Invariants: a bell in the pool belongs to no connection. A ring that comes too late at most shortens one later sleep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::wake::{Ring, Waker};
use crate::engine::Wake;

/// An `eventfd`: one thread polls it, another rings it.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// # Errors
    /// When the process has no free file descriptor.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The bells of all connections.
#[derive(Debug)]
pub struct Bells {
    spare: Mutex<Vec<Arc<Bell>>>,
    common: Mutex<Common>,
}

/// The bell that all connections poll, and its replacement. The replacement is created in advance, so that it exists even
/// when file descriptors have run out.
#[derive(Debug)]
struct Common {
    now: Arc<Bell>,
    next: Option<Arc<Bell>>,
}

/// The most unused bells in the pool.
const SPARE: usize = 64;

impl Bells {
    /// # Errors
    /// When the process has no free file descriptor.
    pub fn new() -> io::Result<Bells> {
        let common = Common { now: Arc::new(Bell::new()?), next: Some(Arc::new(Bell::new()?)) };
        Ok(Bells { spare: Mutex::default(), common: Mutex::new(common) })
    }

    /// The current common bell. After it was rung, this is another one.
    pub fn common(&self) -> Arc<Bell> {
        lock(&self.common).now.clone()
    }

    /// Wakes every connection. Set what they must notice before calling this.
    pub fn ring_all(&self) {
        let mut common = lock(&self.common);
        let Some(next) = common.next.take().or_else(|| Bell::new().ok().map(Arc::new)) else {
            return log::error!(
                "connections could not be woken: no file descriptor is free; each notices the change when it wakes next"
            );
        };
        std::mem::replace(&mut common.now, next).ring();
        common.next = Bell::new().ok().map(Arc::new);
    }

    fn lend(&self) -> io::Result<Arc<Bell>> {
        match lock(&self.spare).pop() {
            Some(bell) => Ok(bell),
            None => Ok(Arc::new(Bell::new()?)),
        }
    }

    fn give_back(&self, bell: Arc<Bell>) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE {
            spare.push(bell);
        }
    }
}

/// A panic cannot leave these values half changed, so a poisoned lock is usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring for Bell {
    fn ring(&self) {
        // Adding 1 fails only when the counter is full, and then the bell is rung already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Wake for Waker<Bell> {
    fn wake(&self) {
        Waker::wake(self);
    }
}

/// The connection's side of its [`Waker`]: which bells it polls.
#[derive(Debug)]
pub struct Sleeper {
    bells: Arc<Bells>,
    common: Arc<Bell>,
    waker: Arc<Waker<Bell>>,
    bell: Option<Arc<Bell>>,
}

impl Sleeper {
    /// For a connection that is awake.
    pub fn new(bells: Arc<Bells>) -> Sleeper {
        Sleeper { common: bells.common(), bells, waker: Arc::default(), bell: None }
    }

    /// What workers wake this connection with.
    pub fn waker(&self) -> &Arc<Waker<Bell>> {
        &self.waker
    }

    /// The bells to poll: the common one, and the connection's own while it has one.
    pub fn bells(&self) -> (&Bell, Option<&Bell>) {
        (&self.common, self.bell.as_deref())
    }

    /// Declares that the connection is about to sleep. With `for_reply`, a reply rings the connection's own bell.
    ///
    /// # Errors
    /// When no file descriptor is free for a bell. Then the connection must sleep only shortly.
    pub fn prepare(&mut self, for_reply: bool) -> io::Result<()> {
        match (&self.bell, for_reply) {
            (None, true) => {
                let bell = self.bells.lend()?;
                self.waker.equip(Some(bell.clone()));
                self.bell = Some(bell);
            }
            (Some(_), false) => self.give_back(),
            _ => {}
        }
        self.waker.sleeps(for_reply);
        Ok(())
    }

    /// Declares that the connection is awake. The arguments say which bells `poll` reported.
    pub fn awake(&mut self, common_rung: bool, own_rung: bool) {
        self.waker.is_awake();
        if own_rung && let Some(bell) = &self.bell {
            // A bell that is rung after `poll` returned stays rung. It shortens one later sleep, which does no harm.
            bell.silence();
        }
        if common_rung {
            self.common = self.bells.common();
        }
    }

    fn give_back(&mut self) {
        self.waker.equip(None);
        if let Some(bell) = self.bell.take() {
            self.bells.give_back(bell);
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_rung(bell: &Bell) -> bool {
        let mut fds = [PollFd::new(bell, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_reply_rings_only_while_its_connection_sleeps_for_it() {
        let mut sleeper = Sleeper::new(Arc::new(Bells::new().unwrap()));
        let waker = sleeper.waker().clone();
        waker.wake();
        sleeper.prepare(true).unwrap();
        assert!(!is_rung(sleeper.bells().1.unwrap()));
        waker.wake();
        waker.wake();
        assert!(is_rung(sleeper.bells().1.unwrap()));
        sleeper.awake(false, true);
        assert!(!is_rung(sleeper.bells().1.unwrap()));
        sleeper.prepare(false).unwrap();
        assert!(sleeper.bells().1.is_none(), "an idle connection has no bell of its own");
        waker.wake();
    }

    #[test]
    fn the_common_bell_reaches_all_once_each_time() {
        let bells = Arc::new(Bells::new().unwrap());
        let mut sleepers: Vec<_> = (0..3).map(|_| Sleeper::new(bells.clone())).collect();
        for _ in 0..3 {
            bells.ring_all();
            for sleeper in &mut sleepers {
                assert!(is_rung(sleeper.bells().0));
                sleeper.awake(true, false);
                assert!(!is_rung(sleeper.bells().0));
            }
        }
    }
}
