//! Chooses the decoder that model.json names, and connects its parts with the outputs.

use super::Head;
use super::anchor_free::{self, AnchorFreeRule, StrideRule};
use super::detr::DetrRule;
use super::end_to_end::EndToEndRule;
use super::shape::{BoxRule, canvas_is_unknown};
use super::ssd::{self, SsdRule};
use super::yolo::{Grid, YoloRule};
use crate::model::manifest::{
    BoxForm, BoxUnit, DetectionDecoder, DetectionsManifest, ScoreActivation, Suppression,
};
use crate::processing::results::view::View;
use crate::processing::results::{Declared, Sources};

/// A decoder and what it knows about its outputs. The numbers in it are places in the decoder's list of outputs.
#[derive(Debug)]
pub enum Rule {
    Yolo(YoloRule),
    EndToEnd(EndToEndRule),
    Detr(DetrRule),
    Ssd(SsdRule, ssd::Parts<usize>),
    AnchorFree(AnchorFreeRule, Vec<anchor_free::Parts<usize>>),
}

impl Rule {
    /// Makes the rule, and the places in `outputs` of the outputs that it reads.
    pub fn new(
        spec: &DetectionsManifest,
        outputs: &[Declared],
        classes: Option<usize>,
        canvas: Option<[usize; 2]>,
    ) -> Result<(Rule, Vec<usize>), String> {
        let mut sources = Sources::new(outputs);
        let rule = match spec.decoder {
            DetectionDecoder::Yolo | DetectionDecoder::YoloObjectness | DetectionDecoder::Yolox => {
                let rule = yolo(spec, classes, canvas)?;
                let output = sources.one(spec.output.as_deref())?;
                sources.checked(output, |shape| rule.check(shape))?;
                Rule::Yolo(rule)
            }
            DetectionDecoder::EndToEnd => {
                let unit = spec.unit.unwrap_or(BoxUnit::Pixels);
                let scale = BoxRule::new(BoxForm::Xyxy, unit, canvas)?.scale;
                let (columns, is_rotated) = (spec.columns.clone(), spec.rotated);
                let rule = EndToEndRule { columns, is_rotated, keypoints: spec.keypoints, scale };
                let output = sources.one(spec.output.as_deref())?;
                sources.checked(output, |shape| rule.check(shape))?;
                Rule::EndToEnd(rule)
            }
            DetectionDecoder::Detr => {
                let boxes = box_rule(spec, BoxForm::Cxcywh, BoxUnit::Normalized, canvas)?;
                let activation = spec.activation.unwrap_or(ScoreActivation::Sigmoid);
                let rule = DetrRule { boxes, activation, classes };
                let [logits, boxes] = ["logits", "boxes"].map(|part| sources.named(&spec.outputs[part]));
                rule.check(sources.shape(logits?), sources.shape(boxes?))?;
                Rule::Detr(rule)
            }
            DetectionDecoder::Ssd => {
                let rule =
                    SsdRule { boxes: box_rule(spec, BoxForm::Yxyx, BoxUnit::Normalized, canvas)?, classes };
                let mut possible =
                    |part: &str| spec.outputs.get(part).map(|name| sources.named(name)).transpose();
                let parts = ssd::Parts {
                    boxes: possible("boxes")?.unwrap_or_default(),
                    scores: possible("scores")?.unwrap_or_default(),
                    classes: possible("classes")?,
                    count: possible("count")?,
                };
                rule.check(ssd::Parts {
                    boxes: sources.shape(parts.boxes),
                    scores: sources.shape(parts.scores),
                    classes: parts.classes.map(|part| sources.shape(part)),
                    count: parts.count.map(|part| sources.shape(part)),
                })?;
                Rule::Ssd(rule, parts)
            }
            DetectionDecoder::AnchorFreeHeads => anchor_free(spec, &mut sources, canvas)?,
        };
        Ok((rule, sources.into_places()))
    }

    /// The suppression when model.json names none: none for heads that give each object once.
    pub fn usual_suppression(&self) -> Suppression {
        match self {
            Rule::Yolo(_) | Rule::AnchorFree(..) => Suppression::PerClass,
            Rule::EndToEnd(_) | Rule::Detr(_) => Suppression::None,
            // Without an output of classes, these are the raw scores of a head.
            Rule::Ssd(_, parts) if parts.classes.is_none() => Suppression::PerClass,
            Rule::Ssd(..) => Suppression::None,
        }
    }

    /// The number of rows of the outputs; `None` when they have no axis of rows.
    pub fn rows(&self, outputs: &[View<'_>]) -> Result<Option<usize>, String> {
        let (mut rows, mut without) = (None, false);
        for (at, output) in outputs.iter().enumerate() {
            let shape = output.shape();
            let own = match self {
                Rule::EndToEnd(rule) if rule.is_for_all_rows(shape) => return Ok(None),
                Rule::Ssd(_, parts) if parts.count == Some(at) => continue,
                Rule::Ssd(_, parts) if outputs[parts.boxes].shape().len() < 3 => None,
                Rule::Ssd(..) => shape.first(),
                _ if shape.len() < 3 => None,
                _ => shape.first(),
            };
            match (rows, own) {
                (_, None) => without = true,
                (None, Some(own)) => rows = Some(*own),
                (Some(rows), Some(own)) if rows == *own => {}
                (Some(rows), Some(own)) => {
                    return Err(format!("the outputs have {rows} and {own} rows: expected the same number"));
                }
            }
        }
        Ok(if without && rows.is_none() { Some(1) } else { rows })
    }

    /// The most candidates of one row.
    pub fn places(&self, outputs: &[View<'_>]) -> usize {
        let first = outputs.first().map_or(&[][..], View::shape);
        match self {
            // Either axis can be that of the anchors.
            Rule::Yolo(_) => first.iter().skip(1).copied().max().unwrap_or(0),
            Rule::EndToEnd(_) => outputs.first().map_or(0, |boxes| boxes.values().len() / 6),
            Rule::Detr(_) => first.iter().skip(1).product(),
            Rule::Ssd(_, parts) => outputs.get(parts.boxes).map_or(0, |boxes| boxes.values().len() / 4),
            Rule::AnchorFree(_, parts) => parts
                .iter()
                .map(|parts| outputs.get(parts.scores).map_or(0, |scores| scores.values().len()))
                .sum(),
        }
    }

    /// Reads one row of the outputs.
    pub fn head<'a>(&'a self, outputs: &[View<'a>], row: usize) -> Result<Box<dyn Head + 'a>, String> {
        Ok(match self {
            Rule::Yolo(rule) => Box::new(rule.bind(outputs[0], row)?),
            Rule::EndToEnd(rule) => Box::new(rule.bind(outputs[0], row)?),
            Rule::Detr(rule) => Box::new(rule.bind(outputs[0], outputs[1], row)?),
            Rule::Ssd(rule, parts) => {
                let ssd::Parts { boxes, scores, classes, count } = *parts;
                let view = |part: usize| outputs[part];
                let (boxes, scores) = (view(boxes), view(scores));
                let parts = ssd::Parts { boxes, scores, classes: classes.map(view), count: count.map(view) };
                Box::new(rule.bind(parts, row)?)
            }
            Rule::AnchorFree(rule, parts) => {
                let parts: Vec<_> = parts.iter().map(|parts| parts.map(|part| outputs[part])).collect();
                Box::new(rule.bind(&parts, row)?)
            }
        })
    }
}

fn box_rule(
    spec: &DetectionsManifest,
    form: BoxForm,
    unit: BoxUnit,
    canvas: Option<[usize; 2]>,
) -> Result<BoxRule, String> {
    BoxRule::new(spec.box_form.unwrap_or(form), spec.unit.unwrap_or(unit), canvas)
}

fn yolo(
    spec: &DetectionsManifest,
    classes: Option<usize>,
    canvas: Option<[usize; 2]>,
) -> Result<YoloRule, String> {
    let grids = match (spec.decoder, canvas) {
        (DetectionDecoder::Yolox, Some(canvas)) => {
            let strides = if spec.strides.is_empty() { &[8, 16, 32][..] } else { &spec.strides };
            strides.iter().map(|stride| grid(*stride, canvas)).collect::<Result<_, String>>()?
        }
        (DetectionDecoder::Yolox, None) => return Err(canvas_is_unknown("boxes are in cells of grids")),
        _ => Vec::new(),
    };
    let has_objectness = spec.decoder != DetectionDecoder::Yolo;
    Ok(YoloRule {
        boxes: box_rule(spec, BoxForm::Cxcywh, BoxUnit::Pixels, canvas)?,
        order: spec.order,
        has_objectness,
        classes,
        activation: spec.activation.unwrap_or(ScoreActivation::None),
        keypoints: spec.keypoints,
        is_rotated: spec.rotated,
        mask_coefficients: spec.mask_coefficients,
        grids,
    })
}

fn grid(stride: usize, [width, height]: [usize; 2]) -> Result<Grid, String> {
    let (columns, rows) = (width / stride, height / stride);
    if columns == 0 || rows == 0 {
        return Err(format!("the stride {stride} is larger than the input, which is {width} × {height}"));
    }
    Ok(Grid { columns, cells: columns * rows, stride: stride as f32 })
}

fn anchor_free(
    spec: &DetectionsManifest,
    sources: &mut Sources<'_>,
    canvas: Option<[usize; 2]>,
) -> Result<Rule, String> {
    let canvas = canvas.ok_or_else(|| canvas_is_unknown("boxes are in cells of grids"))?;
    let (mut strides, mut parts) = (Vec::new(), Vec::new());
    for head in &spec.heads {
        let Grid { columns, cells, .. } = grid(head.stride, canvas)?;
        strides.push(StrideRule { stride: head.stride, columns, rows: cells / columns });
        parts.push(anchor_free::Parts {
            scores: sources.named(&head.scores)?,
            objectness: head.objectness.as_ref().map(|name| sources.named(name)).transpose()?,
            boxes: sources.named(&head.boxes)?,
            keypoints: head.keypoints.as_ref().map(|name| sources.named(name)).transpose()?,
        });
    }
    let form = spec.form.ok_or("form is not given: expected `scrfd` or `yunet`")?;
    let activation = spec.activation.unwrap_or(ScoreActivation::None);
    let rule = AnchorFreeRule { form, activation, strides };
    let shapes: Vec<_> = parts.iter().map(|parts| parts.map(|part| sources.shape(part))).collect();
    rule.check(&shapes)?;
    Ok(Rule::AnchorFree(rule, parts))
}
