//! Running the server: readiness, the routes that both listeners share, and the private listener.

pub mod health;
pub mod listener;
pub mod metrics;
mod relay;
pub mod routes;
