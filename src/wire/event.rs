//! Text messages that are no requests: `{"event":"end"}` and the like, and their acknowledgements. All of this is ours.
//!
//! A client sends them between the messages of a stream. The server handles them in order with what came before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::{Object, check_id, id_of};
use super::request::Rejected;
use crate::error::{RequestError, shorten};

/// The most bytes of an event. A longer message is a request.
const LONGEST: usize = 4096;

/// What a client asks for with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The stream ends. What follows is a new one.
    End,
    /// The utterance ends, and the stream goes on.
    Commit,
    /// The metadata of the model is wanted.
    Describe,
}

/// An event with the id that its acknowledgement repeats.
#[derive(Debug)]
pub struct Said {
    pub event: Event,
    pub id: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventJson<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Reads an event. `None` when the message is none, but a request.
///
/// Errors: the message has a field `event`, but is not an event that the server knows.
pub fn read(text: &str) -> Option<Result<Said, Rejected>> {
    // A request is far longer than an event in most cases, and must not be read twice.
    if text.len() > LONGEST || !text.trim_ascii_start().starts_with('{') || !names_event(text) {
        return None;
    }
    let said = serde_json::from_str::<Object<EventJson<'_>>>(text);
    let said = said.map_err(|error| RequestError::invalid(format!("the event is not readable: {error}")));
    Some(said.and_then(|Object(said)| understand(said)).map_err(|error| Rejected { id: id_of(text), error }))
}

fn understand(said: EventJson<'_>) -> Result<Said, RequestError> {
    let event = match said.event.as_ref() {
        "end" => Event::End,
        "commit" => Event::Commit,
        "describe" => Event::Describe,
        other => {
            return Err(RequestError::invalid(format!(
                "event is `{}`: expected `end`, `commit` or `describe`",
                shorten(other)
            )));
        }
    };
    Ok(Said { event, id: said.id.map(check_id).transpose()? })
}

/// Whether the object has a field `event` at its top level.
fn names_event(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Names<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
    }
    text.contains("\"event\"")
        && serde_json::from_str::<Object<Names<'_>>>(text).is_ok_and(|Object(names)| names.event.is_some())
}

/// The acknowledgement of an event.
#[derive(Debug, Serialize)]
pub struct Acknowledgement<'a> {
    /// `ended` or `committed`.
    pub event: &'static str,
    /// The length of the stream so far, in samples of the model's rate; `None` for a stream of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_offset: Option<u64>,
    /// The bytes at the end that were no whole sample, and were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Acknowledgement<'_> {
    /// The acknowledgement as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_with_the_field_event_is_an_event() {
        let said = read(r#" {"event":"end","id":7}"#).unwrap().unwrap();
        assert_eq!((said.event, said.id.unwrap().get()), (Event::End, "7"));
        for request in
            ["event", "", "[1]", r#"{"inputs":[{"name":"event"}]}"#, r#"{"id":"event","inputs":["event"]}"#]
        {
            assert!(read(request).is_none(), "{request}");
        }
        assert!(read(&format!(r#"{{"event":"end","id":"{}"}}"#, "x".repeat(LONGEST))).is_none());
    }

    #[test]
    fn an_event_that_is_not_understood_is_an_error_with_its_id() {
        let rejected = read(r#"{"event":"stop","id":"a"}"#).unwrap().unwrap_err();
        assert_eq!(rejected.id.unwrap().get(), r#""a""#);
        assert!(rejected.error.message.contains("expected `end`, `commit` or `describe`"));
        for wrong in [r#"{"event":1}"#, r#"{"event":"end","inputs":[]}"#, r#"{"event":"end","id":[]}"#] {
            assert!(read(wrong).unwrap().is_err(), "{wrong}");
        }
    }
}
