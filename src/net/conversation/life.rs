//! How a conversation's silence is counted: towards a ping, and from the ping towards its end.

use std::time::Instant;

use crate::config::Limits;

/// When the peer last showed itself.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// The socket's count of bytes then, and the time.
    pub received: u64,
    pub heard: Instant,
    /// When the last request came, or the last answer left.
    pub used: Instant,
    /// A ping is out since then, and nothing has come.
    pub pinged: Option<Instant>,
}

/// What the silence of a peer will lead to next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Ping(Instant),
    Death(Instant),
}

impl Life {
    pub fn begin(now: Instant) -> Life {
        Life { received: 0, heard: now, used: now, pinged: None }
    }

    /// Any byte is a sign of life.
    pub fn heard(&mut self, received: u64, now: Instant) {
        if received != self.received {
            *self = Life { received, heard: now, pinged: None, ..*self };
        }
    }

    /// What is due next, and when. While we do not read, a pong cannot be heard, and nobody dies of it.
    pub fn next(&self, limits: &Limits, reading_since: Option<Instant>) -> Option<Due> {
        match self.pinged {
            _ if limits.ping_interval.is_zero() => None,
            Some(pinged) => Some(Due::Death(pinged.max(reading_since?) + limits.ping_timeout)),
            None => Some(Due::Ping(self.heard + limits.ping_interval)),
        }
    }
}
