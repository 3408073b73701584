//! A request's JSON as it comes: the fields of OIP and Triton, and what is around the tensors' `data`.
//!
//! All of this is read on a connection's small stack, so nothing here may go deeper than the types do: a value whose
//! kind is open (`id`, `data`, `instances`, `sequence_id`) stays text, and an object is an [`Object`].

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::few::Few;
use super::request::SequenceParameters;
use crate::error::{RequestError, shorten};
use crate::model::Signature;

/// Tensors that a request may name. No model of ours has as many.
const MOST_TENSORS: usize = 1024;

/// Dimensions of a tensor; ONNX models stay below 8.
const MOST_DIMENSIONS: usize = 32;

/// A JSON object. serde would take a list in its place, field by field.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub parameters: Option<Object<RequestParameters<'a>>>,
    #[serde(borrow)]
    pub inputs: Option<Few<Object<InputJson<'a>>, MOST_TENSORS>>,
    #[serde(borrow)]
    pub outputs: Option<Few<Object<OutputJson<'a>>, MOST_TENSORS>>,
    #[serde(borrow)]
    pub instances: Option<&'a RawValue>,
}

/// Parameters that are not listed are other servers' business and are passed over, as OIP has it.
#[derive(Deserialize, Default)]
pub(super) struct RequestParameters<'a> {
    /// Microseconds (Triton).
    pub timeout: Option<u64>,
    pub binary_data_output: Option<bool>,
    /// Triton's sequences change what an answer means, so they are not passed over.
    #[serde(borrow)]
    sequence_id: Option<&'a RawValue>,
    sequence_start: Option<bool>,
    sequence_end: Option<bool>,
}

impl RequestParameters<'_> {
    pub fn sequence(&self, signature: &Signature) -> Result<SequenceParameters, RequestError> {
        let said = self.sequence_id.is_some() || self.sequence_start.is_some() || self.sequence_end.is_some();
        if said && !signature.has_state {
            return Err(RequestError::invalid(
                "the request is part of a sequence, but this model keeps no state from one request to the next",
            ));
        }
        let id = self.sequence_id.map_or(Ok(None), read_sequence_id)?;
        let (start, end) = (self.sequence_start.unwrap_or(false), self.sequence_end.unwrap_or(false));
        Ok(SequenceParameters { id, start, end })
    }
}

/// A number or a string. Triton: 0 is no sequence, as is the empty string.
fn read_sequence_id(id: &RawValue) -> Result<Option<String>, RequestError> {
    const LONGEST: usize = 128;
    let json = id.get();
    if let Ok(number) = json.parse::<u64>() {
        return Ok(Some(number).filter(|number| *number != 0).map(|number| number.to_string()));
    }
    // Only a string begins so, and a string holds nothing else.
    let text = Some(json).filter(|json| json.starts_with('"'));
    let text: Option<String> = text.and_then(|json| serde_json::from_str(json).ok());
    match text {
        None => Err(RequestError::invalid(format!(
            "sequence_id is {}: expected a number from 0 on, or a string",
            shorten(json)
        ))),
        Some(text) if text.len() > LONGEST => {
            let message = format!("sequence_id has {} bytes: it may have {LONGEST}", text.len());
            Err(RequestError::invalid(message))
        }
        Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
    }
}

#[derive(Deserialize)]
pub(super) struct InputJson<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    pub shape: Few<u64, MOST_DIMENSIONS>,
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub parameters: Option<Object<InputParameters>>,
}

#[derive(Deserialize, Default)]
pub(super) struct InputParameters {
    pub binary_data_size: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct OutputJson<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    pub parameters: Option<Object<OutputParameters>>,
}

#[derive(Deserialize, Default)]
pub(super) struct OutputParameters {
    pub classification: Option<usize>,
    pub binary_data: Option<bool>,
}

/// An id is a string (OIP) or a number (many clients), and short.
pub(super) fn check_id(id: &RawValue) -> Result<Box<RawValue>, RequestError> {
    const LONGEST: usize = 1024;
    let text = id.get();
    if text.len() > LONGEST {
        return Err(RequestError::invalid(format!(
            "the id is {} bytes long: expected at most {LONGEST}",
            text.len()
        )));
    }
    if !text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        return Err(RequestError::invalid(format!("the id is {}: expected a string", shorten(text))));
    }
    Ok(id.to_owned())
}

/// The id of a request whose other fields are of the wrong types.
pub(super) fn id_of(json: &str) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    serde_json::from_str::<Object<Id<'_>>>(json).ok()?.0.id.and_then(|id| check_id(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_place_of_an_object_is_refused_at_every_level() {
        for json in [
            r#"["a",{},[]]"#,
            r#"{"parameters":[1]}"#,
            r#"{"inputs":[["x",[1],"FP32",[1]]]}"#,
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":[4]}]}"#,
            r#"{"outputs":[["y"]]}"#,
            r#"{"outputs":[{"name":"y","parameters":[1,true]}]}"#,
        ] {
            let error = serde_json::from_str::<Object<Envelope<'_>>>(json).err().expect(json);
            assert!(error.to_string().contains("expected an object"), "{json}: {error}");
        }
        let json = r#"{"parameters":{"timeout":1,"sequence_id":"a"},"outputs":[{"name":"y","parameters":{}}],"x":[[]]}"#;
        let envelope = serde_json::from_str::<Object<Envelope<'_>>>(json).unwrap().0;
        assert_eq!(envelope.parameters.unwrap().0.timeout, Some(1));
    }

    #[test]
    fn a_sequence_id_is_a_number_or_a_string_and_nothing_that_nests() {
        let read = |json: &str| read_sequence_id(serde_json::from_str(json).unwrap());
        assert_eq!(read("7").unwrap().as_deref(), Some("7"));
        assert_eq!(read(r#""a\u0062""#).unwrap().as_deref(), Some("ab"));
        assert_eq!(read("0").unwrap(), None);
        assert_eq!(read(r#""""#).unwrap(), None);
        for wrong in ["-1", "1.5", "true", "[1]", r#"{"a":1}"#, "[[[[]]]]", "99999999999999999999"] {
            assert!(read(wrong).unwrap_err().message.contains("expected a number"), "{wrong}");
        }
        assert!(read(&format!("\"{}\"", "a".repeat(129))).unwrap_err().message.contains("it may have 128"));
    }
}
