//! The result kind `events`: what begins, ends and happens in a stream of scores, for example speech or wake words.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::checks::within;
use super::detections::ScoreActivation;
use super::{Bounded, Labels};

/// One day, in milliseconds.
const LONGEST: u32 = 24 * 3600 * 1000;

/// How scores over time become events. `result` of `model.json` with the kind `events`. The defaults are those of
/// silero-vad.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsManifest {
    /// The output: `[N]`, `[N, labels]` or `[N, steps, labels]`. Default: the only output.
    pub output: Option<String>,
    /// What each score is about: a text file with one label for each line, or a list.
    pub labels: Option<Labels>,
    /// Labels without events, for example silence and noise among the classes of a keyword model.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// What is reported. Default: `segments`.
    #[serde(default)]
    pub form: EventForm,
    /// Applied to the scores of each step. Default: `none`.
    pub activation: Option<ScoreActivation>,
    /// A score counts from here on.
    #[serde(default = "threshold")]
    pub threshold: Bounded<f32>,
    /// `segments`: below this score, silence begins. Default: `threshold` − 0.15, but at least 0.01.
    pub end_threshold: Option<f32>,
    /// In milliseconds. A shorter segment is not reported; a hit needs scores above the threshold for this time. Default:
    /// 250 for `segments`, 0 for `hits`.
    pub min_length_ms: Option<u32>,
    /// `segments`: a segment ends after this much silence. Default: 100.
    pub min_silence_ms: Option<u32>,
    /// `segments`: this time is added before the start and after the end. Default: 30.
    pub padding_ms: Option<u32>,
    /// `hits`: the least time between two hits of a label. Default: 1,000.
    pub cool_down_ms: Option<u32>,
    /// The time from one score to the next, for a model that does not take sound.
    pub hop_ms: Option<f64>,
    /// Thresholds of single labels.
    #[serde(default)]
    pub per_label: BTreeMap<String, LabelManifest>,
}

/// The settings of one label, in place of those of the result.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelManifest {
    pub threshold: Option<f32>,
    pub end_threshold: Option<f32>,
    pub min_length_ms: Option<u32>,
    pub min_silence_ms: Option<u32>,
    pub padding_ms: Option<u32>,
    pub cool_down_ms: Option<u32>,
}

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventForm {
    /// `start` and `end` of what lasts, such as speech.
    #[default]
    Segments,
    /// `hit` for what happens at a moment, such as a wake word.
    Hits,
}

fn threshold() -> Bounded<f32> {
    Bounded { default: 0.5, least: None, most: None }
}

impl EventsManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        self.threshold.validate("threshold", 0.0, 1.0)?;
        let own = LabelManifest {
            threshold: None,
            end_threshold: self.end_threshold,
            min_length_ms: self.min_length_ms,
            min_silence_ms: self.min_silence_ms,
            padding_ms: self.padding_ms,
            cool_down_ms: self.cool_down_ms,
        };
        let own_threshold = Some(self.threshold.default);
        own.validate("", self.form, own_threshold)?;
        for (label, said) in &self.per_label {
            said.validate(&format!("per_label[`{label}`]."), self.form, said.threshold.or(own_threshold))?;
        }
        match self.hop_ms {
            Some(hop) if !(hop.is_finite() && hop > 0.0 && hop <= f64::from(LONGEST)) => {
                Err(format!("hop_ms is {hop}: expected milliseconds, more than 0 and at most {LONGEST}"))
            }
            _ => Ok(()),
        }
    }
}

impl LabelManifest {
    fn validate(&self, at: &str, form: EventForm, threshold: Option<f32>) -> Result<(), String> {
        within(&format!("{at}threshold"), self.threshold, 0.0, 1.0)?;
        within(&format!("{at}end_threshold"), self.end_threshold, 0.0, 1.0)?;
        if let (Some(end), Some(threshold)) = (self.end_threshold, threshold)
            && end > threshold
        {
            return Err(format!("{at}end_threshold is {end}: expected at most the threshold, {threshold}"));
        }
        let of_segments = [("min_silence_ms", self.min_silence_ms), ("padding_ms", self.padding_ms)];
        for (field, value) in [("min_length_ms", self.min_length_ms), ("cool_down_ms", self.cool_down_ms)]
            .into_iter()
            .chain(of_segments)
        {
            within(&format!("{at}{field}"), value, 0, LONGEST)?;
        }
        let unused = match form {
            EventForm::Segments => self.cool_down_ms.map(|_| "cool_down_ms"),
            EventForm::Hits => {
                let end = self.end_threshold.map(|_| "end_threshold");
                end.or(of_segments.iter().find(|(_, value)| value.is_some()).map(|(field, _)| *field))
            }
        };
        match (unused, form) {
            (Some(field), EventForm::Segments) => {
                Err(format!("{at}{field} has a meaning only with `\"form\": \"hits\"`: leave it out"))
            }
            (Some(field), EventForm::Hits) => {
                Err(format!("{at}{field} has a meaning only with `\"form\": \"segments\"`: leave it out"))
            }
            (None, _) => Ok(()),
        }
    }
}
