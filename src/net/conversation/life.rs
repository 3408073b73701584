//! Decides when a silent peer is pinged, and when it counts as gone.
//!
//! Only the times belong here; [`super::ending`] sends the ping and ends the conversation.

use std::time::Instant;

use crate::config::Limits;

/// The last signs of life of a peer.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// The transport's total of received bytes when the last bytes arrived.
    pub received: u64,
    /// When the last bytes arrived.
    pub heard: Instant,
    /// When the last request arrived or the last answer was encoded.
    pub used: Instant,
    /// When a ping was sent, if nothing has arrived since.
    pub pinged: Option<Instant>,
}

/// What happens next, and when, if the peer stays silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A ping is sent.
    Ping(Instant),
    /// The conversation ends.
    Death(Instant),
}

impl Life {
    /// For a conversation that begins now.
    pub fn begin(now: Instant) -> Life {
        Life { received: 0, heard: now, used: now, pinged: None }
    }

    /// Records the transport's total of received bytes. Any new byte is a sign of life.
    pub fn heard(&mut self, received: u64, now: Instant) {
        if received != self.received {
            *self = Life { received, heard: now, pinged: None, ..*self };
        }
    }

    /// What is due next; `None` when pings are off. `reading_since` is when the server began to read: while it does not
    /// read, it cannot see a pong, so the time for the pong does not run.
    pub fn next(&self, limits: &Limits, reading_since: Option<Instant>) -> Option<Due> {
        match self.pinged {
            _ if limits.ping_interval.is_zero() => None,
            Some(pinged) => Some(Due::Death(pinged.max(reading_since?) + limits.ping_timeout)),
            None => Some(Due::Ping(self.heard + limits.ping_interval)),
        }
    }
}
