//! One budget of bytes for everything that clients can make the server hold: messages before they are decoded, requests
//! in progress, the memory of decoding and of runs, and responses that clients have not read yet.
//!
//! A part of the budget is a [`Share`], which returns its bytes when it is dropped. When the budget is used up, a request
//! for more is refused at once; nothing waits. The budget only counts: it allocates nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, RequestError};

/// The number of bytes that all clients together can use.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: usize) -> Arc<Budget> {
        Arc::new(Budget { most, used: AtomicUsize::new(0) })
    }

    /// A budget without a limit, for the server's own work, for example the trial runs while a model is loaded.
    pub fn unbounded() -> Arc<Budget> {
        Budget::new(usize::MAX)
    }

    /// The size of the budget in bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The bytes that are in use now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for a request that already has `own` bytes. The error is "too large" when the request could not fit
    /// even alone, and "overloaded" when it can fit later.
    fn reserve(&self, bytes: usize, own: usize) -> Result<(), RequestError> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) if bytes.saturating_add(own) > self.most => Err(RequestError::new(
                Code::TooLarge,
                format!(
                    "this needs {} bytes of memory, and all requests together may take {}: send less, or start \
                     the server with a larger --max-memory",
                    bytes.saturating_add(own),
                    self.most
                ),
            )),
            Err(used) => Err(RequestError::new(
                Code::Overloaded,
                format!(
                    "the requests in progress use {used} of {} bytes of memory, and this needs {bytes} more: try again \
                     later",
                    self.most
                ),
            )),
        }
    }
}

/// A part of a [`Budget`]. Its bytes return to the budget when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    /// The bytes that the same request had in other shares when this one was made. They decide the kind of error: a
    /// request that does not fit even alone must not be told to try again.
    beside: usize,
}

impl Share {
    /// An empty share.
    pub fn none(budget: &Arc<Budget>) -> Share {
        Share { budget: budget.clone(), bytes: 0, beside: 0 }
    }

    /// Another, empty share for the same request.
    pub fn beside(&self) -> Share {
        Share { budget: self.budget.clone(), bytes: 0, beside: self.own() }
    }

    /// Another share for the same request, with `bytes` bytes.
    pub fn take_beside(&self, bytes: usize) -> Result<Share, RequestError> {
        let mut share = self.beside();
        share.grow(bytes)?;
        Ok(share)
    }

    /// All bytes of the request, as far as this share knows.
    fn own(&self) -> usize {
        self.bytes.saturating_add(self.beside)
    }

    /// The bytes of this share.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The budget that this is a part of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Takes `by` more bytes. After an error the share is unchanged.
    pub fn grow(&mut self, by: usize) -> Result<(), RequestError> {
        self.budget.reserve(by, self.own())?;
        self.bytes += by;
        Ok(())
    }

    /// Returns `by` bytes to the budget, or all if it has fewer.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        self.bytes -= by;
        self.budget.used.fetch_sub(by, Ordering::Relaxed);
    }

    /// Changes the share to `bytes` bytes, more or fewer than before. After an error it is unchanged.
    pub fn resize(&mut self, bytes: usize) -> Result<(), RequestError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Returns everything above `bytes` to the budget. A smaller share is unchanged.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.shrink(self.bytes.saturating_sub(bytes));
    }

    /// Moves `bytes` bytes to a new share, or all if it has fewer.
    pub fn split(&mut self, bytes: usize) -> Share {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Share { budget: self.budget.clone(), bytes, beside: self.own() }
    }

    /// Moves all bytes of `other`, a share of the same budget, to this one.
    pub fn absorb(&mut self, mut other: Share) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Moves all bytes to a new share, and leaves this one empty.
    pub fn take(&mut self) -> Share {
        Share { budget: self.budget.clone(), bytes: std::mem::take(&mut self.bytes), beside: self.beside }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_return_their_bytes() {
        let budget = Budget::new(100);
        let mut first = Share::none(&budget).take_beside(60).unwrap();
        assert_eq!(Share::none(&budget).take_beside(41).unwrap_err().code, Code::Overloaded);
        assert_eq!(Share::none(&budget).take_beside(101).unwrap_err().code, Code::TooLarge);
        let second = Share::none(&budget).take_beside(40).unwrap();
        assert_eq!(first.grow(1).unwrap_err().code, Code::Overloaded, "others may give something back");
        assert_eq!(first.grow(41).unwrap_err().code, Code::TooLarge, "alone it would not fit either");
        assert_eq!(first.take_beside(41).unwrap_err().code, Code::TooLarge);
        assert_eq!((first.bytes(), budget.used()), (60, 100));
        first.resize(10).unwrap();
        first.absorb(second);
        assert_eq!((first.bytes(), budget.used()), (50, 50));
        let mut part = first.split(20);
        assert_eq!((first.bytes(), part.bytes(), budget.used()), (30, 20, 50));
        part.shrink_to(5);
        assert_eq!(budget.used(), 35);
        first.absorb(part);
        first.grow(15).unwrap();
        let third = first.take();
        drop(first);
        assert_eq!(budget.used(), 50);
        drop(third);
        assert_eq!(budget.used(), 0);
    }
}
