//! The JSON of a request before its tensors are read: the fields of OIP and Triton around the `data` of the tensors.
//!
//! What belongs here: types that serde fills, and checks of single fields. What does not: checks against the model's
//! signature (`decode`, `agreement`).
//!
//! Invariant: this JSON is read on a connection's small stack, so reading never recurses deeper than these types do.
//! A field whose type is open (`id`, `data`, `instances`, `sequence_id`) is kept as text. An object is an [`Object`].

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
use crate::model::choices::Choices;

/// The largest number of tensors in a request. It is far above the number of inputs of real models.
const MOST_TENSORS: usize = 1024;

/// The largest number of dimensions of a tensor. ONNX models have fewer than 8.
const MOST_DIMENSIONS: usize = 32;

/// A JSON object. Without this type, serde would also accept a list of the field values in place of the object.
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

/// All fields of a request. Exactly one of `inputs` (OIP) and `instances` (TensorFlow Serving) must be present.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    /// A string or a number, see [`check_id`].
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub parameters: Option<Object<RequestParameters<'a>>>,
    /// The inputs of an OIP request.
    #[serde(borrow)]
    pub inputs: Option<Few<Object<InputJson<'a>>, MOST_TENSORS>>,
    /// The outputs that an OIP request asks for. When it is absent or empty, all outputs are returned.
    #[serde(borrow)]
    pub outputs: Option<Few<Object<OutputJson<'a>>, MOST_TENSORS>>,
    /// The rows of a request in TensorFlow Serving's form, as JSON text.
    #[serde(borrow)]
    pub instances: Option<&'a RawValue>,
}

/// The parameters of a request. Parameters that are not listed here belong to other servers and are ignored, as OIP
/// says.
#[derive(Deserialize, Default)]
pub(super) struct RequestParameters<'a> {
    /// The timeout in microseconds (Triton).
    pub timeout: Option<u64>,
    /// Whether output tensors are returned as bytes behind the JSON (Triton).
    pub binary_data_output: Option<bool>,
    /// Triton's sequence parameters change what an answer means, so they are checked and not ignored.
    #[serde(borrow)]
    sequence_id: Option<&'a RawValue>,
    sequence_start: Option<bool>,
    sequence_end: Option<bool>,
    /// Whether the stream of the conversation ends after this request (ours).
    pub stream_end: Option<bool>,
    /// Whether the answer has results in place of the outputs that they are made from (ours).
    results: Option<bool>,
    // The settings of results (ours). They are kept as text: their types and bounds depend on the model, and a model
    // without results ignores them like all parameters that it does not know.
    #[serde(borrow)]
    score_threshold: Option<&'a RawValue>,
    #[serde(borrow)]
    iou_threshold: Option<&'a RawValue>,
    #[serde(borrow)]
    max: Option<&'a RawValue>,
    #[serde(borrow)]
    threshold: Option<&'a RawValue>,
    #[serde(borrow)]
    unclip_ratio: Option<&'a RawValue>,
    #[serde(borrow)]
    steps: Option<&'a RawValue>,
}

impl RequestParameters<'_> {
    /// Returns what the request says about the results that it wants. What it leaves open is as in `defaults`.
    pub fn choices(&self, defaults: &Choices) -> Choices {
        let mut choices = Choices::default();
        choices.results = self.results;
        for (name, value) in [
            ("score_threshold", self.score_threshold),
            ("iou_threshold", self.iou_threshold),
            ("max", self.max),
            ("threshold", self.threshold),
            ("unclip_ratio", self.unclip_ratio),
            ("steps", self.steps),
        ] {
            if let Some(value) = value {
                choices.take(name, value.get());
            }
        }
        choices.or(defaults)
    }

    /// Returns the sequence that the request belongs to.
    ///
    /// Errors: the model has no state, or `sequence_id` is neither a number nor a short string.
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

/// Reads a sequence id: a number or a string. In Triton, 0 and the empty string mean that there is no sequence.
fn read_sequence_id(id: &RawValue) -> Result<Option<String>, RequestError> {
    const LONGEST: usize = 128;
    let json = id.get();
    if let Ok(number) = json.parse::<u64>() {
        return Ok(Some(number).filter(|number| *number != 0).map(|number| number.to_string()));
    }
    // In well-formed JSON, a value that begins with a quote is a string.
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

/// One entry of `inputs`. Exactly one of `data` and `parameters.binary_data_size` must be present.
#[derive(Deserialize)]
pub(super) struct InputJson<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The shape of the tensor, or `[n]` for n files or texts.
    pub shape: Few<u64, MOST_DIMENSIONS>,
    /// The name of the datatype in OIP, such as `FP32`.
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    /// The elements as JSON text, flat or nested like the shape.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub parameters: Option<Object<InputParameters>>,
}

/// The parameters of one input.
#[derive(Deserialize, Default)]
pub(super) struct InputParameters {
    /// The number of bytes that the tensor has behind the JSON.
    pub binary_data_size: Option<u64>,
}

/// One entry of `outputs`: an output that the request asks for.
#[derive(Deserialize)]
pub(super) struct OutputJson<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    pub parameters: Option<Object<OutputParameters>>,
}

/// The parameters of one output.
#[derive(Deserialize, Default)]
pub(super) struct OutputParameters {
    /// The number of best classes to return (Triton).
    pub classification: Option<usize>,
    /// Whether the tensor is returned as bytes behind the JSON.
    pub binary_data: Option<bool>,
}

/// Checks the id of a request. It is a string (OIP) or a number (sent by many clients), and its text has at most 1024
/// bytes.
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

/// Reads only the id of a request, for an error answer when other fields have wrong types.
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
