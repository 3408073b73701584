//! Masks of objects as weighted sums of prototypes, which all objects of an image share: YOLOv8-seg, YOLO11-seg. A pixel
//! belongs to an object where the sum is positive, within the object's box.

use super::outline::{Field, clipped};
use super::rle::{RunLengths, Runs};
use super::{Mask, Object, check_pixels};
use crate::model::manifest::{DetectionsManifest, MaskEncoding, MasksManifest};
use crate::processing::results::coordinates::{Canvas, Frame};
use crate::processing::results::detections::{Detections, Found, Thresholds, canvas_is_unknown};
use crate::processing::results::settings::{Settled, Wish};
use crate::processing::results::view::{View, show};
use crate::processing::results::{Declared, Made};

/// Reads the output of detections and that of prototypes.
#[derive(Debug)]
pub struct Prototypes {
    detections: Detections,
    encoding: MaskEncoding,
}

/// The prototypes of one row: `[count, height, width]`.
struct Sheets<'a> {
    values: &'a [f32],
    width: usize,
    height: usize,
}

/// A mask as numbers, in a part of the prototypes.
struct Cutout {
    field: Field,
    /// Its first column and row among those of the prototypes.
    first: [usize; 2],
    /// Left, top, right, bottom of the object's box, in pixels of the prototypes.
    sides: [f32; 4],
}

impl Prototypes {
    /// Makes the decoder, and the places in `outputs` of the two outputs that it reads.
    pub fn new(
        spec: &MasksManifest,
        outputs: &[Declared],
        labels: Vec<String>,
        canvas: Canvas,
    ) -> Result<(Prototypes, Vec<usize>), String> {
        canvas.at_load().ok_or_else(|| canvas_is_unknown("prototypes are smaller than the input"))?;
        let (Some(output), Some(prototypes)) = (&spec.output, &spec.prototypes) else {
            return Err(
                "the decoder `yolo` needs the names of the two outputs: `output` and `prototypes`".into()
            );
        };
        let known =
            || outputs.iter().map(|output| format!("`{}`", output.name)).collect::<Vec<_>>().join(", ");
        let place = outputs.iter().position(|output| output.name == *prototypes);
        let place = place.ok_or_else(|| {
            format!(
                "prototypes names the output `{prototypes}`, which the model does not have: it has {}",
                known()
            )
        })?;
        let shape = &outputs[place].shape;
        let [_, Some(count), _, _] = shape.as_slice() else {
            return Err(format!(
                "output `{prototypes}`: the shape is {}: expected [N, prototypes, height, width] with a known number of \
                 prototypes",
                show(shape)
            ));
        };
        let detections = DetectionsManifest::of_masks(spec, output, *count);
        let (detections, mut sources) = Detections::new(&detections, outputs, labels, canvas)?;
        sources.push(place);
        let encoding = spec.encoding.unwrap_or(MaskEncoding::Polygons);
        Ok((Prototypes { detections, encoding }, sources))
    }

    pub fn wish(&self) -> &Wish {
        self.detections.wish()
    }

    pub fn labels(&self) -> &[String] {
        self.detections.labels()
    }

    /// The number of rows of the outputs.
    pub fn rows(&self, outputs: &[View<'_>]) -> Result<Option<usize>, String> {
        let rows = self.detections.rows(&outputs[..1])?;
        match (outputs[1].shape(), rows) {
            ([own, _, _, _], Some(rows)) if *own == rows => Ok(Some(rows)),
            (shape, rows) => Err(format!(
                "the prototypes have the shape {shape:?}, but the detections have {} rows",
                rows.unwrap_or(1)
            )),
        }
    }

    /// The most bytes of the lists of one row.
    pub fn memory(&self, outputs: &[View<'_>]) -> usize {
        let sheet: usize = outputs[1].shape().iter().skip(2).product();
        // One mask at a time: its numbers and its edges.
        self.detections.memory(&outputs[..1]).saturating_add(sheet.saturating_mul(4 * size_of::<f32>()))
    }

    /// The objects of one row.
    pub fn of_row(
        &self,
        outputs: &[View<'_>],
        row: usize,
        frame: &Frame,
        settled: &Settled,
    ) -> Result<Made<Vec<Object>>, String> {
        let [_, count, height, width] = outputs[1].shape() else {
            return Err(format!("the prototypes have the shape {:?}: expected 4 axes", outputs[1].shape()));
        };
        let sheets = Sheets { values: outputs[1].row(row).values(), width: *width, height: *height };
        let canvas = frame.canvas().ok_or("the width and height of the input are not known")?;
        let scale = [*width as f32 / canvas[0] as f32, *height as f32 / canvas[1] as f32];
        let Made { answer: found, non_finite } =
            self.detections.found(&outputs[..1], row, frame, Thresholds::of(settled))?;
        let (mut objects, mut pixels) = (Vec::with_capacity(found.len()), 0);
        for Found { detection, bounds, coefficients } in found {
            if coefficients.len() != *count {
                return Err(format!("{} coefficients for {count} prototypes", coefficients.len()));
            }
            let cutout = sheets.cutout(&coefficients, bounds, scale);
            let mask = match self.encoding {
                MaskEncoding::Polygons => Mask::Polygons(cutout.polygons(scale, frame)),
                MaskEncoding::Rle => {
                    let [width, height] = frame.size().unwrap_or(canvas);
                    let [left, top, right, bottom] = within(detection.sides, width, height);
                    pixels += (right - left) * (bottom - top);
                    check_pixels(pixels, "set `max` lower, or ask for `polygons`")?;
                    Mask::Rle(cutout.runs([left, top, right, bottom], [width, height], scale, frame))
                }
            };
            objects.push(Object { detection, mask });
        }
        Ok(Made { answer: objects, non_finite })
    }
}

/// The whole pixels of an image of this size that a box touches.
fn within([left, top, right, bottom]: [f32; 4], width: usize, height: usize) -> [usize; 4] {
    let low = |side: f32, most: usize| (side.floor().max(0.0) as usize).min(most);
    let high = |side: f32, most: usize| (side.ceil().max(0.0) as usize).min(most);
    let [left, top] = [low(left, width), low(top, height)];
    [left, top, high(right, width).max(left), high(bottom, height).max(top)]
}

impl Sheets<'_> {
    /// The weighted sum of the prototypes in a box and one pixel around it. `bounds` is in pixels of the input tensor.
    fn cutout(&self, coefficients: &[f32], bounds: [f32; 4], scale: [f32; 2]) -> Cutout {
        let sides = [0, 1, 2, 3].map(|side| bounds[side] * scale[side % 2]);
        let wider = [sides[0] - 1.0, sides[1] - 1.0, sides[2] + 1.0, sides[3] + 1.0];
        let [left, top, right, bottom] = within(wider, self.width, self.height);
        let width = right - left;
        let mut values = vec![0.0; width * (bottom - top)];
        for (sheet, coefficient) in self.values.chunks_exact(self.width * self.height).zip(coefficients) {
            for (row, line) in values.chunks_exact_mut(width.max(1)).enumerate() {
                let numbers = &sheet[(top + row) * self.width + left..][..width];
                line.iter_mut().zip(numbers).for_each(|(value, number)| *value += coefficient * number);
            }
        }
        // A number that is none belongs to no object.
        values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = -1.0);
        Cutout { field: Field { width, values }, first: [left, top], sides }
    }
}

impl Cutout {
    fn polygons(&self, scale: [f32; 2], frame: &Frame) -> Vec<Vec<[f32; 2]>> {
        let mut polygons = Vec::new();
        for outline in self.field.outlines() {
            let moved = outline.iter().map(|[x, y]| [x + self.first[0] as f32, y + self.first[1] as f32]);
            let polygon = clipped(moved.collect(), self.sides);
            if polygon.len() > 2 {
                let place = |[x, y]: [f32; 2]| frame.inside([x / scale[0], y / scale[1]]);
                polygons.push(polygon.into_iter().map(place).collect());
            }
        }
        polygons
    }

    /// The runs of an image of `size`, whose pixels outside of `part` do not belong to the object.
    fn runs(&self, part: [usize; 4], size: [usize; 2], scale: [f32; 2], frame: &Frame) -> RunLengths {
        let ([left, top, right, bottom], [width, height]) = (part, size);
        let mut runs = Runs::new();
        runs.add(false, left * height);
        for x in left..right {
            runs.add(false, top);
            for y in top..bottom {
                let [px, py] = frame.source([x as f32 + 0.5, y as f32 + 0.5]);
                runs.add(self.holds([px * scale[0], py * scale[1]]), 1);
            }
            runs.add(false, height - bottom);
        }
        runs.add(false, (width - right) * height);
        runs.finish(height, width)
    }

    /// Whether a point, in pixels of the prototypes, belongs to the object.
    fn holds(&self, [x, y]: [f32; 2]) -> bool {
        let [left, top, right, bottom] = self.sides;
        if self.field.values.is_empty() || x < left || x > right || y < top || y > bottom {
            return false;
        }
        let width = self.field.width;
        let height = self.field.values.len() / width;
        let along = |place: f32, first: usize, length: usize| {
            let place = (place - 0.5 - first as f32).clamp(0.0, (length - 1) as f32);
            let low = place as usize;
            (low, (low + 1).min(length - 1), place - low as f32)
        };
        let (x1, x2, across) = along(x, self.first[0], width);
        let (y1, y2, down) = along(y, self.first[1], height);
        let at = |x: usize, y: usize| self.field.values[y * width + x];
        let mix = |a: f32, b: f32, part: f32| a + (b - a) * part;
        mix(mix(at(x1, y1), at(x2, y1), across), mix(at(x1, y2), at(x2, y2), across), down) > 0.0
    }
}
