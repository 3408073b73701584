//! Checks that tensors agree with a signature, and with each other.
//!
//! What belongs here: names, shapes, numbers of rows and of files. What does not: reading bytes
//! ([`decode`](super::decode)). Invariant: each error is a [`RequestError`] that names the input and says what was
//! expected.

use std::collections::BTreeMap;

use super::request::Defaults;
use crate::error::{Code, RequestError, shorten, show_shape};
use crate::model::signature::{Dim, choice, quoted};
use crate::model::{Input, Signature, TensorMetadata};

/// Checks the shape of one input against its declaration. Callers do this before they allocate memory of that size.
/// `files` is true when the input came as files or as text. Its shape is then `[n]`: each file or text is one row.
///
/// Errors: the shape does not match the declaration, a dimension is 0, or there are more rows than `max_batch_size`.
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
    // If one dimension were 0, the tensor would be empty and the other open dimensions could have any length.
    let open = input.shape.iter().zip(shape).any(|(dim, length)| dim.fixed().is_none() && *length == 0);
    if open || files && shape[0] == 0 { wrong("at least 1 in every dimension") } else { Ok(()) }
}

/// Checks that a request has at most [`Defaults::max_files`] files and texts. Even a small file costs a worker some
/// time. A request with more is refused with [`Code::TooLarge`].
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

/// Checks that the inputs agree with each other. A dimension with a name has the same length in all inputs that use
/// that name. If the model has a batch axis, all inputs have the same number of rows.
pub(super) fn check_shared(inputs: &[Input], signature: &Signature) -> Result<(), RequestError> {
    let mut lengths: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (given, input) in inputs.iter().zip(&signature.inputs) {
        // For files and texts only the number of rows is known here; the other dimensions follow later.
        for (axis, (dim, length)) in input.shape.iter().zip(given.known_shape().iter()).enumerate() {
            let Dim::Open(name) = dim else { continue };
            let rows = axis == 0 && signature.max_batch_size.is_some();
            let shared = if rows { "rows" } else { name.as_deref().unwrap_or_default() };
            if shared.is_empty() {
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

/// Returns one value for each input of the signature, in its order. `found` holds the inputs that the request has, in
/// the same order. An input that is made from the text of another input becomes [`Input::FilledBy`] that input when
/// the request has that text.
///
/// Errors: an input is missing, or the request has both the text and a tensor that is made from it.
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

/// Makes the error for a request with more rows than the model's declared `max_batch_size`.
pub(super) fn too_many_rows(rows: usize, most: usize) -> RequestError {
    RequestError::new(
        Code::TooLarge,
        format!(
            "the request has {rows} rows, but this model takes {most} (max_batch_size): send several requests"
        ),
    )
}

/// Makes the error for a name that the model does not have. It lists the names that the model has, and suggests the
/// nearest.
pub(super) fn unknown_name(kind: &str, name: &str, known: &[TensorMetadata]) -> RequestError {
    RequestError::invalid(format!(
        "unknown {kind} `{}`: the model has {}",
        shorten(name),
        choice(name, known)
    ))
}
