//! The paths of the server, in one table for both listeners. Knows neither of them: requests come as
//! `http::Request`, responses go as `http::Response`.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::error::{Code, RequestError};
use crate::inference::Models;
use crate::readiness::Readiness;
use crate::wire::metadata;

/// What a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`: a conversation with the default model.
    Root,
    /// `/health`: the platform's probe.
    Health,
    Live,
    Ready,
    Server,
    Model(ModelPath<'a>),
    ModelReady(ModelPath<'a>),
    Infer(ModelPath<'a>),
}

/// `/v2/models/{name}[/versions/{version}]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPath<'a> {
    pub name: &'a str,
    pub version: Option<&'a str>,
}

impl<'a> Route<'a> {
    pub fn of(path: &'a str) -> Option<Route<'a>> {
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<&str> = path.split('/').collect();
        Some(match parts.as_slice() {
            [""] => Route::Root,
            ["health"] => Route::Health,
            ["v2"] => Route::Server,
            ["v2", "health", "live"] => Route::Live,
            ["v2", "health", "ready"] => Route::Ready,
            ["v2", "models", name, rest @ ..] => {
                let (version, rest) = match rest {
                    ["versions", version, rest @ ..] => (Some(*version), rest),
                    rest => (None, rest),
                };
                let model = ModelPath { name, version };
                match rest {
                    [] => Route::Model(model),
                    ["ready"] => Route::ModelReady(model),
                    ["infer"] => Route::Infer(model),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// The methods that it answers, as `Allow` lists them.
    fn methods(self) -> &'static str {
        match self {
            Route::Infer(_) => "POST",
            _ => "GET, HEAD",
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Route::Infer(_) => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// True for probes of the server as a whole, which ask without a token. What models there are is for those who
    /// have one.
    pub fn is_open(self) -> bool {
        matches!(self, Route::Health | Route::Live | Route::Ready)
    }

    /// The model of a path on which a conversation may be held: outside `None` for a path of another
    /// kind, inside `None` for the default model.
    pub fn conversation(self) -> Option<Option<ModelPath<'a>>> {
        match self {
            Route::Root => Some(None),
            Route::Model(model) | Route::Infer(model) => Some(Some(model)),
            _ => None,
        }
    }
}

/// What answers are made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    pub models: &'a Models,
    pub readiness: &'a Readiness,
    pub names: Names,
}

/// Whether whoever asks may learn which models there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Told,
    /// It has shown no token.
    Kept,
}

/// Answers whatever a path and a method tell enough for; `Err` is a request for inference, whose body
/// is wanted.
pub fn respond<'a>(
    method: &Method,
    path: &'a str,
    sources: Sources<'_>,
) -> Result<Response<Vec<u8>>, ModelPath<'a>> {
    let Some(route) = Route::of(path) else {
        let message = format!("there is nothing at {}", crate::error::shorten(path));
        return Ok(error(StatusCode::NOT_FOUND, &message));
    };
    if !route.allows(method) {
        let message = format!("{method} is not for this path: it takes {}", route.methods());
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &message);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
        return Ok(response);
    }
    let catalogue = sources.models.now();
    // As Triton has it: a server that was started with a model that cannot be loaded is not ready, and serves the others.
    let unready = catalogue.unready();
    let ready = sources.readiness.is_ready() && unready.is_empty();
    Ok(match route {
        Route::Infer(model) => return Err(model),
        Route::Root => {
            let message = "connect a WebSocket here, or POST to /v2/models/<name>/infer; see GET /v2";
            error(StatusCode::UPGRADE_REQUIRED, message)
        }
        Route::Health if ready => json(StatusCode::OK, r#"{"health":"true"}"#.into()),
        Route::Health => json(StatusCode::SERVICE_UNAVAILABLE, r#"{"health":"false"}"#.into()),
        Route::Live => json(StatusCode::OK, r#"{"live":true}"#.into()),
        Route::Ready => {
            let named = if sources.names == Names::Told { unready } else { Vec::new() };
            json(readiness_status(ready), readiness(ready, named))
        }
        Route::Server => json(StatusCode::OK, metadata::server()),
        Route::Model(path) => match catalogue.find(Some(path.name), path.version) {
            Ok(model) => {
                let versions = catalogue.versions(&model.name);
                json(StatusCode::OK, metadata::model(&model.name, versions, &model.signature))
            }
            Err(failure) => request_error(&failure),
        },
        Route::ModelReady(path) => match catalogue.find(Some(path.name), path.version) {
            Ok(model) => {
                let ready = sources.readiness.is_ready() && model.is_ready();
                json(readiness_status(ready), readiness(ready, Vec::new()))
            }
            Err(failure) => request_error(&failure),
        },
    })
}

/// `failed` are the models for which the server is not ready (ours).
fn readiness(ready: bool, failed: Vec<String>) -> String {
    let mut body = serde_json::Map::new();
    body.insert("ready".into(), ready.into());
    if !failed.is_empty() {
        body.insert("failed".into(), failed.into());
    }
    serde_json::Value::Object(body).to_string()
}

fn readiness_status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// A JSON response.
pub fn json(status: StatusCode, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `{"error": "..."}` for what went wrong before a request was understood.
pub fn error(status: StatusCode, message: &str) -> Response<Vec<u8>> {
    let mut body = serde_json::Map::new();
    body.insert("error".into(), message.into());
    json(status, serde_json::Value::Object(body).to_string())
}

/// A failed request over HTTP.
pub fn request_error(failure: &RequestError) -> Response<Vec<u8>> {
    let mut response = json(failure.code.status(), failure.to_json(None));
    if matches!(failure.code, Code::Overloaded | Code::Unavailable) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_protocol_says() {
        let model = |version| ModelPath { name: "m", version };
        for (path, route) in [
            ("/", Some(Route::Root)),
            ("/health", Some(Route::Health)),
            ("/v2", Some(Route::Server)),
            ("/v2/", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/models/m", Some(Route::Model(model(None)))),
            ("/v2/models/m/versions/3", Some(Route::Model(model(Some("3"))))),
            ("/v2/models/m/versions/3/infer", Some(Route::Infer(model(Some("3"))))),
            ("/v2/models/m/ready", Some(Route::ModelReady(model(None)))),
            ("/v2/models/m/infer/x", None),
            ("/v1", None),
            ("*", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
