//! onnxd, the ONNX daemon: one small static program that serves ONNX models over WebSocket and HTTP.
//!
//! It is synchronous: it uses threads and has no async runtime. A stack trace shows what each thread waits for,
//! and a reader can follow a request from the socket to the model and back. A test reads the lock file and refuses
//! an async runtime.
//!
//! # The path of a request
//!
//! ```text
//!             accept            head              conversation              queue            worker
//! socket ─► net::listener ─► net::head ─┬─► net::conversation ─► wire::decode ──► engine::queue ─► engine::worker
//!                                       │        ▲        (service::dialogue)                        │ processing (files)
//!                                       │        │                                                   │ onnx (tract)
//!                                       │        │                                                   │ processing (results)
//!                                       │        └── wire::response ◄─ processing (scores) ◄─ reply ◄┘
//!                                       └─► net::http ─► ops::routes, or service::exchange and the same way on
//! ```
//!
//! Data flows in one direction. [`server`] builds the parts and connects them.
//!
//! While few conversations are busy, one whose model takes less than 0.2 ms leaves the queue and the worker out: its own
//! thread runs the job ([`engine::guest`]). Then a request costs three system calls: one to read it, one to send the answer,
//! and one `poll`.
//!
//! # Threads
//!
//! | thread | how many | what it does | what it waits on |
//! |---|---|---|---|
//! | `main` | 1 | starts everything, waits for a signal, drains, joins | a signal |
//! | `accept` | 1 | takes a permit for each connection and starts its thread; an accept error does not end it | the listener, the stop |
//! | `conn-N` | one for each connection | is the only owner of its socket: TLS, head, upgrade, frames both ways; as a guest, runs short jobs of its conversation | `poll` on the socket and its bell |
//! | `<model>-wN` | `instance_group.count` for each model; by default one for each core | decodes files and text, runs tract, makes results such as boxes, replies; when idle, helps another worker with its run | the model's queue |
//! | `<model>-plan` | 1 for each model, in its first seconds | measures which batch sizes are faster and whether workers should help each other, at low priority | nothing |
//! | `reload` | 1 | loads models again while the old ones are served | SIGHUP, its clock |
//! | `stuck` | 1, with `--stuck-timeout` | ends the server when a worker is busy for too long | its clock |
//! | `ops` | 1, with `--ops-listen` | health, readiness and metadata on a private address | its listener |
//! | `log` | 1 | writes the lines that other threads put into a bounded queue | the queue, standard output |
//!
//! Only one thread uses a socket, and the socket never blocks. So requests can be pipelined, and pings are answered during
//! inference, or after 0.2 ms when the conversation runs the model itself. A slow reader is detected by a write that stays
//! blocked, and a stop reaches a sleeping connection at once. Workers and guests together never run more jobs or batches at the same time than the model
//! has workers. A worker rings the bell (an `eventfd`) only when the connection sleeps while it
//! waits for a reply, and the bell exists only during that time. An idle conversation needs one file descriptor,
//! one sleeping thread and about 18 KiB of memory; large buffers for reading are borrowed while there is something to read.
//! When a connection becomes a conversation, it continues in a new
//! thread, so that the memory pages of the handshake are freed.
//!
//! # The modules
//!
//! A module may import only the modules in its last column. They all stand below it in the table. `tests/imports.rs`
//! compares this table with the `use` lines.
//!
//! | module | what belongs there | imports |
//! |---|---|---|
//! | [`cli`] | the commands: serve, check, pack, healthcheck | `server` `net` `inference` `fetch` `onnx` `wire` `pack` `transfer` `config` `memory` `model` `plain` `panics` |
//! | [`server`] | builds everything in order, waits for a signal, drains, stops | `service` `ops` `stuck` `reload` `net` `inference` `fetch` `engine` `transfer` `config` `memory` `model` `metrics` `readiness` `clock` |
//! | [`service`] | inference as a [`net::service::Service`], and access control | `ops` `net` `inference` `engine` `processing` `wire` `memory` `model` `readiness` `error` `plain` |
//! | [`ops`] | the routes of both listeners, and the private listener | `net` `inference` `engine` `wire` `config` `memory` `readiness` `error` `clock` |
//! | [`stuck`] | ends the server when a worker is busy for too long | `inference` `readiness` |
//! | [`reload`] | loads models again while the old ones are served | `net` `inference` `panics` |
//! | [`net`] | sockets: listener, TLS, head, HTTP, conversation; knows a `Service`, and no model | `engine` `config` `memory` `metrics` `readiness` `error` `clock` `sync` |
//! | [`inference`] | a model in service: where wire, processing, onnx and engine meet | `fetch` `engine` `onnx` `processing` `wire` `config` `memory` `model` `error` `clock` `panics` |
//! | [`fetch`] | models from a URL: download, check, cache, unpack | `transfer` `config` `model` |
//! | [`engine`] | queue, workers, batches, sequences: when each job runs | `onnx` `processing` `memory` `model` `error` `clock` `sync` `panics` |
//! | [`onnx`] | ONNX files, operators, plans, sessions; the only module that imports tract | `memory` `model` `error` `panics` |
//! | [`processing`] | image files, sound and text to tensors; tensors to embeddings, classes and results such as boxes; pure | `config` `memory` `model` `error` |
//! | [`wire`] | Open Inference Protocol v2 and rows, bytes to requests and responses to bytes; pure | `memory` `model` `error` |
//! | [`pack`] | container images: layers, archives, registries; never part of serving | `transfer` `plain` |
//! | [`transfer`] | the common parts of sending images and fetching models: HTTP agent, digests, progress | `plain` |
//! | [`config`] | flags, environment, limits; other modules see only checked values |  |
//! | [`memory`] | one budget of bytes for everything that the server holds for clients | `error` |
//! | [`model`] | models as files and descriptions: repository, `model.json`, signature, tensors | `plain` |
//! | [`metrics`] | counters of what happened at the sockets |  |
//! | [`readiness`] | whether the server takes work |  |
//! | [`error`] | the errors that clients receive: a code and a sentence |  |
//! | [`plain`] | makes text from outside safe for terminals and logs |  |
//! | [`clock`] | the clock, which tests can stop |  |
//! | [`sync`] | shared types of threads, which the model checker replaces |  |
//! | [`panics`] | the message of a caught panic |  |
//!
//! # Invariants, each with a test
//!
//! 1. No thread waits without a time limit, except for work. Every channel is bounded. Every socket read and write
//!    has a deadline.
//! 2. Every accepted request gets exactly one reply, unless its connection has ended. A drain loses no reply.
//! 3. No input from the network can panic a thread that serves others, allocate more than the limits
//!    say, or read a file.
//! 4. An image, a tensor, a frame or a JSON text that lies about its size is refused before memory is
//!    taken for it.
//! 5. After any failed request the next good one succeeds, on the same conversation and on the same
//!    worker.
//! 6. The engine keeps nothing of a request for the next one.
//! 7. `#![forbid(unsafe_code)]`.
//!
//! # What is left out on purpose
//!
//! Compression on the WebSocket (the numbers of a model compress badly, and the buffers need more memory for each
//! connection than everything else), HTTP/2 (the gateway in front can offer it), and a plug-in interface.
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
pub mod panics;
pub mod plain;
pub mod processing;
pub mod readiness;
pub mod reload;
pub mod server;
pub mod service;
pub mod stuck;
pub mod sync;
pub mod transfer;
pub mod wire;
