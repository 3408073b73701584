//! Every limit of the server, declared once: name, unit, default and reason.
//!
//! The flags, the environment variables and the help are made from this list, and a test compares it with the tables in
//! `docs/operations.md`. Limits of downloads are in [`super::fetching`].

use std::sync::LazyLock;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::container;
use super::limit::{Amount, Bytes, Count, Declared, Limit, Pixels, Unit, Zero, limits};

/// The JSON parser goes no deeper.
const PARSER_JSON_DEPTH: usize = 128;

limits! { memory;
    /// Connections at once; a further one gets 503
    ///
    /// A connection uses one file descriptor, and one more while it waits for a reply. 1,024 connections stay below the
    /// usual maximum of 4,096 descriptors. A connection takes about 40 KiB of memory, including the kernel's part, so a
    /// small container gets one connection for each 256 KiB.
    max_connections: Count, zero Refused, default (memory / (256 << 10)).clamp(16, 1024),
        "1,024; in a container with less than 256 MiB of memory, one for each 256 KiB, and at least 16";

    /// Connections at once on the private address; a further one gets 503
    ///
    /// Health probes and metrics scrapers are few, and each uses a thread and a file descriptor.
    max_ops_connections: Count, zero Refused, default 64;

    /// Bytes of a request head; more gets 431
    ///
    /// The head is the request line and the headers. The default is twice what gateways send at most.
    max_head_bytes: Bytes, zero Refused, default 16 << 10;

    /// Bytes of a message or an HTTP body; more gets close 1009 or 413
    ///
    /// The default is a little more than the platform's gateway lets through (12 MB).
    max_message_bytes: Bytes, zero Refused, default 16 << 20;

    /// Bytes of one frame of a message; more gets close 1009
    ///
    /// The default is that of a whole message, because many clients send a message as a single frame.
    max_frame_bytes: Bytes, zero Refused, default 16 << 20;

    /// Fragments of a message; more gets close 1008
    ///
    /// The default is twice what the conformance suite sends. `message_timeout` limits their time too.
    max_fragments: Count, zero Refused, default 1 << 17;

    /// Unanswered requests of a conversation; further messages wait undecoded
    ///
    /// At the limit, the server still reads control frames. 32 requests keep the workers busy while replies travel.
    max_in_flight: Count, zero Refused, default 32;

    /// Bytes of a conversation's unanswered requests; then reading stops
    ///
    /// Counts these requests and the messages that wait, as they came. At the limit the connection stops reading, and TCP
    /// slows the client down. A single request may be larger. The default is two messages of the maximum size.
    max_in_flight_bytes: Bytes, zero Refused, default 32 << 20;

    /// Bytes of replies that are gathered before they are pushed to the socket; one may be larger
    ///
    /// The platform's gateway forwards 64 KiB as one frame.
    write_buffer_bytes: Bytes, zero Refused, default 64 << 10;

    /// Requests that wait for a worker, for each model; more get `overloaded`
    ///
    /// A queue that is longer only makes clients wait longer before they learn that the server is overloaded.
    queue_capacity: Count, zero Refused, default 1024;

    /// Pixels of an image (width × height), by its header
    ///
    /// 0 refuses every image. Common cameras make up to 25 million pixels. Decoding takes 1 to 4 bytes for each pixel, and a progressive JPEG 2
    /// more for each component (see [`crate::processing::image`]). These bytes are taken from `max_memory`.
    max_image_pixels: Pixels, zero Allowed, default 25_000_000;

    /// Files and texts of one request
    ///
    /// Even a tiny file takes a worker about 50 µs. 1,024 of them take as long as one photograph. The deadline is checked
    /// between files.
    max_files: Count, zero Refused, default 1024;

    /// Bytes that all clients together may make the server hold
    ///
    /// Counts messages, requests in flight, the memory for decoding and inference, and answers that the client has not
    /// read. See [`crate::memory`]. In the smallest container that we support (64 MB), this leaves 22 MB for the program
    /// and its default model, 10 MB for connections, and some for gaps between allocations.
    max_memory: Bytes, zero Refused, default memory / 8 * 3, "three eighths of the container's memory";

    /// Bytes of any one tensor that a request makes, from files or by open dimensions
    ///
    /// Limits each input that is decoded from files, and each tensor that a plan with open dimensions would compute. A
    /// tensor above `max_memory` could never be allocated, so the default is not above it.
    max_tensor_bytes: Bytes, zero Refused, default max_memory.min(256 << 20), "256 MiB, or --max-memory if that is less";

    /// Bytes of weights that the plans for batches may pack, for each model; 0 is no batches
    ///
    /// Does not count the plan for a single row. Small models have room for all batch sizes, and a large model does not
    /// take its memory several times.
    max_plan_bytes: Bytes, zero Allowed, default 256 << 20;

    /// Bytes of log lines that wait to be written; more are dropped and counted
    ///
    /// 1 MiB is about ten thousand lines: enough for a reader that stops for a moment.
    max_log_bytes: Bytes, zero Refused, default 1 << 20;

    /// Depth of a request's JSON, at most 128
    ///
    /// The JSON parser goes no deeper. Real requests stay below 12.
    max_json_depth: Count, zero Refused, default PARSER_JSON_DEPTH;

    /// For a whole TLS handshake
    ///
    /// Counted from the start of the connection. A handshake is a few packets and some milliseconds of work.
    tls_timeout: Duration, zero Refused, default Duration::from_secs(10);

    /// For a whole request head
    ///
    /// Counted from the start of the connection, from the end of its TLS handshake, or from the start of its next request.
    /// A head is a few packets.
    head_timeout: Duration, zero Refused, default Duration::from_secs(10);

    /// For an idle HTTP connection's next request
    ///
    /// Common gateways close idle connections after 60 s. The server waits longer, so that the gateway closes first.
    keep_alive_timeout: Duration, zero Refused, default Duration::from_secs(75);

    /// For a whole HTTP body
    ///
    /// A body of the maximum size arrives in this time at 4.5 Mbit/s.
    body_timeout: Duration, zero Refused, default Duration::from_secs(30);

    /// For a whole WebSocket message, from its first byte; more gets close 1008
    ///
    /// A message of the maximum size arrives in this time at 4.5 Mbit/s.
    message_timeout: Duration, zero Refused, default Duration::from_secs(30);

    /// Silence after which a conversation is pinged; 0 is never
    ///
    /// A ping every 20 s keeps a conversation open at every gateway of the platform.
    ping_interval: Duration, zero Allowed, default Duration::from_secs(20);

    /// For a sign of life after a ping
    ///
    /// Any byte from the peer counts. A network that is down for a moment gets time to recover.
    ping_timeout: Duration, zero Refused, default Duration::from_secs(20);

    /// For a conversation without a request; 0 is without limit
    ///
    /// The platform's gateway has its own limit for this.
    idle_timeout: Duration, zero Allowed, default Duration::ZERO;

    /// For a peer that reads nothing
    ///
    /// After a write that made no progress for so long, the connection is dropped. 30 s are enough for a network that is
    /// down for a moment.
    write_timeout: Duration, zero Refused, default Duration::from_secs(30);

    /// For the peer's half of a close
    ///
    /// A peer that is still there answers a close at once.
    close_timeout: Duration, zero Refused, default Duration::from_secs(5);

    /// From a request's arrival to the start of its inference; a request's own `timeout` may be shorter
    ///
    /// The default is below the platform's limit of 40 s.
    request_timeout: Duration, zero Refused, default Duration::from_secs(30);

    /// For one run of a model; a longer one ends the server with exit code 3, to be started again; 0 is without limit
    ///
    /// Counts any one piece of work of a worker: decoding a request's files, or one run of the engine. Only the user knows
    /// how long a model may take.
    stuck_timeout: Duration, zero Allowed, default Duration::ZERO;

    /// After SIGTERM, how long to serve on while the probes say "not ready"; 0 is not at all
    ///
    /// In this time new conversations are served too, while a router learns that the server is going away. The platform's
    /// older service needs 60 s.
    drain_delay: Duration, zero Allowed, default Duration::ZERO;

    /// After SIGTERM, over how long the closes of conversations are spread; 0 is all at once
    ///
    /// Until its own close, a conversation is served as always. With thousands of clients, a spread of some seconds keeps
    /// them from connecting again all in the same second.
    drain_spread: Duration, zero Allowed, default Duration::ZERO;

    /// For accepted requests to be answered after SIGTERM, counted from the end of `drain_spread`
    ///
    /// The same as `request_timeout`: the longest time that an accepted request may wait before its inference starts.
    drain_timeout: Duration, zero Refused, default Duration::from_secs(30);
}

/// All limits in the order of the help, with their defaults on this machine.
pub fn all() -> &'static [Limit] {
    static ALL: LazyLock<Vec<Limit>> = LazyLock::new(|| {
        let defaults = Limits::default().amounts();
        DECLARED.iter().zip(defaults).map(|(declared, default)| Limit::new(declared, default)).collect()
    });
    &ALL
}

impl Default for Limits {
    fn default() -> Self {
        Limits::within(container::memory())
    }
}

impl Limits {
    /// The limits, if the server can work with them. Flags that were parsed are not checked yet. The error names the
    /// first flag that is wrong.
    pub fn checked(&self) -> Result<Limits, String> {
        for (limit, amount) in all().iter().zip(self.amounts()) {
            if amount == 0 && limit.zero == Zero::Refused {
                return Err(format!(
                    "--{} is 0, so the server could do no work: expected 1 or more",
                    limit.flag
                ));
            }
        }
        if self.max_json_depth > PARSER_JSON_DEPTH {
            return Err(format!(
                "--max-json-depth is {}, but the JSON parser allows at most {PARSER_JSON_DEPTH}",
                self.max_json_depth
            ));
        }
        Ok(self.clone())
    }
}

impl Args for Limits {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("Limits (times as 500ms, 30s, 2m, 1h, 1d)");
        command.args(all().iter().map(Limit::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Limits::augment_args(command)
    }
}

impl FromArgMatches for Limits {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Limits, clap::Error> {
        Ok(Limits::set(container::memory(), Some(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Limits::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
