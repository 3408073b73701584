//! Sockets: accepting connections, TLS, request heads, plain HTTP and WebSocket conversations.
//!
//! Here belongs what moves bytes between peers and a [`service::Service`], within the deadlines and byte limits of
//! [`crate::config::Limits`]. JSON, tensors and models do not: the service knows them.
//!
//! Invariants: one thread owns each connection and its socket. The socket never blocks; the thread sleeps in one place,
//! [`socket::Socket::wait`], which waits for the socket and for the bells of [`waker`] together.

pub mod body;
pub mod buffers;
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
