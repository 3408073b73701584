//! Turns an [`InferResponse`] into bytes: OIP JSON, rows, or JSON with binary tensors behind it.
//!
//! What belongs here: the formats of responses. What does not: scores and labels (`processing`), and HTTP. Invariant:
//! JSON has no NaN and no infinity; they become `null` and are counted in `parameters.non_finite`.

use std::ops::Range;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::request::Form;
use crate::error::{RequestError, show_shape};
use crate::model::{Elements, Tensor};

/// A response before it is encoded.
#[derive(Debug)]
pub struct InferResponse<'a> {
    pub model_name: &'a str,
    pub model_version: &'a str,
    /// The id of the request, as JSON text.
    pub id: Option<&'a RawValue>,
    /// The outputs, in the order that the request asked for. With a result: without those that it is made from.
    pub outputs: Vec<OutputTensor<'a>>,
    /// The answers that are made of outputs; `None` when the response has only outputs.
    pub result: Option<ResultJson>,
    /// The position in the stream, for a response to a stream.
    pub stream: StreamParameters,
}

/// Answers that are made of outputs. This is an extension of onnxd.
#[derive(Debug)]
pub struct ResultJson {
    /// The JSON of each row's answer.
    pub rows: Vec<Box<RawValue>>,
    /// What the coordinates in the answers count; `None` for answers without coordinates.
    pub coordinates: Option<&'static str>,
    /// The number of scores and boxes that were left out because they are no finite numbers.
    pub non_finite: usize,
}

/// The position of a response in its stream. This is an extension of onnxd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamParameters {
    /// For audio: the number of the window's first new sample, counted from the start of the stream.
    pub stream_offset: Option<u64>,
    /// For `stream=last`: the number of frames that were skipped since the previous response.
    pub dropped: Option<u64>,
}

/// One output of a response.
#[derive(Debug)]
pub struct OutputTensor<'a> {
    /// The name of the output in the signature.
    pub name: &'a str,
    /// The values: scores after activation, or BYTES elements with classes.
    pub tensor: Tensor,
    /// Whether the tensor's bytes go behind the JSON and not into it.
    pub binary: bool,
}

/// An encoded response.
#[derive(Debug, PartialEq, Eq)]
pub enum Encoded {
    Json(String),
    /// The JSON, and the bytes of the tensors that are not inside the JSON.
    Binary {
        json: String,
        tensors: Vec<u8>,
    },
}

impl Encoded {
    /// Returns the number of bytes of the JSON and the tensors.
    pub fn len(&self) -> usize {
        match self {
            Encoded::Json(json) => json.len(),
            Encoded::Binary { json, tensors } => json.len() + tensors.len(),
        }
    }

    /// Returns whether the response has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes a binary message of a `framing=v2` conversation: the length of the JSON (`u32`, little-endian), the JSON,
/// the bytes of the tensors.
pub fn v2_message(json: &str, tensors: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(4 + json.len() + tensors.len());
    message.extend_from_slice(&(json.len() as u32).to_le_bytes());
    message.extend_from_slice(json.as_bytes());
    message.extend_from_slice(tensors);
    message
}

impl InferResponse<'_> {
    /// Encodes the response in the form of the request.
    ///
    /// Errors: in the row form, an output has no batch axis, so it cannot be split into rows. There is no other
    /// error.
    pub fn encode(&self, form: Form) -> Result<Encoded, RequestError> {
        match form {
            Form::Rows { instances } => self.encode_rows(instances).map(Encoded::Json),
            Form::Oip => Ok(self.encode_oip()),
        }
    }

    fn encode_oip(&self) -> Encoded {
        let mut tensors = Vec::new();
        let mut non_finite = 0;
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let elements = output.tensor.elements();
            let before = tensors.len();
            if output.binary {
                elements.write_le_bytes(&mut tensors);
            } else {
                non_finite += count_non_finite(elements);
            }
            outputs.push(OutputJson {
                name: output.name,
                datatype: elements.datatype().name(),
                shape: output.tensor.shape(),
                parameters: output.binary.then(|| Size { binary_data_size: tensors.len() - before }),
                data: (!output.binary).then_some(Flat(elements)),
            });
        }
        let body = Body {
            model_name: self.model_name,
            model_version: self.model_version,
            id: self.id,
            results: self.result.as_ref().map(|result| &*result.rows),
            coordinates: self.result.as_ref().and_then(|result| result.coordinates),
            outputs: (self.result.is_none() || !outputs.is_empty()).then_some(outputs),
            parameters: self.parameters(non_finite),
        };
        let json = serde_json::to_string(&body).expect("numbers and strings always serialize");
        if self.outputs.iter().any(|output| output.binary) {
            Encoded::Binary { json, tensors }
        } else {
            Encoded::Json(json)
        }
    }

    fn encode_rows(&self, rows: usize) -> Result<String, RequestError> {
        if let Some(result) = &self.result {
            return self.encode_result_rows(result, rows);
        }
        if let Some(output) = self.outputs.iter().find(|output| output.tensor.shape().first() != Some(&rows))
        {
            return Err(RequestError::invalid(format!(
                "output `{}` {} has no row for each of {rows} instances: ask with `inputs` instead",
                output.name,
                show_shape(output.tensor.shape())
            )));
        }
        let non_finite = self.outputs.iter().map(|output| count_non_finite(output.tensor.elements())).sum();
        let body = RowsBody {
            predictions: Predictions { outputs: &self.outputs, rows },
            id: self.id,
            parameters: self.parameters(non_finite),
        };
        Ok(serde_json::to_string(&body).expect("numbers and strings always serialize"))
    }

    /// The answers of a result as predictions.
    fn encode_result_rows(&self, result: &ResultJson, rows: usize) -> Result<String, RequestError> {
        if result.rows.len() != rows {
            return Err(RequestError::invalid(format!(
                "the result has {} answers for {rows} instances: ask with `inputs` instead",
                result.rows.len()
            )));
        }
        let body = ResultRowsBody {
            predictions: &result.rows,
            coordinates: result.coordinates,
            id: self.id,
            parameters: self.parameters(0),
        };
        Ok(serde_json::to_string(&body).expect("numbers and strings always serialize"))
    }

    fn parameters(&self, non_finite: usize) -> Option<ResponseParameters> {
        let non_finite = non_finite + self.result.as_ref().map_or(0, |result| result.non_finite);
        let StreamParameters { stream_offset, dropped } = self.stream;
        let said = non_finite > 0 || stream_offset.is_some() || dropped.is_some();
        said.then_some(ResponseParameters { non_finite, stream_offset, dropped })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    /// The answer of each row. This field is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<&'a [Box<RawValue>]>,
    /// What the coordinates in `results` count. This field is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinates: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<OutputJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<ResponseParameters>,
}

#[derive(Serialize)]
struct ResponseParameters {
    /// The number of NaN and infinite elements. JSON has no such numbers, so they are `null` in `data`, and left out of
    /// `results`. This field is ours.
    #[serde(skip_serializing_if = "is_zero")]
    non_finite: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Serialize)]
struct RowsBody<'a> {
    predictions: Predictions<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<ResponseParameters>,
}

#[derive(Serialize)]
struct ResultRowsBody<'a> {
    predictions: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinates: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<ResponseParameters>,
}

/// Serializes all elements as one flat list.
struct Flat<'a>(&'a Elements);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_range(self.0, 0..self.0.len(), serializer)
    }
}

/// Serializes the outputs as TensorFlow Serving's list of rows.
struct Predictions<'a> {
    outputs: &'a [OutputTensor<'a>],
    rows: usize,
}

impl Serialize for Predictions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.rows))?;
        for row in 0..self.rows {
            list.serialize_element(&Prediction { outputs: self.outputs, row })?;
        }
        list.end()
    }
}

/// Serializes one row: the value itself when there is a single output, otherwise an object with the name of each
/// output.
struct Prediction<'a> {
    outputs: &'a [OutputTensor<'a>],
    row: usize,
}

impl Serialize for Prediction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nested = |output: &OutputTensor<'_>| {
            let (elements, shape) = (output.tensor.elements(), output.tensor.shape());
            let stride = elements.len() / shape[0];
            (stride * self.row..stride * (self.row + 1), shape.len())
        };
        if let [output] = self.outputs {
            let (range, _) = nested(output);
            return Nested { tensor: &output.tensor, range, axis: 1 }.serialize(serializer);
        }
        let mut object = serializer.serialize_map(Some(self.outputs.len()))?;
        for output in self.outputs {
            let (range, _) = nested(output);
            object.serialize_entry(output.name, &Nested { tensor: &output.tensor, range, axis: 1 })?;
        }
        object.end()
    }
}

/// Serializes a range of elements as nested lists, starting at the axis `axis`.
struct Nested<'a> {
    tensor: &'a Tensor,
    range: Range<usize>,
    axis: usize,
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shape = self.tensor.shape();
        if self.axis == shape.len() {
            return serialize_element(self.tensor.elements(), self.range.start, serializer);
        }
        if self.axis + 1 == shape.len() {
            return serialize_range(self.tensor.elements(), self.range.clone(), serializer);
        }
        let length = shape[self.axis];
        let stride = self.range.len().checked_div(length).unwrap_or(0);
        let mut list = serializer.serialize_seq(Some(length))?;
        for at in 0..length {
            let start = self.range.start + at * stride;
            list.serialize_element(&Nested {
                tensor: self.tensor,
                range: start..start + stride,
                axis: self.axis + 1,
            })?;
        }
        list.end()
    }
}

fn serialize_range<S: Serializer>(
    elements: &Elements,
    range: Range<usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match elements {
        Elements::Bool(v) => serializer.collect_seq(&v[range]),
        Elements::Uint8(v) => serializer.collect_seq(&v[range]),
        Elements::Uint16(v) => serializer.collect_seq(&v[range]),
        Elements::Uint32(v) => serializer.collect_seq(&v[range]),
        Elements::Uint64(v) => serializer.collect_seq(&v[range]),
        Elements::Int8(v) => serializer.collect_seq(&v[range]),
        Elements::Int16(v) => serializer.collect_seq(&v[range]),
        Elements::Int32(v) => serializer.collect_seq(&v[range]),
        Elements::Int64(v) => serializer.collect_seq(&v[range]),
        Elements::Fp16(v) => serializer.collect_seq(v[range].iter().map(|x| x.to_f32())),
        Elements::Fp32(v) => serializer.collect_seq(&v[range]),
        Elements::Fp64(v) => serializer.collect_seq(&v[range]),
        Elements::Bytes(v) => serializer.collect_seq(v[range].iter().map(|x| String::from_utf8_lossy(x))),
    }
}

fn serialize_element<S: Serializer>(
    elements: &Elements,
    at: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match elements {
        Elements::Fp16(v) => v[at].to_f32().serialize(serializer),
        Elements::Bytes(v) => String::from_utf8_lossy(&v[at]).serialize(serializer),
        Elements::Bool(v) => v[at].serialize(serializer),
        Elements::Uint8(v) => v[at].serialize(serializer),
        Elements::Uint16(v) => v[at].serialize(serializer),
        Elements::Uint32(v) => v[at].serialize(serializer),
        Elements::Uint64(v) => v[at].serialize(serializer),
        Elements::Int8(v) => v[at].serialize(serializer),
        Elements::Int16(v) => v[at].serialize(serializer),
        Elements::Int32(v) => v[at].serialize(serializer),
        Elements::Int64(v) => v[at].serialize(serializer),
        Elements::Fp32(v) => v[at].serialize(serializer),
        Elements::Fp64(v) => v[at].serialize(serializer),
    }
}

fn count_non_finite(elements: &Elements) -> usize {
    match elements {
        Elements::Fp16(v) => v.iter().filter(|x| !x.is_finite()).count(),
        Elements::Fp32(v) => v.iter().filter(|x| !x.is_finite()).count(),
        Elements::Fp64(v) => v.iter().filter(|x| !x.is_finite()).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response<'a>(shape: &[usize], elements: Elements, binary: bool) -> InferResponse<'a> {
        let tensor = Tensor::new(shape.to_vec(), elements).unwrap();
        let outputs = vec![OutputTensor { name: "y", tensor, binary }];
        let stream = StreamParameters::default();
        InferResponse { model_name: "m", model_version: "1", id: None, outputs, result: None, stream }
    }

    #[test]
    fn nan_and_infinity_are_null_in_json_and_counted() {
        let encoded =
            response(&[3], Elements::Fp32(vec![0.1, f32::NAN, f32::INFINITY]), false).encode(Form::Oip);
        let expected = concat!(
            r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[3],"#,
            r#""data":[0.1,null,null]}],"parameters":{"non_finite":2}}"#
        );
        assert_eq!(encoded.unwrap(), Encoded::Json(expected.into()));
    }

    #[test]
    fn rows_are_nested_like_the_tensor() {
        let encoded =
            response(&[2, 2, 1], Elements::Int8(vec![1, 2, 3, 4]), false).encode(Form::Rows { instances: 2 });
        assert_eq!(encoded.unwrap(), Encoded::Json(r#"{"predictions":[[[1],[2]],[[3],[4]]]}"#.into()));
        let encoded = response(&[2], Elements::Int8(vec![1, 2]), false).encode(Form::Rows { instances: 2 });
        assert_eq!(encoded.unwrap(), Encoded::Json(r#"{"predictions":[1,2]}"#.into()));
    }

    #[test]
    fn a_binary_output_has_its_size_and_keeps_every_bit() {
        let encoded = response(&[1], Elements::Fp32(vec![f32::NAN]), true).encode(Form::Oip).unwrap();
        let Encoded::Binary { json, tensors } = encoded else { panic!("{encoded:?}") };
        assert!(
            json.contains(r#""parameters":{"binary_data_size":4}"#) && !json.contains("data\":["),
            "{json}"
        );
        assert_eq!(tensors, f32::NAN.to_le_bytes());
    }
}
