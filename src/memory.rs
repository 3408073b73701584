//! One budget of bytes for everything that clients can make the server hold: messages that are not decoded, requests
//! in flight, what decoding takes, and answers that were not taken. A part of it is a [`Share`], which gives itself
//! back when it is dropped. When the budget is used up, whoever asks is refused at once; nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, RequestError};

/// The bytes that all clients together may take.
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

    /// A budget that nothing exceeds: for what the server does for itself, as the trial runs of a model that is loaded.
    pub fn unbounded() -> Arc<Budget> {
        Budget::new(usize::MAX)
    }

    /// Bytes that may be taken.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes that are taken now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// `own` is what the same request has already.
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
                    "the requests under way take {used} of {} bytes of memory, and this needs {bytes} more: try again \
                     later",
                    self.most
                ),
            )),
        }
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    /// What the same request had in other shares when this one began: a request that is alone and does not fit must not
    /// be told to come again.
    beside: usize,
}

impl Share {
    /// A share of no bytes, which may grow.
    pub fn none(budget: &Arc<Budget>) -> Share {
        Share { budget: budget.clone(), bytes: 0, beside: 0 }
    }

    /// A further share of the same request, of no bytes.
    pub fn beside(&self) -> Share {
        Share { budget: self.budget.clone(), bytes: 0, beside: self.own() }
    }

    /// The same, of so many bytes.
    pub fn take_beside(&self, bytes: usize) -> Result<Share, RequestError> {
        let mut share = self.beside();
        share.grow(bytes)?;
        Ok(share)
    }

    fn own(&self) -> usize {
        self.bytes.saturating_add(self.beside)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Takes so many bytes more, or says why not; then the share is as it was.
    pub fn grow(&mut self, by: usize) -> Result<(), RequestError> {
        self.budget.reserve(by, self.own())?;
        self.bytes += by;
        Ok(())
    }

    /// Gives so many bytes back, or all if it has fewer.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        self.bytes -= by;
        self.budget.used.fetch_sub(by, Ordering::Relaxed);
    }

    /// Has `bytes` from now on, more or fewer than before; when more are refused it is as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), RequestError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Gives back all beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.shrink(self.bytes.saturating_sub(bytes));
    }

    /// Hands so many of its bytes over to a new share, or all if it has fewer.
    pub fn split(&mut self, bytes: usize) -> Share {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Share { budget: self.budget.clone(), bytes, beside: self.own() }
    }

    /// Takes over all of another share of the same budget.
    pub fn absorb(&mut self, mut other: Share) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Hands all of its bytes over to a share that replaces it.
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
    fn what_is_taken_is_given_back_and_never_more_than_there_is() {
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
