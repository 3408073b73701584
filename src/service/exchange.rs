//! HTTP inference, `POST /v2/models/{m}/infer`: one request and one response. Reading bytes from the socket
//! belongs to [`net`](crate::net); the formats belong to [`wire`](crate::wire).

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::engine::Outcome;
use crate::error::RequestError;
use crate::inference::sequences::Sequences;
use crate::inference::{Answer, Pending, ServedModel};
use crate::memory::Share;
use crate::model::Signature;
use crate::net::service::{Exchange, Progress, ReplySlot};
use crate::ops::routes::{json, request_error};
use crate::processing::image::is_image;
use crate::wire::example::example;
use crate::wire::response::Encoded;
use crate::wire::{Defaults, InferRequest, Rejected, decode, form};

/// OIP's header for the number of bytes of JSON at the start of the body; 0 means a raw payload.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// One HTTP request for inference.
pub struct InferenceExchange {
    model: Arc<ServedModel>,
    defaults: Defaults,
    body: Body,
}

/// The format of the body, according to the headers.
#[derive(Debug, Clone)]
enum Body {
    /// JSON; or an image file when the model takes images, because many clients send a wrong Content-Type.
    Json,
    /// The raw payload of the only input: the length header is 0, or the content type is not JSON.
    Raw,
    /// The same as a text message on a WebSocket: JSON, or the text itself.
    Text,
    /// A form. Its first file is the payload of the only input.
    Form {
        boundary: String,
    },
    JsonAndTensors {
        json_length: usize,
    },
}

impl Body {
    fn of(headers: &HeaderMap) -> Result<Body, RequestError> {
        if let Some(json_length) = json_length(headers)? {
            return Ok(if json_length == 0 { Body::Raw } else { Body::JsonAndTensors { json_length } });
        }
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match media_type.as_str() {
            "multipart/form-data" => Body::Form { boundary: form::boundary(content_type)? },
            "application/octet-stream" => Body::Raw,
            file if file.starts_with("image/") || file.starts_with("audio/") => Body::Raw,
            text if text.starts_with("text/") => Body::Text,
            _ => Body::Json,
        })
    }
}

/// The number of bytes of JSON at the start of the body; `None` without the header. Returns an error when the
/// value is not a number.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, RequestError> {
    let mut values = headers.get_all(&JSON_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) if values.next().is_none() => Ok(Some(length)),
        _ => Err(RequestError::invalid(
            "Inference-Header-Content-Length: expected it once, with a number of bytes in digits",
        )),
    }
}

impl InferenceExchange {
    /// Begins an exchange. Returns an error when the headers do not describe a valid body.
    pub fn new(
        model: Arc<ServedModel>,
        defaults: Defaults,
        headers: &HeaderMap,
    ) -> Result<InferenceExchange, RequestError> {
        if model.audio.is_some() && defaults.sound.is_some() {
            return Err(RequestError::invalid(
                "encoding, sample_rate and channels describe a stream over a WebSocket: over HTTP, send a WAV file, or \
                 sound as model.json says",
            ));
        }
        Ok(InferenceExchange { model, defaults, body: Body::of(headers)? })
    }

    fn submit(
        &self,
        request: InferRequest,
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Pending, Response<Vec<u8>>> {
        let (cancelled, reply) = (slot.cancelled(), slot.reply(share));
        Progress::Pending(self.model.submit(request, Sequences::Shared, cancelled, reply, None))
    }

    fn read(&self, body: &[u8], share: &mut Share) -> Result<InferRequest, Rejected> {
        let (signature, defaults) = (&self.model.signature, &self.defaults);
        match &self.body {
            Body::Json | Body::Text if is_image(body) && takes_images(signature) => {
                decode::from_raw(body, signature, defaults, share)
            }
            Body::Raw => decode::from_raw(body, signature, defaults, share),
            Body::Text => decode::from_text_body(body, signature, defaults, share),
            Body::Form { boundary } => {
                decode::from_raw(form::first_file(body, boundary)?, signature, defaults, share)
            }
            Body::Json => decode::from_json_and_tensors(body, body.len(), signature, defaults, share)
                .map_err(|rejected| if is_object(body) { rejected } else { no_json(signature).into() }),
            Body::JsonAndTensors { json_length } => {
                decode::from_json_and_tensors(body, *json_length, signature, defaults, share)
            }
        }
    }
}

fn takes_images(signature: &Signature) -> bool {
    signature.single().is_some_and(|(_, input)| input.takes_images())
}

/// True when the body may be a JSON request.
fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && std::str::from_utf8(body).is_ok()
}

/// Makes the error for a body that is not JSON. It says how to send such a body.
fn no_json(signature: &Signature) -> RequestError {
    let how = match signature.single() {
        None => {
            "send JSON; tensors may follow it, with the header `Inference-Header-Content-Length`".to_owned()
        }
        Some((_, input)) if input.takes_text_messages() => {
            "send JSON, or the text with the header `Content-Type: text/plain`".to_owned()
        }
        Some((_, input)) if input.accepts.is_empty() => {
            "send JSON, or the tensor's bytes with the header `Content-Type: application/octet-stream`"
                .to_owned()
        }
        Some((_, input)) => {
            let types: Vec<String> =
                input.accepts.iter().map(|name| format!("`Content-Type: {name}`")).collect();
            format!("send JSON, or a file with the header {}, or a file in a form", types.join(" or "))
        }
    };
    RequestError::invalid(format!(
        "the body is no request in JSON: {how}; an example: {}",
        example(signature)
    ))
}

impl Exchange for InferenceExchange {
    type Pending = Pending;

    fn receive(
        &mut self,
        body: &[u8],
        mut share: Share,
        slot: &ReplySlot,
    ) -> Progress<Pending, Response<Vec<u8>>> {
        match self.read(body, &mut share) {
            Ok(request) => self.submit(request, share, slot),
            Err(rejected) => Progress::Answered(failure(&rejected)),
        }
    }

    fn answer(&mut self, pending: Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>> {
        match self.model.answer(pending, outcome, None, share) {
            Answer::Response { encoded: Encoded::Json(body), .. } => json(StatusCode::OK, body),
            Answer::Response { encoded: Encoded::Binary { json, tensors }, .. } => {
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
