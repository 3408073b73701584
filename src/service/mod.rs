//! Implements [`Service`] for inference: it finds the model for a path, checks access, and begins conversations
//! and HTTP exchanges.
//!
//! This module connects [`net`](crate::net) with [`inference`](crate::inference). It does not read sockets, and it
//! does not decode tensors.
//!
//! Invariant: access is checked before a model is looked up.

pub mod access;
mod dialogue;
mod exchange;
mod plain;
#[cfg(test)]
mod stack;
mod stream;
mod vision;

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::{Method, Request, Response, StatusCode};

use crate::error::{Code, RequestError};
use crate::inference::Models;
use crate::net::head;
use crate::net::service::{Begun, Refusal, Service};
use crate::ops::routes::{self, Names, Route, Sources, Vision};
use crate::readiness::Readiness;
use crate::wire::Defaults;

use access::Access;
use dialogue::InferenceDialogue;
use exchange::InferenceExchange;
use plain::PlainExchange;
use vision::{Asked, VisionExchange, refusal};

/// The service that the listener calls for each connection.
pub struct InferenceService {
    pub models: Arc<Models>,
    pub readiness: Arc<Readiness>,
    pub access: Arc<Access>,
    /// The prefix that a gateway adds to each path, without a slash at its end; may be empty.
    pub path_prefix: String,
    /// The most nested levels in a JSON request.
    pub max_json_depth: usize,
    /// The most files and texts in one request.
    pub max_files: usize,
}

impl Service for InferenceService {
    type Dialogue = InferenceDialogue;
    type Exchange = PlainExchange;

    fn upgrade(&self, request: &Request<()>) -> Result<InferenceDialogue, Refusal> {
        let path = self.known_path(request);
        let pass = self.access.check(request)?;
        let Some(model) = Route::of(path).and_then(Route::conversation) else {
            let message = format!(
                "no conversation is held at {}: connect to / or /v2/models/<name>",
                crate::error::shorten(path)
            );
            return Err(Box::new(routes::error(StatusCode::NOT_FOUND, &message)));
        };
        let (name, version) = (model.map(|model| model.name), model.and_then(|model| model.version));
        let catalogue = self.models.now();
        let found =
            catalogue.find(name, version).map_err(|failure| Box::new(routes::request_error(&failure)))?;
        let defaults = self.defaults(request).map_err(|failure| Box::new(routes::request_error(&failure)))?;
        InferenceDialogue::new(found.clone(), defaults, self.access.clone(), pass)
            .map_err(|failure| Box::new(routes::request_error(&failure)))
    }

    fn begin(&self, request: &Request<()>) -> Begun<PlainExchange> {
        let path = self.known_path(request);
        let route = Route::of(path);
        if let (Some(Route::Vision(vision)), &Method::POST) = (route, request.method()) {
            return match self.begin_vision(vision, request) {
                Ok(exchange) => Begun::Read(PlainExchange::Vision(exchange)),
                Err(response) => Begun::Respond(refusal(*response)),
            };
        }
        let names = match self.access.check(request) {
            Ok(_) => Names::Told,
            Err(_) if route.is_some_and(Route::is_open) => Names::Kept,
            Err(refusal) => return Begun::Respond(*refusal),
        };
        // RFC 9110 section 7.8: without `Connection: upgrade` the request is a plain HTTP request.
        if route == Some(Route::Root) && head::names_websocket(request.headers()) {
            let message = "the request has `Upgrade: websocket`, but no `Connection: upgrade` in HTTP/1.1, so it is a \
                           plain request: a proxy in front must pass both headers on";
            return Begun::Respond(routes::error(StatusCode::UPGRADE_REQUIRED, message));
        }
        let sources = Sources { models: &self.models, readiness: &self.readiness, names };
        let path = match routes::respond(request.method(), path, sources) {
            Err(Route::Infer(path)) => path,
            Ok(response) => return Begun::Respond(response),
            Err(_) => return Begun::Respond(routes::error(StatusCode::NOT_FOUND, "there is nothing here")),
        };
        if let Err(refusal) = check_coding(request) {
            return Begun::Respond(*refusal);
        }
        let exchange = self.takes_work().and_then(|()| {
            let catalogue = self.models.now();
            let model = catalogue.find(Some(path.name), path.version)?;
            InferenceExchange::new(model.clone(), self.defaults(request)?, request.headers())
        });
        match exchange {
            Ok(exchange) => Begun::Read(PlainExchange::Inference(exchange)),
            Err(failure) => Begun::Respond(routes::request_error(&failure)),
        }
    }

    fn refuse(&self, status: StatusCode, message: &str) -> Response<Vec<u8>> {
        routes::error(status, message)
    }

    fn fail(&self, failure: &RequestError) -> Response<Vec<u8>> {
        routes::request_error(failure)
    }
}

/// Refuses a body that is compressed.
fn check_coding(request: &Request<()>) -> Result<(), Refusal> {
    let codings = request.headers().get_all(CONTENT_ENCODING);
    if codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "the body has a Content-Encoding: send it as it is";
    Err(Box::new(routes::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)))
}

impl InferenceService {
    /// Begins a request of a DeepStack client. Its token may come in the body.
    fn begin_vision(&self, vision: Vision<'_>, request: &Request<()>) -> Result<VisionExchange, Refusal> {
        let admission = self.access.check_head(request)?;
        check_coding(request)?;
        let exchange = self.takes_work().and_then(|()| {
            let asked =
                Asked { vision, admission, defaults: self.defaults(request)?, headers: request.headers() };
            VisionExchange::new(self.models.clone(), self.access.clone(), asked)
        });
        exchange.map_err(|failure| Box::new(routes::request_error(&failure)))
    }

    /// The path without the prefix. A path without the prefix is accepted too, because internal probes do not go
    /// through the gateway.
    fn known_path<'r>(&self, request: &'r Request<()>) -> &'r str {
        let path = request.uri().path();
        match path.strip_prefix(self.path_prefix.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    fn defaults(&self, request: &Request<()>) -> Result<Defaults, RequestError> {
        let defaults = Defaults::from_query(request.uri().query().unwrap_or_default())?;
        Ok(Defaults { max_json_depth: self.max_json_depth, max_files: self.max_files, ..defaults })
    }

    /// Returns an error while the server drains.
    fn takes_work(&self) -> Result<(), RequestError> {
        if self.readiness.is_draining() {
            return Err(RequestError::new(Code::Unavailable, "the server is stopping"));
        }
        Ok(())
    }
}
