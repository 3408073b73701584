//! A number that a request can change, within bounds that `model.json` sets.

use serde::Deserialize;

use super::super::checks::within;

/// A number for requests that give none, and the range of what requests can give. In `model.json` it is a number, or
/// `{"default": …, "least": …, "most": …}`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "Said<T>")]
pub struct Bounded<T: Copy> {
    /// The number for requests that give none.
    pub default: T,
    /// The least number that a request can give; `None` is the least that the field admits.
    pub least: Option<T>,
    /// The largest number that a request can give; `None` is the largest that the field admits.
    pub most: Option<T>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or an object with `default`, `least` and `most`")]
enum Said<T> {
    Number(T),
    Range(Range<T>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range<T> {
    default: T,
    least: Option<T>,
    most: Option<T>,
}

impl<T: Copy> From<Said<T>> for Bounded<T> {
    fn from(said: Said<T>) -> Bounded<T> {
        match said {
            Said::Number(default) => Bounded { default, least: None, most: None },
            Said::Range(Range { default, least, most }) => Bounded { default, least, most },
        }
    }
}

impl<T: Copy + PartialOrd + std::fmt::Display> Bounded<T> {
    /// Checks that all numbers are from `least` to `most`, and in order.
    pub(super) fn validate(&self, field: &str, least: T, most: T) -> Result<(), String> {
        within(field, Some(self.default), least, most)?;
        within(&format!("{field}.least"), self.least, least, most)?;
        within(&format!("{field}.most"), self.most, least, most)?;
        let (low, high) = (self.least.unwrap_or(least), self.most.unwrap_or(most));
        within(&format!("{field}.default"), Some(self.default), low, high)
    }
}
