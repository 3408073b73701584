//! The types of a request: the defaults from the query string, the wanted outputs, and the inputs.
//!
//! What belongs here: types and the reading of the query string. What does not: reading messages (`decode`).

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::error::{RequestError, shorten};
use crate::model::choices::Choices;
use crate::model::sound::SoundParameters;
use crate::model::{Input, Row};

/// How the binary messages of a conversation are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// The message is the payload of the model's single input.
    #[default]
    Raw,
    /// **(ours)** The message holds the length of the JSON (`u32`, little-endian), the JSON, and the bytes of the
    /// tensors in the order that the JSON lists. This is OIP's binary extension with the length inside the message,
    /// because a WebSocket frame has no header field for it.
    V2,
}

/// Which messages of a conversation are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// All messages, in the order in which they arrived.
    #[default]
    All,
    /// **(ours)** Only a message that is still the newest when a worker is free. This is for live video, where old
    /// frames are useless.
    Last,
}

/// Which windows of a stream of sound are answered. Errors and events are told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    #[default]
    All,
    /// **(ours)** Only windows in which something happens.
    Events,
    /// **(ours)** Every n-th window, beginning with the first.
    Every(NonZeroU64),
}

/// The defaults for the requests of a connection, from the query string of the WebSocket upgrade or of the HTTP
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// How binary messages are read.
    pub framing: Framing,
    /// The number of best classes for each output; 0 returns the tensor, and `None` uses the model's default.
    pub classification: Option<usize>,
    /// Whether output tensors are returned as bytes behind the JSON.
    pub binary_data_output: bool,
    /// The longest time before inference begins. With `None` or 0, only the server's limit applies.
    pub timeout: Option<Duration>,
    /// Which messages are answered.
    pub stream: Stream,
    /// Which windows of sound are answered.
    pub answers: Answers,
    /// What the client says about its stream of sound.
    pub sound: SoundParameters,
    /// Whether results are wanted, and their thresholds.
    pub choices: Choices,
    /// The deepest nesting of the JSON. The server's configuration sets this limit; the query string cannot change
    /// it.
    pub max_json_depth: usize,
    /// The largest number of files and texts in one request. The server's configuration sets this limit too.
    pub max_files: usize,
}

/// The deepest nesting that the JSON parser (serde_json) itself accepts.
pub const PARSER_DEPTH: usize = 128;

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            framing: Framing::default(),
            classification: None,
            binary_data_output: false,
            timeout: None,
            stream: Stream::default(),
            answers: Answers::default(),
            sound: SoundParameters::default(),
            choices: Choices::default(),
            max_json_depth: PARSER_DEPTH,
            max_files: usize::MAX,
        }
    }
}

impl Defaults {
    /// Reads `framing`, `classification`, `binary_data_output`, `timeout` (microseconds), `stream`, `answers`, `encoding`,
    /// `sample_rate`, `channels`, `results`, and the settings of results. Other names are ignored, because gateways and clients add their own parameters.
    ///
    /// Errors: the value of one of these parameters is not valid.
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
                "results" => {
                    defaults.choices.results = Some(value.parse().map_err(|_| wrong("`true` or `false`"))?);
                }
                "answers" => {
                    defaults.answers = match value.as_ref() {
                        "all" => Answers::All,
                        "events" => Answers::Events,
                        number => Answers::Every(
                            number
                                .parse()
                                .map_err(|_| wrong("`all`, `events` or a number of windows from 1"))?,
                        ),
                    }
                }
                name => {
                    let is_sound = defaults.sound.take(name, &value).map_err(|expected| wrong(&expected))?;
                    if !is_sound {
                        // Their bounds depend on the model, which checks them.
                        defaults.choices.take(name, &value);
                    }
                }
            }
        }
        Ok(defaults)
    }
}

/// The form of the response. It is the same as the form of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OIP: `{"outputs": […]}`.
    Oip,
    /// TensorFlow Serving: `{"predictions": […]}`, with one row for each of the `instances`.
    Rows { instances: usize },
}

/// An output that a request asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedOutput {
    /// The index of the output in the signature.
    pub index: usize,
    /// The number of best classes to return in place of the tensor. `Some(0)` returns the tensor even if the model
    /// has a default; `None` uses the model's default.
    pub classification: Option<usize>,
    /// Whether the tensor is returned as bytes behind the JSON.
    pub binary: bool,
}

/// A request that agrees with the model's signature.
#[derive(Debug)]
pub struct InferRequest {
    /// The request's id, a string or a number as JSON text. The response repeats it unchanged.
    pub id: Option<Box<RawValue>>,
    /// The form that the response must have.
    pub form: Form,
    /// The inputs, one for each input of the signature, in its order.
    pub inputs: Vec<Input>,
    /// For a window of a stream: one row with the window's position in the stream. For all other requests: empty.
    pub rows: Vec<Row>,
    /// The wanted outputs in the request's order, or all outputs of the model when the request names none.
    pub outputs: Vec<WantedOutput>,
    /// Whether the request names its outputs. It then wants these, and not the result that is made from them.
    pub names_outputs: bool,
    /// Whether results are wanted, and their thresholds.
    pub choices: Choices,
    /// The longest time before inference begins. With `None` or 0, only the server's limit applies.
    pub timeout: Option<Duration>,
    /// The sequence that the request belongs to.
    pub sequence: SequenceParameters,
    /// Whether the stream of the conversation ends after the request.
    pub stream_end: bool,
}

/// The sequence that a request is a step of (Triton's `sequence_id`, `sequence_start`, `sequence_end`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceParameters {
    /// The id of the sequence as text; in the request it is a number or a string. `None` means the sequence of the
    /// conversation.
    pub id: Option<String>,
    /// Whether this is the first step of the sequence.
    pub start: bool,
    /// Whether this is the last step of the sequence.
    pub end: bool,
}

/// A request that was refused. It has the request's id when the id could be read.
#[derive(Debug)]
pub struct Rejected {
    /// The request's id as JSON text, when it could be read.
    pub id: Option<Box<RawValue>>,
    /// The reason, as a sentence for the client.
    pub error: RequestError,
}

impl From<RequestError> for Rejected {
    fn from(error: RequestError) -> Self {
        Rejected { id: None, error }
    }
}
