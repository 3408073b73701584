//! What operators and probes ask for: the routes that both listeners share, and the private listener.
//!
//! Here belong health, readiness and metadata over HTTP. Inference does not: `service` does it on the public port.

pub mod listener;
mod relay;
pub mod routes;
