//! How another thread rouses a connection that sleeps in `poll`: bells, which are `eventfd`s.
//!
//! A connection has a bell of its own only while it sleeps for a reply, lent from a pool: an idle one
//! costs a single file descriptor, its socket, and bells are as many as requests are waited for at once.
//! What concerns every connection (the server stops, tokens have changed) is rung on one common bell, which all
//! of them poll; it is rung once, and then replaced by the next.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::wake::{Ring, Waker};
use crate::engine::Wake;

/// What can be polled for, and rung by another thread.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
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

/// The bell that all poll, and the one that will take its place: made in advance, so that there is one
/// even when descriptors have run out.
#[derive(Debug)]
struct Common {
    now: Arc<Bell>,
    next: Option<Arc<Bell>>,
}

/// Bells that are kept for the next sleeper when nobody needs them.
const SPARE: usize = 64;

impl Bells {
    pub fn new() -> io::Result<Bells> {
        let common = Common { now: Arc::new(Bell::new()?), next: Some(Arc::new(Bell::new()?)) };
        Ok(Bells { spare: Mutex::default(), common: Mutex::new(common) })
    }

    /// The common bell, until it is rung.
    pub fn common(&self) -> Arc<Bell> {
        lock(&self.common).now.clone()
    }

    /// Rouses every connection; what they are to see must be set before.
    pub fn ring_all(&self) {
        let mut common = lock(&self.common);
        let Some(next) = common.next.take().or_else(|| Bell::new().ok().map(Arc::new)) else {
            return log::error!("connections are told late: no file descriptor is left to wake them all");
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

/// Nothing that runs under these locks can leave half a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring for Bell {
    fn ring(&self) {
        // The only error of a write of 1 is a counter that is full: rung enough.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Wake for Waker<Bell> {
    fn wake(&self) {
        Waker::wake(self);
    }
}

/// The connection's own side of its [`Waker`].
#[derive(Debug)]
pub struct Sleeper {
    bells: Arc<Bells>,
    common: Arc<Bell>,
    waker: Arc<Waker<Bell>>,
    bell: Option<Arc<Bell>>,
}

impl Sleeper {
    pub fn new(bells: Arc<Bells>) -> Sleeper {
        Sleeper { common: bells.common(), bells, waker: Arc::default(), bell: None }
    }

    pub fn waker(&self) -> &Arc<Waker<Bell>> {
        &self.waker
    }

    /// The bells to poll: the common one, and the connection's own while it has one.
    pub fn bells(&self) -> (&Bell, Option<&Bell>) {
        (&self.common, self.bell.as_deref())
    }

    /// From now on a reply rings a bell, if `for_reply`. An error is that there is none to be had: then
    /// the sleep must be short.
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

    /// Awake again; what poll said of the two bells.
    pub fn awake(&mut self, common_rung: bool, own_rung: bool) {
        self.waker.is_awake();
        if own_rung && let Some(bell) = &self.bell {
            // A bell that was rung after poll looked stays rung and cuts somebody's next sleep short, once.
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
