//! What is counted, from the start of the program on: what happened at the sockets, and how often.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a listener.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that got a place.
    pub connections: Counter,
    /// Connections for which there was none: the limit was reached.
    pub connections_refused: Counter,
    /// Times that accepting or serving a connection failed, mostly for want of descriptors or memory.
    pub accept_errors: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Heads that were no HTTP, too large or too slow.
    pub heads_refused: Counter,
    /// Plain HTTP requests that were answered.
    pub exchanges: Counter,
    /// Upgrades that were refused.
    pub upgrades_refused: Counter,
    pub conversations: Counter,
    /// Conversations that ended, by [`Cause`].
    ended: [Counter; Cause::ALL.len()],
    /// Requests that conversations accepted.
    pub requests: Counter,
    /// Answers that were written to conversations.
    pub answers: Counter,
    pub pings: Counter,
}

impl Counters {
    pub fn ended(&self, cause: Cause) -> &Counter {
        &self.ended[cause as usize]
    }
}

/// Why a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The peer closed it.
    Closed,
    /// The peer went away without a close, or its connection broke.
    Lost,
    /// The server stops (1001).
    Drained,
    /// Its model was replaced, and its time with it is over (1012).
    Replaced,
    /// No request for too long (1000).
    Idle,
    /// No sign of life after a ping.
    Silent,
    /// The peer does not read.
    Stalled,
    /// A message over the limit (1009).
    TooLarge,
    /// A message that took too long, or came in too many fragments (1008).
    TooSlow,
    /// Its token was taken away (1008).
    Revoked,
    /// A message kind that the model cannot take (1003).
    Unsupported,
    /// RFC 6455 was broken (1002, 1007).
    Protocol,
}

impl Cause {
    pub const ALL: [Cause; 12] = [
        Cause::Closed,
        Cause::Lost,
        Cause::Drained,
        Cause::Replaced,
        Cause::Idle,
        Cause::Silent,
        Cause::Stalled,
        Cause::TooLarge,
        Cause::TooSlow,
        Cause::Revoked,
        Cause::Unsupported,
        Cause::Protocol,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_counter_of_its_own() {
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, at);
        }
    }
}
