//! The result kind `text`: a line of text from the scores of characters at each step (connectionist temporal
//! classification, CTC).

use serde::Deserialize;

use super::Labels;
use super::detections::ScoreActivation;

/// How scores of characters become a text. `result` of `model.json` with the kind `text`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextManifest {
    /// The output, `[N, steps, classes]`. Default: the only output.
    pub output: Option<String>,
    /// The characters of the classes, without the blank: a text file with one for each line, or a list. Default: the
    /// field `character` of the file's metadata, as in PP-OCR.
    pub characters: Option<Labels>,
    /// The place of the blank among the classes. Default: `first`.
    #[serde(default)]
    pub blank: Blank,
    /// Whether a space follows the last character. Default: when the output has one more class than there are
    /// characters and a blank.
    pub space: Option<bool>,
    /// True when the output is `[steps, N, classes]`.
    #[serde(default)]
    pub time_major: bool,
    /// Applied to the classes of each step. Default: `none`.
    pub activation: Option<ScoreActivation>,
}

/// The place of the blank among the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blank {
    #[default]
    First,
    Last,
}

impl TextManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.activation {
            Some(ScoreActivation::Sigmoid) => {
                Err("activation is `sigmoid`: expected `none` or `softmax`, because a step has one character"
                    .into())
            }
            _ => Ok(()),
        }
    }
}
