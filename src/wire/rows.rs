//! TensorFlow Serving's row form: `{"instances": […]}`, easy to type by hand.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::agreement::{check_shape, complete};
use super::elements;
use super::error::{Code, RequestError, shorten, shorten_middle, show_shape};
use super::request::Form;
use crate::model::signature::quoted;
use crate::model::{Datatype, Dim, Signature, Tensor, TensorMetadata};

/// TensorFlow Serving's rows: a value an instance for a single input, or an object of values by
/// input name. Instances become tensors one by one, so that too many cost no more than the limit.
pub(super) fn rows(instances: &RawValue, signature: &Signature) -> Result<(Form, Vec<Tensor>), RequestError> {
    if !instances.get().starts_with('[') {
        return Err(RequestError::invalid("`instances` is no list: expected one entry a row"));
    }
    let mut columns =
        Columns { signature, tensors: vec![None; signature.inputs.len()], count: 0, failure: None };
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
    for (tensor, input) in columns.tensors.iter().zip(&signature.inputs) {
        let Some(tensor) = tensor else { continue };
        if tensor.shape()[0] != count {
            let message = format!("`instances`: input `{}` is in some rows and not in others", input.name);
            return Err(RequestError::invalid(message));
        }
        let files = tensor.datatype() != input.datatype;
        check_shape(tensor.shape(), files, input, signature)
            .map_err(|error| error.within(&format!("the instances as input `{}`", input.name)))?;
    }
    let tensors = complete(columns.tensors, signature)?;
    Ok((Form::Rows { instances: count }, tensors))
}

/// The tensors that the instances so far have become, one an input.
struct Columns<'s> {
    signature: &'s Signature,
    tensors: Vec<Option<Tensor>>,
    count: usize,
    /// Why reading was stopped; serde's own errors have no code.
    failure: Option<RequestError>,
}

impl Columns<'_> {
    fn add(&mut self, instance: &RawValue) -> Result<(), RequestError> {
        if let Some(most) = self.signature.max_batch_size.filter(|most| self.count >= *most) {
            return Err(RequestError::new(
                Code::TooLarge,
                format!(
                    "the request has more than {most} rows, which is what this model takes (max_batch_size)"
                ),
            ));
        }
        let wrong =
            |error: String| RequestError::invalid(error).within(&format!("instances[{}]", self.count));
        let values = values_of(instance, self.signature).map_err(wrong)?;
        for ((value, input), column) in values.iter().zip(&self.signature.inputs).zip(&mut self.tensors) {
            let Some(value) = value else { continue };
            let tensor = row_value(value, input).map_err(wrong)?;
            match column {
                Some(tensors) => tensors.append(tensor).map_err(wrong)?,
                None => *column = Some(tensor),
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
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// The values of one instance, one an input, in the signature's order; none for an input that may be made
/// of another's text.
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
    let mut fields: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(instance.get())
        .map_err(|error| shorten_middle(&error.to_string()).into_owned())?;
    let mut values = Vec::with_capacity(signature.inputs.len());
    for input in &signature.inputs {
        let value = fields.remove(input.name.as_str());
        if value.is_none() && input.filled_by.is_none() {
            return Err(format!("missing input `{}`", input.name));
        }
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
    let base64 = strip_b64(value);
    let file = base64.unwrap_or(value);
    let is_file = !input.accepts.is_empty() && file.get().starts_with('"');
    let (mut shape, elements) = if is_file && input.takes_text() && base64.is_none() {
        elements::parse(file.get(), Datatype::Bytes).map_err(prefix)?
    } else if is_file {
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
