//! The paths of the server and their answers, for both listeners.
//!
//! Here belong all paths, and the answers that need no body and no inference. Requests come as a method and a path, and
//! responses go as `http::Response`; sockets and tokens are not known here.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::error::{Code, RequestError};
use crate::inference::Models;
use crate::readiness::Readiness;
use crate::wire::metadata;

/// What a path means. The paths with `/v2` are those of the Open Inference Protocol (OIP v2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`: a conversation with the default model.
    Root,
    /// `/health`: the health check of ModelArts.
    Health,
    /// `/v2/health/live`: whether the process runs.
    Live,
    /// `/v2/health/ready`: whether the server takes work.
    Ready,
    /// `/v2`: the server's metadata.
    Server,
    /// `/v2/models/{name}`: a model's metadata, or a conversation with it.
    Model(ModelPath<'a>),
    /// `/v2/models/{name}/ready`: whether a model takes work.
    ModelReady(ModelPath<'a>),
    /// `/v2/models/{name}/infer`: inference by POST, or a conversation.
    Infer(ModelPath<'a>),
    /// `/v1/vision/…`: detection as clients of DeepStack ask for it.
    Vision(Vision<'a>),
}

/// What a path of DeepStack asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vision<'a> {
    /// `/v1/vision/detection`
    Objects,
    /// `/v1/vision/face`
    Faces,
    /// `/v1/vision/custom/{name}`: the model with this name.
    Named(&'a str),
}

/// A model in a path: `/v2/models/{name}[/versions/{version}]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPath<'a> {
    pub name: &'a str,
    pub version: Option<&'a str>,
}

impl<'a> Route<'a> {
    /// The route of a path without its query; `None` for an unknown path. A slash at the end is ignored.
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
            ["v1", "vision", "detection"] => Route::Vision(Vision::Objects),
            ["v1", "vision", "face"] => Route::Vision(Vision::Faces),
            ["v1", "vision", "custom", name] => Route::Vision(Vision::Named(name)),
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

    /// The methods that the path accepts, as in the `Allow` header.
    fn methods(self) -> &'static str {
        match self {
            Route::Infer(_) | Route::Vision(_) => "POST",
            _ => "GET, HEAD",
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Route::Infer(_) | Route::Vision(_) => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// True for probes of the server as a whole, which need no token. Models are shown only to those who have one.
    pub fn is_open(self) -> bool {
        matches!(self, Route::Health | Route::Live | Route::Ready)
    }

    /// The model for a WebSocket on this path. The outer `None` means that the path has no conversations, the inner `None`
    /// is the default model.
    pub fn conversation(self) -> Option<Option<ModelPath<'a>>> {
        match self {
            Route::Root => Some(None),
            Route::Model(model) | Route::Infer(model) => Some(Some(model)),
            _ => None,
        }
    }
}

/// What the answers are made from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    pub models: &'a Models,
    pub readiness: &'a Readiness,
    pub names: Names,
}

/// Whether the answer may contain names of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Told,
    /// The client has not sent a token.
    Kept,
}

/// Answers a request by its method and path. `Err` is the route of a request for inference, which needs the body.
pub fn respond<'a>(
    method: &Method,
    path: &'a str,
    sources: Sources<'_>,
) -> Result<Response<Vec<u8>>, Route<'a>> {
    let Some(route) = Route::of(path) else {
        let message = format!("there is nothing at {}", crate::error::shorten(path));
        return Ok(error(StatusCode::NOT_FOUND, &message));
    };
    if !route.allows(method) {
        let message = format!("{method} is not allowed for this path: use {}", route.methods());
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &message);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
        return Ok(response);
    }
    let catalogue = sources.models.now();
    // As in Triton: when a model could not be loaded, the server is not ready, but it serves the other models.
    let unready = catalogue.unready();
    let ready = sources.readiness.is_ready() && unready.is_empty();
    Ok(match route {
        Route::Infer(_) | Route::Vision(_) => return Err(route),
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
                let result = model.result_metadata();
                json(StatusCode::OK, metadata::model(&model.name, versions, &model.signature, result))
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

/// The body of a readiness answer. `failed` are the models that could not be loaded; OIP has no such field.
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

/// A response with a JSON body.
pub fn json(status: StatusCode, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `{"error": "..."}`, for a request that failed before it was understood.
pub fn error(status: StatusCode, message: &str) -> Response<Vec<u8>> {
    let mut body = serde_json::Map::new();
    body.insert("error".into(), message.into());
    json(status, serde_json::Value::Object(body).to_string())
}

/// The response to a failed request. It has `Retry-After` when the client should try again.
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
            ("/v1/vision/detection", Some(Route::Vision(Vision::Objects))),
            ("/v1/vision/face/", Some(Route::Vision(Vision::Faces))),
            ("/v1/vision/custom/m", Some(Route::Vision(Vision::Named("m")))),
            ("/v1/vision/face/recognize", None),
            ("/v1/vision/custom", None),
            ("*", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
