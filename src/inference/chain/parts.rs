//! Parts of an image for a step, and the answer that is made of the results for all parts.

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::{Answer, Crop};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Elements, Input, Tensor};
use crate::processing::image::photo::{Photo, Turn};
use crate::processing::results::MadeResult;

/// The result of a step: an entry for each of its runs, or for each row.
#[derive(Debug, Default)]
pub struct StepResult {
    pub rows: Vec<Box<RawValue>>,
    pub coordinates: Option<&'static str>,
    pub non_finite: usize,
}

/// What is read of a place: the corners of a region or of a turned box, or an upright box.
#[derive(Deserialize)]
struct Place {
    polygon: Option<[[f32; 2]; 4]>,
    corners: Option<[[f32; 2]; 4]>,
    #[serde(rename = "box")]
    upright: Option<[f32; 4]>,
}

impl Place {
    /// Left upper, right upper, right lower, left lower corner.
    fn corners(&self) -> Option<[[f32; 2]; 4]> {
        let of_box = |[left, top, right, bottom]: [f32; 4]| {
            [[left, top], [right, top], [right, bottom], [left, bottom]]
        };
        self.polygon.or(self.corners).or(self.upright.map(of_box))
    }
}

/// Cuts the parts out of an image: one file for each place. A place that cannot be cut out has no bytes, so that its run
/// fails, and no other one.
///
/// Errors: the image came as a tensor or is not one file, or cannot be read.
pub fn cut(
    crop: &Crop,
    tensors: &[Option<Input>],
    results: &[Option<StepResult>],
    max_pixels: u64,
    share: &mut Share,
) -> Result<Vec<Input>, RequestError> {
    let file = match &tensors[crop.image] {
        Some(Input::Files(files)) if files.len() == 1 => &files[0],
        Some(Input::Files(files)) => {
            return Err(RequestError::invalid(format!(
                "the request has {} images: parts are cut out of one image at a time, so send them one by one",
                files.len()
            )));
        }
        _ => {
            return Err(RequestError::invalid(
                "parts are cut out of a JPEG or PNG file, but the image came as a tensor: send the file",
            ));
        }
    };
    let failed = |message: String| RequestError::new(Code::InferenceFailed, message);
    let found =
        results[crop.regions].as_ref().ok_or_else(|| failed("there is no result with places".into()))?;
    let places = places(found)?;
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let photo = Photo::open(file, max_pixels, share)?;
    let is_stored = found.coordinates == Some("image");
    let around = turned(crop, tensors, places.len());
    let mut parts = Vec::with_capacity(places.len());
    for (place, around) in places.iter().zip(around) {
        let place: Place =
            serde_json::from_str(place.get()).map_err(|error| failed(format!("a place: {error}")))?;
        let corners = place.corners().ok_or_else(|| failed("the places have no corners".into()))?;
        let part = photo.part(corners, is_stored, Turn { if_tall: crop.if_tall, around });
        parts.push(Input::Files(vec![match part {
            Ok((file, taken)) => {
                share.absorb(taken);
                file
            }
            Err(error) if error.code == Code::InvalidRequest => Vec::new(),
            Err(error) => return Err(error),
        }]));
    }
    Ok(parts)
}

/// The places of the only row.
fn places(found: &StepResult) -> Result<Vec<Box<RawValue>>, RequestError> {
    let rows: Vec<Vec<Box<RawValue>>> =
        found.rows.iter().map(|row| serde_json::from_str(row.get())).collect::<Result<_, _>>().map_err(
            |error| {
                RequestError::new(Code::InferenceFailed, format!("the result is no list of places: {error}"))
            },
        )?;
    Ok(rows.into_iter().flatten().collect())
}

/// Which parts are upside down.
fn turned(crop: &Crop, tensors: &[Option<Input>], count: usize) -> Vec<bool> {
    let Some((at, class, threshold)) = crop.turn else { return vec![false; count] };
    let scores = match tensors[at].as_ref() {
        Some(Input::Tensor(tensor)) => scores(tensor, count),
        _ => None,
    };
    let is_turned = |row: usize| {
        let row: &[f32] =
            scores.as_ref().map_or(&[], |(values, width)| &values[row * width..(row + 1) * width]);
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.get(class).is_some_and(|score| *score >= threshold && *score >= best)
    };
    (0..count).map(is_turned).collect()
}

/// The numbers of a tensor with one row for each part, and how many are in a row.
fn scores(tensor: &Tensor, rows: usize) -> Option<(&[f32], usize)> {
    match tensor.elements() {
        Elements::Fp32(values) if tensor.shape().first() == Some(&rows) => {
            Some((values, values.len() / rows))
        }
        _ => None,
    }
}

/// The answer of a chain whose steps have results. When the last step ran for each place, each place gets the fields of its
/// result; a field that the place has already gets the prefix of the text kind: `score` becomes `text_score`.
pub fn answer(answer: Answer, results: &mut [Option<StepResult>]) -> Result<MadeResult, RequestError> {
    let failed = |message: String| RequestError::new(Code::InferenceFailed, message);
    let missing = || failed("a step has made no result".into());
    let last = results[answer.result].take().ok_or_else(missing)?;
    let StepResult { rows, coordinates, non_finite } = last;
    let Some(places_at) = answer.places else { return Ok(MadeResult { rows, coordinates, non_finite }) };
    let found = results[places_at].take().ok_or_else(missing)?;
    let joined: Vec<Map<String, Value>> = places(&found)?
        .iter()
        .zip(&rows)
        .map(|(place, row)| {
            let mut place: Map<String, Value> = serde_json::from_str(place.get())?;
            let row: Value = serde_json::from_str(row.get())?;
            match row {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        let name = if place.contains_key(&name) { format!("text_{name}") } else { name };
                        place.insert(name, value);
                    }
                }
                // A list, for example of detections in each part.
                other => _ = place.insert("results".into(), other),
            }
            Ok(place)
        })
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| failed(error.to_string()))?;
    let row = to_raw_value(&joined).map_err(|error| failed(error.to_string()))?;
    let (coordinates, non_finite) = (found.coordinates, found.non_finite + non_finite);
    Ok(MadeResult { rows: vec![row], coordinates, non_finite })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    fn result(row: &str) -> Option<StepResult> {
        let rows = vec![RawValue::from_string(row.into()).unwrap()];
        Some(StepResult { rows, coordinates: Some("image"), non_finite: 1 })
    }

    fn crop(turn: Option<(usize, usize, f32)>) -> Crop {
        Crop { image: 0, regions: 0, if_tall: true, turn }
    }

    fn png() -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 30, 20);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&[9; 30 * 20 * 3]).unwrap();
        file
    }

    #[test]
    fn a_place_without_area_has_no_file_and_the_others_have_theirs() {
        let places = result(
            r#"[{"polygon": [[1,1],[9,1],[9,5],[1,5]]}, {"polygon": [[3,3],[3,3],[3,3],[3,3]]},
                                {"box": [2.0, 2.0, 8.0, 6.0]}]"#,
        );
        let budget = Budget::new(1 << 22);
        let mut share = Share::none(&budget);
        let tensors = [Some(Input::Files(vec![png()]))];
        let parts = cut(&crop(None), &tensors, &[places], 1 << 20, &mut share).unwrap();
        let lengths: Vec<usize> = parts.iter().map(Input::memory).collect();
        let Input::Files(second) = &parts[1] else { panic!() };
        assert!(second[0].is_empty() && lengths[0] > 100 && lengths[2] > 100, "{lengths:?}");
        let several = [Some(Input::Files(vec![png(), png()]))];
        let error = cut(&crop(None), &several, &[result("[]")], 1 << 20, &mut share).unwrap_err();
        assert!(error.message.contains("the request has 2 images"), "{error}");
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_is_upside_down_when_its_class_is_the_best_and_good_enough() {
        let scores = Elements::Fp32(vec![0.05, 0.95, 0.2, 0.8, 0.97, 0.03, f32::NAN, 0.99]);
        let tensors = [None, Some(Input::Tensor(Tensor::new(vec![4, 2], scores).unwrap()))];
        assert_eq!(turned(&crop(Some((1, 1, 0.9))), &tensors, 4), [true, false, false, true]);
        assert_eq!(turned(&crop(Some((1, 7, 0.9))), &tensors, 4), [false; 4], "there is no such class");
        assert_eq!(turned(&crop(None), &tensors, 2), [false; 2]);
    }

    #[test]
    fn each_place_gets_the_fields_of_its_run() {
        let mut results = vec![result(r#"[{"score": 0.5, "label": "x"}]"#), None];
        let row = RawValue::from_string(r#"{"text": "a", "score": 0.25}"#.into()).unwrap();
        results[1] = Some(StepResult { rows: vec![row], ..StepResult::default() });
        let made = answer(Answer { result: 1, places: Some(0) }, &mut results).unwrap();
        assert_eq!(made.rows[0].get(), r#"[{"label":"x","score":0.5,"text":"a","text_score":0.25}]"#);
        assert_eq!((made.coordinates, made.non_finite), (Some("image"), 1));
    }
}
