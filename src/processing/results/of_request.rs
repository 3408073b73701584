//! The result of one request: from the tensors of a run to JSON. The worker makes it directly after the run. So at most
//! as many results are made at the same time as there are workers, and the connection answers pings meanwhile.
//!
//! Invariant: memory is taken from the budget before lists are made. Afterwards the request's share has the bytes of what
//! travels on: the JSON, and the outputs that the request gets.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};

use super::{Made, ResultMaker, Settled, View};
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

    fn read(
        &self,
        outputs: &[Option<Tensor>],
        known: &[Row],
        wanted: &WantedResult,
        share: &Share,
    ) -> Result<MadeResult, RequestError> {
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
        let placements: Vec<_> = known.iter().filter_map(|row| row.placement).collect();
        let tensor = |placement: &Placement| [placement.tensor.0 as usize, placement.tensor.1 as usize];
        let canvas = placements.first().map(tensor).or(wanted.canvas);
        taken.push(share.take_beside(self.memory(&views, &placements))?);
        let Made { answer, non_finite } =
            self.make(&views, &placements, wanted.rows, canvas, &wanted.settled).map_err(failed)?;
        let rows: Result<Vec<Box<RawValue>>, _> = answer.rows.iter().map(to_raw_value).collect();
        let rows = rows.map_err(|error| failed(error.to_string()))?;
        Ok(MadeResult { rows, coordinates: answer.counted.map(|counted| counted.name()), non_finite })
    }
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
