//! What a request is told when it fails: a code for programs and a sentence for people.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

/// Why a request failed, coarsely (ours; OIP has the sentence only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request is not as the protocol or the model's signature wants it.
    InvalidRequest,
    /// There is no such model or version.
    UnknownModel,
    /// More bytes, pixels or rows than the limits allow.
    TooLarge,
    /// The model's queue is full; try again later.
    Overloaded,
    /// The deadline passed before inference began.
    DeadlineExceeded,
    /// The model failed on this input; the next request is served as usual.
    InferenceFailed,
    /// The server is stopping, or not ready yet.
    Unavailable,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::UnknownModel => "unknown_model",
            Code::TooLarge => "too_large",
            Code::Overloaded => "overloaded",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::InferenceFailed => "inference_failed",
            Code::Unavailable => "unavailable",
        }
    }

    /// The status of the same failure over HTTP.
    pub fn status(self) -> StatusCode {
        match self {
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            Code::UnknownModel => StatusCode::NOT_FOUND,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::InferenceFailed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub code: Code,
    /// Names the field, what was expected and what came.
    pub message: String,
}

impl RequestError {
    pub fn new(code: Code, message: impl Into<String>) -> RequestError {
        RequestError { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> RequestError {
        RequestError::new(Code::InvalidRequest, message)
    }

    /// The same failure, said of a part of the request.
    pub fn within(self, part: &str) -> RequestError {
        RequestError { message: format!("{part}: {}", self.message), ..self }
    }

    /// The error reply, `{"error", "code", "id"?}`.
    pub fn to_json(&self, id: Option<&RawValue>) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RawValue>,
        }
        let body = Body { error: &self.message, code: self.code.name(), id };
        serde_json::to_string(&body).expect("strings and a raw value always serialize")
    }
}

/// What a client sent, short enough for a sentence.
pub fn shorten(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 80;
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(LONGEST)]))
}

/// A parser's sentence, which may quote what a client sent: its beginning, and its end, where it says
/// line and column.
pub fn shorten_middle(text: &str) -> Cow<'_, str> {
    const HALF: usize = 150;
    if text.len() <= 2 * HALF {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (text.floor_char_boundary(HALF), text.ceil_char_boundary(text.len() - HALF));
    Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
}

/// A shape that a client sent, short enough for a sentence.
pub fn show_shape<T: std::fmt::Display>(shape: &[T]) -> String {
    const MOST: usize = 8;
    let mut text: Vec<String> = shape.iter().take(MOST).map(T::to_string).collect();
    if shape.len() > MOST {
        text.push(format!("… {} dimensions", shape.len()));
    }
    format!("[{}]", text.join(","))
}
