//! Whether tensors go with a signature, and with each other.

use std::collections::BTreeMap;

use super::error::{Code, RequestError, shorten};
use crate::model::signature::{Dim, nearest, quoted};
use crate::model::{Signature, Tensor, TensorMetadata};

/// Inputs agree in the dimensions that they share by name, and in their number of rows where the
/// model has a batch axis: at least one row, at most the limit.
pub(super) fn check_rows(inputs: &[Tensor], signature: &Signature) -> Result<(), RequestError> {
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

pub(super) fn too_many_rows(rows: usize, most: usize) -> RequestError {
    RequestError::new(
        Code::TooLarge,
        format!(
            "the request has {rows} rows, but this model takes {most} (max_batch_size): send several requests"
        ),
    )
}

pub(super) fn unknown_name(kind: &str, name: &str, known: &[TensorMetadata]) -> RequestError {
    let names = || known.iter().map(|metadata| metadata.name.as_str());
    let meant = nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    RequestError::invalid(format!(
        "unknown {kind} `{}`: the model has {}{meant}",
        shorten(name),
        quoted(names())
    ))
}
