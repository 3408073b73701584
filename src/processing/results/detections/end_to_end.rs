//! Finished boxes: one row for each, with its score and class. The model, or a part that was exported with it, has
//! chosen them.

use super::Head;
use super::candidates::Candidates;
use super::shape::{BoxRule, Shape};
use crate::model::manifest::{BoxForm, Column, KeypointsManifest};
use crate::processing::results::view::{View, show};

use Column::{Angle, Batch, Class, Cx, Cy, H, Score, W, X1, X2, Y1, Y2};

/// The columns when model.json names none.
const CORNERS: [Column; 6] = [X1, Y1, X2, Y2, Score, Class];
const TURNED: [Column; 7] = [Cx, Cy, W, H, Score, Class, Angle];
const WITH_BATCH: [Column; 7] = [Batch, X1, Y1, X2, Y2, Score, Class];

/// The meaning of the columns.
#[derive(Debug, Clone, PartialEq)]
pub struct EndToEndRule {
    /// The columns that model.json names; empty when it names none.
    pub columns: Vec<Column>,
    pub is_rotated: bool,
    pub keypoints: Option<KeypointsManifest>,
    /// The factors for x and y.
    pub scale: [f32; 2],
}

impl EndToEndRule {
    /// Checks a shape in which some lengths may be unknown.
    pub fn check(&self, shape: &[Option<usize>]) -> Result<(), String> {
        let (before, Some(width)) = (shape.len().saturating_sub(1), shape.last()) else {
            return Err(self.wrong(shape));
        };
        let Some(width) = width else {
            return if matches!(before, 1 | 2) { Ok(()) } else { Err(self.wrong(shape)) };
        };
        let columns = self.columns_of(*width).ok_or_else(|| self.wrong(shape))?;
        match (before, columns.contains(&Batch)) {
            (2, false) | (1, _) => Ok(()),
            // One list of boxes for all rows.
            (2, true) if shape[0] == Some(1) => Ok(()),
            _ => Err(self.wrong(shape)),
        }
    }

    /// Whether one list has the boxes of all rows of a request, with a column that says which row is meant.
    pub fn is_for_all_rows(&self, shape: &[usize]) -> bool {
        shape.last().and_then(|width| self.columns_of(*width)).is_some_and(|columns| columns.contains(&Batch))
    }

    fn points(&self) -> usize {
        self.keypoints.map_or(0, |keypoints| keypoints.count * keypoints.dimensions)
    }

    /// The columns of a row of this width; `None` when there are none for it.
    fn columns_of(&self, width: usize) -> Option<&[Column]> {
        let width = width.checked_sub(self.points())?;
        match (self.columns.as_slice(), self.is_rotated, width) {
            ([], false, 6) => Some(&CORNERS),
            ([], false, 7) => Some(&WITH_BATCH),
            ([], true, 7) => Some(&TURNED),
            (named, _, width) if named.len() == width => Some(named),
            _ => None,
        }
    }

    fn wrong(&self, shape: &[Option<usize>]) -> String {
        let width = match (self.columns.len(), self.is_rotated) {
            (0, false) => {
                "6 (x1, y1, x2, y2, score, class), or 7 with the row of the request before them".into()
            }
            (0, true) => "7 (cx, cy, w, h, score, class, angle)".into(),
            (named, _) => format!("{named} ({:?})", self.columns).to_lowercase(),
        };
        let points = match self.points() {
            0 => String::new(),
            points => format!(", and {points} for keypoints"),
        };
        format!(
            "the shape is {}: expected [N, boxes, columns], or [boxes, columns] for one image or with a column `batch`; \
             columns: {width}{points}; `columns` in model.json gives another order",
            show(shape)
        )
    }

    /// Reads the boxes of one row of the request.
    pub fn bind<'a>(&'a self, output: View<'a>, row: usize) -> Result<EndToEnd<'a>, String> {
        self.check(&output.known_shape())?;
        let width = output.shape().last().copied().unwrap_or_default();
        let columns = self.columns_of(width).ok_or_else(|| self.wrong(&output.known_shape()))?;
        let has_batch = columns.contains(&Batch);
        let values =
            if output.shape().len() == 3 && !has_batch { output.row(row).values() } else { output.values() };
        Ok(EndToEnd { rule: self, columns, width, row, values })
    }
}

/// The boxes of one row of the request.
#[derive(Debug)]
pub struct EndToEnd<'a> {
    rule: &'a EndToEndRule,
    columns: &'a [Column],
    width: usize,
    row: usize,
    values: &'a [f32],
}

impl EndToEnd<'_> {
    fn number(&self, place: u32, column: Column) -> Option<f32> {
        let at = self.columns.iter().position(|other| *other == column)?;
        self.values.get(place as usize * self.width + at).copied()
    }
}

impl Head for EndToEnd<'_> {
    fn find(&self, candidates: &mut Candidates) {
        let boxes = self.values.len().checked_div(self.width).unwrap_or(0);
        for place in 0..u32::try_from(boxes).unwrap_or(u32::MAX) {
            // Exports fill the rest of the list with boxes of the row -1, or of the class -1.
            let is_ours = self.number(place, Batch).is_none_or(|row| row == self.row as f32);
            let class = self.number(place, Class).unwrap_or(0.0);
            if !is_ours || class < 0.0 {
                continue;
            }
            match self.number(place, Score) {
                Some(score) if class.is_finite() => candidates.offer(score, class as u32, place),
                _ => candidates.non_finite += 1,
            }
        }
    }

    fn shape(&self, place: u32) -> Shape {
        let numbers = |columns: [Column; 4]| columns.map(|column| self.number(place, column).unwrap_or(0.0));
        let scale = self.rule.scale;
        if self.rule.is_rotated {
            let [x, y, width, height] = numbers([Cx, Cy, W, H]);
            let angle = self.number(place, Angle).unwrap_or(0.0);
            let center = [x * scale[0], y * scale[1]];
            return Shape::Turned { center, size: [width * scale[0], height * scale[1]], angle };
        }
        let (form, columns) = match self.columns.contains(&Cx) {
            true => (BoxForm::Cxcywh, [Cx, Cy, W, H]),
            false => (BoxForm::Xyxy, [X1, Y1, X2, Y2]),
        };
        Shape::Upright(BoxRule { form, scale }.sides(numbers(columns)))
    }

    fn keypoints(&self, place: u32) -> Vec<Vec<f32>> {
        let Some(keypoints) = self.rule.keypoints else { return Vec::new() };
        let first = place as usize * self.width + self.columns.len();
        let numbers = self.values.get(first..first + self.rule.points()).unwrap_or_default();
        let point = |point: &[f32]| {
            let mut point = point.to_vec();
            point.iter_mut().zip(self.rule.scale).for_each(|(number, scale)| *number *= scale);
            point
        };
        numbers.chunks_exact(keypoints.dimensions).map(point).collect()
    }
}
