//! The result kind `masks`: which pixels belong to an object (YOLO's prototypes and coefficients), or to which class each
//! pixel belongs (semantic segmentation).

mod outline;
mod prototypes;
mod rle;
mod semantic;

use serde::Serialize;

use super::coordinates::{Canvas, Frame};
use super::detections::Detection;
use super::settings::{Settled, Wish};
use super::view::View;
use super::{Declared, Made};
use crate::model::manifest::{Coordinates, MaskDecoder, MasksManifest};
use prototypes::Prototypes;
use rle::RunLengths;
use semantic::{Segmentation, Semantic};

/// Pixels of the masks of one image. More would take seconds.
const MOST_PIXELS: usize = 1 << 26;

/// The answer for one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Masks {
    Objects(Vec<Object>),
    Segmentation(Segmentation),
}

/// One object, and the pixels that belong to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Object {
    #[serde(flatten)]
    pub detection: Detection,
    #[serde(flatten)]
    pub mask: Mask,
}

/// The pixels of an object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    Polygons(Vec<Vec<[f32; 2]>>),
    Rle(RunLengths),
}

/// Makes masks of outputs.
#[derive(Debug)]
pub struct MaskMaker {
    kind: Kind,
    coordinates: Coordinates,
}

#[derive(Debug)]
enum Kind {
    Prototypes(Box<Prototypes>),
    Semantic(Semantic),
}

impl MaskMaker {
    /// Makes the decoder that `spec` describes. `canvas` is the width and height of the input tensor.
    /// Returns also the places in `outputs` of the outputs that it reads, in its order.
    pub fn new(
        spec: &MasksManifest,
        outputs: &[Declared],
        labels: Vec<String>,
        canvas: Canvas,
    ) -> Result<(MaskMaker, Vec<usize>), String> {
        let (kind, sources) = match spec.decoder {
            MaskDecoder::Yolo => {
                let (made, sources) = Prototypes::new(spec, outputs, labels, canvas)?;
                (Kind::Prototypes(Box::new(made)), sources)
            }
            MaskDecoder::Semantic => {
                let (made, sources) = Semantic::new(spec, outputs, labels)?;
                (Kind::Semantic(made), sources)
            }
        };
        Ok((MaskMaker { kind, coordinates: spec.coordinates }, sources))
    }

    /// What a request can set.
    pub fn wish(&self) -> &Wish {
        match &self.kind {
            Kind::Prototypes(kind) => kind.wish(),
            Kind::Semantic(kind) => kind.wish(),
        }
    }

    /// The labels of the classes; empty when there are none.
    pub fn labels(&self) -> &[String] {
        match &self.kind {
            Kind::Prototypes(kind) => kind.labels(),
            Kind::Semantic(kind) => kind.labels(),
        }
    }

    /// The coordinates of answers about image files.
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// The number of rows of the outputs.
    pub fn rows(&self, outputs: &[View<'_>]) -> Result<Option<usize>, String> {
        match &self.kind {
            Kind::Prototypes(kind) => kind.rows(outputs),
            Kind::Semantic(kind) => kind.rows(outputs[0]).map(Some),
        }
    }

    /// The most bytes of the lists of one row. `pixels` is the number of pixels of the largest image.
    pub fn memory(&self, outputs: &[View<'_>], pixels: usize) -> usize {
        match &self.kind {
            Kind::Prototypes(kind) => kind.memory(outputs),
            Kind::Semantic(_) => Semantic::memory(outputs, pixels),
        }
    }

    /// The masks of one row.
    pub fn of_row(
        &self,
        outputs: &[View<'_>],
        row: usize,
        frame: &Frame,
        settled: &Settled,
    ) -> Result<Made<Masks>, String> {
        match &self.kind {
            Kind::Prototypes(kind) => {
                let Made { answer, non_finite } = kind.of_row(outputs, row, frame, settled)?;
                Ok(Made { answer: Masks::Objects(answer), non_finite })
            }
            Kind::Semantic(kind) => {
                let Made { answer, non_finite } = kind.of_row(outputs[0], row, frame)?;
                Ok(Made { answer: Masks::Segmentation(answer), non_finite })
            }
        }
    }
}

/// Checks that an image does not have more pixels than masks are made for.
fn check_pixels(pixels: usize, advice: &str) -> Result<(), String> {
    if pixels > MOST_PIXELS {
        return Err(format!("the masks have {pixels} pixels: the limit is {MOST_PIXELS}; {advice}"));
    }
    Ok(())
}
