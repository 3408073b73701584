//! Turns bytes into an [`InferRequest`]. It reads OIP JSON, TensorFlow Serving's rows, a raw payload, and JSON with
//! binary tensors behind it.
//!
//! What belongs here: the formats of requests. What does not: sockets, HTTP headers, and decoding of files
//! (`processing`).
//!
//! Invariants:
//!
//! - A request that is returned agrees with the model's signature in names, datatypes and shapes. Otherwise the
//!   result is an error that says what is wrong.
//! - Memory is taken from the budget before it is allocated. `memory` is the request's share of the budget: at first
//!   it holds the bytes of the message, afterwards also the bytes of the tensors.

use std::time::Duration;

use super::agreement::{check_files, check_shape, check_shared, complete, unknown_name};
use super::elements::{self, Parsed, Room, said_of};
use super::envelope::{Envelope, InputJson, Object, OutputJson, check_id, id_of};
use super::example::example;
use super::raw::{check_texts, raw_tensor, raw_text};
use super::request::{Defaults, Form, InferRequest, Rejected, SequenceParameters, WantedOutput};
use super::rows::rows;
use crate::error::{RequestError, shorten, shorten_middle, show_shape};
use crate::memory::Share;
use crate::model::signature::quoted;
use crate::model::tensor::{ELEMENT_BYTES, count_length_prefixed, volume};
use crate::model::{Datatype, Elements, Input, Row, Signature, Tensor, TensorMetadata};

/// Reads a text message: OIP JSON, rows, or a text for the model's single input.
///
/// The first character decides. If the model takes no text, the message is JSON. If it takes text, a message that
/// begins with `{` is JSON, and any other message is the text itself; `42` and `"quoted"` are texts too. A text that
/// begins with `{` must be sent inside a JSON request. The decision does not depend on later characters, because then
/// a small change in a text could change its meaning without any error.
///
/// Errors: [`Rejected`] with the request's id, when the id could be read.
pub fn from_text(
    text: &str,
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    if takes_text(signature) && !is_object(text) {
        return from_raw(text.as_bytes(), signature, defaults, memory);
    }
    from_json(text, &[], signature, defaults, memory)
}

fn takes_text(signature: &Signature) -> bool {
    signature.single().is_some_and(|(_, input)| input.takes_text_messages())
}

fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

/// Reads the body of an HTTP request whose `Content-Type` is text. If the model takes no text, the body is read as
/// JSON, because browsers send JSON with this type.
///
/// Errors: the body is not UTF-8, or as in [`from_text`].
pub fn from_text_body(
    body: &[u8],
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    match std::str::from_utf8(body) {
        Ok(text) => from_text(text, signature, defaults, memory),
        Err(error) => Err(RequestError::invalid(format!("the text is not UTF-8: {error}")).into()),
    }
}

/// Reads a binary message of a `framing=v2` conversation: the length of the JSON (`u32`, little-endian), the JSON,
/// the bytes of the tensors.
///
/// Errors: the message has fewer than 4 bytes, or as in [`from_json_and_tensors`].
pub fn from_v2(
    message: &[u8],
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    let Some((length, rest)) = message.split_first_chunk::<4>() else {
        return Err(RequestError::invalid(format!(
            "a framing=v2 message begins with the JSON's length in 4 bytes, but it has {} bytes",
            message.len()
        ))
        .into());
    };
    let length = u32::from_le_bytes(*length) as usize;
    from_json_and_tensors(rest, length, signature, defaults, memory)
}

/// Reads JSON of `json_length` bytes and the bytes of the tensors behind it (OIP, "binary tensor data extension"). A
/// v2 message has this form after its length. An HTTP body has it with the header `Inference-Header-Content-Length`.
///
/// Errors: there are fewer than `json_length` bytes, the JSON is not UTF-8, or the request does not agree with
/// `signature`.
pub fn from_json_and_tensors(
    bytes: &[u8],
    json_length: usize,
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    let Some((json, tensors)) = bytes.split_at_checked(json_length) else {
        return Err(RequestError::invalid(format!(
            "the JSON is said to be {json_length} bytes long, but only {} follow",
            bytes.len()
        ))
        .into());
    };
    let json = std::str::from_utf8(json)
        .map_err(|error| RequestError::invalid(format!("the JSON is not UTF-8: {error}")))?;
    from_json(json, tensors, signature, defaults, memory)
}

/// Reads a payload that holds only the model's single input. If the input accepts files or text, the payload is one
/// file or one text. If the input's elements are texts, the payload is one element. Otherwise it is the bytes of the
/// tensor (little-endian, row-major), and the length of the open dimension is computed from the number of bytes.
///
/// Errors: the model has several inputs, the bytes do not fill the shape, or the shape does not agree with
/// `signature`.
pub fn from_raw(
    payload: &[u8],
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    let Some((index, input)) = signature.single() else {
        let names = quoted(signature.inputs.iter().map(|input| input.name.as_str()));
        return Err(RequestError::invalid(format!(
            "a raw payload needs a model with a single input, but this one has {names}: send JSON, or connect with ?framing=v2"
        ))
        .into());
    };
    memory.grow(payload.len().saturating_add(ELEMENT_BYTES))?;
    let given = if !input.accepts.is_empty() {
        Ok(Input::encoded(vec![payload.to_vec()], input))
    } else if input.datatype == Datatype::Bytes {
        raw_text(payload, input).map(Input::Tensor)
    } else {
        raw_tensor(payload, input).map(Input::Tensor)
    };
    let checked = given.map_err(RequestError::invalid).and_then(|given| {
        check_shape(&given.known_shape(), given.files() > 0, input, signature)?;
        Ok(given)
    });
    let given = checked.map_err(|error| error.within(&format!("input `{}`", input.name)))?;
    let mut found = vec![None; signature.inputs.len()];
    found[index] = Some(given);
    Ok(of_inputs(complete(found, signature)?, Vec::new(), signature, defaults)?)
}

/// Makes a request from one window of a stream of sound. `offset` is the number of the window's first new sample,
/// counted from the start of the stream.
pub fn from_window(
    window: Tensor,
    offset: u64,
    signature: &Signature,
    defaults: &Defaults,
) -> Result<InferRequest, RequestError> {
    let row = Row { offset: Some(offset), ..Row::default() };
    of_inputs(vec![Input::Tensor(window)], vec![row], signature, defaults)
}

/// Makes a request for all outputs of the model. Each input already agrees with the signature.
fn of_inputs(
    inputs: Vec<Input>,
    rows: Vec<Row>,
    signature: &Signature,
    defaults: &Defaults,
) -> Result<InferRequest, RequestError> {
    let outputs = wanted_outputs(None, None, signature, defaults)?;
    check_shared(&inputs, signature)?;
    Ok(InferRequest {
        id: None,
        form: Form::Oip,
        inputs,
        rows,
        outputs,
        names_outputs: false,
        choices: defaults.choices.clone(),
        timeout: defaults.timeout,
        sequence: SequenceParameters::default(),
        stream_end: false,
    })
}

/// Returns how deep lists and objects nest. For text that is not JSON the result is meaningless; the parser refuses
/// that text later.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| **byte != b'"') {
                    if *byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

fn from_json(
    json: &str,
    tensors: &[u8],
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, Rejected> {
    // The depth is checked first, because the parser does not limit the depth of fields that it ignores.
    if depth(json.as_bytes()) > defaults.max_json_depth {
        let message = format!("the JSON nests deeper than {} lists and objects", defaults.max_json_depth);
        return Err(RequestError::invalid(message).into());
    }
    if !is_object(json) {
        let message = format!(
            "expected a request in JSON, but `{}` came; an example for this model: {}",
            shorten(json),
            example(signature)
        );
        return Err(RequestError::invalid(message).into());
    }
    let Object(envelope) = serde_json::from_str::<Object<Envelope<'_>>>(json).map_err(|error| {
        let hint = if takes_text(signature) { "; a text that begins with { goes into `inputs`" } else { "" };
        let message = format!("{}{hint}", explain(&error, json));
        Rejected { id: id_of(json), error: RequestError::invalid(message) }
    })?;
    let id = match envelope.id {
        Some(id) => Some(check_id(id)?),
        None => None,
    };
    match read_envelope(envelope, tensors, signature, defaults, memory) {
        Ok(request) => Ok(InferRequest { id, ..request }),
        Err(error) => Err(Rejected { id, error }),
    }
}

/// Reads the inputs, the wanted outputs and the parameters. It does not set the request's id.
fn read_envelope(
    envelope: Envelope<'_>,
    mut tensors: &[u8],
    signature: &Signature,
    defaults: &Defaults,
    memory: &mut Share,
) -> Result<InferRequest, RequestError> {
    let Object(parameters) = envelope.parameters.unwrap_or_default();
    let sequence = parameters.sequence(signature)?;
    let choices = parameters.choices(&defaults.choices);
    let binary = parameters.binary_data_output;
    let (form, inputs) = match (envelope.inputs, envelope.instances) {
        (Some(inputs), None) => (Form::Oip, named_inputs(inputs.0, &mut tensors, signature, memory)?),
        (None, Some(instances)) => rows(instances, signature, memory)?,
        (Some(_), Some(_)) => {
            return Err(RequestError::invalid(
                "a request has `inputs` or `instances`, but this one has both",
            ));
        }
        (None, None) => {
            return Err(RequestError::invalid(format!(
                "the request lacks `inputs`; an example for this model: {}",
                example(signature)
            )));
        }
    };
    if !tensors.is_empty() {
        return Err(RequestError::invalid(format!(
            "{} bytes are left over after the last tensor: `binary_data_size` of the inputs must add up to all bytes behind the JSON",
            tensors.len()
        )));
    }
    check_files(&inputs, defaults)?;
    check_shared(&inputs, signature)?;
    Ok(InferRequest {
        id: None,
        form,
        inputs,
        rows: Vec::new(),
        names_outputs: envelope.outputs.as_ref().is_some_and(|outputs| !outputs.0.is_empty()),
        choices,
        outputs: wanted_outputs(envelope.outputs.map(|outputs| outputs.0), binary, signature, defaults)?,
        timeout: parameters.timeout.map(Duration::from_micros).or(defaults.timeout),
        stream_end: stream_end(parameters.stream_end, &sequence)?,
        sequence,
    })
}

/// Whether the conversation's stream ends after the request.
fn stream_end(said: Option<bool>, sequence: &SequenceParameters) -> Result<bool, RequestError> {
    match (said, &sequence.id) {
        (Some(true), Some(id)) => Err(RequestError::invalid(format!(
            "the request has `stream_end` and the sequence_id `{}`: `stream_end` ends the conversation's own stream, \
             `sequence_end` a sequence with an id",
            shorten(id)
        ))),
        _ => Ok(said.unwrap_or(false)),
    }
}

/// Reads OIP's `inputs` and puts them into the signature's order. `tensors` is reduced by the bytes that were read.
fn named_inputs(
    inputs: Vec<Object<InputJson<'_>>>,
    tensors: &mut &[u8],
    signature: &Signature,
    memory: &mut Share,
) -> Result<Vec<Input>, RequestError> {
    let mut found: Vec<Option<Input>> = vec![None; signature.inputs.len()];
    for Object(input) in inputs {
        let Some((index, metadata)) = signature.input(&input.name) else {
            return Err(unknown_name("input", &input.name, &signature.inputs));
        };
        if found[index].is_some() {
            return Err(RequestError::invalid(format!("input `{}` is given twice", metadata.name)));
        }
        let given = read_input(&input, tensors, metadata, signature, memory)
            .map_err(|error| error.within(&format!("input `{}`", metadata.name)))?;
        found[index] = Some(given);
    }
    complete(found, signature)
}

/// Reads one entry of OIP's `inputs`. An input that accepts files or text may come as datatype BYTES with the shape
/// `[n]`.
fn read_input(
    input: &InputJson<'_>,
    tensors: &mut &[u8],
    metadata: &TensorMetadata,
    signature: &Signature,
    memory: &mut Share,
) -> Result<Input, RequestError> {
    let files = input.datatype == "BYTES" && !metadata.accepts.is_empty();
    if !files && input.datatype != metadata.datatype.name() {
        let or = if metadata.accepts.is_empty() {
            String::new()
        } else {
            format!(", or BYTES with {}", metadata.accepts.join(" or "))
        };
        return Err(RequestError::invalid(format!(
            "datatype is {}: expected {}{or}",
            shorten(&input.datatype),
            metadata.datatype
        )));
    }
    let shape: Option<Vec<usize>> = input.shape.0.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let shape = shape.filter(|shape| volume(shape).is_some()).ok_or_else(|| {
        RequestError::invalid(format!(
            "shape {} holds more elements than any machine",
            show_shape(&input.shape.0)
        ))
    })?;
    check_shape(&shape, files, metadata, signature)?;
    let datatype = if files { Datatype::Bytes } else { metadata.datatype };
    let elements = read_elements(input, tensors, datatype, files && !metadata.takes_text(), &shape, memory)?;
    match elements {
        // If there are fewer files than the shape says, `Tensor::new` below makes the error.
        Elements::Bytes(rows) if files && rows.len() == shape[0] => Ok(Input::encoded(rows, metadata)),
        elements => {
            if !files {
                check_texts(&elements).map_err(RequestError::invalid)?;
            }
            Tensor::new(shape, elements).map(Input::Tensor).map_err(RequestError::invalid)
        }
    }
}

/// Reads the elements of an input, from `data` or from the bytes behind the JSON. There may be at most as many
/// elements as the shape has. If `files` is true, `data` holds files in base64.
fn read_elements(
    input: &InputJson<'_>,
    tensors: &mut &[u8],
    datatype: Datatype,
    files: bool,
    shape: &[usize],
    memory: &mut Share,
) -> Result<Elements, RequestError> {
    let invalid = |message: String| Err(RequestError::invalid(message));
    let most = volume(shape).unwrap_or(usize::MAX);
    let too_many =
        |count: usize| invalid(format!("shape {shape:?} holds {most} elements, but the data has {count}"));
    let size = input.parameters.as_ref().and_then(|parameters| parameters.0.binary_data_size);
    match (input.data, size) {
        (Some(data), None) => {
            let mut room = Room { most, memory };
            let parsed = if files {
                elements::parse_base64(data.get(), &mut room)
            } else {
                elements::parse_within(data.get(), datatype, &mut room)
            };
            let Parsed { nesting, count, elements } = parsed.map_err(|error| said_of("data", error))?;
            // A flat list is allowed for every shape. A nested list must be nested as the shape says.
            if nesting.len() > 1 && nesting != shape {
                let (nesting, shape) = (show_shape(&nesting), show_shape(shape));
                return invalid(format!("data is nested as {nesting}, but shape is {shape}"));
            }
            if count > most { too_many(count) } else { Ok(elements) }
        }
        (None, Some(size)) => {
            let taken = usize::try_from(size).ok().and_then(|size| tensors.split_at_checked(size));
            let Some((bytes, rest)) = taken else {
                let left = tensors.len();
                return invalid(format!(
                    "binary_data_size is {size}, but {left} bytes are left behind the JSON"
                ));
            };
            *tensors = rest;
            let mut needed = bytes.len();
            if datatype == Datatype::Bytes {
                let count = count_length_prefixed(bytes).map_err(RequestError::invalid)?;
                if count > most {
                    return too_many(count);
                }
                needed += count * ELEMENT_BYTES;
            }
            memory.grow(needed)?;
            Elements::from_le_bytes(datatype, bytes).map_err(RequestError::invalid)
        }
        (Some(_), Some(_)) => invalid("has both `data` and `parameters.binary_data_size`".into()),
        (None, None) => invalid("has neither `data` nor `parameters.binary_data_size`".into()),
    }
}

/// Returns the outputs that the request asks for, in its order. What the request leaves open is taken from
/// `defaults`.
fn wanted_outputs(
    outputs: Option<Vec<Object<OutputJson<'_>>>>,
    binary: Option<bool>,
    signature: &Signature,
    defaults: &Defaults,
) -> Result<Vec<WantedOutput>, RequestError> {
    let binary = binary.unwrap_or(defaults.binary_data_output);
    let classification = defaults.classification;
    // In OIP, a request that names no outputs asks for all of them.
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else {
        let all = 0..signature.outputs.len();
        return Ok(all.map(|index| WantedOutput { index, classification, binary }).collect());
    };
    let mut wanted: Vec<WantedOutput> = Vec::with_capacity(outputs.len());
    for Object(output) in outputs {
        let Some((index, _)) = signature.output(&output.name) else {
            return Err(unknown_name("output", &output.name, &signature.outputs));
        };
        if wanted.iter().any(|other| other.index == index) {
            return Err(RequestError::invalid(format!("output `{}` is asked for twice", output.name)));
        }
        let Object(parameters) = output.parameters.unwrap_or_default();
        wanted.push(WantedOutput {
            index,
            classification: parameters.classification.or(classification),
            binary: parameters.binary_data.unwrap_or(binary),
        });
    }
    Ok(wanted)
}

/// Says why serde_json refused a request. It adds a hint when the text contains `NaN` or `Infinity`.
fn explain(error: &serde_json::Error, json: &str) -> String {
    let is_data = error.is_data();
    let text = error.to_string();
    let error = shorten_middle(&text);
    if is_data {
        return format!("the request does not have the form of OIP: {error}");
    }
    let words = if ["NaN", "Infinity"].iter().any(|word| json.contains(word)) {
        " (JSON has no NaN and no Infinity)"
    } else {
        ""
    };
    format!("the request is not well-formed JSON: {error}{words}")
}
