//! Every bound of the server in one place: default, unit, and the reason for the default.

use std::time::Duration;

use super::container;

/// What nothing may exceed. Cheap to clone; handed down by the composition root.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; a further one is answered 503 and closed. Default 1,024: with
    /// one file descriptor a connection, and one more while it waits for a reply, it stays within the
    /// common limit of 4,096. In a small container one for each 256 KiB of its memory: a connection takes some 40 KiB,
    /// the kernel's part included.
    pub max_connections: usize,
    /// Connections at once on the private address; a further one is answered 503 and closed. Default 64: probes and
    /// scrapers are few, and each is a thread and a descriptor.
    pub max_ops_connections: usize,
    /// Bytes of a request head (request line and headers). Default 16 KiB: twice what gateways send
    /// at most.
    pub max_head_bytes: usize,
    /// Bytes of a WebSocket message or an HTTP body. Default 16 MiB: a little over what the
    /// platform's gateway lets through (12 MB).
    pub max_message_bytes: usize,
    /// Bytes of one frame of a message. Default 16 MiB: many clients send a message as a single frame.
    pub max_frame_bytes: usize,
    /// Fragments that a WebSocket message may come in. Default 131,072: twice what the conformance suite
    /// sends; their time is bounded too.
    pub max_fragments: usize,
    /// Requests of one conversation that are accepted and not answered yet. At the limit, further messages wait
    /// undecoded, and control frames are still read. Default 32.
    pub max_in_flight: usize,
    /// Bytes of those requests and of the messages that wait, as they came. At the limit the connection stops reading,
    /// and TCP slows the client down. One request may be larger. Default 32 MiB: two of the largest.
    pub max_in_flight_bytes: usize,
    /// Jobs that wait for a worker, a model. When full, requests are answered `overloaded`.
    /// Default 1,024.
    pub queue_capacity: usize,
    /// Replies gathered before they are pushed to the socket, in bytes; one reply may be larger.
    /// Default 64 KiB, what the platform's gateway forwards as one frame.
    pub write_buffer_bytes: usize,
    /// Pixels of an image, width × height, told by its header. Default 25 million: what common
    /// cameras make. Decoding takes 1 to 4 bytes a pixel, and 2 more a component of a progressive JPEG (see
    /// [`crate::processing::image`]); they come from `max_memory`.
    pub max_image_pixels: u64,
    /// Files and texts of one request. Default 1,024: a file takes a worker some 50 µs however small it is, so that
    /// many tiny ones are done in the time of one photograph. Between files the deadline is looked at.
    pub max_files: usize,
    /// Bytes of any one tensor that a request makes: of an input decoded from files, and of what a
    /// plan with open dimensions would compute for it. Default 256 MiB, or `max_memory` where that is less: more could
    /// not be taken.
    pub max_tensor_bytes: usize,
    /// Bytes of weights that plans for batches may pack, a model, beside the plan for a single row. Default 256 MiB:
    /// small models have room for all sizes, and a large one does not take its memory several times over.
    pub max_plan_bytes: usize,
    /// Bytes that all clients together may make the server hold: messages, requests in flight, what decoding and
    /// inference take, and answers that were not taken. See [`crate::memory`]. Default three eighths of what the
    /// container allows ([`super::container`]): in the smallest that we name, 64 MB, the program and its default model
    /// have 22 MB, connections 10 MB, and some is lost between allocations.
    pub max_memory: usize,
    /// Bytes of log lines that wait to be written; more are dropped and counted. Default 1 MiB: some ten thousand lines,
    /// which a reader that stumbles catches up with.
    pub max_log_bytes: usize,
    /// How deep the JSON of a request may nest. Default 128, which is as deep as the parser goes; real
    /// requests stay below 12.
    pub max_json_depth: usize,
    /// From the first moment of a connection to the end of its TLS handshake. Default 10 s: it is a few
    /// packets, and some milliseconds of work.
    pub tls_timeout: Duration,
    /// From the first moment of a connection (or the end of its TLS handshake), or of its next request, to
    /// the end of the head.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// How long an idle HTTP connection is kept for a next request. Default 75 s, above the 60 s
    /// after which common gateways close theirs, so that they are the ones to close.
    pub keep_alive_timeout: Duration,
    /// For a whole HTTP request body. Default 30 s.
    pub body_timeout: Duration,
    /// From the first byte of a WebSocket message to its last. Default 30 s.
    pub message_timeout: Duration,
    /// How long a conversation may be silent before the server pings it; 0 is never. Default 20 s, which
    /// keeps it alive at every gateway of the platform.
    pub ping_interval: Duration,
    /// How long after a ping the peer may show no sign of life. Default 20 s.
    pub ping_timeout: Duration,
    /// How long a conversation may bring no request; 0 is for ever. Default 0: the platform's gateway
    /// decides that.
    pub idle_timeout: Duration,
    /// How long a write may make no progress before the connection is dropped. Default 30 s.
    pub write_timeout: Duration,
    /// For the peer's half of the closing handshake. Default 5 s.
    pub close_timeout: Duration,
    /// From a request's acceptance to the start of its inference, when the request does not say.
    /// Default 30 s: less than the platform's 40 s.
    pub request_timeout: Duration,
    /// How long a worker may be busy with one thing (decoding a request's files, one run of the engine); then the
    /// server ends with exit code 3; 0 is for ever. Default 0: nobody but the user knows how long a model may take.
    pub stuck_timeout: Duration,
    /// After a signal to stop, how long requests are served on, new conversations too, while the probes
    /// say "not ready" and a router catches up. Default 0; the platform's older service wants 60 s.
    pub drain_delay: Duration,
    /// For accepted requests to be answered after a signal to stop. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::within(container::memory())
    }
}

impl Limits {
    /// The defaults for a process that may have so many bytes of memory.
    pub fn within(memory: u64) -> Limits {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let max_memory = memory / 8 * 3;
        Limits {
            max_connections: (memory / (256 << 10)).clamp(16, 1024),
            max_ops_connections: 64,
            max_head_bytes: 16 << 10,
            max_message_bytes: 16 << 20,
            max_frame_bytes: 16 << 20,
            max_fragments: 1 << 17,
            max_in_flight: 32,
            max_in_flight_bytes: 32 << 20,
            queue_capacity: 1024,
            write_buffer_bytes: 64 << 10,
            max_image_pixels: 25_000_000,
            max_files: 1024,
            max_tensor_bytes: max_memory.min(256 << 20),
            max_plan_bytes: 256 << 20,
            max_memory,
            max_log_bytes: 1 << 20,
            max_json_depth: 128,
            tls_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
            idle_timeout: Duration::ZERO,
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            stuck_timeout: Duration::ZERO,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
