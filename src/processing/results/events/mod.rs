//! The result kind `events`: what begins, ends and happens in a stream of scores.
//!
//! An answer depends on the scores before it, so a conversation keeps a [`Tracker`], and the answers are made in the order
//! of its requests. A request outside a conversation is a stream of its own.
//!
//! Here belong outputs in, events out. The rules for one label are in [`track`].

mod track;

use serde::Serialize;

use self::track::{Rule, Track};
use super::activation::{sigmoid, softmax};
use super::settings::Wish;
use super::view::{View, show};
use super::{Declared, Made, Settled, Sources};
use crate::model::manifest::{EventForm, EventsManifest, LabelManifest, ScoreActivation};

/// Something that happened in a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    pub event: Kind,
    pub label: String,
    /// The place in the stream: in samples of the model's rate, or in scores for a model that does not take sound.
    pub at: u64,
    /// The same in milliseconds.
    pub at_ms: f64,
    /// For a start, the first score; for an end and for a hit, the highest one.
    pub score: f32,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Start,
    End,
    Hit,
}

/// How time passes in the stream of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Samples from one run of the model to the next. `None` for a model that does not take sound: its stream counts
    /// scores.
    pub hop: Option<usize>,
    /// Milliseconds from one run to the next, or from one score to the next.
    pub hop_ms: f64,
}

/// Makes events of one model's outputs.
#[derive(Debug)]
pub struct Events {
    /// `None` for a label without events.
    labels: Vec<Option<Label>>,
    /// The labels with events, for metadata.
    known: Vec<String>,
    form: EventForm,
    activation: ScoreActivation,
    pace: Pace,
    wish: Wish,
}

#[derive(Debug)]
struct Label {
    name: String,
    said: LabelManifest,
}

/// What a conversation remembers of the scores so far.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    /// One for each label.
    tracks: Vec<Track>,
    /// Where the next scores lie, when nobody says it.
    next: u64,
    /// Where the stream, or its current utterance, began. No event lies before it.
    begin: u64,
}

impl Events {
    /// Makes what `spec` describes. `labels` are those that model.json gives, or none. `pace` is that of the input for
    /// sound; `None` when there is none or its rate is not known. Returns also the place of its output in `outputs`.
    ///
    /// Errors: the output has no scores, the labels do not fit it, or nothing says how much time passes between scores.
    pub fn new(
        spec: &EventsManifest,
        outputs: &[Declared],
        labels: Vec<String>,
        pace: Option<Pace>,
    ) -> Result<(Events, Vec<usize>), String> {
        let mut sources = Sources::new(outputs);
        let output = sources.one(spec.output.as_deref())?;
        let name = sources.name(output).to_owned();
        let columns = sources.shape(output).to_vec();
        let labels = match (labels.is_empty(), columns.as_slice()) {
            (false, _) => labels,
            (true, [_] | [_, Some(1)] | [_, _, Some(1)]) => vec![name.clone()],
            (true, [_, Some(count)] | [_, _, Some(count)]) => (0..*count).map(|at| at.to_string()).collect(),
            (true, _) => {
                return Err(format!(
                    "output `{name}` is {}: give labels, one for each of its scores",
                    show(&columns)
                ));
            }
        };
        sources.checked(output, |shape| layout(shape, labels.len()).map(|_| ()))?;
        for said in spec.ignore.iter().chain(spec.per_label.keys()) {
            if !labels.contains(said) {
                return Err(format!("`{said}` is not among the labels: they are {}", labels.join(", ")));
            }
        }
        if spec.ignore.len() == labels.len() {
            return Err("ignore has all labels, so nothing could ever happen: leave some out".into());
        }
        let pace = match (pace, spec.hop_ms) {
            (Some(Pace { hop: Some(_), .. }), Some(_)) => {
                return Err("hop_ms is given, but `hop` and `sample_rate` of the input for sound say it already: leave it out".into());
            }
            (Some(pace), _) => pace,
            (None, Some(hop_ms)) => Pace { hop: None, hop_ms },
            (None, None) => {
                return Err(
                    "nothing says how much time passes from one run of the model to the next: give hop_ms, \
                            or sample_rate of the input for sound"
                        .into(),
                );
            }
        };
        let of_label = |name: String| {
            let said = spec.per_label.get(&name).cloned().unwrap_or_default();
            (!spec.ignore.contains(&name)).then(|| Label { said: filled(said, spec), name })
        };
        let labels: Vec<Option<Label>> = labels.into_iter().map(of_label).collect();
        let events = Events {
            known: labels.iter().flatten().map(|label| label.name.clone()).collect(),
            labels,
            form: spec.form,
            activation: spec.activation.unwrap_or(ScoreActivation::None),
            pace,
            wish: Wish::new().number("threshold", spec.threshold, 0.0, 1.0),
        };
        Ok((events, sources.into_places()))
    }

    /// What a request can set.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The labels that events can have.
    pub fn labels(&self) -> &[String] {
        &self.known
    }

    /// The number of rows of the output.
    pub fn rows(&self, output: View<'_>) -> Result<usize, String> {
        self.layout(output).map(|[rows, _]| rows)
    }

    fn layout(&self, output: View<'_>) -> Result<[usize; 2], String> {
        let [rows, steps] = layout(&output.known_shape(), self.labels.len())?;
        Ok([rows.unwrap_or(0), steps.unwrap_or(0)])
    }

    /// The events of one row as a stream of its own, which begins and ends with it.
    pub fn of_row(
        &self,
        output: View<'_>,
        row: usize,
        settled: &Settled,
    ) -> Result<Made<Vec<Event>>, String> {
        let mut tracker = Tracker::default();
        let mut made = self.advance(&mut tracker, output, row..row + 1, None, settled)?;
        made.answer.extend(self.finish(&mut tracker, None, settled));
        Ok(made)
    }

    /// The events of a whole request that continues the stream of `tracker`. `offset` is the place of its first window;
    /// `None` when it follows the request before.
    pub fn of_request(
        &self,
        tracker: &mut Tracker,
        output: View<'_>,
        offset: Option<u64>,
        settled: &Settled,
    ) -> Result<Made<Vec<Event>>, String> {
        let rows = self.rows(output)?;
        self.advance(tracker, output, 0..rows, offset, settled)
    }

    fn advance(
        &self,
        tracker: &mut Tracker,
        output: View<'_>,
        rows: std::ops::Range<usize>,
        offset: Option<u64>,
        settled: &Settled,
    ) -> Result<Made<Vec<Event>>, String> {
        let [_, steps] = self.layout(output)?;
        let rules = self.rules(settled);
        let begin = tracker.begin;
        tracker.tracks.resize_with(self.labels.len(), || Track::new(begin));
        tracker.next = offset.unwrap_or(tracker.next);
        let (mut events, mut non_finite, mut probabilities) = (Vec::new(), 0, Vec::new());
        let width = self.labels.len();
        for row in rows {
            // A model that does not take sound makes `steps` scores in a run, and the stream counts them.
            let hop = self.pace.hop.unwrap_or(steps) as u64;
            for step in 0..steps {
                let start = (row * steps + step) * width;
                let scores = output.values().get(start..start + width).unwrap_or_default();
                self.activate(scores, &mut probabilities);
                let (from, to) = (hop * step as u64 / steps as u64, hop * (step as u64 + 1) / steps as u64);
                let span = tracker.next + from..tracker.next + to;
                for (at, score) in probabilities.iter().enumerate() {
                    let Some(rule) = &rules[at] else { continue };
                    if !score.is_finite() {
                        non_finite += 1;
                        continue;
                    }
                    tracker.tracks[at].push(rule, span.clone(), *score, &mut |kind, at_tick, score| {
                        events.extend(self.event(kind, at, at_tick, score));
                    });
                }
            }
            tracker.next += hop;
        }
        Ok(Made { answer: events, non_finite })
    }

    /// Ends the stream, or an utterance of it, at `end`; `None` is after the last scores. Returns the events that this
    /// causes.
    pub fn finish(&self, tracker: &mut Tracker, end: Option<u64>, settled: &Settled) -> Vec<Event> {
        let end = end.unwrap_or(tracker.next);
        let mut events = Vec::new();
        for (at, (track, rule)) in tracker.tracks.iter_mut().zip(self.rules(settled)).enumerate() {
            let Some(rule) = rule else { continue };
            track.finish(&rule, end, &mut |kind, at_tick, score| {
                events.extend(self.event(kind, at, at_tick, score));
            });
        }
        *tracker = Tracker { tracks: Vec::new(), next: end, begin: end };
        events.sort_by_key(|event| event.at);
        events
    }

    fn activate(&self, scores: &[f32], into: &mut Vec<f32>) {
        match self.activation {
            ScoreActivation::Softmax => softmax(scores, into),
            ScoreActivation::Sigmoid => {
                into.clear();
                into.extend(scores.iter().map(|score| sigmoid(*score)));
            }
            ScoreActivation::None => {
                into.clear();
                into.extend_from_slice(scores);
            }
        }
    }

    fn event(&self, event: Kind, label: usize, at: u64, score: f32) -> Option<Event> {
        let label = self.labels.get(label)?.as_ref()?.name.clone();
        // To a microsecond, so that the JSON has no long fractions.
        let at_ms = (at as f64 * self.tick_ms() * 1000.0).round() / 1000.0;
        Some(Event { event, label, at, at_ms, score })
    }

    /// Milliseconds of one tick: a sample, or a score.
    fn tick_ms(&self) -> f64 {
        self.pace.hop_ms / self.pace.hop.unwrap_or(1) as f64
    }

    /// The rule of each label with events, in ticks.
    fn rules(&self, settled: &Settled) -> Vec<Option<Rule>> {
        let ticks = |ms: Option<u32>, default: u32| {
            (f64::from(ms.unwrap_or(default)) / self.tick_ms()).round() as u64
        };
        let rule = |label: &Option<Label>| {
            let said = &label.as_ref()?.said;
            let threshold = said.threshold.unwrap_or(settled.numbers[0]);
            let is_hit = self.form == EventForm::Hits;
            Some(Rule {
                is_hit,
                threshold,
                end_threshold: said.end_threshold.unwrap_or((threshold - 0.15).max(0.01)).min(threshold),
                min_length: ticks(said.min_length_ms, if is_hit { 0 } else { 250 }),
                min_silence: ticks(said.min_silence_ms, 100),
                padding: ticks(said.padding_ms, 30),
                cool_down: ticks(said.cool_down_ms, 1000),
            })
        };
        self.labels.iter().map(rule).collect()
    }
}

/// What a label leaves open is as in the result.
fn filled(said: LabelManifest, spec: &EventsManifest) -> LabelManifest {
    LabelManifest {
        threshold: said.threshold,
        end_threshold: said.end_threshold.or(spec.end_threshold.filter(|_| said.threshold.is_none())),
        min_length_ms: said.min_length_ms.or(spec.min_length_ms),
        min_silence_ms: said.min_silence_ms.or(spec.min_silence_ms),
        padding_ms: said.padding_ms.or(spec.padding_ms),
        cool_down_ms: said.cool_down_ms.or(spec.cool_down_ms),
    }
}

/// The rows and steps of an output with scores of `labels` labels.
fn layout(shape: &[Option<usize>], labels: usize) -> Result<[Option<usize>; 2], String> {
    let fits = |length: Option<usize>| length.is_none_or(|length| length == labels);
    match *shape {
        [rows] if labels == 1 => Ok([rows, Some(1)]),
        [rows, last] if fits(last) && !(labels == 1 && last.is_none()) => Ok([rows, Some(1)]),
        [rows, steps] if labels == 1 => Ok([rows, steps]),
        [rows, steps, last] if fits(last) => Ok([rows, steps]),
        _ => Err(format!(
            "its shape is {}: expected [N, {labels}] or [N, steps, {labels}], a score for each label",
            show(shape)
        )),
    }
}

#[cfg(test)]
mod tests;
