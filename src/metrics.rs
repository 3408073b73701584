//! Counters of events at the sockets, from the start of the program. Counters of models do not belong here.
//! Invariant: a counter never decreases.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count of events. It never decreases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count` events.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one event.
    pub fn one(&self) {
        self.add(1);
    }

    /// The number of events so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a listener.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that got a place.
    pub connections: Counter,
    /// Connections that were refused because the limit on connections was reached.
    pub connections_refused: Counter,
    /// Failures to accept or serve a connection, mostly because file descriptors or memory ran out.
    pub accept_errors: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Request heads that were not valid HTTP, too large, or too slow.
    pub heads_refused: Counter,
    /// Plain HTTP requests that were answered.
    pub exchanges: Counter,
    /// Upgrades that were refused.
    pub upgrades_refused: Counter,
    /// Conversations that began.
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
    /// The number of conversations that ended for `cause`.
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
    /// Its model was replaced, and the time for its conversations is over (1012).
    Replaced,
    /// No request for too long (1000).
    Idle,
    /// The peer sent nothing after a ping.
    Silent,
    /// The peer does not read.
    Stalled,
    /// A message over the limit (1009).
    TooLarge,
    /// A message that took too long, or came in too many fragments (1008).
    TooSlow,
    /// Its token was taken away (1008).
    Revoked,
    /// The peer broke a rule of RFC 6455 (1002, 1007).
    Protocol,
}

impl Cause {
    /// All causes, in the order of their declaration.
    pub const ALL: [Cause; 11] = [
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
