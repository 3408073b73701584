//! The integration tests, in one binary: the real program, real sockets on ports that the system chooses, and real
//! models. No test sleeps to wait for an event; it waits for the event itself.

// A test that cannot continue panics.
#![allow(clippy::unwrap_used)]

mod support;

/// What can end a server in practice, while a well-behaved client is served.
mod abuse;
/// Tokens, origins and path prefixes, for boxes without a gateway.
mod access;
/// Models in archives, some of them harmful.
mod archives;
/// Wrong input gets a clear error, does not affect other clients, and the next request succeeds.
mod bad_input;
/// Batches: measured or fixed sizes; a request in a batch does not affect the others.
mod batching;
/// Bodies over plain HTTP: in chunks, in forms, without a content type, and within the memory budget.
mod bodies;
/// Chains: one request runs several models.
mod chains;
/// Conversations: order, pings, back-pressure, closing.
mod conversation;
/// Clients of DeepStack work unchanged.
mod deepstack;
/// The default model answers a digit in every form that the protocol has.
mod digits;
/// A signal to stop, under load.
mod drain;
/// Streams that end, events in them, and the forms of sound that clients send.
mod events;
/// Models from elsewhere: cut, resumed, corrupted, too large, wrong, slow, redirected.
mod fetch;
/// Plain HTTP on the public port, and the private listener.
mod http;
/// Images that are cropped, that set the size of their tensor, or that get a listed size.
mod image_sizes;
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
/// The private listener: it has the limits of the public port, and runs as long as the server.
mod private;
/// The program as its user sees it: commands, exit codes, logs, signals.
mod program;
/// Several models and versions, and their reload under load.
mod repository;
/// Results: boxes in the pixels of the photograph, regions and lines of text in place of tensors.
mod results;
/// Requests that share a state, in a conversation or by a sequence id; no state reaches another sequence.
mod sequences;
/// Sound in windows, and video with only the newest frame.
mod streams;
/// Text: a typed sentence becomes its embedding.
#[cfg(feature = "text")]
mod text;
/// Every deadline, on a clock that the test controls.
mod time;
/// TLS on the public port.
mod tls;
/// Real models from public packages. They must be fetched first, so these tests run only with `--ignored`.
mod zoo;
