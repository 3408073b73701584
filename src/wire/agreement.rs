//! Whether tensors go with a signature, and with each other.

use std::collections::BTreeMap;

use super::request::Defaults;
use crate::error::{Code, RequestError, shorten, show_shape};
use crate::model::signature::{Dim, nearest, quoted};
use crate::model::{Input, Signature, TensorMetadata};

/// Holds the shape of one input against its declaration, before anything is made of that size.
/// `files` is true for an input that came as files or text, a row each, in the shape `[n]`.
pub(super) fn check_shape(
    shape: &[usize],
    files: bool,
    input: &TensorMetadata,
    signature: &Signature,
) -> Result<(), RequestError> {
    let wrong = |expected: &str| {
        Err(RequestError::invalid(format!("shape is {}: expected {expected}", show_shape(shape))))
    };
    if files && shape.len() != 1 {
        return wrong("[n], one a row");
    }
    if !files && !input.admits(shape) {
        return wrong(&show_shape(&input.shape_i64()));
    }
    match input.shape.first() {
        Some(Dim::Fixed(rows)) if files && shape[0] != *rows => {
            return wrong(&format!("[{rows}], one a row"));
        }
        Some(Dim::Open(_)) => {
            if let Some(most) = signature.max_batch_size.filter(|most| shape[0] > *most) {
                return Err(too_many_rows(shape[0], most));
            }
        }
        _ => {}
    }
    // With a length of nothing in one dimension the others could be of any length.
    let open = input.shape.iter().zip(shape).any(|(dim, length)| dim.fixed().is_none() && *length == 0);
    if open || files && shape[0] == 0 { wrong("at least 1 in every dimension") } else { Ok(()) }
}

/// Each file and each text is work for a worker, however small it is.
pub(super) fn check_files(inputs: &[Input], defaults: &Defaults) -> Result<(), RequestError> {
    let count: usize = inputs.iter().map(Input::files).sum();
    if count > defaults.max_files {
        return Err(too_many_files(count, defaults.max_files));
    }
    Ok(())
}

fn too_many_files(count: usize, most: usize) -> RequestError {
    let message =
        format!("the request has {count} files or texts: the limit is {most}, send several requests");
    RequestError::new(Code::TooLarge, message)
}

/// Inputs agree in the dimensions that they share by name, and in their number of rows where the
/// model has a batch axis.
pub(super) fn check_shared(inputs: &[Input], signature: &Signature) -> Result<(), RequestError> {
    let mut lengths: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (given, input) in inputs.iter().zip(&signature.inputs) {
        // Of files and texts only the number of rows is known.
        for (axis, (dim, length)) in input.shape.iter().zip(given.known_shape()).enumerate() {
            let Dim::Open(name) = dim else { continue };
            let rows = axis == 0 && signature.max_batch_size.is_some();
            let shared = if rows { "rows" } else { name.as_deref().unwrap_or_default() };
            if shared.is_empty() {
                continue;
            }
            match lengths.insert(shared, (length, &input.name)) {
                Some((other, first)) if other != length => {
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

/// One value for every input, out of those that came. An input that is made from another's text is [`Input::FilledBy`]
/// that one, if text came for it.
pub(super) fn complete(
    mut found: Vec<Option<Input>>,
    signature: &Signature,
) -> Result<Vec<Input>, RequestError> {
    for (index, input) in signature.inputs.iter().enumerate() {
        let Some(source) = input.filled_by else { continue };
        if !matches!(found[source], Some(Input::Text(_))) {
            continue;
        }
        if found[index].is_some() {
            return Err(RequestError::invalid(format!(
                "input `{}` is made of the text in input `{}`: leave it out, or send both as tensors",
                input.name, signature.inputs[source].name
            )));
        }
        found[index] = Some(Input::FilledBy(source));
    }
    let missing = signature.inputs.iter().zip(&found).filter(|(_, given)| given.is_none());
    let missing = quoted(missing.map(|(input, _)| input.name.as_str()));
    if !missing.is_empty() {
        return Err(RequestError::invalid(format!("missing input {missing}")));
    }
    Ok(found.into_iter().flatten().collect())
}

/// The request brings more than the model's declared batch.
pub(super) fn too_many_rows(rows: usize, most: usize) -> RequestError {
    RequestError::new(
        Code::TooLarge,
        format!(
            "the request has {rows} rows, but this model takes {most} (max_batch_size): send several requests"
        ),
    )
}

/// A name that the model does not have, with the nearest that it has.
pub(super) fn unknown_name(kind: &str, name: &str, known: &[TensorMetadata]) -> RequestError {
    let names = || known.iter().map(|metadata| metadata.name.as_str());
    let meant = nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    RequestError::invalid(format!(
        "unknown {kind} `{}`: the model has {}{meant}",
        shorten(name),
        quoted(names())
    ))
}
