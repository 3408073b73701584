//! Checks that several fields of `model.json` need. Every number in it has a bound: a running server loads files that
//! people write by hand, and must not run out of memory or threads because of one of them.

use std::fmt::Display;

use serde::{Deserialize, Deserializer};

use crate::model::tensor::Datatype;

/// A dimension in a shape: the largest signed 32-bit number, as in most frameworks.
const MOST_LENGTH: i64 = i32::MAX as i64;
/// Dimensions of a tensor.
pub(super) const MOST_AXES: usize = 16;

/// Refuses a number that is not from `least` to `most`. No number is fine.
pub(super) fn within<T: PartialOrd + Display>(
    field: &str,
    value: Option<T>,
    least: T,
    most: T,
) -> Result<(), String> {
    match value.filter(|value| *value < least || *value > most) {
        Some(wrong) => Err(format!("{field} is {wrong}: expected {least} to {most}")),
        None => Ok(()),
    }
}

/// Refuses a shape that has too many dimensions, or a dimension that is neither -1 nor a length. `rule` says in the
/// error what a dimension can be.
pub(super) fn check_shape(field: &str, shape: &[i64], rule: &str) -> Result<(), String> {
    if shape.len() > MOST_AXES {
        return Err(format!("{field} has {} dimensions: expected at most {MOST_AXES}", shape.len()));
    }
    match shape.iter().find(|dim| !matches!(**dim, -1 | 1..=MOST_LENGTH)) {
        Some(wrong) => Err(format!("{field} holds {wrong}: {rule}, and at most {MOST_LENGTH}")),
        None => Ok(()),
    }
}

/// Checks a name that becomes a segment of a URL's path: it holds only characters that need no escape there. The error
/// calls it `field`.
pub fn check_name(field: &str, name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_allowed) {
        return Err(format!("{field} is `{name}`: use letters, digits, `-`, `_` and `.`"));
    }
    Ok(())
}

/// Reads a datatype by its name in the Open Inference Protocol.
pub(super) fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Datatype>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Datatype::from_name(&name).map(Some).ok_or_else(|| {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        serde::de::Error::custom(format!("unknown datatype `{name}`, expected one of {known}"))
    })
}
