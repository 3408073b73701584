//! Sockets and bytes: accepting, the request head, plain HTTP, and the WebSocket conversation. No
//! JSON and no tensors are made here.
//!
//! Every connection is one thread that owns its socket alone. The socket never blocks; the thread
//! sleeps in one place, [`socket::Socket::wait`], on the socket and on the bells of [`waker`] together.

pub mod body;
pub mod chunked;
pub mod connection;
pub mod connections;
pub mod conversation;
pub mod head;
pub mod http;
pub mod listener;
pub mod response;
pub mod service;
pub mod socket;
pub mod tls;
pub mod transport;
pub mod wake;
pub mod waker;
