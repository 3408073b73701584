//! Answers in place of outputs: what the numbers of a model mean, as `result` of model.json says. Each kind of result
//! has a file or folder of its own.
//!
//! What belongs here: outputs as numbers in, answers out. What does not: sockets, the model. Only `of_request` knows
//! tensors, their datatypes and JSON.
//!
//! A new kind is a new file, a variant of `Kind` and its lines below.

mod activation;
mod coordinates;
mod detections;
mod events;
mod masks;
mod of_request;
mod regions;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod text;
mod view;

use serde::Serialize;

use self::coordinates::{Counted, Frame};
use self::detections::{Detection, Detections};
use self::events::{Event, Events};
use self::masks::{MaskMaker, Masks};
use self::regions::{Region, Regions};
use self::settings::Wish;
use self::sources::Sources;
use self::text::{Line, Lines};
use crate::model::choices::Choices;
use crate::model::input::Placement;
use crate::model::manifest::{Coordinates, ResultManifest};

pub use self::coordinates::Canvas;
pub use self::events::{Pace, Tracker};
pub use self::of_request::{MadeResult, WantedResult};
pub use self::settings::Settled;
pub use self::sources::Declared;
pub use self::view::{View, show};

/// What was made, and the number of values that were left out because they are no finite numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Made<T> {
    pub answer: T,
    pub non_finite: usize,
}

/// The answer for one row of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Detections(Vec<Detection>),
    Masks(Masks),
    Regions(Vec<Region>),
    Line(Line),
    Events(Vec<Event>),
}

/// The answers for all rows of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    pub rows: Vec<Answer>,
    /// What the coordinates count; `None` for answers without coordinates.
    pub counted: Option<Counted>,
}

/// Makes the answers of one model.
#[derive(Debug)]
pub struct ResultMaker {
    kind: Kind,
    /// The outputs that it reads, by their places in the signature.
    outputs: Vec<usize>,
    canvas: Canvas,
}

#[derive(Debug)]
enum Kind {
    Detections(Detections),
    Masks(MaskMaker),
    Regions(Regions),
    Lines(Lines),
    Events(Events),
}

impl ResultMaker {
    /// Makes what `spec` describes. `outputs` are those of the signature. `labels` are those of the classes, or the
    /// characters; empty when there are none. `canvas` is the width and height of the input tensor for images. `pace` is
    /// that of the input for sound; `None` when there is none or its rate is not known.
    ///
    /// Errors: a sentence that says which setting or output does not fit.
    pub fn new(
        spec: &ResultManifest,
        outputs: &[Declared],
        labels: Vec<String>,
        canvas: Canvas,
        pace: Option<Pace>,
    ) -> Result<ResultMaker, String> {
        let made = match spec {
            ResultManifest::Detections(spec) => Detections::new(spec, outputs, labels, canvas)
                .map(|(kind, outputs)| (Kind::Detections(kind), outputs)),
            ResultManifest::Masks(spec) => MaskMaker::new(spec, outputs, labels, canvas)
                .map(|(kind, outputs)| (Kind::Masks(kind), outputs)),
            ResultManifest::Regions(spec) => {
                Regions::new(spec, outputs).map(|(kind, outputs)| (Kind::Regions(kind), outputs))
            }
            ResultManifest::Text(spec) => {
                Lines::new(spec, outputs, labels).map(|(kind, outputs)| (Kind::Lines(kind), outputs))
            }
            ResultManifest::Events(spec) => {
                Events::new(spec, outputs, labels, pace).map(|(kind, outputs)| (Kind::Events(kind), outputs))
            }
        };
        let (kind, outputs) = made.map_err(|error| format!("result: {error}"))?;
        Ok(ResultMaker { kind, outputs, canvas })
    }

    /// The outputs that the answers are made from, by their places in the signature.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// The name of the kind, as in model.json.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Detections(_) => "detections",
            Kind::Masks(_) => "masks",
            Kind::Regions(_) => "regions",
            Kind::Lines(_) => "text",
            Kind::Events(_) => "events",
        }
    }

    /// The labels of the classes; empty when there are none.
    pub fn labels(&self) -> &[String] {
        match &self.kind {
            Kind::Detections(kind) => kind.labels(),
            Kind::Masks(kind) => kind.labels(),
            Kind::Events(kind) => kind.labels(),
            Kind::Regions(_) | Kind::Lines(_) => &[],
        }
    }

    /// Whether the answers are faces, and nothing else.
    pub fn finds_faces(&self) -> bool {
        matches!(&self.kind, Kind::Detections(kind) if kind.finds_faces())
    }

    /// The settings that a request can change: name, and default, least and most.
    pub fn settings(&self) -> Vec<(&'static str, [serde_json::Number; 3])> {
        self.wish().describe()
    }

    fn wish(&self) -> &Wish {
        match &self.kind {
            Kind::Detections(kind) => kind.wish(),
            Kind::Masks(kind) => kind.wish(),
            Kind::Regions(kind) => kind.wish(),
            Kind::Lines(kind) => kind.wish(),
            Kind::Events(kind) => kind.wish(),
        }
    }

    fn coordinates(&self) -> Option<Coordinates> {
        match &self.kind {
            Kind::Detections(kind) => Some(kind.coordinates()),
            Kind::Masks(kind) => Some(kind.coordinates()),
            Kind::Regions(kind) => Some(kind.coordinates()),
            Kind::Lines(_) | Kind::Events(_) => None,
        }
    }

    /// The settings of a request.
    ///
    /// Errors: a choice of the request is not within the model's bounds.
    pub fn settle(&self, choices: &Choices) -> Result<Settled, String> {
        self.wish().settle(choices)
    }

    /// The most bytes that the lists of one row take while its answer is made.
    pub fn memory(&self, outputs: &[View<'_>], placements: &[Placement]) -> usize {
        let pixels = |placement: &Placement| placement.size.0 as usize * placement.size.1 as usize;
        match &self.kind {
            Kind::Detections(kind) => kind.memory(outputs),
            Kind::Masks(kind) => kind.memory(outputs, placements.iter().map(pixels).max().unwrap_or(0)),
            Kind::Regions(_) => outputs.first().map_or(0, |map| Regions::memory(*map)),
            // A step has at most one event for each label.
            Kind::Events(_) => outputs.first().map_or(0, |scores| scores.values().len()) * size_of::<Event>(),
            Kind::Lines(_) => 0,
        }
    }

    /// Makes the answers of a request. `outputs` are those that [`ResultMaker::outputs`] names, in its order.
    /// `placements` has one entry for each image file of the request. `rows` is the number of rows of the request; it
    /// counts only for outputs without an axis of rows. `canvas` is the width and height of the request's tensor of images; it
    /// counts only for [`Canvas::Open`].
    ///
    /// Errors: the outputs have shapes that cannot be read.
    pub fn make(
        &self,
        outputs: &[View<'_>],
        placements: &[Placement],
        rows: usize,
        canvas: Option<[usize; 2]>,
        settled: &Settled,
    ) -> Result<Made<Answers>, String> {
        let own = match &self.kind {
            Kind::Detections(kind) => kind.rows(outputs)?,
            Kind::Masks(kind) => kind.rows(outputs)?,
            Kind::Regions(kind) => Some(kind.rows(outputs[0])?),
            Kind::Lines(kind) => Some(kind.rows(outputs[0])?),
            Kind::Events(kind) => Some(kind.rows(outputs[0])?),
        };
        let rows = own.unwrap_or(rows);
        if !placements.is_empty() && placements.len() != rows {
            return Err(format!("the outputs have {rows} rows for {} images", placements.len()));
        }
        let canvas = match self.canvas {
            Canvas::Fixed(size) => Some(size),
            Canvas::Open { .. } => canvas,
            Canvas::Unknown => None,
        };
        let mut made =
            Made { answer: Answers { rows: Vec::with_capacity(rows), counted: None }, non_finite: 0 };
        for row in 0..rows {
            let coordinates = self.coordinates().unwrap_or_default();
            let frame = Frame::new(placements.get(row).copied(), coordinates, canvas);
            made.answer.counted = self.coordinates().map(|_| frame.counted());
            let (answer, non_finite) = self.row(outputs, row, &frame, settled)?;
            made.answer.rows.push(answer);
            made.non_finite += non_finite;
        }
        Ok(made)
    }

    /// Whether an answer depends on the requests before it, so that a conversation must keep a [`Tracker`].
    pub fn is_tracked(&self) -> bool {
        matches!(self.kind, Kind::Events(_))
    }

    fn row(
        &self,
        outputs: &[View<'_>],
        row: usize,
        frame: &Frame,
        settled: &Settled,
    ) -> Result<(Answer, usize), String> {
        Ok(match &self.kind {
            Kind::Detections(kind) => {
                let thresholds = detections::Thresholds::of(settled);
                let Made { answer, non_finite } = kind.of_row(outputs, row, frame, thresholds)?;
                (Answer::Detections(answer), non_finite)
            }
            Kind::Masks(kind) => {
                let Made { answer, non_finite } = kind.of_row(outputs, row, frame, settled)?;
                (Answer::Masks(answer), non_finite)
            }
            Kind::Regions(kind) => {
                let (pixel, score, unclip_ratio) =
                    (settled.numbers[0], settled.numbers[1], settled.numbers[2]);
                let thresholds = regions::Thresholds { pixel, score, unclip_ratio, max: settled.counts[0] };
                let Made { answer, non_finite } = kind.of_row(outputs[0], row, frame, thresholds)?;
                (Answer::Regions(answer), non_finite)
            }
            Kind::Lines(kind) => {
                let Made { answer, non_finite } = kind.of_row(outputs[0], row, settled.switches[0])?;
                (Answer::Line(answer), non_finite)
            }
            Kind::Events(kind) => {
                let Made { answer, non_finite } = kind.of_row(outputs[0], row, settled)?;
                (Answer::Events(answer), non_finite)
            }
        })
    }
}
