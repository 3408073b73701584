//! `result` of `model.json`: answers in place of the outputs that they are made from. Each kind of result has a file of
//! its own, with its fields, defaults and checks.
//!
//! A new kind is a new file, a variant of [`ResultManifest`] and its lines in the functions below.

mod bounded;
mod detections;
mod events;
mod masks;
mod regions;
mod text;

use serde::Deserialize;

pub use bounded::Bounded;
pub use detections::{
    BoxForm, BoxUnit, Column, Coordinates, DetectionDecoder, DetectionsManifest, HeadForm, HeadManifest,
    KeypointsManifest, Order, ScoreActivation, Suppression,
};
pub use events::{EventForm, EventsManifest, LabelManifest};
pub use masks::{MaskDecoder, MaskEncoding, MasksManifest};
pub use regions::RegionsManifest;
pub use text::{Blank, TextManifest};

/// The most entries of a list of labels or characters.
const MOST_LABELS: usize = 1 << 20;

/// What the outputs of a model become. The field `kind` of `result` chooses the variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResultManifest {
    /// Objects in an image, each with a box, a class and a score.
    Detections(DetectionsManifest),
    /// The pixels of objects or of classes.
    Masks(MasksManifest),
    /// Places of text in an image, as quadrilaterals.
    Regions(RegionsManifest),
    /// A line of text.
    Text(TextManifest),
    /// What begins, ends and happens in a stream.
    Events(EventsManifest),
}

/// Labels of classes, or the characters of a text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected the name of a text file, or a list of strings")]
pub enum Labels {
    /// The name of a text file beside `model.json`, with one entry for each line.
    File(String),
    /// The entries themselves.
    Listed(Vec<String>),
}

impl ResultManifest {
    /// The name of the kind, as in `model.json`.
    pub fn kind(&self) -> &'static str {
        match self {
            ResultManifest::Detections(_) => "detections",
            ResultManifest::Masks(_) => "masks",
            ResultManifest::Regions(_) => "regions",
            ResultManifest::Text(_) => "text",
            ResultManifest::Events(_) => "events",
        }
    }

    /// The labels or characters that `model.json` gives.
    pub fn labels(&self) -> Option<&Labels> {
        match self {
            ResultManifest::Detections(said) => said.labels.as_ref(),
            ResultManifest::Masks(said) => said.labels.as_ref(),
            ResultManifest::Regions(_) => None,
            ResultManifest::Text(said) => said.characters.as_ref(),
            ResultManifest::Events(said) => said.labels.as_ref(),
        }
    }

    /// Checks what the field types do not.
    pub(super) fn validate(&self) -> Result<(), String> {
        let checked = match self {
            ResultManifest::Detections(said) => said.validate(),
            ResultManifest::Masks(said) => said.validate(),
            ResultManifest::Regions(said) => said.validate(),
            ResultManifest::Text(said) => said.validate(),
            ResultManifest::Events(said) => said.validate(),
        };
        checked.and_then(|()| self.check_labels()).map_err(|error| format!("result.{error}"))
    }

    fn check_labels(&self) -> Result<(), String> {
        match self.labels() {
            Some(Labels::Listed(listed)) if listed.is_empty() || listed.len() > MOST_LABELS => Err(format!(
                "{} has {} entries: expected 1 to {MOST_LABELS}",
                if matches!(self, ResultManifest::Text(_)) { "characters" } else { "labels" },
                listed.len()
            )),
            _ => Ok(()),
        }
    }
}
