//! Reads TensorFlow Serving's row form, `{"instances": […]}`, which is easy to type by hand.
//!
//! What belongs here: instances and their conversion to inputs. What does not: OIP's `inputs` (`decode`). Invariant:
//! all inputs that are returned have one row for each instance.

use std::borrow::Cow;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::agreement::{check_shape, complete};
use super::elements::{self, Parsed, Room, said_of};
use super::request::Form;
use crate::error::{Code, RequestError, shorten, shorten_middle, show_shape};
use crate::memory::Share;
use crate::model::signature::quoted;
use crate::model::tensor::volume;
use crate::model::{Datatype, Dim, Elements, Input, Signature, Tensor, TensorMetadata};

/// Reads `instances`. For a single input each instance is a value; otherwise it is an object with a value for each
/// input name. Instances become rows one by one, so a request with too many rows needs no more memory than the limit
/// allows.
///
/// Errors: there are no instances or too many, an instance has the wrong shape or names, or the budget is used up.
pub(super) fn rows(
    instances: &RawValue,
    signature: &Signature,
    memory: &mut Share,
) -> Result<(Form, Vec<Input>), RequestError> {
    if !instances.get().starts_with('[') {
        return Err(RequestError::invalid("`instances` is no list: expected one entry for each row"));
    }
    let inputs = vec![None; signature.inputs.len()];
    let mut taken = memory.beside();
    let mut columns = Columns { signature, inputs, memory: &mut taken, count: 0, failure: None };
    let read = serde_json::Deserializer::from_str(instances.get()).deserialize_seq(&mut columns);
    if let Some(failure) = columns.failure {
        return Err(failure);
    }
    read.map_err(|error| {
        RequestError::invalid(format!("`instances`: {}", shorten_middle(&error.to_string())))
    })?;
    let count = columns.count;
    if count == 0 {
        return Err(RequestError::invalid("`instances` is empty: expected at least one row"));
    }
    for (given, input) in columns.inputs.iter().zip(&signature.inputs) {
        let Some(given) = given else { continue };
        let shape = given.known_shape();
        if shape[0] != count {
            let message = format!("`instances`: input `{}` is in some rows and not in others", input.name);
            return Err(RequestError::invalid(message));
        }
        check_shape(&shape, given.files() > 0, input, signature)
            .map_err(|error| error.within(&format!("the instances as input `{}`", input.name)))?;
    }
    let mut inputs = complete(columns.inputs, signature)?;
    inputs.iter_mut().for_each(Input::shrink_to_fit);
    taken.shrink_to(inputs.iter().map(Input::memory).sum());
    memory.absorb(taken);
    Ok((Form::Rows { instances: count }, inputs))
}

/// The rows that were read so far: one column for each input of the signature.
struct Columns<'s> {
    signature: &'s Signature,
    inputs: Vec<Option<Input>>,
    memory: &'s mut Share,
    count: usize,
    /// The reason why reading stopped. It is kept here because serde's errors have no error code.
    failure: Option<RequestError>,
}

impl Columns<'_> {
    /// Reads one instance and appends it to the columns.
    fn add(&mut self, instance: &RawValue) -> Result<(), RequestError> {
        if let Some(most) = self.signature.max_batch_size.filter(|most| self.count >= *most) {
            return Err(RequestError::new(
                Code::TooLarge,
                format!(
                    "the request has more than {most} rows, which is what this model takes (max_batch_size)"
                ),
            ));
        }
        let count = self.count;
        let within = |error: RequestError| error.within(&format!("instances[{count}]"));
        let wrong = |error: String| within(RequestError::invalid(error));
        let values = values_of(instance, self.signature).map_err(wrong)?;
        for ((value, input), column) in values.iter().zip(&self.signature.inputs).zip(&mut self.inputs) {
            let Some(value) = value else { continue };
            let mut row = self.memory.beside();
            let value = row_value(value, input, &mut row).map_err(within)?;
            // When a column is full, its content is copied to memory of twice the size.
            self.memory.grow(value.memory().saturating_mul(2))?;
            self.memory.absorb(row);
            match column {
                Some(rows) => rows.append(value).map_err(wrong)?,
                None => *column = Some(value),
            }
        }
        self.count += 1;
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut Columns<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of instances")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(instance) = list.next_element::<&RawValue>()? {
            if let Err(failure) = self.add(instance) {
                self.failure = Some(failure);
                return Err(Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Returns the values of one instance, one for each input, in the signature's order. A value may be `None` only for
/// an input that can be made from the text of another input.
fn values_of<'a>(instance: &'a RawValue, signature: &Signature) -> Result<Vec<Option<&'a RawValue>>, String> {
    let names = || quoted(signature.inputs.iter().map(|input| input.name.as_str()));
    let is_object = instance.get().starts_with('{');
    let alone = |index: usize| {
        let mut values = vec![None; signature.inputs.len()];
        values[index] = Some(instance);
        Ok(values)
    };
    match signature.single() {
        Some((index, _)) if !is_object => return alone(index),
        Some((index, input)) if !input.accepts.is_empty() && strip_b64(instance).is_some() => {
            return alone(index);
        }
        _ if !is_object => return Err(format!("expected an object with {}", names())),
        _ => {}
    }
    let mut fields = Fields { signature, values: vec![None; signature.inputs.len()], unknown: None };
    let read = serde_json::Deserializer::from_str(instance.get()).deserialize_map(&mut fields);
    read.map_err(|error| shorten_middle(&error.to_string()).into_owned())?;
    let Fields { values, unknown, .. } = fields;
    let missing = signature
        .inputs
        .iter()
        .zip(&values)
        .find(|(input, value)| value.is_none() && input.filled_by.is_none());
    match (missing, unknown) {
        (Some((input, _)), _) => Err(format!("missing input `{}`", input.name)),
        (None, Some(unknown)) => Err(format!("unknown input `{unknown}`: the model has {}", names())),
        (None, None) => Ok(values),
    }
}

/// The values of an instance's fields, one for each input. If there are unknown fields, only the first name is kept.
struct Fields<'s, 'a> {
    signature: &'s Signature,
    values: Vec<Option<&'a RawValue>>,
    unknown: Option<String>,
}

impl<'a> Visitor<'a> for &mut Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<Cow<'a, str>, &'a RawValue>()? {
            match self.signature.inputs.iter().position(|input| input.name == name) {
                Some(at) if self.values[at].replace(value).is_some() => {
                    return Err(Error::custom(format_args!("input `{}` is given twice", shorten(&name))));
                }
                Some(_) => {}
                None => _ = self.unknown.get_or_insert_with(|| shorten(&name).into_owned()),
            }
        }
        Ok(())
    }
}

/// Reads one instance's value as one row. Its shape is the shape of the value with a 1 in front.
fn row_value(value: &RawValue, input: &TensorMetadata, memory: &mut Share) -> Result<Input, RequestError> {
    let prefix = |error| said_of(&format!("input `{}`", input.name), error);
    let fixed: Option<Vec<usize>> = input.shape.iter().skip(1).map(Dim::fixed).collect();
    let most = fixed.and_then(|row| volume(&row)).unwrap_or(usize::MAX);
    let base64 = strip_b64(value);
    let file = base64.unwrap_or(value);
    let is_file = !input.accepts.is_empty() && file.get().starts_with('"');
    let mut room = Room { most: if is_file { 1 } else { most }, memory };
    let parsed = if is_file && input.takes_text() && base64.is_none() {
        elements::parse_within(file.get(), Datatype::Bytes, &mut room)
    } else if is_file {
        elements::parse_base64(file.get(), &mut room)
    } else {
        elements::parse_within(value.get(), input.datatype, &mut room)
    };
    let Parsed { nesting: mut shape, elements, .. } = parsed.map_err(prefix)?;
    let elements = match elements {
        Elements::Bytes(rows) if is_file => return Ok(Input::encoded(rows, input)),
        elements => elements,
    };
    shape.insert(0, 1);
    if input.shape.is_empty() || shape.get(1..) != Some(&expected_row(input, &shape)) {
        let row = input.shape.get(1..).unwrap_or_default();
        let row: Vec<i64> = row.iter().map(Dim::as_i64).collect();
        return Err(RequestError::invalid(format!(
            "input `{}` has shape {} in this row: expected {}",
            input.name,
            show_shape(&shape[1..]),
            show_shape(&row)
        )));
    }
    Tensor::new(shape, elements).map(Input::Tensor).map_err(RequestError::invalid)
}

/// Returns the shape of a row as the signature expects it. Open dimensions are taken from `came`, the shape of the
/// value with a 1 in front.
fn expected_row(input: &TensorMetadata, came: &[usize]) -> Vec<usize> {
    let dims = input.shape.iter().enumerate().skip(1);
    dims.map(|(at, dim)| dim.fixed().unwrap_or_else(|| came.get(at).copied().unwrap_or(0))).collect()
}

/// Returns the string inside TensorFlow Serving's `{"b64": "…"}`, or `None` when the value has another form.
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
