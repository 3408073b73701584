//! Clients of DeepStack work unchanged: its paths, its forms, its answers and its errors.

use std::path::{Path, PathBuf};

use crate::support::*;
use serde_json::{Value, json};

const OBJECTS: &str = "/v1/vision/detection";
const FACES: &str = "/v1/vision/face";

/// A PNG of 384 × 128 pixels with one bright rectangle.
fn photo() -> Vec<u8> {
    let image = image::RgbImage::from_fn(384, 128, |x, y| {
        let is_bright = (160..224).contains(&x) && (32..64).contains(&y);
        image::Rgb([if is_bright { 255 } else { 0 }; 3])
    });
    encode(image, image::ImageFormat::Png)
}

fn manifest(label: &str, more: &str) -> String {
    format!(
        r#"{{"inputs": [{{"name": "image", "shape": [1, 3, 64, 96], "image": {{"scale": 0.00392156862745098}}}}],
            "result": {{"kind": "detections", "decoder": "yolo", "labels": ["{label}"]{more}}}}}"#
    )
}

/// Several models in one folder, each the model `spot` with its own label.
fn models(test: &str, all: &[(&str, &str)]) -> PathBuf {
    let folder = folder(test);
    for (name, label) in all {
        add(&folder, name, &manifest(label, ""));
    }
    folder
}

fn add(folder: &Path, name: &str, manifest: &str) {
    std::fs::create_dir(folder.join(name)).unwrap();
    std::fs::copy(test_model("spot").join("model.onnx"), folder.join(name).join("model.onnx")).unwrap();
    std::fs::write(folder.join(name).join("model.json"), manifest).unwrap();
}

/// A form as Python's `requests` makes it, with text fields and maybe a file.
fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in fields {
        let head = format!("--b1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        form.extend_from_slice(head.as_bytes());
    }
    if let Some((name, content)) = file {
        let head =
            format!("--b1\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--b1--\r\n");
    form
}

fn post(program: &Program, path: &str, form: &[u8]) -> HttpResponse {
    program.post(path, "Content-Type: multipart/form-data; boundary=b1\r\n", form)
}

/// The labels of an answer.
fn labels(response: &HttpResponse) -> Value {
    let reply = response.json();
    assert_eq!((response.status, &reply["success"]), (200, &json!(true)), "{reply}");
    reply["predictions"].as_array().unwrap().iter().map(|prediction| prediction["label"].clone()).collect()
}

fn failure(response: &HttpResponse) -> (u16, String) {
    let reply = response.json();
    assert_eq!(reply["success"], json!(false), "{reply}");
    (response.status, reply["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_photograph_in_a_form_is_answered_with_whole_pixels_in_deepstacks_form() {
    let folder = with_manifest("spot", "deepstack_one", &manifest("dog", ""));
    let program = Program::serve(&folder, &["--workers", "1"]);
    let file = photo();
    // As Frigate's detector asks, and as the package deepstack-python does.
    for fields in [&[("api_key", "")][..], &[("api_key", ""), ("min_confidence", "0.45"), ("userid", "me")]] {
        let response = post(&program, OBJECTS, &form(fields, Some(("image", &file))));
        let reply = response.json();
        assert_eq!((response.status, &reply["success"]), (200, &json!(true)), "{reply}");
        assert!(reply["duration"].as_f64().unwrap() >= 0.0);
        let [found] = reply["predictions"].as_array().unwrap().as_slice() else { panic!("{reply}") };
        assert_eq!(found["label"], "dog");
        assert!(found["confidence"].as_f64().unwrap() > 0.9);
        for (side, known) in [("x_min", 160), ("y_min", 32), ("x_max", 224), ("y_max", 64)] {
            let side = found[side].as_i64().unwrap_or_else(|| panic!("{side} is no whole number: {reply}"));
            assert!((side - known).abs() <= 4, "{side} is not {known}: {reply}");
        }
    }
    let dark = encode(image::RgbImage::new(20, 20), image::ImageFormat::Png);
    assert_eq!(labels(&post(&program, OBJECTS, &form(&[], Some(("image", &dark))))), json!([]));
    let gray = encode(image::RgbImage::from_pixel(96, 64, image::Rgb([200; 3])), image::ImageFormat::Png);
    for (least, expected) in [("0.7", json!(["dog"])), ("0.9", json!([]))] {
        let form = form(&[("min_confidence", least)], Some(("image", &gray)));
        assert_eq!(
            labels(&post(&program, OBJECTS, &form)),
            expected,
            "the score is 0.78, min_confidence {least}"
        );
    }
}

#[test]
fn each_path_is_answered_by_the_model_that_fits_it() {
    let folder = models("deepstack_two", &[("spots", "spot"), ("faces", "face")]);
    let form = form(&[], Some(("image", &photo())));
    let program = Program::serve(&folder, &["--workers", "1"]);
    for (path, label) in [
        (OBJECTS, "spot"),
        (FACES, "face"),
        ("/v1/vision/custom/spots", "spot"),
        ("/v1/vision/custom/faces", "face"),
        ("/v1/vision/face/", "face"),
    ] {
        assert_eq!(labels(&post(&program, path, &form)), json!([label]), "{path}");
    }
    add(&folder, "others", &manifest("other", ""));
    let program = Program::serve(&folder, &["--workers", "1"]);
    let (status, error) = failure(&post(&program, OBJECTS, &form));
    assert_eq!(status, 404);
    assert!(error.contains("`others`, `spots`; ask for one at /v1/vision/custom/<name>"), "{error}");
    assert_eq!(labels(&post(&program, FACES, &form)), json!(["face"]));
    let program = Program::serve(&folder, &["--workers", "1", "--default-model", "others"]);
    assert_eq!(labels(&post(&program, OBJECTS, &form)), json!(["other"]));
    let only = models("deepstack_faces", &[("faces", "Face")]);
    let program = Program::serve(&only, &["--workers", "1"]);
    assert_eq!(labels(&post(&program, OBJECTS, &form)), json!(["Face"]), "there is no other model");
}

#[test]
fn a_request_that_cannot_be_answered_gets_an_error_in_deepstacks_form_and_the_next_one_an_answer() {
    let folder = models("deepstack_wrong", &[("spots", "spot")]);
    let digits = folder.join("digits");
    std::fs::create_dir(&digits).unwrap();
    for file in ["model.onnx", "model.json", "labels.txt"] {
        std::fs::copy(root().join("model/digits").join(file), digits.join(file)).unwrap();
    }
    let program = Program::serve(&folder, &["--workers", "1", "--max-message-bytes", "100000"]);
    let file = photo();
    let good = form(&[], Some(("image", &file)));
    let wrong = |fields: &[(&str, &str)], file| form(fields, file);
    for (path, form, status, part) in [
        (FACES, good.clone(), 404, "no model finds faces"),
        ("/v1/vision/custom/nobody", good.clone(), 404, "unknown model `nobody`"),
        ("/v1/vision/custom/digits", good.clone(), 400, "does not answer images with detections"),
        (OBJECTS, wrong(&[("image2", "x")], None), 400, "in the field `image`"),
        (OBJECTS, wrong(&[], Some(("file", &file))), 400, "in the field `image`"),
        (OBJECTS, wrong(&[], Some(("image", b"GIF89a"))), 400, "neither a JPEG nor a PNG"),
        (OBJECTS, wrong(&[], Some(("image", &file[..90]))), 400, "image 0"),
        (OBJECTS, wrong(&[("min_confidence", "45")], Some(("image", &file))), 400, "a number from 0 to 1"),
        (OBJECTS, good[..200].to_vec(), 400, "was cut"),
        (OBJECTS, vec![b'x'; 100_001], 413, "100001"),
    ] {
        let (got, error) = failure(&post(&program, path, &form));
        assert_eq!(got, status, "{path}: {error}");
        assert!(error.contains(part), "{path}: {error}");
        assert_eq!(labels(&post(&program, OBJECTS, &good)), json!(["spot"]));
    }
    let (status, error) = failure(&program.post(OBJECTS, "Content-Type: image/png\r\n", &file));
    assert_eq!(status, 400);
    assert!(error.contains("the body is no form: expected a form (multipart/form-data)"), "{error}");
    let compressed = "Content-Type: multipart/form-data; boundary=b1\r\nContent-Encoding: gzip\r\n";
    assert_eq!(failure(&program.post(OBJECTS, compressed, &good)).0, 415);
    let response = program.get(OBJECTS);
    assert_eq!((response.status, response.header("allow")), (405, Some("post")));
    assert_eq!(post(&program, "/v1/vision/face/register", &good).status, 404);
}

#[test]
fn a_threshold_outside_the_bounds_of_the_model_is_an_error() {
    let bounds = r#", "score_threshold": {"default": 0.3, "least": 0.2, "most": 0.9}"#;
    let folder = with_manifest("spot", "deepstack_bounds", &manifest("dog", bounds));
    let program = Program::serve(&folder, &["--workers", "1"]);
    let file = photo();
    let ask =
        |least: &str| post(&program, OBJECTS, &form(&[("min_confidence", least)], Some(("image", &file))));
    let (status, error) = failure(&ask("0.1"));
    assert_eq!(status, 400);
    assert!(error.contains("takes a number from 0.2 to 0.9"), "{error}");
    assert_eq!(labels(&ask("0.2")), json!(["dog"]));
}

#[test]
fn with_tokens_the_field_api_key_admits_as_a_bearer_token_does() {
    let file = folder("deepstack_tokens").join("tokens.txt");
    std::fs::write(&file, "first-token\n").unwrap();
    let folder = with_manifest("spot", "deepstack_key", &manifest("dog", ""));
    let program = Program::serve(&folder, &["--workers", "1", "--tokens", file.to_str().unwrap()]);
    let image = photo();
    let with = |key: &str| form(&[("api_key", key)], Some(("image", &image)));
    for (path, key) in [
        (OBJECTS, ""),
        (OBJECTS, "first-toke"),
        ("/v1/vision/custom/nobody", "other"),
        (FACES, "# first-token"),
    ] {
        let response = post(&program, path, &with(key));
        let (status, error) = failure(&response);
        assert_eq!((status, response.header("www-authenticate")), (401, Some("bearer")), "{path} {key}");
        assert!(error.contains("token"), "{error}");
    }
    assert_eq!(labels(&post(&program, OBJECTS, &with("first-token"))), json!(["dog"]));
    let bearer = |token: &str| {
        let headers =
            format!("Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b1\r\n");
        program.post(OBJECTS, &headers, &with(""))
    };
    assert_eq!(labels(&bearer("first-token")), json!(["dog"]));
    assert_eq!(failure(&bearer("other")).0, 401);
    // The key counts on DeepStack's paths only.
    assert_eq!(post(&program, "/v2/models/deepstack_key/infer", &with("first-token")).status, 401);
}
