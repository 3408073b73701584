//! Running the server: readiness, the routes that both listeners share, and the private listener.

pub mod listener;
mod relay;
pub mod routes;
