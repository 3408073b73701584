//! The default model answers a digit in every form that the protocol has.

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

#[test]
fn a_digit_is_recognised_from_raw_binary_from_base64_and_from_instances() {
    let program = Program::digits();
    let mut client = program.connect("/");
    for index in 0..10 {
        let (label, pixels) = held_out(index);
        let file = png(&pixels);
        assert_eq!(best(&ask_json(&mut client, Message::binary(file.clone()))), label);
        let request = json!({"id": "a", "inputs": [
            {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64(&file)]}]});
        let reply = ask_json(&mut client, Message::text(request.to_string()));
        assert_eq!((best(&reply), &reply["id"]), (label, &json!("a")));
        let request =
            json!({"instances": [base64(&file), {"b64": base64(&file)}, {"image": {"b64": base64(&file)}}]});
        let reply = ask_json(&mut client, Message::text(request.to_string()));
        for row in 0..3 {
            let class = reply["predictions"][row][0].as_str().unwrap();
            assert!(class.ends_with(&format!(":{label}:{label}")), "{reply}");
        }
    }
}

#[test]
fn the_tensor_itself_is_taken_as_well() {
    let program = Program::digits();
    let mut client = program.connect("/?framing=v2");
    let (label, pixels) = held_out(7);
    let scaled: Vec<f32> = pixels.iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
    let flat =
        json!({"inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": scaled}]});
    assert_eq!(best(&ask_json(&mut client, Message::text(flat.to_string()))), label);
    let rows: Vec<&[f32]> = scaled.chunks(28).collect();
    let nested = json!({"instances": [[rows]]});
    let reply = ask_json(&mut client, Message::text(nested.to_string()));
    assert!(reply["predictions"][0][0].as_str().unwrap().contains(&format!(":{label}:")), "{reply}");
    let bytes: Vec<u8> = scaled.iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = r#"{"inputs":[{"name":"image","shape":[1,1,28,28],"datatype":"FP32","parameters":{"binary_data_size":3136}}]}"#;
    assert_eq!(best(&ask_json(&mut client, Message::binary(v2(json, &bytes)))), label);
}

#[test]
fn a_drawing_of_any_size_dark_on_light_or_light_on_dark_is_read_the_same() {
    let program = Program::digits();
    let mut client = program.connect("/");
    let mut right = 0;
    for index in 0..20 {
        let (label, pixels) = held_out(index);
        let small = image::GrayImage::from_raw(28, 28, pixels).unwrap();
        let large = image::imageops::resize(&small, 280, 280, image::imageops::FilterType::Triangle);
        let wide = image::GrayImage::from_fn(500, 280, |x, y| match x.checked_sub(110) {
            Some(x) if x < 280 => *large.get_pixel(x, y),
            _ => image::Luma([0]),
        });
        let mut dark_on_light = wide.clone();
        image::imageops::invert(&mut dark_on_light);
        let answers = [
            encode(wide, image::ImageFormat::Png),
            encode(dark_on_light.clone(), image::ImageFormat::Png),
            encode(dark_on_light, image::ImageFormat::Jpeg),
        ]
        .map(|file| best(&ask_json(&mut client, Message::binary(file))));
        right += answers.iter().filter(|answer| **answer == label).count();
    }
    assert!(right >= 57, "{right} of 60 are right");
}

#[test]
fn a_thousand_pipelined_requests_come_back_in_order_with_their_ids() {
    let program = Program::digits();
    let mut client = program.connect("/");
    let files: Vec<String> = (0..10).map(|index| base64(&png(&held_out(index).1))).collect();
    let mut reader = tungstenite::WebSocket::from_raw_socket(
        client.get_ref().try_clone().unwrap(),
        tungstenite::protocol::Role::Client,
        None,
    );
    let sender = std::thread::spawn(move || {
        for index in 0..1000 {
            let request = json!({"id": index.to_string(), "inputs": [
                {"name": "image", "shape": [1], "datatype": "BYTES", "data": [files[index % 10]]}]});
            client.send(Message::text(request.to_string())).unwrap();
        }
    });
    for index in 0..1000 {
        let reply = json(&answer(&mut reader));
        assert_eq!(reply["id"], index.to_string());
        assert_eq!(usize::from(best(&reply)), index % 10);
    }
    sender.join().unwrap();
}

#[test]
fn accuracy_through_the_server_is_the_accuracy_that_training_reported() {
    let report: Value =
        serde_json::from_slice(&std::fs::read(root().join("model/digits/report.json")).unwrap()).unwrap();
    let program = Program::digits();
    let mut client = program.connect("/");
    let right = (0..1000)
        .filter(|index| {
            let (label, pixels) = held_out(*index);
            best(&ask_json(&mut client, Message::binary(png(&pixels)))) == label
        })
        .count();
    assert_eq!(right, report["correct"]);
    assert!(right >= 985);
}

#[test]
fn outputs_equal_those_of_onnxruntime() {
    let program = Program::digits();
    let mut client = program.connect("/?framing=v2&classification=0");
    assert_eq!(check_cases(&mut client, &test_model("digits/cases"), 1e-4), 22);
}

#[test]
fn classification_is_the_models_default_and_a_requests_choice() {
    let program = Program::digits();
    let file = png(&held_out(3).1);
    let mut client = program.connect("/");
    let reply = ask_json(&mut client, Message::binary(file.clone()));
    assert_eq!(
        (&reply["outputs"][0]["shape"], &reply["outputs"][0]["datatype"]),
        (&json!([1, 3]), &json!("BYTES"))
    );
    let request = json!({
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64(&file)]}],
        "outputs": [{"name": "logits", "parameters": {"classification": 5}}]});
    let reply = ask_json(&mut client, Message::text(request.to_string()));
    assert_eq!(reply["outputs"][0]["shape"], json!([1, 5]));
    let mut client = program.connect("/v2/models/digits/versions/1/infer?classification=0");
    let reply = ask_json(&mut client, Message::binary(file));
    let scores: Vec<f64> = serde_json::from_value(reply["outputs"][0]["data"].clone()).unwrap();
    assert_eq!((scores.len(), &reply["outputs"][0]["datatype"]), (10, &json!("FP32")));
    assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5);
}
