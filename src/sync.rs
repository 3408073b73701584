//! What threads share, as the reply and wake-up protocol uses it. Named in one place so that the model checker
//! (`tests/loom`) can put its own in their place and try every order of steps.

pub use std::sync::atomic::{AtomicBool, Ordering};
pub use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crossbeam_channel::{Sender, TrySendError};
