//! Images and the size of their tensor: a crop of the middle, sizes that follow the image, and listed sizes. Results are in
//! the pixels of the photograph in each case.

use std::path::PathBuf;

use crate::results::{assert_near, jpeg_with, photo, png_of};
use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

/// The corners of the only region in a reply: left, top, right, bottom.
fn region(reply: &Value) -> [f64; 4] {
    let [region] = reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}")).as_slice() else {
        panic!("not one region: {reply}")
    };
    let corners: [[f64; 2]; 4] = serde_json::from_value(region["polygon"].clone()).unwrap();
    let side = |axis: usize| {
        let sides = corners.map(|corner| corner[axis]);
        (sides.into_iter().fold(f64::MAX, f64::min), sides.into_iter().fold(0.0, f64::max))
    };
    let ((left, right), (top, bottom)) = (side(0), side(1));
    [left, top, right, bottom]
}

/// The model `sizes`, whose map has a quarter of the width and height of its image, of any size.
fn sizes(test: &str, image: &str, more: &str) -> PathBuf {
    let manifest = format!(
        r#"{{"inputs": [{{"name": "image", {image}}}], {more}
            "result": {{"kind": "regions", "unclip_ratio": 0, "min_size": 1}}}}"#
    );
    with_manifest("sizes", test, &manifest)
}

#[test]
fn regions_are_in_the_pixels_of_the_photograph_when_its_middle_is_cropped() {
    let image = r#""shape": [-1, 3, 64, 64],
        "image": {"resize": "shorter", "size": 80, "crop": 64, "scale": 0.00392156862745098}"#;
    let program = Program::serve(&sizes("sizes_crop", image, ""), &["--workers", "1"]);
    let mut client = program.connect("/");
    // A region ends in the middle of its last square of the map, which is 8 pixels of the photograph. 160 pixels become 80,
    // of which 64 are seen: 16 are cut off at the top and bottom, and 176 of 480 at the sides.
    let photo_of = |known| png_of(photo(480, 160, known));
    let reply = ask_json(&mut client, Message::binary(photo_of([224, 40, 280, 88])));
    assert_near(region(&reply), [224, 40, 272, 80], 0.1);
    let reply = ask_json(&mut client, Message::binary(photo_of([0, 0, 100, 160])));
    assert_eq!(reply["results"], json!([[]]), "what is cut off is not seen");
    let reply = ask_json(&mut client, Message::binary(photo_of([0, 0, 480, 160])));
    assert_near(region(&reply), [176, 16, 296, 136], 0.1);
    let turned = jpeg_with(6, photo(480, 160, [224, 40, 280, 88]));
    assert_near(region(&ask_json(&mut client, Message::binary(turned))), [224, 48, 272, 88], 0.1);
}

#[test]
fn regions_are_in_the_pixels_of_the_photograph_when_the_tensor_follows_its_size() {
    let image =
        r#""image": {"resize": "limit", "longest": 160, "multiple": 32, "scale": 0.00392156862745098}"#;
    let shapes = r#""shapes": [{"image": [-1, 3, 160, 96]}, {"image": [-1, 3, 96, 160]}, {"image": [-1, 3, 160, 160]}],"#;
    for (name, more, shape) in
        [("sizes_free", "", json!([1, 1, 24, 40])), ("sizes_listed", shapes, json!([1, 1, 24, 40]))]
    {
        let program = Program::serve(&sizes(name, image, more), &["--workers", "1"]);
        let mut client = program.connect("/?score_threshold=0.5");
        for (size, known) in [
            ((160, 96), [32, 16, 64, 80]),
            ((320, 200), [64, 40, 160, 120]),
            ((100, 150), [20, 30, 60, 120]),
            ((40, 40), [8, 8, 32, 24]),
            ((640, 300), [0, 0, 320, 300]),
        ] {
            let reply = ask_json(&mut client, Message::binary(png_of(photo(size.0, size.1, known))));
            assert_eq!(reply["coordinates"], "image");
            // A region ends in its last square of the map, which is 4 pixels of the tensor, and up to 20 of the photograph.
            let tolerance = 5.0 * f64::from(size.0.max(size.1)).max(160.0) / 160.0;
            assert_near(region(&reply), known, tolerance);
        }
        let path = format!("/v2/models/{name}/infer?results=false");
        let reply =
            program.post(&path, "Content-Type: image/png\r\n", &png_of(photo(320, 192, [0; 4]))).json();
        assert_eq!(reply["outputs"][0]["shape"], shape, "{reply}");
    }
}

#[test]
fn a_tensor_of_an_open_size_is_answered_in_its_own_pixels() {
    let image = r#""image": {"resize": "limit", "longest": 160}"#;
    let program = Program::serve(&sizes("sizes_tensor", image, ""), &["--workers", "1"]);
    let data: Vec<f32> = (0..3 * 32 * 64).map(|at| if at % 64 < 32 { 1.0 } else { 0.0 }).collect();
    let request =
        json!({"inputs": [{"name": "image", "shape": [1, 3, 32, 64], "datatype": "FP32", "data": data}]});
    let reply = ask_json(&mut program.connect("/"), Message::text(request.to_string()));
    assert_eq!(reply["coordinates"], "tensor");
    assert_eq!(region(&reply), [0.0, 0.0, 28.0, 28.0], "it ends in its last square");
}

#[test]
fn images_of_one_request_must_become_equally_large_and_the_next_request_succeeds() {
    let image = r#""image": {"resize": "limit", "longest": 160, "scale": 0.00392156862745098}"#;
    let program = Program::serve(&sizes("sizes_unlike", image, ""), &["--workers", "1"]);
    let mut client = program.connect("/");
    let ask_both = |client: &mut Client, second: (u32, u32)| {
        let files =
            [(64, 32), second].map(|(width, height)| base64(&png_of(photo(width, height, [0, 0, 32, 32]))));
        let input = json!({"name": "image", "shape": [2], "datatype": "BYTES", "data": files});
        ask_json(client, Message::text(json!({"inputs": [input]}).to_string()))
    };
    let reply = ask_both(&mut client, (32, 64));
    assert_eq!(reply["code"], "invalid_request");
    let error = reply["error"].as_str().unwrap();
    assert!(error.contains("image 1: it becomes 32×64, and the first image 64×32"), "{error}");
    assert!(error.contains("in another request"), "{error}");
    let reply = ask_both(&mut client, (64, 32));
    assert_eq!(reply["results"].as_array().map(Vec::len), Some(2), "{reply}");
}

#[test]
fn images_of_one_listed_size_are_answered_together_each_in_its_own_pixels() {
    let image = r#""image": {"resize": "contain", "scale": 0.00392156862745098}"#;
    let more =
        r#""max_batch_size": 4, "shapes": [{"image": [-1, 3, 160, 96]}, {"image": [-1, 3, 96, 160]}],"#;
    let program = Program::serve(&sizes("sizes_batch", image, more), &["--workers", "1"]);
    let mut client = program.connect("/");
    let files = [(320, 192, [64, 40, 160, 120]), (640, 384, [0, 0, 96, 96]), (160, 96, [8, 8, 40, 40])]
        .map(|(width, height, known)| base64(&png_of(photo(width, height, known))));
    let input = json!({"name": "image", "shape": [3], "datatype": "BYTES", "data": files});
    let reply = ask_json(&mut client, Message::text(json!({"inputs": [input]}).to_string()));
    for (row, known) in [[64, 40, 152, 112], [0, 0, 80, 80], [8, 8, 36, 36]].into_iter().enumerate() {
        let one = json!({"results": [reply["results"][row]]});
        assert_near(region(&one), known, 0.1);
    }
}
