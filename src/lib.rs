//! onnxd, the ONNX daemon: one small static program that puts a model behind a WebSocket.
//!
//! It is synchronous on purpose. There is no async runtime in the tree: a thread that waits is a
//! thread that waits, a stack trace shows where, and a reader can follow a request from the socket to
//! the model and back without meeting a scheduler. A test reads the lock file and keeps it so.
//!
//! # The path of a request
//!
//! ```text
//!             accept            head              conversation              queue            worker
//! socket ─► net::listener ─► net::head ─┬─► net::conversation ─► wire::decode ──► engine::queue ─► engine::worker
//!                                       │        ▲        (service::dialogue)                        │ processing (files)
//!                                       │        │                                                   │ onnx (tract)
//!                                       │        └── wire::response ◄─ processing (scores) ◄─ reply ◄┘
//!                                       └─► net::http ─► ops::routes, or service::exchange and the same way on
//! ```
//!
//! Data flows one way. [`server`] builds the parts and connects them.
//!
//! # Threads
//!
//! | thread | how many | what it does | what it waits on |
//! |---|---|---|---|
//! | `main` | 1 | starts everything, waits for a signal, drains, joins | a signal |
//! | `accept` | 1 | takes a permit for each connection and spawns its thread; no accept error ends it | the listener, the end |
//! | `conn-N` | one a connection | owns its socket alone: TLS, head, upgrade, frames both ways | `poll` on the socket and its bells |
//! | `<model>-wN` | `instance_group.count` a model, or the cores | decodes files and text, runs tract, replies | the model's queue |
//! | `<model>-plan` | 1 a model, for its first seconds | measures which batches pay, at low priority | nothing |
//! | `reload` | 1 | loads models again, beside those that are served | SIGHUP, its clock |
//! | `stuck` | 1, with `--stuck-timeout` | looks whether a worker is busy for too long, and then ends the server | its clock |
//! | `ops` | 1, with `--ops-listen` | health, readiness and metadata on a private address | its listener |
//! | `log` | 1 | writes the lines that all others leave in a bounded queue | the queue, standard output |
//!
//! The socket never blocks and has no second owner, so requests pipeline, pings are answered while
//! inference runs, a slow reader shows as a write that stays blocked, and a stop reaches a sleeping
//! connection at once. A worker rings the bell (an `eventfd`) only when the connection sleeps for it, and
//! only while it does so has it a bell: an idle conversation is one file descriptor, one sleeping thread
//! and some 18 KiB of memory. When a connection becomes a conversation it goes on in a fresh thread, so
//! that the pages which a handshake touched are not kept for days.
//!
//! # The modules
//!
//! A module imports those in its last column, which all stand below it, and no others: `tests/imports.rs` reads this table
//! and the `use` lines.
//!
//! | module | what belongs there | imports |
//! |---|---|---|
//! | [`cli`] | the commands: serve, check, pack, healthcheck | `server` `net` `inference` `fetch` `onnx` `wire` `pack` `transfer` `config` `memory` `model` `plain` `panic` |
//! | [`server`] | builds everything in order, waits for a signal, drains, stops | `service` `ops` `stuck` `reload` `net` `inference` `fetch` `engine` `transfer` `config` `memory` `model` `metrics` `readiness` `clock` |
//! | [`service`] | inference as a [`net::service::Service`], and who may ask | `ops` `net` `inference` `engine` `processing` `wire` `memory` `model` `readiness` `error` `plain` |
//! | [`ops`] | the routes of both listeners, and the private listener | `net` `inference` `engine` `wire` `config` `memory` `readiness` `error` `clock` |
//! | [`stuck`] | ends the server when a worker is busy for too long | `inference` `readiness` |
//! | [`reload`] | loads models again, beside those that are served | `net` `inference` `panic` |
//! | [`net`] | sockets: listener, TLS, head, HTTP, conversation; knows a `Service`, and no model | `engine` `config` `memory` `metrics` `readiness` `error` `clock` `sync` |
//! | [`inference`] | a model in service: where wire, processing, onnx and engine meet | `fetch` `engine` `onnx` `processing` `wire` `config` `memory` `model` `error` `clock` `panic` |
//! | [`fetch`] | models from elsewhere: download, check, cache, unpack; before the server listens | `transfer` `config` `model` |
//! | [`engine`] | queue, workers, batches, sequences: who runs when | `onnx` `processing` `memory` `model` `error` `clock` `sync` `panic` |
//! | [`onnx`] | ONNX files, operators, plans, sessions; the only module that imports tract | `memory` `model` `error` `panic` |
//! | [`processing`] | image files, sound and text to tensors; tensors to embeddings and classes; pure | `config` `memory` `model` `error` |
//! | [`wire`] | Open Inference Protocol v2 and rows, bytes to requests and responses to bytes; pure | `memory` `model` `error` |
//! | [`pack`] | container images: layers, archives, registries; never part of serving | `transfer` `plain` |
//! | [`transfer`] | what sending images and fetching models share: HTTP agent, digests, progress | `plain` |
//! | [`config`] | flags, environment, limits; finished types only come out |  |
//! | [`memory`] | one budget of bytes for all that clients can make the server hold | `error` |
//! | [`model`] | models as files and words: repository, `model.json`, signature, tensors | `plain` |
//! | [`metrics`] | counters of what happened at the sockets |  |
//! | [`readiness`] | whether the server takes work |  |
//! | [`error`] | what a request is told when it fails: a code and a sentence |  |
//! | [`plain`] | foreign text, made safe for terminals and logs |  |
//! | [`clock`] | time, which tests can hold |  |
//! | [`sync`] | what threads share, where the model checker puts its own |  |
//! | [`panic`] | the words of a caught panic |  |
//!
//! # Invariants, each with a test
//!
//! 1. No thread waits without a bound, except for work. Every channel is bounded. Every socket read
//!    and write has a deadline.
//! 2. Every accepted request gets exactly one reply, or its connection is gone. Draining loses none.
//! 3. No input from the network can panic a thread that serves others, allocate more than the limits
//!    say, or read a file.
//! 4. An image, a tensor, a frame or a JSON text that lies about its size is refused before memory is
//!    taken for it.
//! 5. After any failed request the next good one succeeds, on the same conversation and on the same
//!    worker.
//! 6. Nothing of a request is left in the engine for the next.
//! 7. `#![forbid(unsafe_code)]`.
//!
//! # What is deliberately absent
//!
//! Compression on the WebSocket (a model's numbers do not compress, and its windows cost more memory a
//! connection than all the rest), HTTP/2 (the gateway in front speaks it), and a plug-in interface.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
pub mod fetch;
pub mod inference;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod net;
pub mod onnx;
pub mod ops;
pub mod pack;
mod panic;
pub mod plain;
pub mod processing;
pub mod readiness;
pub mod reload;
pub mod server;
pub mod service;
mod stuck;
mod sync;
pub mod transfer;
pub mod wire;
