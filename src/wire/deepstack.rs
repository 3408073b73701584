//! The formats of DeepStack, which recorders of cameras and home automation speak: a form with an image in, labelled boxes
//! in whole pixels out.
//!
//! What belongs here: the fields of a form, and the JSON of answers and errors. What does not: which model answers, and
//! tokens (`service`).
//!
//! Source: DeepStack's documentation, "Object Detection", "Face Detection" and "Custom Models".

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::form;
use crate::error::{Code, RequestError, shorten};

/// The most bytes of a field that is a text.
const LONGEST: usize = 4096;

/// The fields of a form that count. Others are ignored, because each client adds its own.
#[derive(Debug, Default, PartialEq)]
pub struct Fields<'b> {
    /// The image file.
    pub image: Option<&'b [u8]>,
    /// The least score of an answer, as text. It is a number from 0 to 1.
    pub min_confidence: Option<&'b str>,
    /// The client's token; `None` when it is empty, as clients without one send it.
    pub api_key: Option<&'b str>,
}

impl<'b> Fields<'b> {
    /// Reads a form.
    ///
    /// Errors: the form is malformed, a field is there twice, or `min_confidence` is no such number.
    pub fn read(form: &'b [u8], boundary: &str) -> Result<Fields<'b>, RequestError> {
        let (mut image, mut min_confidence, mut api_key) = (None, None, None);
        for part in form::parts(form, boundary)? {
            let field = match part.name.as_str() {
                "image" => &mut image,
                "min_confidence" => &mut min_confidence,
                "api_key" => &mut api_key,
                _ => continue,
            };
            if field.replace(part.content).is_some() {
                return Err(RequestError::invalid(format!(
                    "the form has the field `{}` twice: expected it once",
                    part.name
                )));
            }
        }
        let min_confidence = min_confidence.map(|content| text("min_confidence", content)).transpose()?;
        if let Some(given) = min_confidence
            && !given.parse::<f32>().is_ok_and(|number| (0.0..=1.0).contains(&number))
        {
            return Err(RequestError::invalid(format!(
                "min_confidence is `{}`: expected a number from 0 to 1",
                shorten(given)
            )));
        }
        let api_key = api_key.map(|content| text("api_key", content)).transpose()?;
        Ok(Fields { image, min_confidence, api_key: api_key.filter(|key| !key.is_empty()) })
    }
}

fn text<'b>(name: &str, content: &'b [u8]) -> Result<&'b str, RequestError> {
    let text = std::str::from_utf8(content).ok().filter(|text| text.len() <= LONGEST);
    text.map(str::trim).ok_or_else(|| {
        RequestError::invalid(format!("the field `{name}` is no text of at most {LONGEST} bytes in UTF-8"))
    })
}

/// What counts of a detection in a result.
#[derive(Debug, Deserialize)]
struct Found {
    label: Option<String>,
    class_id: u32,
    score: f32,
    #[serde(rename = "box")]
    sides: [f32; 4],
}

#[derive(Debug, Serialize)]
struct Prediction {
    label: String,
    confidence: f32,
    x_min: i64,
    y_min: i64,
    x_max: i64,
    y_max: i64,
}

/// The answer, made of the JSON of one image's detections. Without labels, the label is the number of the class. `took` is
/// how long the client has waited.
pub fn reply(detections: &RawValue, took: Duration) -> Result<String, RequestError> {
    #[derive(Debug, Serialize)]
    struct Reply {
        success: bool,
        predictions: Vec<Prediction>,
        duration: f64,
    }
    let failed = |error: serde_json::Error| RequestError::new(Code::InferenceFailed, error.to_string());
    let found: Vec<Found> = serde_json::from_str(detections.get()).map_err(failed)?;
    let predictions = found.into_iter().map(|Found { label, class_id, score, sides }| {
        let [x_min, y_min, x_max, y_max] = sides.map(|side| side.round() as i64);
        let label = label.unwrap_or_else(|| class_id.to_string());
        Prediction { label, confidence: score, x_min, y_min, x_max, y_max }
    });
    // In seconds, with a tenth of a millisecond.
    let duration = (took.as_secs_f64() * 1e4).round() / 1e4;
    serde_json::to_string(&Reply { success: true, predictions: predictions.collect(), duration })
        .map_err(failed)
}

/// The body of an error: `{"success": false, "error": "..."}`. `body` is that of onnxd's own error.
pub fn error(body: &[u8]) -> Vec<u8> {
    let mut said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).unwrap_or_default();
    let mut made = serde_json::Map::new();
    made.insert("success".into(), false.into());
    made.append(&mut said);
    serde_json::Value::Object(made).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn the_fields_that_count_are_read_and_others_are_ignored() {
        let form = [
            field("api_key", ""),
            field("userid", "me"),
            field("min_confidence", " 0.45 "),
            field("image", "\u{1}"),
            "--b--".into(),
        ];
        let form = form.concat();
        let expected = Fields { image: Some(b"\x01"), min_confidence: Some("0.45"), api_key: None };
        assert_eq!(Fields::read(form.as_bytes(), "b"), Ok(expected));
        let form = format!("{}--b--", field("api_key", "secret"));
        let expected = Fields { api_key: Some("secret"), ..Fields::default() };
        assert_eq!(Fields::read(form.as_bytes(), "b"), Ok(expected));
    }

    #[test]
    fn a_field_that_is_wrong_is_an_error_with_its_name() {
        for (name, value) in [
            ("min_confidence", "1.5"),
            ("min_confidence", "NaN"),
            ("min_confidence", "high"),
            ("min_confidence", ""),
        ] {
            let form = format!("{}--b--", field(name, value));
            let error = Fields::read(form.as_bytes(), "b").unwrap_err().message;
            assert!(error.contains("expected a number from 0 to 1"), "{value}: {error}");
        }
        let twice = format!("{0}{0}--b--", field("image", "x"));
        assert!(Fields::read(twice.as_bytes(), "b").unwrap_err().message.contains("`image` twice"));
        let long = format!("{}--b--", field("api_key", &"x".repeat(LONGEST + 1)));
        assert!(Fields::read(long.as_bytes(), "b").unwrap_err().message.contains("`api_key` is no text"));
    }

    #[test]
    fn predictions_have_whole_pixels_and_errors_say_that_they_are_errors() {
        let row = r#"[{"label":"dog","class_id":1,"score":0.9,"box":[1.4,2.5,-0.2,4.0],"keypoints":[[1,2]]},
                      {"class_id":7,"score":0.25,"box":[0,0,1,1]}]"#;
        let row: Box<RawValue> = serde_json::from_str(row).unwrap();
        assert_eq!(
            reply(&row, Duration::from_micros(12_345)).unwrap(),
            r#"{"success":true,"predictions":[{"label":"dog","confidence":0.9,"x_min":1,"y_min":3,"x_max":0,"y_max":4},{"label":"7","confidence":0.25,"x_min":0,"y_min":0,"x_max":1,"y_max":1}],"duration":0.0123}"#
        );
        let ours: serde_json::Value =
            serde_json::from_slice(&error(br#"{"error":"no","code":"too_large"}"#)).unwrap();
        assert_eq!(ours, serde_json::json!({"success": false, "error": "no", "code": "too_large"}));
    }
}
