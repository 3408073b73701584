//! The result of one request: from the tensors of a run to JSON. The worker makes it directly after the run. So at most
//! as many results are made at the same time as there are workers, and the connection answers pings meanwhile.
//!
//! Invariant: memory is taken from the budget before lists are made. Afterwards the request's share has the bytes of what
//! travels on: the JSON, and the outputs that the request gets.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Kind, Made, ResultMaker, Settled, Tracker, View};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::input::Placement;
use crate::model::{Elements, Row, Tensor};

/// What a request says about the result that it wants. It travels with the job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WantedResult {
    /// Thresholds and the like.
    pub settled: Settled,
    /// The number of rows of the request.
    pub rows: usize,
    /// The width and height of the images, if the request brings a tensor of them.
    pub canvas: Option<[usize; 2]>,
    /// Whether the request gets the outputs that the result is made from, too.
    pub with_outputs: bool,
}

/// The result of a request.
#[derive(Debug, Default)]
pub struct MadeResult {
    /// The JSON of each row's answer.
    pub rows: Vec<Box<RawValue>>,
    /// What the coordinates in the answers count; `None` for answers without coordinates.
    pub coordinates: Option<&'static str>,
    /// The number of scores and boxes that were left out because they are no finite numbers.
    pub non_finite: usize,
}

impl MadeResult {
    /// Whether any row has an answer that is no empty list.
    pub fn is_eventful(&self) -> bool {
        self.rows.iter().any(|row| row.get() != "[]")
    }

    fn memory(&self) -> usize {
        self.rows.iter().map(|row| size_of::<Box<RawValue>>() + row.get().len()).sum()
    }
}

impl ResultMaker {
    /// Makes the result of a request from all outputs of its run. `known` is what is known about the rows. Outputs that
    /// the request does not get are dropped: `None` stands in their place. `share` has the memory of `outputs`, and then
    /// that of what is left and of the result.
    ///
    /// Errors: the outputs have shapes that cannot be read, or the budget is used up.
    pub fn finish(
        &self,
        outputs: &mut [Option<Tensor>],
        known: &[Row],
        wanted: &WantedResult,
        share: &mut Share,
    ) -> Result<MadeResult, RequestError> {
        let result = self.read(outputs, known, wanted, share)?;
        if !wanted.with_outputs {
            self.outputs().iter().for_each(|at| outputs[*at] = None);
        }
        let kept: usize = outputs.iter().flatten().map(Tensor::memory).sum();
        share.resize(kept + result.memory())?;
        Ok(result)
    }

    /// Makes the events of a request in a conversation. `offset` is the place of its window in the stream.
    ///
    /// Errors: the output has a shape that cannot be read, or the budget is used up.
    pub fn track(
        &self,
        outputs: &mut [Option<Tensor>],
        offset: Option<u64>,
        wanted: &WantedResult,
        tracker: &mut Tracker,
        share: &Share,
    ) -> Result<MadeResult, RequestError> {
        let Kind::Events(events) = &self.kind else {
            return Err(failed("its answers are not tracked".into()));
        };
        let (answer, non_finite) = self.with_views(outputs, &[], share, |views| {
            let made = events.of_request(tracker, views[0], offset, &wanted.settled)?;
            Ok((made.answer, made.non_finite))
        })?;
        if !wanted.with_outputs {
            self.outputs().iter().for_each(|at| outputs[*at] = None);
        }
        Ok(MadeResult { rows: vec![json_of(&answer)?], coordinates: None, non_finite })
    }

    /// The events that the end of a stream causes. `end` is its length; `None` when nobody knows it. `None` when nothing
    /// happens.
    pub fn end_of_stream(
        &self,
        tracker: &mut Tracker,
        end: Option<u64>,
        settled: &Settled,
    ) -> Option<MadeResult> {
        let Kind::Events(events) = &self.kind else { return None };
        let events = events.finish(tracker, end, settled);
        let rows = vec![json_of(&events).ok()?];
        (!events.is_empty()).then_some(MadeResult { rows, coordinates: None, non_finite: 0 })
    }

    fn read(
        &self,
        outputs: &[Option<Tensor>],
        known: &[Row],
        wanted: &WantedResult,
        share: &Share,
    ) -> Result<MadeResult, RequestError> {
        let placements: Vec<_> = known.iter().filter_map(|row| row.placement).collect();
        let tensor = |placement: &Placement| [placement.tensor.0 as usize, placement.tensor.1 as usize];
        let canvas = placements.first().map(tensor).or(wanted.canvas);
        let Made { answer, non_finite } = self.with_views(outputs, &placements, share, |views| {
            self.make(views, &placements, wanted.rows, canvas, &wanted.settled)
        })?;
        let rows: Vec<Box<RawValue>> = answer.rows.iter().map(json_of).collect::<Result<_, _>>()?;
        Ok(MadeResult { rows, coordinates: answer.counted.map(|counted| counted.name()), non_finite })
    }

    /// Calls `make` with the outputs as numbers. The memory for that, and for lists, is taken from the budget meanwhile.
    fn with_views<T>(
        &self,
        outputs: &[Option<Tensor>],
        placements: &[Placement],
        share: &Share,
        make: impl FnOnce(&[View<'_>]) -> Result<T, String>,
    ) -> Result<T, RequestError> {
        let (mut numbers, mut taken) = (Vec::new(), Vec::new());
        for at in self.outputs() {
            let tensor = outputs.get(*at).and_then(Option::as_ref);
            let tensor = tensor.ok_or_else(|| failed("the engine gave too few outputs".into()))?;
            if !matches!(tensor.elements(), Elements::Fp32(_)) {
                taken.push(share.take_beside(tensor.elements().len().saturating_mul(size_of::<f32>()))?);
            }
            let floats =
                floats(tensor.elements()).ok_or_else(|| failed("an output has no numbers".into()))?;
            numbers.push((tensor.shape(), floats));
        }
        let views: Option<Vec<View<'_>>> =
            numbers.iter().map(|(shape, floats)| View::new(shape, floats)).collect();
        let views =
            views.ok_or_else(|| failed("an output has not as many numbers as its shape says".into()))?;
        taken.push(share.take_beside(self.memory(&views, placements))?);
        make(&views).map_err(failed)
    }
}

fn json_of<T: Serialize>(answer: &T) -> Result<Box<RawValue>, RequestError> {
    to_raw_value(answer).map_err(|error| failed(error.to_string()))
}

fn failed(message: String) -> RequestError {
    RequestError::new(Code::InferenceFailed, format!("result: {message}"))
}

/// The elements as f32; `None` when they are no numbers.
fn floats(elements: &Elements) -> Option<Cow<'_, [f32]>> {
    Some(match elements {
        Elements::Fp32(values) => Cow::Borrowed(values.as_slice()),
        Elements::Fp16(values) => values.iter().map(|value| value.to_f32()).collect(),
        Elements::Fp64(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Uint8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        Elements::Uint16(values) => values.iter().map(|value| f32::from(*value)).collect(),
        Elements::Uint32(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Uint64(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Int8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        Elements::Int16(values) => values.iter().map(|value| f32::from(*value)).collect(),
        Elements::Int32(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Int64(values) => values.iter().map(|value| *value as f32).collect(),
        Elements::Bool(_) | Elements::Bytes(_) => return None,
    })
}
