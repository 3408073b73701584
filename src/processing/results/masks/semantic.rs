//! Semantic segmentation: the class of each pixel, as a PNG whose gray levels are the numbers of the classes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::check_pixels;
use crate::model::manifest::MasksManifest;
use crate::processing::results::coordinates::Frame;
use crate::processing::results::settings::Wish;
use crate::processing::results::view::{View, show};
use crate::processing::results::{Declared, Made, Sources};

/// Classes that a gray level can stand for.
const MOST_CLASSES: usize = 256;

/// The classes of the pixels of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Segmentation {
    /// Height and width of the PNG.
    pub size: [usize; 2],
    /// The classes that occur, in the order of their numbers.
    pub classes: Vec<Class>,
    /// A PNG in base64: the gray level of a pixel is the number of its class.
    pub png: String,
}

/// A class that occurs in an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub class_id: usize,
    /// The number of its pixels.
    pub pixels: usize,
}

/// Reads an output of scores for each class and pixel, or of classes.
#[derive(Debug)]
pub struct Semantic {
    labels: Vec<String>,
    wish: Wish,
}

impl Semantic {
    pub fn new(
        spec: &MasksManifest,
        outputs: &[Declared],
        labels: Vec<String>,
    ) -> Result<(Semantic, Vec<usize>), String> {
        let mut sources = Sources::new(outputs);
        let output = sources.one(spec.output.as_deref())?;
        let made = Semantic { labels, wish: Wish::new() };
        sources.checked(output, |shape| made.check(shape))?;
        Ok((made, sources.into_places()))
    }

    fn check(&self, shape: &[Option<usize>]) -> Result<(), String> {
        let labels = self.labels.len();
        let classes = match shape {
            [_, classes, _, _] => *classes,
            [_, _, _] => Some(1),
            _ => None,
        };
        match classes {
            _ if !matches!(shape.len(), 3 | 4) => {}
            // The output has the classes themselves.
            None | Some(1) => return Ok(()),
            Some(classes) if classes <= MOST_CLASSES && (labels == 0 || labels == classes) => return Ok(()),
            Some(_) => {}
        }
        let count = if labels == 0 { format!("at most {MOST_CLASSES}") } else { labels.to_string() };
        Err(format!(
            "the shape is {}: expected [N, classes, height, width] with {count} classes, or [N, height, width] or [N, 1, \
             height, width] with the class of each pixel",
            show(shape)
        ))
    }

    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The number of rows of the output.
    pub fn rows(&self, output: View<'_>) -> Result<usize, String> {
        self.check(&output.known_shape())?;
        Ok(output.shape()[0])
    }

    /// The most bytes of the lists of one row: the best score and class of each place, the image, and the PNG twice.
    pub fn memory(outputs: &[View<'_>], pixels: usize) -> usize {
        let map: usize = outputs[0].shape().iter().rev().take(2).product();
        map.saturating_mul(5).saturating_add(pixels.max(map).saturating_mul(4))
    }

    /// The classes of one row.
    pub fn of_row(&self, output: View<'_>, row: usize, frame: &Frame) -> Result<Made<Segmentation>, String> {
        let [.., height, width] = *output.shape() else { return Err("the output is no map".into()) };
        let (map, non_finite) = classes_of(output.row(row).values(), width * height)?;
        let [across, down] = frame.size().or(frame.canvas()).unwrap_or([width, height]);
        check_pixels(across.saturating_mul(down), "send a smaller image")?;
        let [full_width, full_height] = frame.canvas().unwrap_or([width, height]);
        let scale = [width as f32 / full_width as f32, height as f32 / full_height as f32];
        let mut image = Vec::with_capacity(across * down);
        let mut counts = [0; MOST_CLASSES];
        for y in 0..down {
            for x in 0..across {
                let [px, py] = frame.source([x as f32 + 0.5, y as f32 + 0.5]);
                let column = ((px * scale[0]).max(0.0) as usize).min(width - 1);
                let line = ((py * scale[1]).max(0.0) as usize).min(height - 1);
                let class = map[line * width + column];
                counts[usize::from(class)] += 1;
                image.push(class);
            }
        }
        let classes = counts.iter().enumerate().filter(|(_, pixels)| **pixels > 0);
        let class = |(class_id, pixels): (usize, &usize)| Class {
            label: self.labels.get(class_id).cloned(),
            class_id,
            pixels: *pixels,
        };
        let answer = Segmentation {
            size: [down, across],
            classes: classes.map(class).collect(),
            png: STANDARD.encode(png(across, down, &image)?),
        };
        Ok(Made { answer, non_finite })
    }
}

/// The class of each place of a map of `pixels` places, and how many scores are no numbers.
fn classes_of(values: &[f32], pixels: usize) -> Result<(Vec<u8>, usize), String> {
    if pixels == 0 || values.is_empty() {
        return Err("the output has no pixels".into());
    }
    let non_finite = values.iter().filter(|value| value.is_nan()).count();
    let sheets = values.len() / pixels;
    if sheets == 1 {
        let wrong = |value: &&f32| !(0.0..MOST_CLASSES as f32).contains(*value);
        if let Some(wrong) = values.iter().find(wrong) {
            return Err(format!("a pixel has the class {wrong}: expected 0 to {}", MOST_CLASSES - 1));
        }
        return Ok((values.iter().map(|value| *value as u8).collect(), non_finite));
    }
    if sheets > MOST_CLASSES {
        return Err(format!("the output has {sheets} classes: expected at most {MOST_CLASSES}"));
    }
    let (mut best, mut classes) = (vec![f32::NEG_INFINITY; pixels], vec![0u8; pixels]);
    for (class, sheet) in values.chunks_exact(pixels).enumerate() {
        for ((score, best), chosen) in sheet.iter().zip(&mut best).zip(&mut classes) {
            let is_better = *score > *best;
            *best = if is_better { *score } else { *best };
            *chosen = if is_better { class as u8 } else { *chosen };
        }
    }
    Ok((classes, non_finite))
}

/// A PNG of gray levels.
fn png(width: usize, height: usize, levels: &[u8]) -> Result<Vec<u8>, String> {
    let side = |length: usize| u32::try_from(length).map_err(|_| "the image is too large".to_owned());
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(width)?, side(height)?);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(levels)?;
        writer.finish()
    });
    written.map_err(|error| error.to_string())?;
    Ok(file)
}
