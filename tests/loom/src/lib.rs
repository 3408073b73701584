//! Compiles the server's files of the reply and wake-up protocol with loom's atomics, locks and threads, and checks them.
//!
//! `sync` replaces the server's module of that name. Its channel is a small one made with loom, because loom cannot check
//! crossbeam's. So the test assumes that crossbeam's channel keeps its promise: a message that was sent can be received.
//!
//! The other modules here are the least that the two files need to compile.

#[path = "../../../src/engine/reply.rs"]
pub mod reply;
#[path = "../../../src/net/wake.rs"]
pub mod wake;

pub mod engine {
    pub use crate::reply::Wake;
}

pub mod sync {
    use std::collections::VecDeque;

    use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};
    pub use std::sync::PoisonError;

    /// The sender's end of a bounded channel; the receiver's end is [`Channel`].
    pub struct Sender<T>(pub Arc<Channel<T>>);

    pub struct Channel<T> {
        queue: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    pub enum TrySendError<T> {
        Full(T),
        Disconnected(T),
    }

    impl<T> Channel<T> {
        pub fn new(capacity: usize) -> Arc<Channel<T>> {
            Arc::new(Channel { queue: Mutex::new(VecDeque::new()), capacity })
        }

        pub fn try_recv(&self) -> Option<T> {
            self.queue.lock().unwrap().pop_front()
        }

        pub fn is_empty(&self) -> bool {
            self.queue.lock().unwrap().is_empty()
        }
    }

    impl<T> Sender<T> {
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut queue = self.0.queue.lock().unwrap();
            if queue.len() >= self.0.capacity {
                return Err(TrySendError::Full(value));
            }
            queue.push_back(value);
            Ok(())
        }
    }
}

/// Names that the two files use and that are not part of the protocol.
pub mod memory {
    #[derive(Debug)]
    pub struct Share;

    impl Share {
        pub fn take(&mut self) -> Share {
            Share
        }
    }
}

pub mod model {
    #[derive(Debug)]
    pub struct Tensor;

    #[derive(Debug)]
    pub struct Row;
}

pub mod processing {
    pub mod results {
        #[derive(Debug)]
        pub struct MadeResult;
    }
}

pub mod error {
    #[derive(Debug)]
    pub struct RequestError;

    pub enum Code {
        Unavailable,
    }

    impl RequestError {
        pub fn new(_: Code, _: &str) -> RequestError {
            RequestError
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as StdArc;

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use crate::memory::Share;
    use crate::reply::{Reply, ReplyTo, Wake};
    use crate::sync::{Channel, Sender};
    use crate::wake::{Ring, Waker};

    /// Stands for an `eventfd` and `poll`.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Ring for Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    impl Bell {
        /// Waits for a ring. When the ring is lost, this is a deadlock, which loom reports.
        fn poll(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    impl Wake for Waker<Bell> {
        fn wake(&self) {
            Waker::wake(self);
        }
    }

    /// Checks every order of steps in which threads are interrupted at most three times. Without this limit, the check would
    /// take an hour.
    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut checker = loom::model::Builder::new();
        checker.preemption_bound = Some(3);
        checker.check(model);
    }

    /// One connection waits for `requests` replies in the same steps as `Socket::wait` and the conversation's loop. Each
    /// worker calls `work` with its reply.
    fn replies_arrive(requests: u64, work: fn(ReplyTo)) {
        let inbox = Channel::<Reply>::new(requests as usize);
        let waker = StdArc::new(Waker::<Bell>::default());
        for slot in 0..requests {
            let reply = ReplyTo::new(slot, Sender(inbox.clone()), waker.clone(), Share);
            thread::spawn(move || work(reply));
        }
        let bell = StdArc::new(Bell::default());
        let mut answered = vec![0; requests as usize];
        while answered.contains(&0) {
            while let Some(reply) = inbox.try_recv() {
                answered[reply.slot as usize] += 1;
            }
            if !answered.contains(&0) {
                break;
            }
            waker.equip(Some(bell.clone()));
            waker.sleeps(true);
            if inbox.is_empty() {
                bell.poll();
            }
            waker.is_awake();
        }
        assert!(answered.iter().all(|count| *count == 1), "each request has one reply: {answered:?}");
        assert!(inbox.is_empty());
    }

    #[test]
    fn neither_a_wake_up_nor_a_reply_is_lost() {
        check(|| replies_arrive(2, |reply| reply.send(Ok(Default::default()))));
    }

    #[test]
    fn a_dropped_job_gets_exactly_one_reply() {
        check(|| replies_arrive(2, drop));
    }
}
