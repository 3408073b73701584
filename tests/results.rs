//! Results: a photograph goes in, and boxes in the photograph's own pixels, regions or a line of text come out.

use std::path::PathBuf;

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

/// A dark image with one bright rectangle: left, top, right, bottom.
pub fn photo(width: u32, height: u32, [left, top, right, bottom]: [u32; 4]) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let is_bright = (left..right).contains(&x) && (top..bottom).contains(&y);
        image::Rgb([if is_bright { 255 } else { 0 }; 3])
    })
}

pub fn png_of(image: image::RgbImage) -> Vec<u8> {
    encode(image, image::ImageFormat::Png)
}

/// A JPEG with an EXIF orientation.
pub fn jpeg_with(orientation: u8, image: image::RgbImage) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 100);
    image.write_with_encoder(encoder).unwrap();
    let mut file = file.into_inner();
    // A TIFF header and one entry: tag 0x0112, a 16-bit number.
    let tiff = [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation], &[0; 7]].concat();
    let mut segment = vec![0xff, 0xe1, 0, tiff.len() as u8 + 8];
    segment.extend_from_slice(b"Exif\0\0");
    segment.extend_from_slice(&tiff);
    file.splice(2..2, segment);
    file
}

/// The model `spot`, which finds a bright rectangle, with an image of this kind and a result with these settings.
fn spot(test: &str, image: &str, result: &str) -> PathBuf {
    let manifest = format!(
        r#"{{"max_batch_size": 8, "inputs": [{{"name": "image", "image": {{"scale": 0.00392156862745098{image}}}}}],
            "result": {{"kind": "detections", "decoder": "yolo", "labels": ["spot"]{result}}}}}"#
    );
    with_manifest("spot", test, &manifest)
}

fn sides(detection: &Value) -> [f64; 4] {
    serde_json::from_value(detection["box"].clone()).unwrap_or_else(|_| panic!("no box in {detection}"))
}

pub fn assert_near(ours: [f64; 4], known: [u32; 4], tolerance: f64) {
    let all = ours.iter().zip(known).all(|(ours, known)| (ours - f64::from(known)).abs() <= tolerance);
    assert!(all, "{ours:?} is not {known:?} ± {tolerance}");
}

#[test]
fn a_photograph_is_answered_with_labelled_boxes_in_its_own_pixels_whatever_the_image_settings_do() {
    // The tensor is 96 × 64.
    let settings = [
        ("stretch", r#", "resize": "stretch""#),
        ("contain", r#", "resize": "contain""#),
        ("corner", r#", "resize": "contain", "placement": "top_left", "background": 20"#),
        ("cover", r#", "resize": "cover""#),
        ("opencv", r#", "resize": "contain", "antialias": false"#),
    ];
    for (name, image) in settings {
        let program = Program::serve(&spot(&format!("spot_{name}"), image, ""), &["--workers", "1"]);
        let mut client = program.connect("/");
        for (size, known) in
            [((384, 128), [160, 32, 224, 64]), ((96, 192), [32, 80, 64, 112]), ((96, 64), [10, 20, 40, 50])]
        {
            let reply = ask_json(&mut client, Message::binary(png_of(photo(size.0, size.1, known))));
            assert_eq!(reply["coordinates"], "image", "{reply}");
            let found = &reply["results"][0][0];
            assert_eq!((&found["label"], &found["class_id"]), (&json!("spot"), &json!(0)), "{reply}");
            assert!(found["score"].as_f64().unwrap() > 0.9, "{reply}");
            // One pixel of the tensor is up to four pixels of the photograph.
            assert_near(sides(found), known, 4.0);
            assert_eq!(reply["results"].as_array().unwrap().len(), 1);
            assert!(reply.get("outputs").is_none(), "the output became the result: {reply}");
            assert_eq!(reply["model_name"], json!(format!("spot_{name}")));
        }
    }
}

#[test]
fn boxes_are_in_the_stored_pixels_of_a_turned_photograph_or_upright_when_model_json_says_so() {
    let known = [16, 8, 64, 24];
    let (width, height) = (96, 64);
    let upright = |orientation: u8, [left, top, right, bottom]: [u32; 4]| match orientation {
        1 => [left, top, right, bottom],
        2 => [width - right, top, width - left, bottom],
        3 => [width - right, height - bottom, width - left, height - top],
        4 => [left, height - bottom, right, height - top],
        5 => [top, left, bottom, right],
        6 => [height - bottom, left, height - top, right],
        7 => [height - bottom, width - right, height - top, width - left],
        _ => [top, width - right, bottom, width - left],
    };
    let image = r#", "resize": "contain""#;
    let stored = Program::serve(&spot("spot_stored", image, ""), &["--workers", "1"]);
    let shown =
        Program::serve(&spot("spot_shown", image, r#", "coordinates": "upright""#), &["--workers", "1"]);
    let (mut stored, mut shown) = (stored.connect("/"), shown.connect("/"));
    for orientation in 1..=8 {
        let file = jpeg_with(orientation, photo(width, height, known));
        let reply = ask_json(&mut stored, Message::binary(file.clone()));
        assert_near(sides(&reply["results"][0][0]), known, 2.0);
        let reply = ask_json(&mut shown, Message::binary(file));
        assert_eq!(reply["coordinates"], "upright");
        assert_near(sides(&reply["results"][0][0]), upright(orientation, known), 2.0);
    }
}

#[test]
fn several_images_have_an_answer_each_and_an_image_with_nothing_has_an_empty_list() {
    let program = Program::serve(&spot("spot_rows", "", ""), &["--workers", "1"]);
    let files = [
        png_of(photo(96, 64, [8, 8, 40, 24])),
        png_of(photo(96, 64, [0, 0, 0, 0])),
        png_of(photo(1, 1, [0, 0, 1, 1])),
    ];
    let encoded: Vec<String> = files.iter().map(|file| base64(file)).collect();
    let input = json!({"name": "image", "shape": [3], "datatype": "BYTES", "data": encoded});
    let request = json!({"id": "a", "inputs": [input]}).to_string();
    let mut client = program.connect("/");
    let over_websocket = ask_json(&mut client, Message::text(request.clone()));
    let path = "/v2/models/spot_rows/infer";
    let over_http = program.post(path, "Content-Type: application/json\r\n", request.as_bytes()).json();
    assert_eq!(over_websocket, over_http);
    assert_eq!(over_http["id"], "a");
    let rows = over_http["results"].as_array().unwrap();
    assert_near(sides(&rows[0][0]), [8, 8, 40, 24], 0.1);
    assert_eq!(rows[1], json!([]));
    assert_near(sides(&rows[2][0]), [0, 0, 1, 1], 0.02);
    let instances = json!({"instances": encoded}).to_string();
    let predictions = ask_json(&mut client, Message::text(instances));
    assert_eq!(
        predictions["predictions"], over_http["results"],
        "TensorFlow Serving's form has the same rows"
    );
    assert_eq!(predictions["coordinates"], "image");
    let raw = program.post(path, "Content-Type: image/png\r\n", &files[0]).json();
    assert_eq!(raw["results"][0], rows[0]);
}

#[test]
fn a_ready_tensor_has_boxes_in_its_own_pixels() {
    let program = Program::serve(&spot("spot_tensor", "", ""), &["--workers", "1"]);
    let mut pixels = vec![0f32; 3 * 64 * 96];
    for channel in 0..3 {
        for y in 4..20 {
            pixels[(channel * 64 + y) * 96..][30..50].fill(1.0);
        }
    }
    let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let request = json!({"inputs": [{"name": "image", "shape": [1, 3, 64, 96], "datatype": "FP32",
                                     "parameters": {"binary_data_size": bytes.len()}}]});
    let reply =
        ask_json(&mut program.connect("/?framing=v2"), Message::binary(v2(&request.to_string(), &bytes)));
    assert_eq!(reply["coordinates"], "tensor", "{reply}");
    assert_near(sides(&reply["results"][0][0]), [30, 4, 50, 20], 0.01);
}

#[test]
fn a_request_gets_the_tensors_when_it_names_outputs_or_wants_no_results() {
    let program = Program::serve(&spot("spot_tensors", "", ""), &["--workers", "1"]);
    let file = png_of(photo(96, 64, [8, 8, 40, 24]));
    let input = json!({"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64(&file)]});
    let mut client = program.connect("/");
    let mut send = |request: Value| ask_json(&mut client, Message::text(request.to_string()));
    for request in [
        json!({"inputs": [input], "outputs": [{"name": "output0"}]}),
        json!({"inputs": [input], "parameters": {"results": false}}),
    ] {
        let reply = send(request);
        assert_eq!(reply["outputs"][0]["shape"], json!([1, 5, 1]), "{reply}");
        assert!(reply.get("results").is_none() && reply.get("coordinates").is_none(), "{reply}");
    }
    let both =
        send(json!({"inputs": [input], "outputs": [{"name": "output0"}], "parameters": {"results": true}}));
    assert_eq!(both["outputs"][0]["name"], "output0", "{both}");
    assert_eq!(both["results"][0].as_array().unwrap().len(), 1, "{both}");
    let reply = ask_json(&mut program.connect("/?results=false"), Message::binary(file.clone()));
    assert_eq!(reply["outputs"][0]["name"], "output0");
    let reply =
        program.post("/v2/models/spot_tensors/infer?results=false", "Content-Type: image/png\r\n", &file);
    assert_eq!(reply.json()["outputs"][0]["name"], "output0");
    // A binary answer has tensors only when it has no results.
    let mut client = program.connect("/?binary_data_output=true&results=false");
    assert!(ask(&mut client, Message::binary(file)).is_binary());
}

#[test]
fn thresholds_come_from_the_request_or_the_query_and_stay_within_model_json() {
    let bounds = r#", "score_threshold": {"default": 0.5, "least": 0.3}"#;
    let program = Program::serve(&spot("spot_bounds", "", bounds), &["--workers", "1"]);
    let mut dim = photo(96, 64, [8, 8, 40, 24]);
    dim.pixels_mut().filter(|pixel| pixel.0[0] > 0).for_each(|pixel| pixel.0 = [160; 3]);
    let file = png_of(dim);
    let input = json!({"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64(&file)]});
    let ask_with = |query: &str, parameters: Value| {
        let request = json!({"inputs": [input], "parameters": parameters}).to_string();
        ask_json(&mut program.connect(&format!("/{query}")), Message::text(request))
    };
    let count = |reply: Value| reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}")).len();
    // The score is 160 ÷ 255 = 0.63.
    assert_eq!(count(ask_with("", json!({}))), 1);
    assert_eq!(count(ask_with("", json!({"score_threshold": 0.7}))), 0);
    assert_eq!(count(ask_with("?score_threshold=0.7", json!({}))), 0);
    assert_eq!(count(ask_with("?score_threshold=0.7", json!({"score_threshold": 0.6}))), 1);
    let reply = program.post(
        "/v2/models/spot_bounds/infer?score_threshold=0.9",
        "Content-Type: image/png\r\n",
        &file,
    );
    assert_eq!(reply.json()["results"], json!([[]]));
    for (query, parameters, part) in [
        (
            "",
            json!({"score_threshold": 0.1}),
            "score_threshold is `0.1`: this model takes a number from 0.3 to 1",
        ),
        ("?iou_threshold=2", json!({}), "iou_threshold is `2`: this model takes a number from 0 to 1"),
        ("", json!({"max": 0}), "max is `0`: this model takes a whole number from 1 to 300"),
        ("", json!({"max": {"a": [1]}}), "max is `{\"a\":[1]}`"),
        ("?steps=true", json!({}), "has no `steps`: it has `score_threshold`, `iou_threshold`, `max`"),
    ] {
        let reply = ask_with(query, parameters);
        assert_eq!(reply["code"], "invalid_request", "{reply}");
        assert!(reply["error"].as_str().unwrap().contains(part), "{reply}");
    }
    let (status, body) = program.refused_upgrade("/?results=maybe");
    assert_eq!(status, 400, "{body}");
}

#[test]
fn a_model_without_a_result_ignores_the_settings_of_results_but_not_a_wish_for_them() {
    let program = Program::digits();
    let (digit, pixels) = held_out(0);
    let file = png(&pixels);
    let reply = ask_json(&mut program.connect("/?score_threshold=7&max=x"), Message::binary(file.clone()));
    assert_eq!(best(&reply), digit);
    let reply = ask_json(&mut program.connect("/?results=true"), Message::binary(file));
    assert_eq!(reply["code"], "invalid_request");
    assert!(reply["error"].as_str().unwrap().contains("this model has no result"), "{reply}");
}

#[test]
fn scores_that_are_no_numbers_are_left_out_and_counted() {
    let manifest =
        r#"{"result": {"kind": "detections", "decoder": "yolo", "output": "y", "labels": ["a", "b"]}}"#;
    let program = Program::serve(&with_manifest("boxes", "boxes_nan", manifest), &["--workers", "1"]);
    // [1, 6, 3]: the boxes of three anchors, then the scores of `a` and of `b`.
    let numbers: [[f32; 3]; 6] = [
        [10.0, 50.0, f32::NAN],
        [10.0, 50.0, 90.0],
        [8.0, 8.0, 8.0],
        [6.0, 6.0, 6.0],
        [0.9, f32::NAN, 0.9],
        [f32::NAN, f32::NAN, 0.0],
    ];
    let mut bytes: Vec<u8> = numbers.as_flattened().iter().flat_map(|number| number.to_le_bytes()).collect();
    let tensor = |name: &str, shape: [usize; 3]| {
        let size = shape.iter().product::<usize>() * 4;
        json!({"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}})
    };
    bytes.resize(bytes.len() + 4 * (2 + 4), 0);
    let inputs = [tensor("y_in", [1, 6, 3]), tensor("logits_in", [1, 1, 2]), tensor("boxes_in", [1, 1, 4])];
    let request = json!({"inputs": inputs}).to_string();
    let reply = ask_json(&mut program.connect("/?framing=v2"), Message::binary(v2(&request, &bytes)));
    assert_eq!(
        reply["results"],
        json!([[{"label": "a", "class_id": 0, "score": 0.9, "box": [6.0, 7.0, 14.0, 13.0]}]])
    );
    assert_eq!(reply["parameters"]["non_finite"], 4, "three scores and a box: {reply}");
    let outputs: Vec<&str> =
        reply["outputs"].as_array().unwrap().iter().map(|output| output["name"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["logits", "boxes"], "outputs that the result does not read stay");
}

#[test]
fn a_shape_that_a_decoder_cannot_read_is_a_clear_error_of_its_request_and_the_next_is_served() {
    let detr = r#"{"result": {"kind": "detections", "decoder": "detr", "unit": "pixels",
                   "outputs": {"logits": "logits", "boxes": "boxes"}}}"#;
    let program = Program::serve(&with_manifest("boxes", "boxes_detr", detr), &["--workers", "1"]);
    let mut client = program.connect("/");
    let tensor = |name: &str, shape: [usize; 3], number: f32| {
        let data = vec![number; shape.iter().product()];
        json!({"name": name, "shape": shape, "datatype": "FP32", "data": data})
    };
    let request = |queries: usize| {
        let inputs = [
            tensor("y_in", [1, 6, 1], 0.0),
            tensor("logits_in", [1, 2, 2], 3.0),
            tensor("boxes_in", [1, queries, 4], 8.0),
        ];
        Message::text(json!({"inputs": inputs}).to_string())
    };
    let reply = ask_json(&mut client, request(3));
    assert_eq!(reply["code"], "inference_failed", "{reply}");
    assert!(reply["error"].as_str().unwrap().contains("expected [N, queries, 4]"), "{reply}");
    let reply = ask_json(&mut client, request(2));
    let found = reply["results"][0].as_array().unwrap();
    assert_eq!((found.len(), sides(&found[0])), (4, [4.0, 4.0, 12.0, 12.0]), "{reply}");
}

#[test]
fn a_wrong_result_in_model_json_is_refused_when_the_model_is_loaded() {
    for (at, (result, part)) in [
        (r#"{"kind": "detection"}"#, "did you mean `detections`?"),
        (
            r#"{"kind": "detections", "decoder": "yolo", "score_treshold": 1}"#,
            "did you mean `score_threshold`?",
        ),
        (
            r#"{"kind": "detections", "decoder": "yolo", "score_threshold": 2}"#,
            "result.score_threshold is 2: expected 0 to 1",
        ),
        (r#"{"kind": "detections", "decoder": "yolo", "max": 0}"#, "result.max is 0: expected 1 to 3000"),
        (
            r#"{"kind": "detections", "decoder": "yolo", "columns": ["x1"]}"#,
            "columns has no meaning for the decoder `yolo`",
        ),
        (r#"{"kind": "detections", "decoder": "detr"}"#, "outputs lacks `logits`"),
        (
            r#"{"kind": "detections", "decoder": "yolo", "labels": ["a", "b"]}"#,
            "expected [N, numbers, anchors]",
        ),
        (r#"{"kind": "detections", "decoder": "yolo", "labels": "none.txt"}"#, "none.txt"),
        (r#"{"kind": "detections", "decoder": "yolo", "output": "out"}"#, "it has `output0`"),
        (r#"{"kind": "masks", "decoder": "yolo", "output": "output0"}"#, "`output` and `prototypes`"),
        (
            r#"{"kind": "masks", "decoder": "semantic", "max": 3}"#,
            "result.max has no meaning for the decoder `semantic`",
        ),
        (r#"{"kind": "text", "characters": ["a"]}"#, "has 1 classes, but there are 1 characters"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder =
            with_manifest("spot", &format!("spot_wrong_{at}"), &format!(r#"{{"result": {result}}}"#));
        let output = onnxd().arg("check").arg(&folder).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{result}: {said}");
    }
}

#[test]
fn metadata_and_check_say_kind_labels_and_thresholds() {
    let bounds = r#", "score_threshold": {"default": 0.5, "least": 0.25}"#;
    let folder = spot("spot_said", "", bounds);
    std::fs::write(folder.join("labels.txt"), "a bright spot\n").unwrap();
    let manifest = std::fs::read_to_string(folder.join("model.json")).unwrap();
    std::fs::write(folder.join("model.json"), manifest.replace(r#"["spot"]"#, r#""labels.txt""#)).unwrap();
    let program = Program::serve(&folder, &["--workers", "1"]);
    let result = program.get("/v2/models/spot_said").json()["result"].clone();
    let expected = json!({
        "kind": "detections",
        "labels": ["a bright spot"],
        "parameters": {
            "score_threshold": {"default": 0.5, "least": 0.25, "most": 1},
            "iou_threshold": {"default": 0.45, "least": 0, "most": 1},
            "max": {"default": 300, "least": 1, "most": 300},
        },
    });
    assert_eq!(result, expected);
    let output = onnxd().arg("check").arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = "result   detections from output0; label a bright spot; score_threshold 0.5 (0.25 to 1)";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_detector_of_ultralytics_without_model_json_answers_a_photograph_with_boxes() {
    let file = test_model("ultralytics").join("model.onnx");
    let output = onnxd().arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("recognised by the file's metadata (Ultralytics: task, names, imgsz)"), "{said}");
    let program = Program::serve(&file, &["--workers", "1"]);
    let known = [160, 32, 224, 64];
    let reply = ask_json(&mut program.connect("/"), Message::binary(png_of(photo(384, 128, known))));
    assert_eq!(reply["results"][0][0]["label"], "spot", "{reply}");
    assert_near(sides(&reply["results"][0][0]), known, 4.0);
    // With a model.json, that alone counts.
    let folder = with_manifest(
        "ultralytics",
        "ultralytics_plain",
        r#"{"inputs": [{"name": "image", "shape": [-1, 3, 64, 96]}]}"#,
    );
    let program = Program::serve(&folder, &["--workers", "1"]);
    assert!(program.get("/v2/models/ultralytics_plain").json().get("result").is_none());
}

#[test]
fn an_object_has_a_mask_in_the_pixels_of_a_turned_photograph() {
    let file = test_model("segments").join("model.onnx");
    let program = Program::serve(&file, &["--workers", "1"]);
    assert_eq!(
        program.get("/v2/models/segments").json()["result"]["kind"],
        "masks",
        "by the file's metadata"
    );
    let known = [16, 8, 64, 24];
    for orientation in [1, 6, 7] {
        let photo = jpeg_with(orientation, photo(192, 128, known));
        let reply = ask_json(&mut program.connect("/"), Message::binary(photo.clone()));
        let object = &reply["results"][0][0];
        assert_eq!(object["label"], "spot", "{reply}");
        let polygons: Vec<Vec<[f64; 2]>> = serde_json::from_value(object["polygons"].clone()).unwrap();
        let points = polygons.iter().flatten();
        let around = points.fold([f64::MAX, f64::MAX, 0.0, 0.0], |[left, top, right, bottom], [x, y]| {
            [x.min(left), y.min(top), x.max(right), y.max(bottom)]
        });
        assert_eq!(polygons.len(), 1, "{reply}");
        assert_near(around, known, 4.0);
        assert!(reply.get("outputs").is_none(), "{reply}");
    }
    let manifest = r#"{"inputs": [{"name": "image", "image": {"scale": 0.00392156862745098}}],
        "result": {"kind": "masks", "decoder": "yolo", "output": "output0", "prototypes": "output1", "encoding": "rle"}}"#;
    let program = Program::serve(&with_manifest("segments", "segments_rle", manifest), &["--workers", "1"]);
    // A column of 2 pixels, of which the lower one is bright: COCO's `counts` are 1 and 1, then 2 dark ones.
    let reply = ask_json(&mut program.connect("/"), Message::binary(png_of(photo(2, 2, [0, 1, 1, 2]))));
    assert_eq!(reply["results"][0][0]["rle"], json!({"size": [2, 2], "counts": "112"}), "{reply}");
}

#[test]
fn a_segmentation_is_answered_with_a_png_of_the_size_of_the_photograph() {
    let manifest = r#"{"inputs": [{"name": "image", "image": {"color": "gray", "scale": 0.00392156862745098, "filter": "nearest"}}],
                       "result": {"kind": "masks", "decoder": "semantic", "labels": ["ground", "water"]}}"#;
    let program = Program::serve(&with_manifest("map", "map_classes", manifest), &["--workers", "1"]);
    let reply = ask_json(&mut program.connect("/"), Message::binary(png_of(photo(80, 48, [8, 6, 32, 18]))));
    let found = &reply["results"][0];
    let classes = json!([
        {"label": "ground", "class_id": 0, "pixels": 80 * 48 - 24 * 12},
        {"label": "water", "class_id": 1, "pixels": 24 * 12},
    ]);
    assert_eq!((&found["classes"], &found["size"]), (&classes, &json!([48, 80])), "{reply}");
    use ::base64::Engine as _;
    let png = ::base64::engine::general_purpose::STANDARD.decode(found["png"].as_str().unwrap()).unwrap();
    let levels = image::load_from_memory(&png).unwrap().into_luma8();
    let water = levels.enumerate_pixels().filter(|(_, _, level)| level.0[0] == 1);
    assert!(water.clone().all(|(x, y, _)| (8..32).contains(&x) && (6..18).contains(&y)));
    assert_eq!(water.count(), 24 * 12);
}

#[test]
fn check_suggests_a_model_json_for_a_file_that_looks_like_a_kind_of_result_and_serves_nothing_by_shapes() {
    let folder = folder("map_suggested");
    let file = folder.join("text.onnx");
    std::fs::copy(test_model("map").join("model.onnx"), &file).unwrap();
    // The image of a suggestion has three colours, so a model of gray images has none.
    let output = onnxd().arg("check").arg(&file).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("looks"), "{output:?}");
    let file = folder.join("image.onnx");
    std::fs::copy(test_model("image3").join("model.onnx"), &file).unwrap();
    let program = Program::serve(&file, &["--workers", "1"]);
    assert!(program.get("/v2/models/image").json().get("result").is_none(), "shapes alone decide nothing");
    let check = |flags: &[&str]| onnxd().arg("check").arg(&file).args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&check(&[]).stdout).into_owned();
    assert!(said.contains("a map for each class") && said.contains(r#""decoder": "semantic""#), "{said}");
    assert!(!folder.join("model.json").exists());
    assert!(check(&["--write"]).status.success());
    let written: Value = serde_json::from_slice(&std::fs::read(folder.join("model.json")).unwrap()).unwrap();
    assert_eq!((&written["file"], &written["result"]["kind"]), (&json!("image.onnx"), &json!("masks")));
    let again = check(&["--write"]);
    assert!(!again.status.success(), "a model.json is never written over");
    let program = Program::serve(&folder, &["--workers", "1"]);
    let reply = ask_json(&mut program.connect("/"), Message::binary(png_of(photo(9, 6, [0, 0, 9, 6]))));
    assert_eq!(reply["results"][0]["size"], json!([6, 9]), "{reply}");
}

#[test]
fn a_map_of_text_is_answered_with_regions_in_the_pixels_of_the_photograph() {
    let manifest = r#"{"inputs": [{"name": "image", "image": {"color": "gray", "scale": 0.00392156862745098}}],
                       "result": {"kind": "regions"}}"#;
    let program = Program::serve(&with_manifest("map", "map_regions", manifest), &["--workers", "1"]);
    // The map is 40 × 24, the photograph twice as large. Pixels 4 to 15 and 3 to 8 of the map are bright.
    let reply = ask_json(&mut program.connect("/"), Message::binary(png_of(photo(80, 48, [8, 6, 32, 18]))));
    // 11 × 5 pixels from centre to centre. The sides move outwards by 11 × 5 × 1.5 ÷ 32 pixels.
    let outwards = 11.0 * 5.0 * 1.5 / 32.0;
    let known =
        [2.0 * (4.0 - outwards), 2.0 * (3.0 - outwards), 2.0 * (15.0 + outwards), 2.0 * (8.0 + outwards)];
    let polygon: [[f64; 2]; 4] = serde_json::from_value(reply["results"][0][0]["polygon"].clone()).unwrap();
    let expected = [[known[0], known[1]], [known[2], known[1]], [known[2], known[3]], [known[0], known[3]]];
    let near = polygon.as_flattened().iter().zip(expected.as_flattened()).all(|(a, b)| (a - b).abs() < 0.01);
    assert!(near, "{reply} has not {expected:?}");
    // The pixels at the border of the map's rectangle are mixed with dark ones.
    assert!(reply["results"][0][0]["score"].as_f64().unwrap() > 0.9, "{reply}");
    assert_eq!(reply["coordinates"], "image");
    let reply = ask_json(
        &mut program.connect("/?score_threshold=1&threshold=1"),
        Message::binary(png_of(photo(9, 9, [0, 0, 9, 9]))),
    );
    assert_eq!(reply["results"], json!([[]]), "no pixel is above 1");
}

#[test]
fn scores_of_characters_are_answered_with_a_line_of_text() {
    let file = test_model("letters").join("model.onnx");
    let program = Program::serve(&file, &["--workers", "1"]);
    // The metadata of the file has `a` and `é`; the first class is the blank, the last a space.
    let step = |class: usize, score: f32| {
        let mut scores = [0.0; 4];
        scores[class] = score;
        scores
    };
    let steps =
        [step(1, 0.9), step(1, 0.8), step(0, 1.0), step(1, 0.7), step(3, 0.5), step(2, 0.9), step(2, 0.9)];
    let input = json!({"name": "x", "shape": [1, 7, 4], "datatype": "FP32", "data": steps.as_flattened()});
    let mut client = program.connect("/");
    let reply = ask_json(&mut client, Message::text(json!({"inputs": [input]}).to_string()));
    let line = &reply["results"][0];
    assert_eq!(line["text"], "aa é", "{reply}");
    assert!(
        (line["score"].as_f64().unwrap() - 0.75).abs() < 1e-6,
        "the mean of 0.9, 0.7, 0.5 and 0.9: {reply}"
    );
    assert!(line.get("steps").is_none() && reply.get("coordinates").is_none(), "{reply}");
    let request = json!({"inputs": [input], "parameters": {"steps": true}}).to_string();
    let steps = ask_json(&mut client, Message::text(request))["results"][0]["steps"].clone();
    assert_eq!((&steps[3]["character"], &steps[3]["at"]), (&json!("é"), &json!(5)), "{steps}");
    let reply = ask_json(
        &mut program.connect("/?steps=perhaps"),
        Message::text(json!({"inputs": [input]}).to_string()),
    );
    assert!(
        reply["error"].as_str().unwrap().contains("steps is `perhaps`: expected true or false"),
        "{reply}"
    );
}
