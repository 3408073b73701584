//! The integration tests, one binary: the real program, real sockets on ports that the system picks,
//! real models. Nothing sleeps to wait for a thing; it waits for the thing.

// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

mod support;

/// What kills servers in the field, with a good client on the side.
mod abuse;
/// Tokens, origins and path prefixes, for boxes without a gateway.
mod access;
/// Models in archives, some of which mean harm.
mod archives;
/// Whatever arrives, the answer is a clear error, nobody else is hurt, and the next request is served.
mod bad_input;
/// Batches: found out by measuring, or pinned; and nobody is harmed by who else is in one.
mod batching;
/// Bodies over plain HTTP: in chunks, in forms, without a name, and within a memory.
mod bodies;
/// Conversations: order, pings, back-pressure, closing.
mod conversation;
/// The default model answers whoever sends it a digit, in every form that the protocol has.
mod digits;
/// A signal to stop, under load.
mod drain;
/// Models from elsewhere: cut, resumed, corrupted, too large, wrong, slow, redirected.
mod fetch;
/// Plain HTTP on the public port, and the private listener.
mod http;
/// Modules import what src/lib.rs says.
mod imports;
/// The dependencies hold no async runtime.
mod lockfile;
/// Ten thousand conversations.
mod many;
/// Models: what the file says, what model.json adds, and onnxruntime's answers.
mod models;
/// Images, written and pushed.
mod pack;
/// The private listener: bounded as the public port is, and never at an end before the server.
mod private;
/// The program as its user sees it: commands, exit codes, logs, signals.
mod program;
/// Several models and versions, and their reload under load.
mod repository;
/// Requests that share a state: a conversation's, a named one's, and none that leaks.
mod sequences;
/// Sound in windows, and video of which only the newest frame counts.
mod streams;
/// Text: a typed sentence becomes its embedding.
#[cfg(feature = "text")]
mod text;
/// Every deadline, on a clock that the test holds.
mod time;
/// TLS on the public port.
mod tls;
/// Real models from public packages; they must be fetched first, and are left out unless asked for.
mod zoo;
