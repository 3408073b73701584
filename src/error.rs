//! The errors that clients receive: a code for programs and a sentence for people. Errors of the command line and
//! of loading do not belong here.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

/// The kind of failure. The codes are our extension: OIP defines only the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request does not follow the protocol or the model's signature.
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
    /// The code in an error reply.
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

    /// The HTTP status for this code.
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

/// A failed request: its code and its sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub code: Code,
    /// A sentence that names the field, what was expected, and what was received.
    pub message: String,
}

impl RequestError {
    /// Creates an error from a code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> RequestError {
        RequestError { code, message: message.into() }
    }

    /// An error with [`Code::InvalidRequest`].
    pub fn invalid(message: impl Into<String>) -> RequestError {
        RequestError::new(Code::InvalidRequest, message)
    }

    /// The same error, with the name of a part of the request before its sentence.
    pub fn within(self, part: &str) -> RequestError {
        RequestError { message: format!("{part}: {}", self.message), ..self }
    }

    /// The error reply as JSON: `{"error", "code", "id"?}`.
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

/// Shortens a client's text for use in a sentence: at most 80 bytes, then `…`.
pub fn shorten(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 80;
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(LONGEST)]))
}

/// Shortens a parser's message, which may quote the client. Keeps about 150 bytes at each end: parsers write line
/// and column at the end.
pub fn shorten_middle(text: &str) -> Cow<'_, str> {
    const HALF: usize = 150;
    if text.len() <= 2 * HALF {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (text.floor_char_boundary(HALF), text.ceil_char_boundary(text.len() - HALF));
    Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
}

/// Shows a client's shape in a sentence: at most 8 dimensions, then their number.
pub fn show_shape<T: std::fmt::Display>(shape: &[T]) -> String {
    const MOST: usize = 8;
    let mut text: Vec<String> = shape.iter().take(MOST).map(T::to_string).collect();
    if shape.len() > MOST {
        text.push(format!("… {} dimensions", shape.len()));
    }
    format!("[{}]", text.join(","))
}
