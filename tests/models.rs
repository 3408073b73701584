//! Models: what the file says, what model.json adds, and onnxruntime's answers.

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

/// Reads a `{name: value}` object as OIP inputs.
fn request(inputs: &[(&str, &str, Value, Value)]) -> Message {
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|(name, datatype, shape, data)| json!({"name": name, "datatype": datatype, "shape": shape, "data": data}))
        .collect();
    Message::text(json!({"inputs": inputs}).to_string())
}

#[test]
fn every_test_model_answers_as_onnxruntime_does() {
    for (model, cases) in [
        ("types", 1),
        ("affine", 2),
        ("pair", 2),
        ("open", 5),
        ("divide", 1),
        ("pick", 1),
        ("slow200", 1),
        ("branch", 2),
        ("weather", 2),
    ] {
        let program = Program::serve(&test_model(model), &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        assert_eq!(check_cases(&mut client, &test_model(model).join("cases"), 1e-6), cases, "{model}");
    }
}

#[test]
fn tree_ensembles_answer_as_onnxruntime_does_to_the_last_bit() {
    for (model, tolerance) in [("trees", 0.0), ("trees5", 0.0), ("votes", EXP)] {
        let program = Program::serve(&test_model(model), &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        assert_eq!(check_cases(&mut client, &test_model(model).join("cases"), tolerance), 3, "{model}");
    }
}

#[test]
fn a_scikit_learn_pipeline_answers_as_onnxruntime_does() {
    let program = Program::serve(&test_model("pipeline"), &["--workers", "1"]);
    let mut client = program.connect("/?framing=v2");
    assert_eq!(check_cases(&mut client, &test_model("pipeline/cases"), 2e-6), 2);
}

#[test]
fn a_zip_map_is_served_as_the_tensor_before_it_with_its_keys_for_labels() {
    let program = Program::serve(&test_model("pipeline"), &["--workers", "1"]);
    let metadata = program.get("/v2/models/pipeline").json();
    let output = json!({"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]});
    assert_eq!(metadata["outputs"][1], output);
    let asked = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "colour"}, {"name": "probabilities", "parameters": {"classification": 1}}]
    });
    let reply = ask_json(&mut program.connect("/"), Message::text(asked.to_string()));
    let colour = reply["outputs"][0]["data"][0].as_str().unwrap();
    let best = reply["outputs"][1]["data"][0].as_str().unwrap();
    assert!(best.ends_with(&format!(":{colour}")), "{best} {colour}");
    let output = onnxd().arg("check").arg(test_model("pipeline")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("labels   probabilities: red, green, blue (its ZipMap is left out"), "{said}");
}

#[test]
fn no_request_goes_on_where_another_stopped() {
    let program = Program::serve(&test_model("recurrent"), &["--workers", "1"]);
    for _ in 0..2 {
        let mut client = program.connect("/?framing=v2");
        assert_eq!(check_cases(&mut client, &test_model("recurrent/cases"), 1e-6), 3);
    }
}

/// What another C library's `exp` may differ by, in a number up to 1.
const EXP: f64 = 1.2e-7;

#[test]
fn fourier_transforms_of_any_length_are_exact_to_a_ten_thousandth() {
    let program = Program::serve(&test_model("dft"), &["--workers", "1"]);
    let mut client = program.connect("/?framing=v2");
    // Values of up to 60; see tests/models/make.py for whose they are.
    assert_eq!(check_cases(&mut client, &test_model("dft/cases"), 1e-4), 1);
}

#[test]
fn every_datatype_goes_in_and_out_as_json_with_its_extremes() {
    let types: [(&str, &str, Value); 12] = [
        ("bool", "BOOL", json!([true, false, false, true])),
        ("uint8", "UINT8", json!([0, 255, 1, 2])),
        ("uint16", "UINT16", json!([0, 65535, 1, 2])),
        ("uint32", "UINT32", json!([0, u32::MAX, 1, 2])),
        ("uint64", "UINT64", json!([0, u64::MAX, 1, 2])),
        ("int8", "INT8", json!([-128, 127, 1, 2])),
        ("int16", "INT16", json!([-32768, 32767, 1, 2])),
        ("int32", "INT32", json!([i32::MIN, i32::MAX, 1, 2])),
        ("int64", "INT64", json!([i64::MIN, i64::MAX, 1, 2])),
        ("fp16", "FP16", json!([-65504.0, 65504.0, 0.5, 6e-8])),
        ("fp32", "FP32", json!([f32::MIN, f32::MAX, 0.5, 1e-45])),
        ("fp64", "FP64", json!([f64::MIN, f64::MAX, 0.5, 5e-324])),
    ];
    let program = Program::serve(&test_model("types"), &[]);
    let mut client = program.connect("/");
    let inputs: Vec<_> =
        types.iter().map(|(name, datatype, data)| (*name, *datatype, json!([2, 2]), data.clone())).collect();
    let reply = ask_json(&mut client, request(&inputs));
    for (name, datatype, data) in &types {
        let output = reply["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .find(|output| output["name"] == format!("{name}_out"));
        let output = output.unwrap_or_else(|| panic!("{reply}"));
        assert_eq!(output["datatype"], *datatype);
        let same = |(a, b): (&Value, &Value)| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= a.abs() * 1e-3 + 1e-7,
            _ => a == b,
        };
        let (came, sent) = (output["data"].as_array().unwrap(), data.as_array().unwrap());
        assert!(came.len() == 4 && came.iter().zip(sent).all(same), "{name}: {came:?}");
    }
}

#[test]
fn a_number_that_json_cannot_carry_is_null_and_is_counted() {
    let program = Program::serve(&test_model("nan"), &[]);
    let mut client = program.connect("/");
    let reply = ask_json(&mut client, request(&[("x", "FP32", json!([3]), json!([-1, 0, 1]))]));
    assert_eq!(reply["outputs"][0]["data"], json!([null, null, 0.0]));
    assert_eq!(reply["parameters"]["non_finite"], 2);
}

#[test]
fn open_dimensions_take_any_length_and_a_raw_payload_tells_its_own() {
    let program = Program::serve(&test_model("affine"), &[]);
    let mut client = program.connect("/");
    for rows in [1usize, 2, 7] {
        let values: Vec<f32> = (0..rows * 3).map(|value| value as f32).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let expected: Vec<f32> =
            values.chunks(3).flat_map(|x| [x[0] + x[2] + 0.5, x[1] + x[2] - 0.5]).collect();
        let reply = ask_json(&mut client, Message::binary(bytes));
        assert_eq!(
            (&reply["outputs"][0]["shape"], &reply["outputs"][0]["data"]),
            (&json!([rows, 2]), &json!(expected))
        );
    }
    let reply = ask_json(&mut client, Message::binary(vec![0; 13]));
    assert_eq!(reply["code"], "invalid_request");
    assert!(reply["error"].as_str().unwrap().contains("13 bytes are no whole number of FP32"), "{reply}");
}

#[test]
fn declared_rows_are_run_each_by_itself_and_more_than_declared_are_refused() {
    let manifest = r#"{"name": "rows", "max_batch_size": 4}"#;
    let program = Program::serve(&with_manifest("affine", "declared_rows", manifest), &[]);
    let mut client = program.connect("/?framing=v2");
    assert_eq!(check_cases(&mut client, &test_model("affine/cases"), 0.0), 2);
    let reply = ask_json(&mut client, request(&[("x", "FP32", json!([5, 3]), json!(vec![0; 15]))]));
    assert_eq!(reply["code"], "too_large");
    let reply = ask_json(&mut client, Message::text(r#"{"instances": [[1,2,3],[4,5,6]]}"#));
    assert_eq!(reply, json!({"predictions": [[4.5, 4.5], [10.5, 10.5]]}));
}

#[test]
fn rows_by_name_go_to_several_inputs_and_come_back_by_name() {
    let program = Program::serve(&test_model("pair"), &[]);
    let mut client = program.connect("/");
    let rows = r#"{"instances": [{"a": [1,2], "b": [3,4]}, {"b": [5,6], "a": [7,8]}]}"#;
    let reply = ask_json(&mut client, Message::text(rows));
    let expected =
        json!([{"sum": [4.0, 6.0], "product": [3.0, 8.0]}, {"sum": [12.0, 14.0], "product": [35.0, 48.0]}]);
    assert_eq!(reply, json!({"predictions": expected}));
    let one = json!({"inputs": [
        {"name": "b", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]},
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2]]}],
        "outputs": [{"name": "product"}]});
    let reply = ask_json(&mut client, Message::text(one.to_string()));
    let product = json!([{"name": "product", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 8.0]}]);
    assert_eq!(reply["outputs"], product);
}

#[test]
fn a_constant_parameter_leaves_the_signature_and_is_always_given() {
    let manifest =
        r#"{"name": "fixed", "parameters": {"b": [[10, 100]]}, "inputs": [{"name": "a", "shape": [1, 2]}]}"#;
    let program = Program::serve(&with_manifest("pair", "constant_parameter", manifest), &[]);
    let metadata = program.get("/v2/models/fixed").json();
    assert_eq!(metadata["inputs"], json!([{"name": "a", "datatype": "FP32", "shape": [1, 2]}]));
    let reply = ask_json(&mut program.connect("/"), request(&[("a", "FP32", json!([1, 2]), json!([1, 2]))]));
    assert_eq!(reply["outputs"][1]["data"], json!([10.0, 200.0]));
}

#[test]
fn a_pinned_shape_is_the_one_that_is_taken() {
    let manifest = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5]}]}"#;
    let program = Program::serve(&with_manifest("open", "pinned_shape", manifest), &[]);
    let mut client = program.connect("/");
    let reply = ask_json(&mut client, request(&[("x", "FP32", json!([1, 5]), json!([1, 2, 3, 4, 5]))]));
    assert_eq!(reply["outputs"][0]["data"], json!([15.0]));
    let reply = ask_json(&mut client, request(&[("x", "FP32", json!([1, 4]), json!([1, 2, 3, 4]))]));
    assert_eq!(reply["error"], "input `x`: shape is [1,4]: expected [1,5]");
}

#[test]
fn an_image_input_makes_the_tensor_that_its_declaration_says() {
    let picture = image::RgbImage::from_fn(6, 4, |x, y| image::Rgb([x as u8 * 10, y as u8 * 10, 200]));
    let file = encode(picture.clone(), image::ImageFormat::Png);
    let manifest = |rest: &str| {
        format!(r#"{{"max_batch_size": 4, "inputs": [{{"name": "image", "image": {{{rest}}}}}]}}"#)
    };
    let folder = with_manifest(
        "image3",
        "image_nchw",
        &manifest(r#""color": "bgr", "scale": 0.5, "mean": [1], "std": [2]"#),
    );
    let reply = ask_json(&mut Program::serve(&folder, &[]).connect("/"), Message::binary(file.clone()));
    let channel = |c: usize| picture.pixels().map(move |pixel| (f32::from(pixel[c]) * 0.5 - 1.0) / 2.0);
    let expected: Vec<f32> = channel(2).chain(channel(1)).chain(channel(0)).collect();
    assert_eq!(reply["outputs"][0]["data"], json!(expected));
    let folder = with_manifest("imageu8", "image_nhwc", &manifest(r#""layout": "NHWC""#));
    let program = Program::serve(&folder, &[]);
    let two = json!({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": [base64(&file), base64(&file)]}]});
    let reply = ask_json(&mut program.connect("/"), Message::text(two.to_string()));
    let once: Vec<f32> = picture.pixels().flat_map(|pixel| pixel.0.map(f32::from)).collect();
    assert_eq!(reply["outputs"][0]["shape"], json!([2, 4, 6, 3]));
    assert_eq!(reply["outputs"][0]["data"], json!([once.clone(), once].concat()));
}

#[test]
fn a_repository_serves_each_model_by_its_path_and_the_default_one_at_the_root() {
    let repository = folder("repository");
    for name in ["affine", "pair"] {
        std::fs::create_dir(repository.join(name)).unwrap();
        std::fs::copy(test_model(name).join("model.onnx"), repository.join(name).join("model.onnx")).unwrap();
    }
    let program = Program::serve(&repository, &["--workers", "1"]);
    let metadata = program.get("/v2/models/pair").json();
    assert_eq!(metadata["inputs"].as_array().unwrap().len(), 2);
    assert_eq!(program.get("/v2/models/affine/versions/1").json()["name"], "affine");
    assert_eq!(program.get("/v2/models/affine/ready").status, 200);
    let (status, body) = program.refused_upgrade("/");
    assert_eq!(status, 404);
    assert!(body["error"].as_str().unwrap().contains("`affine`, `pair`"), "{body}");
    program.connect("/v2/models/pair");
    drop(program);
    let program = Program::serve(&repository, &["--default-model", "affine"]);
    let reply =
        ask_json(&mut program.connect("/"), request(&[("x", "FP32", json!([1, 3]), json!([1, 2, 3]))]));
    assert_eq!(reply["model_name"], "affine");
}

#[test]
fn a_manifest_that_does_not_fit_its_model_is_told_at_start() {
    for (at, (manifest, part)) in [
        (r#"{"optputs": []}"#, "did you mean `outputs`?"),
        (r#"{"inputs": [{"name": "y"}]}"#, "model.json's inputs name `y`, but the file has `x`"),
        (r#"{"inputs": [{"name": "x", "datatype": "INT8"}]}"#, "is INT8, but the file says FP32"),
        (
            r#"{"inputs": [{"name": "x", "shape": [1, 4]}]}"#,
            "dimension 1 of input `x` is 4, but the file fixes it at 3",
        ),
        (
            r#"{"inputs": [{"name": "x", "shape": [1, 2, 3]}]}"#,
            "the shape [1, 2, 3], but the file says [-1, 3]",
        ),
        (r#"{"inputs": [{"name": "x", "image": {}}]}"#, "needs [batch, channels, height, width]"),
        (
            r#"{"inputs": [{"name": "x", "shape": [1, 3]}], "max_batch_size": 2}"#,
            "no input leaves its first dimension open",
        ),
        (r#"{"outputs": [{"name": "y", "labels": "none.txt"}]}"#, "none.txt"),
        (r#"{"file": "other.onnx"}"#, "`other.onnx` is not there"),
        (r#"{"parameters": {"x": "a"}}"#, "parameters[`x`] element 0 is \"a\": expected a number"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = with_manifest("affine", &format!("bad_manifest_{at}"), manifest);
        let output = onnxd().args(["serve", "--listen", "127.0.0.1:0"]).arg(&folder).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(part), "{manifest}: {said}");
    }
}

#[test]
fn of_declared_shapes_each_has_a_plan_and_another_is_refused_with_the_list() {
    let manifest = r#"{"shapes": [{"x": [1, 4]}, {"x": [1, 8]}]}"#;
    let program = Program::serve(&with_manifest("open", "declared-shapes", manifest), &[]);
    let mut client = program.connect("/");
    let request = |length: usize| {
        let ones = vec![1; length];
        Message::text(format!(
            r#"{{"inputs": [{{"name": "x", "shape": [1, {length}], "datatype": "FP32", "data": {ones:?}}}]}}"#
        ))
    };
    for length in [4, 8, 4] {
        let reply = ask_json(&mut client, request(length));
        assert_eq!(reply["outputs"][0]["data"], serde_json::json!([length as f32]), "{reply}");
    }
    let refused = ask_json(&mut client, request(5));
    assert_eq!(refused["code"], "invalid_request");
    assert!(refused["error"].as_str().unwrap().ends_with("expected [1, 4], or [1, 8]"), "{refused}");
    let metadata = program.get("/v2/models/declared-shapes").json();
    assert_eq!(metadata["inputs"][0]["shape"], json!([1, -1]), "two rows would be refused");
}

#[test]
fn rows_of_each_declared_shape_are_batched_with_their_like() {
    let manifest = r#"{"max_batch_size": 4, "shapes": [{"x": [-1, 4]}, {"x": [-1, 8]}],
        "dynamic_batching": {"preferred_batch_size": [4]}}"#;
    let program = Program::serve(&with_manifest("open", "batched-shapes", manifest), &["--workers", "1"]);
    let mut clients: Vec<Client> = (0..12).map(|_| program.connect("/")).collect();
    for _ in 0..10 {
        for (at, client) in clients.iter_mut().enumerate() {
            let row = vec![at; if at % 3 == 0 { 4 } else { 8 }];
            client.send(Message::text(format!(r#"{{"instances": [{row:?}]}}"#))).unwrap();
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let sum = (at * if at % 3 == 0 { 4 } else { 8 }) as f64;
            let reply = json(&answer(client));
            assert_eq!(reply["predictions"][0]["y"], sum, "{reply}");
        }
    }
}

#[cfg(not(feature = "text"))]
#[test]
fn a_model_that_takes_text_says_how_to_get_a_program_that_can() {
    let output =
        onnxd().args(["serve", "--listen", "127.0.0.1:0"]).arg(test_model("embed")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("build it with `--features text`"), "{said}");
}

fn checked(model: &std::path::Path) -> String {
    let output = onnxd().arg("check").arg(model).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_batch_that_the_engine_does_not_hold_is_reported_as_one_with_the_reason_and_what_to_write() {
    for (model, reason) in
        [("lone", "the shape [2, 4] has 8 elements"), ("clash", "a run of two rows fails: ")]
    {
        let said = checked(&test_model(model));
        assert!(said.contains("takes    x: FP32 [1, 4]"), "{said}");
        assert!(!said.contains("any length"), "{said}");
        let line =
            said.lines().find(|line| line.starts_with("batch    ")).unwrap_or_else(|| panic!("{said}"));
        let dimension = "dimension 0 (`N`) of input `x` is 1, though the file leaves it open: ";
        assert!(line.contains(dimension) && line.contains(reason), "{line}");
        assert!(line.contains(r#"write "max_batch_size": 8"#), "{line}");

        let mut program = Program::serve(&test_model(model), &[]);
        let line = program.says("though the file leaves it open");
        assert!(line.contains("WARN") && line.contains(reason), "{line}");
        let metadata = program.get(&format!("/v2/models/{model}")).json();
        assert_eq!(metadata["inputs"][0]["shape"], json!([1, 4]));
    }
}

#[test]
fn what_the_report_says_to_write_makes_rows_run() {
    for model in ["lone", "clash"] {
        let folder = with_manifest(model, &format!("rows-{model}"), r#"{"max_batch_size": 8}"#);
        let said = checked(&folder);
        assert!(!said.contains("batch    "), "{said}");
        let program = Program::serve(&folder, &[]);
        let rows = request(&[("x", "FP32", json!([2, 4]), json!([1, 2, 3, 4, 5, 6, 7, 8]))]);
        let reply = ask_json(&mut program.connect("/"), rows);
        assert_eq!(reply["outputs"][0]["shape"][0], 2, "{reply}");
    }
}

#[test]
fn lengths_that_shapes_gives_are_not_called_any_length() {
    let folder = with_manifest("open", "listed-shapes", r#"{"shapes": [{"x": [1, 4]}, {"x": [1, 8]}]}"#);
    let said = checked(&folder);
    assert!(said.contains("shapes   x [1, 4], or x [1, 8]: those of model.json, and no others"), "{said}");
    assert!(!said.contains("any length"), "{said}");
}

#[test]
fn weights_that_are_not_there_are_called_so_with_the_name_of_their_file() {
    let folder = folder("no-weights");
    std::fs::copy(test_model("outside/model.onnx"), folder.join("model.onnx")).unwrap();
    let said = checked(&folder);
    assert!(
        said.contains("reading the model's external data") && said.contains("weights/w.bin: No such file"),
        "{said}"
    );
    assert!(!said.contains("LFS"), "{said}");
}

#[test]
fn a_model_whose_values_no_sample_can_guess_is_served_with_a_note_and_one_that_always_fails_is_not() {
    let said = checked(&test_model("cut"));
    assert!(said.contains("note     no trial run: the model refuses the values of every sample: "), "{said}");
    let program = Program::serve(&test_model("cut"), &[]);
    let mut client = program.connect("/");
    let split = |a: i64, b: i64| {
        request(&[
            ("x", "FP32", json!([7]), json!([1, 2, 3, 4, 5, 6, 7])),
            ("split", "INT64", json!([2]), json!([a, b])),
        ])
    };
    let reply = ask_json(&mut client, split(3, 4));
    assert_eq!(reply["outputs"][0]["data"], json!([1.0, 2.0, 3.0]), "{reply}");
    assert_eq!(reply["outputs"][1]["data"], json!([4.0, 5.0, 6.0, 7.0]), "{reply}");
    assert_eq!(ask_json(&mut client, split(3, 3))["code"], "invalid_request");

    let output =
        onnxd().args(["serve", "--listen", "127.0.0.1:0"]).arg(test_model("never")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cannot divide by zero"));
}
