//! `POST /v2/models/{m}/infer`: one request, one response.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::engine::Outcome;
use crate::inference::sequences::Sequences;
use crate::inference::{Answer, Pending, ServedModel};
use crate::memory::Share;
use crate::net::service::{Exchange, ReplySlot, Step};
use crate::ops::routes::{json, request_error};
use crate::wire::response::Encoded;
use crate::wire::{Defaults, InferRequest, Rejected, RequestError, decode};

/// OIP's header for how many bytes of the body are JSON; 0 for a raw payload.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

pub struct InferenceExchange {
    model: Arc<ServedModel>,
    defaults: Defaults,
    body: Body,
}

/// What the body holds, by its head.
#[derive(Debug, Clone, Copy)]
enum Body {
    Json,
    /// The payload of the single input: a length header of 0, or a content type that is no JSON.
    Raw,
    /// What a text message on a WebSocket holds: JSON, or the text itself.
    Text,
    JsonAndTensors {
        json_length: usize,
    },
}

impl InferenceExchange {
    pub fn new(
        model: Arc<ServedModel>,
        defaults: Defaults,
        headers: &HeaderMap,
    ) -> Result<InferenceExchange, RequestError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let raw_type =
            content_type.starts_with("image/") || content_type.starts_with("application/octet-stream");
        let body = match headers
            .get(&JSON_LENGTH)
            .map(|value| value.to_str().ok().and_then(|text| text.parse().ok()))
        {
            None if raw_type => Body::Raw,
            None if content_type.starts_with("text/") => Body::Text,
            None => Body::Json,
            Some(Some(0)) => Body::Raw,
            Some(Some(json_length)) => Body::JsonAndTensors { json_length },
            Some(None) => {
                return Err(RequestError::invalid("Inference-Header-Content-Length is no number of bytes"));
            }
        };
        Ok(InferenceExchange { model, defaults, body })
    }

    fn submit(
        &self,
        request: InferRequest,
        share: Share,
        slot: &ReplySlot,
    ) -> Step<Pending, Response<Vec<u8>>> {
        Step::Later(self.model.submit(request, Sequences::Shared, slot.cancelled(), slot.reply(share)))
    }

    fn read(&self, body: &[u8], share: &mut Share) -> Result<InferRequest, Rejected> {
        let (signature, defaults) = (&self.model.signature, &self.defaults);
        match self.body {
            Body::Raw => decode::from_raw(body, signature, defaults, share),
            Body::Text => decode::from_text_body(body, signature, defaults, share),
            Body::Json => decode::from_json_and_tensors(body, body.len(), signature, defaults, share),
            Body::JsonAndTensors { json_length } => {
                decode::from_json_and_tensors(body, json_length, signature, defaults, share)
            }
        }
    }
}

impl Exchange for InferenceExchange {
    type Pending = Pending;

    fn receive(
        &mut self,
        body: &[u8],
        mut share: Share,
        slot: &ReplySlot,
    ) -> Step<Pending, Response<Vec<u8>>> {
        match self.read(body, &mut share) {
            Ok(request) => self.submit(request, share, slot),
            Err(rejected) => Step::Now(failure(&rejected)),
        }
    }

    fn answer(&mut self, pending: Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>> {
        match self.model.answer(pending, outcome, share) {
            Answer::Response(Encoded::Json(body)) => json(StatusCode::OK, body),
            Answer::Response(Encoded::Binary { json, tensors }) => {
                let length = json.len();
                let mut body = json.into_bytes();
                body.extend_from_slice(&tensors);
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                headers.insert(JSON_LENGTH, HeaderValue::from(length));
                response
            }
            Answer::Error { error, id } => failure(&Rejected { id, error }),
        }
    }
}

fn failure(rejected: &Rejected) -> Response<Vec<u8>> {
    let mut response = request_error(&rejected.error);
    if rejected.id.is_some() {
        *response.body_mut() = rejected.error.to_json(rejected.id.as_deref()).into_bytes();
    }
    response
}
