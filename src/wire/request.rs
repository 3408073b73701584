//! What a request says, as types: what the query string sets, what is asked for, and the tensors.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::error::{RequestError, shorten};
use crate::model::{Input, Row};

/// How binary messages of a conversation are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// The message is the payload of the model's single input.
    #[default]
    Raw,
    /// **(ours)** `u32` little-endian length of the JSON, the JSON, the tensors' bytes in the order
    /// listed: OIP's binary extension, whose length header a frame cannot carry.
    V2,
}

/// Which of a conversation's messages are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    #[default]
    All,
    /// **(ours)** Those that are still the newest when their turn comes: live video, where old frames are worth
    /// nothing.
    Last,
}

/// What the query string of an upgrade (or of an HTTP request) sets for the requests behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    pub framing: Framing,
    pub classification: Option<usize>,
    pub binary_data_output: bool,
    pub timeout: Option<Duration>,
    pub stream: Stream,
    /// How deep JSON may nest: the server's bound, which no query changes.
    pub max_json_depth: usize,
    /// Files and texts of one request: the server's bound as well.
    pub max_files: usize,
}

/// How deep the JSON parser itself goes at most.
pub const PARSER_DEPTH: usize = 128;

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            framing: Framing::default(),
            classification: None,
            binary_data_output: false,
            timeout: None,
            stream: Stream::default(),
            max_json_depth: PARSER_DEPTH,
            max_files: usize::MAX,
        }
    }
}

impl Defaults {
    /// Reads `framing`, `classification`, `binary_data_output`, `timeout` (microseconds) and `stream`. A name
    /// that is not ours is left alone: gateways and clients add their own.
    pub fn from_query(query: &str) -> Result<Defaults, RequestError> {
        let mut defaults = Defaults::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |expected: &str| {
                RequestError::invalid(format!(
                    "query parameter `{name}` is `{}`: expected {expected}",
                    shorten(&value)
                ))
            };
            match name.as_ref() {
                "framing" => {
                    defaults.framing = match value.as_ref() {
                        "raw" => Framing::Raw,
                        "v2" => Framing::V2,
                        _ => return Err(wrong("`raw` or `v2`")),
                    }
                }
                "classification" => {
                    let classes =
                        value.parse().map_err(|_| wrong("a number of classes, 0 for the tensor"))?;
                    defaults.classification = Some(classes);
                }
                "binary_data_output" => {
                    defaults.binary_data_output = value.parse().map_err(|_| wrong("`true` or `false`"))?;
                }
                "timeout" => {
                    let microseconds = value.parse().map_err(|_| wrong("microseconds"))?;
                    defaults.timeout = Some(Duration::from_micros(microseconds));
                }
                "stream" => {
                    defaults.stream = match value.as_ref() {
                        "all" => Stream::All,
                        "last" => Stream::Last,
                        _ => return Err(wrong("`all` or `last`")),
                    }
                }
                _ => {}
            }
        }
        Ok(defaults)
    }
}

/// The form of the reply, which is that of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OIP: `{"outputs": […]}`.
    Oip,
    /// TensorFlow Serving: `{"predictions": […]}`, a row an instance.
    Rows { instances: usize },
}

/// An output that a request asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedOutput {
    /// Its place in the signature.
    pub index: usize,
    /// The k best classes instead of the tensor; `Some(0)` is the tensor whatever the model's
    /// default; `None` leaves it to the model.
    pub classification: Option<usize>,
    pub binary: bool,
}

/// A request that agrees with the signature.
#[derive(Debug)]
pub struct InferRequest {
    /// As it came (a string or a number), to be given back.
    pub id: Option<Box<RawValue>>,
    pub form: Form,
    /// One for each input, in the signature's order.
    pub inputs: Vec<Input>,
    /// Of a window of a stream, its place there: the request is this one row. Empty for all other requests.
    pub rows: Vec<Row>,
    /// In the order asked for; all of the model's when none was named.
    pub outputs: Vec<WantedOutput>,
    pub timeout: Option<Duration>,
    pub sequence: SequenceParameters,
}

/// Which sequence a request is a step of (Triton's `sequence_id`, `sequence_start`, `sequence_end`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceParameters {
    /// A number or a string, as text. `None` is the conversation itself.
    pub id: Option<String>,
    pub start: bool,
    pub end: bool,
}

/// A request that was not taken, with its id when that much could be read.
#[derive(Debug)]
pub struct Rejected {
    pub id: Option<Box<RawValue>>,
    pub error: RequestError,
}

impl From<RequestError> for Rejected {
    fn from(error: RequestError) -> Self {
        Rejected { id: None, error }
    }
}
