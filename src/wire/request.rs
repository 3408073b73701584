//! From bytes to [`InferRequest`]: OIP JSON, TensorFlow Serving's rows, a raw payload, and JSON with
//! binary tensors behind it. What comes out agrees with the model's signature in names, datatypes
//! and shapes; what does not is told in a sentence.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::elements;
use super::error::{Code, RequestError, shorten, show_shape};
use crate::model::signature::{Dim, nearest, quoted};
use crate::model::tensor::volume;
use crate::model::{Datatype, Elements, Signature, Tensor, TensorMetadata};

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

/// What the query string of an upgrade (or of an HTTP request) sets for the requests behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    pub framing: Framing,
    pub classification: Option<usize>,
    pub binary_data_output: bool,
    pub timeout: Option<Duration>,
}

impl Defaults {
    /// Reads `framing`, `classification`, `binary_data_output` and `timeout` (microseconds). A name
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
    Rows,
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
    /// One tensor an input, in the signature's order. An input that accepts files may hold BYTES of
    /// shape `[n]` instead of its own datatype.
    pub inputs: Vec<Tensor>,
    /// In the order asked for; all of the model's when none was named.
    pub outputs: Vec<WantedOutput>,
    pub timeout: Option<Duration>,
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

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: Option<Vec<InputJson<'a>>>,
    #[serde(borrow)]
    outputs: Option<Vec<OutputJson<'a>>>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
}

/// Parameters that are not listed are other servers' business and are passed over, as OIP has it.
#[derive(Deserialize, Default)]
struct RequestParameters {
    /// Microseconds (Triton).
    timeout: Option<u64>,
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct InputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<u64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    parameters: InputParameters,
}

#[derive(Deserialize, Default)]
struct InputParameters {
    binary_data_size: Option<u64>,
}

#[derive(Deserialize)]
struct OutputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Deserialize, Default)]
struct OutputParameters {
    classification: Option<usize>,
    binary_data: Option<bool>,
}

/// Reads a text message: OIP or rows.
pub fn from_text(text: &str, signature: &Signature, defaults: &Defaults) -> Result<InferRequest, Rejected> {
    from_json(text, &[], signature, defaults)
}

/// Reads a binary message of a `framing=v2` conversation.
pub fn from_v2(message: &[u8], signature: &Signature, defaults: &Defaults) -> Result<InferRequest, Rejected> {
    let Some((length, rest)) = message.split_first_chunk::<4>() else {
        return Err(RequestError::invalid(format!(
            "a framing=v2 message begins with the JSON's length in 4 bytes, but it has {} bytes",
            message.len()
        ))
        .into());
    };
    let length = u32::from_le_bytes(*length) as usize;
    from_json_and_tensors(rest, length, signature, defaults)
}

/// Reads JSON of `json_length` bytes and the tensors' bytes behind it: what a v2 message holds after
/// its length, and what an HTTP body holds with `Inference-Header-Content-Length`.
pub fn from_json_and_tensors(
    bytes: &[u8],
    json_length: usize,
    signature: &Signature,
    defaults: &Defaults,
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
    from_json(json, tensors, signature, defaults)
}

/// Reads a payload that is the model's single input and nothing else: a file where the input accepts
/// one, otherwise the tensor's bytes, whose open dimension follows from their number.
pub fn from_raw(
    payload: &[u8],
    signature: &Signature,
    defaults: &Defaults,
) -> Result<InferRequest, Rejected> {
    let [input] = signature.inputs.as_slice() else {
        let names = quoted(signature.inputs.iter().map(|input| input.name.as_str()));
        return Err(RequestError::invalid(format!(
            "a raw payload needs a model with a single input, but this one has {names}: send JSON, or connect with ?framing=v2"
        ))
        .into());
    };
    let tensor = if !input.accepts.is_empty() {
        Tensor::new(vec![1], Elements::Bytes(vec![payload.to_vec()]))
    } else {
        raw_tensor(payload, input)
    };
    let tensor = tensor.map_err(|error| RequestError::invalid(format!("input `{}`: {error}", input.name)))?;
    let inputs = vec![tensor];
    let outputs = wanted_outputs(None, None, signature, defaults)?;
    check_rows(&inputs, signature)?;
    Ok(InferRequest { id: None, form: Form::Oip, inputs, outputs, timeout: defaults.timeout })
}

fn raw_tensor(payload: &[u8], input: &TensorMetadata) -> Result<Tensor, String> {
    let elements = Elements::from_le_bytes(input.datatype, payload)?;
    let open: Vec<usize> = (0..input.shape.len()).filter(|at| input.shape[*at].fixed().is_none()).collect();
    // With a batch axis and one more dimension open, a payload is one row.
    let (solved, ones) = match open.as_slice() {
        [] => (None, None),
        [at] => (Some(*at), None),
        [0, at] => (Some(*at), Some(0)),
        _ => {
            return Err(format!(
                "bytes alone do not tell {} open dimensions of {}: send JSON, or connect with ?framing=v2",
                open.len(),
                show_shape(&input.shape_i64())
            ));
        }
    };
    let mut shape = input.shape_with_open(1);
    if let Some(at) = solved {
        let others = volume(&shape).filter(|others| *others > 0).ok_or("its shape holds no elements")?;
        if elements.is_empty() || elements.len() % others != 0 {
            return Err(format!(
                "{} elements do not fill shape {} ({} {} bytes each)",
                elements.len(),
                show_shape(&input.shape_i64()),
                input.datatype,
                input.datatype.size().unwrap_or(0),
            ));
        }
        shape[at] = elements.len() / others;
    }
    debug_assert!(ones.is_none_or(|at| shape[at] == 1));
    let expected = volume(&shape).and_then(|count| count.checked_mul(input.datatype.size()?));
    Tensor::new(shape, elements).map_err(|_| {
        format!(
            "expected {} bytes ({} {}), but {} came",
            expected.unwrap_or(0),
            input.datatype,
            show_shape(&input.shape_i64()),
            payload.len()
        )
    })
}

fn from_json(
    json: &str,
    tensors: &[u8],
    signature: &Signature,
    defaults: &Defaults,
) -> Result<InferRequest, Rejected> {
    // serde would take a list for an object, field by field.
    if !json.trim_ascii_start().starts_with('{') {
        let message = format!(
            "expected a request in JSON, but `{}` came; an example for this model: {}",
            shorten(json),
            example(signature)
        );
        return Err(RequestError::invalid(message).into());
    }
    let envelope: Envelope<'_> = serde_json::from_str(json)
        .map_err(|error| Rejected { id: id_of(json), error: RequestError::invalid(explain(&error, json)) })?;
    let id = match envelope.id {
        Some(id) => Some(check_id(id)?),
        None => None,
    };
    match read_envelope(envelope, tensors, signature, defaults) {
        Ok(request) => Ok(InferRequest { id, ..request }),
        Err(error) => Err(Rejected { id, error }),
    }
}

fn read_envelope(
    envelope: Envelope<'_>,
    mut tensors: &[u8],
    signature: &Signature,
    defaults: &Defaults,
) -> Result<InferRequest, RequestError> {
    let parameters = envelope.parameters.unwrap_or_default();
    let binary = parameters.binary_data_output;
    let (form, inputs) = match (envelope.inputs, envelope.instances) {
        (Some(inputs), None) => (Form::Oip, named_inputs(inputs, &mut tensors, signature)?),
        (None, Some(instances)) => (Form::Rows, rows(instances, signature)?),
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
    check_rows(&inputs, signature)?;
    Ok(InferRequest {
        id: None,
        form,
        inputs,
        outputs: wanted_outputs(envelope.outputs, binary, signature, defaults)?,
        timeout: parameters.timeout.map(Duration::from_micros).or(defaults.timeout),
    })
}

/// OIP's `inputs`, brought into the signature's order.
fn named_inputs(
    inputs: Vec<InputJson<'_>>,
    tensors: &mut &[u8],
    signature: &Signature,
) -> Result<Vec<Tensor>, RequestError> {
    let mut found: Vec<Option<Tensor>> = vec![None; signature.inputs.len()];
    for input in inputs {
        let Some((index, metadata)) = signature.input(&input.name) else {
            return Err(unknown_name("input", &input.name, &signature.inputs));
        };
        let tensor = read_input(&input, tensors, metadata)
            .map_err(|error| RequestError::invalid(format!("input `{}`: {error}", metadata.name)))?;
        if found[index].replace(tensor).is_some() {
            return Err(RequestError::invalid(format!("input `{}` is given twice", metadata.name)));
        }
    }
    let missing = signature.inputs.iter().zip(&found).filter(|(_, tensor)| tensor.is_none());
    let missing = quoted(missing.map(|(input, _)| input.name.as_str()));
    if !missing.is_empty() {
        return Err(RequestError::invalid(format!("missing input {missing}")));
    }
    Ok(found.into_iter().flatten().collect())
}

fn read_input(
    input: &InputJson<'_>,
    tensors: &mut &[u8],
    metadata: &TensorMetadata,
) -> Result<Tensor, String> {
    let file = input.datatype == "BYTES" && !metadata.accepts.is_empty();
    if !file && input.datatype != metadata.datatype.name() {
        let files = if metadata.accepts.is_empty() {
            String::new()
        } else {
            format!(", or BYTES with {}", metadata.accepts.join(" or "))
        };
        return Err(format!(
            "datatype is {}: expected {}{files}",
            shorten(&input.datatype),
            metadata.datatype
        ));
    }
    let shape: Option<Vec<usize>> = input.shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let shape = shape
        .filter(|shape| volume(shape).is_some())
        .ok_or_else(|| format!("shape {} holds more elements than any machine", show_shape(&input.shape)))?;
    if file && shape.len() != 1 {
        return Err(format!("shape is {}: BYTES come as [n], a file a row", show_shape(&shape)));
    }
    if !file && !metadata.admits(&shape) {
        return Err(format!(
            "shape is {}: expected {}",
            show_shape(&shape),
            show_shape(&metadata.shape_i64())
        ));
    }
    let datatype = if file { Datatype::Bytes } else { metadata.datatype };
    let elements = match (input.data, input.parameters.binary_data_size) {
        (Some(data), None) => {
            let parsed =
                if file { elements::parse_base64(data.get()) } else { elements::parse(data.get(), datatype) };
            let (nesting, elements) = parsed.map_err(|error| format!("data {error}"))?;
            // Flat, or nested as the shape says.
            if nesting.len() > 1 && nesting != shape {
                return Err(format!(
                    "data is nested as {}, but shape is {}",
                    show_shape(&nesting),
                    show_shape(&shape)
                ));
            }
            elements
        }
        (None, Some(size)) => {
            let taken = usize::try_from(size).ok().and_then(|size| tensors.split_at_checked(size));
            let Some((bytes, rest)) = taken else {
                return Err(format!(
                    "binary_data_size is {size}, but {} bytes are left behind the JSON",
                    tensors.len()
                ));
            };
            *tensors = rest;
            Elements::from_le_bytes(datatype, bytes)?
        }
        (Some(_), Some(_)) => return Err("has both `data` and `parameters.binary_data_size`".into()),
        (None, None) => return Err("has neither `data` nor `parameters.binary_data_size`".into()),
    };
    Tensor::new(shape, elements)
}

/// TensorFlow Serving's rows: a value an instance for a single input, or an object of values by
/// input name.
fn rows(instances: &RawValue, signature: &Signature) -> Result<Vec<Tensor>, RequestError> {
    let instances: Vec<&RawValue> = serde_json::from_str(instances.get())
        .map_err(|_| RequestError::invalid("`instances` is no list: expected one entry a row"))?;
    if instances.is_empty() {
        return Err(RequestError::invalid("`instances` is empty: expected at least one row"));
    }
    if let Some(most) = signature.max_batch_size.filter(|most| instances.len() > *most) {
        return Err(too_many_rows(instances.len(), most));
    }
    let mut columns: Vec<Option<Tensor>> = vec![None; signature.inputs.len()];
    for (row, instance) in instances.iter().enumerate() {
        let wrong = |error: String| RequestError::invalid(format!("instances[{row}]: {error}"));
        let values = values_of(instance, signature).map_err(wrong)?;
        for ((value, input), column) in values.iter().zip(&signature.inputs).zip(&mut columns) {
            let tensor = row_value(value, input).map_err(wrong)?;
            match column {
                Some(tensors) => tensors.append(tensor).map_err(wrong)?,
                None => *column = Some(tensor),
            }
        }
    }
    let tensors: Vec<Tensor> = columns.into_iter().flatten().collect();
    for (tensor, input) in tensors.iter().zip(&signature.inputs) {
        if tensor.datatype() == input.datatype && !input.admits(tensor.shape()) {
            return Err(RequestError::invalid(format!(
                "the instances make a tensor {} for input `{}`: expected {}",
                show_shape(tensor.shape()),
                input.name,
                show_shape(&input.shape_i64())
            )));
        }
    }
    Ok(tensors)
}

/// The values of one instance, one an input, in the signature's order.
fn values_of<'a>(instance: &'a RawValue, signature: &Signature) -> Result<Vec<&'a RawValue>, String> {
    let names = || quoted(signature.inputs.iter().map(|input| input.name.as_str()));
    let is_object = instance.get().starts_with('{');
    match signature.inputs.as_slice() {
        [_] if !is_object => return Ok(vec![instance]),
        [input] if !input.accepts.is_empty() && strip_b64(instance).is_some() => return Ok(vec![instance]),
        _ if !is_object => return Err(format!("expected an object with {}", names())),
        _ => {}
    }
    let mut fields: BTreeMap<Cow<'a, str>, &'a RawValue> =
        serde_json::from_str(instance.get()).map_err(|error| error.to_string())?;
    let mut values = Vec::with_capacity(signature.inputs.len());
    for input in &signature.inputs {
        let value =
            fields.remove(input.name.as_str()).ok_or_else(|| format!("missing input `{}`", input.name))?;
        values.push(value);
    }
    match fields.keys().next() {
        None => Ok(values),
        Some(unknown) => Err(format!("unknown input `{}`: the model has {}", shorten(unknown), names())),
    }
}

/// One instance's value as a row: its shape with a 1 in front.
fn row_value(value: &RawValue, input: &TensorMetadata) -> Result<Tensor, String> {
    let prefix = |error| format!("input `{}` {error}", input.name);
    let file = strip_b64(value).unwrap_or(value);
    let is_file = !input.accepts.is_empty() && file.get().starts_with('"');
    let (mut shape, elements) = if is_file {
        elements::parse_base64(file.get()).map_err(prefix)?
    } else {
        elements::parse(value.get(), input.datatype).map_err(prefix)?
    };
    shape.insert(0, 1);
    if !is_file && (input.shape.is_empty() || shape.get(1..) != Some(&expected_row(input, &shape))) {
        let row = input.shape.get(1..).unwrap_or_default();
        let row: Vec<i64> = row.iter().map(Dim::as_i64).collect();
        return Err(format!(
            "input `{}` has shape {} in this row: expected {}",
            input.name,
            show_shape(&shape[1..]),
            show_shape(&row)
        ));
    }
    Tensor::new(shape, elements)
}

/// A row's shape as the signature wants it, open dimensions taken from what came.
fn expected_row(input: &TensorMetadata, came: &[usize]) -> Vec<usize> {
    let dims = input.shape.iter().enumerate().skip(1);
    dims.map(|(at, dim)| dim.fixed().unwrap_or_else(|| came.get(at).copied().unwrap_or(0))).collect()
}

/// The string inside TensorFlow Serving's `{"b64": "…"}`.
fn strip_b64(value: &RawValue) -> Option<&RawValue> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct B64<'a> {
        #[serde(borrow)]
        b64: &'a RawValue,
    }
    if !value.get().starts_with('{') {
        return None;
    }
    serde_json::from_str::<B64<'_>>(value.get()).ok().map(|object| object.b64)
}

fn wanted_outputs(
    outputs: Option<Vec<OutputJson<'_>>>,
    binary: Option<bool>,
    signature: &Signature,
    defaults: &Defaults,
) -> Result<Vec<WantedOutput>, RequestError> {
    let binary = binary.unwrap_or(defaults.binary_data_output);
    let classification = defaults.classification;
    // OIP: no outputs named means all of them.
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else {
        let all = 0..signature.outputs.len();
        return Ok(all.map(|index| WantedOutput { index, classification, binary }).collect());
    };
    let mut wanted: Vec<WantedOutput> = Vec::with_capacity(outputs.len());
    for output in outputs {
        let Some((index, _)) = signature.output(&output.name) else {
            return Err(unknown_name("output", &output.name, &signature.outputs));
        };
        if wanted.iter().any(|other| other.index == index) {
            return Err(RequestError::invalid(format!("output `{}` is asked for twice", output.name)));
        }
        wanted.push(WantedOutput {
            index,
            classification: output.parameters.classification.or(classification),
            binary: output.parameters.binary_data.unwrap_or(binary),
        });
    }
    Ok(wanted)
}

/// Inputs agree in the dimensions that they share by name, and in their number of rows where the
/// model has a batch axis: at least one row, at most the limit.
fn check_rows(inputs: &[Tensor], signature: &Signature) -> Result<(), RequestError> {
    let mut lengths: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (tensor, input) in inputs.iter().zip(&signature.inputs) {
        // Files stand for rows; the rest of their shape is made from them.
        let files = tensor.datatype() != input.datatype;
        for (axis, (dim, length)) in input.shape.iter().zip(tensor.shape()).enumerate() {
            let Dim::Open(name) = dim else { continue };
            let rows = (axis == 0).then_some(signature.max_batch_size).flatten();
            match rows {
                Some(_) if *length == 0 => {
                    return Err(RequestError::invalid(format!("input `{}` has no rows", input.name)));
                }
                Some(most) if *length > most => return Err(too_many_rows(*length, most)),
                _ => {}
            }
            let shared = if rows.is_some() { "rows" } else { name.as_deref().unwrap_or_default() };
            if shared.is_empty() || files && axis > 0 {
                continue;
            }
            match lengths.insert(shared, (*length, &input.name)) {
                Some((other, first)) if other != *length => {
                    return Err(RequestError::invalid(format!(
                        "dimension `{shared}` is {other} in input `{first}`, but {length} in input `{}`",
                        input.name
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn too_many_rows(rows: usize, most: usize) -> RequestError {
    RequestError::new(
        Code::TooLarge,
        format!(
            "the request has {rows} rows, but this model takes {most} (max_batch_size): send several requests"
        ),
    )
}

fn unknown_name(kind: &str, name: &str, known: &[TensorMetadata]) -> RequestError {
    let names = || known.iter().map(|metadata| metadata.name.as_str());
    let meant = nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    RequestError::invalid(format!(
        "unknown {kind} `{}`: the model has {}{meant}",
        shorten(name),
        quoted(names())
    ))
}

/// An id is a string (OIP) or a number (many clients), and short.
fn check_id(id: &RawValue) -> Result<Box<RawValue>, RequestError> {
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
fn id_of(json: &str) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    serde_json::from_str::<Id<'_>>(json).ok()?.id.and_then(|id| check_id(id).ok())
}

fn explain(error: &serde_json::Error, json: &str) -> String {
    if error.is_data() {
        return format!("the request is not as OIP has it: {error}");
    }
    let words = if ["NaN", "Infinity"].iter().any(|word| json.contains(word)) {
        " (JSON has no NaN and no Infinity)"
    } else {
        ""
    };
    format!("the request is not well-formed JSON: {error}{words}")
}

/// The smallest PNG there is, one gray pixel: what an example has for a file.
const EXAMPLE_PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==";

/// A request that the model takes, with zeros: in errors, so that a client sees the form.
///
/// Data longer than a line is cut with an ellipsis; [`whole_example`] can be sent as it is.
pub fn example(signature: &Signature) -> String {
    example_of(signature, 16)
}

/// An example that can be pasted into a client, whatever its length.
pub fn whole_example(signature: &Signature) -> String {
    example_of(signature, usize::MAX)
}

fn example_of(signature: &Signature, most: usize) -> String {
    let inputs: Vec<String> = signature
        .inputs
        .iter()
        .map(|input| {
            let name = serde_json::to_string(&input.name).expect("a string always serializes");
            if !input.accepts.is_empty() {
                return format!(
                    r#"{{"name":{name},"shape":[1],"datatype":"BYTES","data":["{EXAMPLE_PNG}"]}}"#,
                );
            }
            let shape = input.shape_with_open(1);
            let count = volume(&shape).unwrap_or(0);
            let zero = if input.datatype == Datatype::Bool { "false" } else { "0" };
            let mut data = vec![zero; count.min(most)].join(",");
            if count > most {
                data.push_str(&format!(",… {count} values"));
            }
            format!(r#"{{"name":{name},"shape":{shape:?},"datatype":"{}","data":[{data}]}}"#, input.datatype)
        })
        .collect();
    format!(r#"{{"id":"1","inputs":[{}]}}"#, inputs.join(","))
}
