//! Chains: one request runs several models.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::*;

/// Puts a test model into a repository under another name.
fn put(repository: &Path, name: &str, model: &str, manifest: Value) {
    let folder = repository.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(test_model(model).join("model.onnx"), folder.join("model.onnx")).unwrap();
    std::fs::write(folder.join("model.json"), manifest.to_string()).unwrap();
}

fn put_chain(repository: &Path, name: &str, manifest: &Value) {
    std::fs::create_dir_all(repository.join(name)).unwrap();
    std::fs::write(repository.join(name).join("model.json"), manifest.to_string()).unwrap();
}

fn step(model: &str, inputs: Value, outputs: Value) -> Value {
    json!({"model_name": model, "input_map": inputs, "output_map": outputs})
}

/// A repository with the chain `chain` of `steps`, and the models that the tests use.
fn repository(test: &str, steps: Value) -> PathBuf {
    let repository = folder(test);
    put(&repository, "affine", "affine", json!({"public": false}));
    put(&repository, "windows", "windows", json!({"public": false}));
    put_chain(&repository, "chain", &json!({"ensemble_scheduling": {"step": steps}}));
    repository
}

/// `affine` gives two numbers of three. `windows` gives back six numbers and their sum.
fn two_steps() -> Value {
    json!([
        step("affine", json!({"x": "numbers"}), json!({"y": "two"})),
        step(
            "windows",
            json!({"x": {"tensor": "two", "scale": 2, "offset": 1, "window": {"axis": 1, "size": 6, "hop": 2}}}),
            json!({"samples": "six", "sum": "sum"})
        ),
    ])
}

fn request(name: &str, shape: &[usize], data: &[f32]) -> Message {
    let input = json!({"name": name, "shape": shape, "datatype": "FP32", "data": data});
    Message::text(json!({"inputs": [input]}).to_string())
}

fn output(reply: &Value, name: &str) -> (Vec<u64>, Vec<f64>) {
    let outputs = reply["outputs"].as_array().unwrap_or_else(|| panic!("{reply}"));
    let found = outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{reply}"));
    let numbers = |field: &str| found[field].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
    (numbers("shape").map(|length| length as u64).collect(), numbers("data").collect())
}

/// What the model `affine` gives alone.
fn affine(data: &[f32]) -> Vec<f64> {
    let program = Program::serve(&test_model("affine"), &[]);
    output(&ask_json(&mut program.connect("/"), request("x", &[1, 3], data)), "y").1
}

#[test]
fn windows_over_a_steps_output_are_kept_in_the_conversation_and_each_is_a_run_of_the_next_step() {
    let program = Program::serve(&repository("chain-windows", two_steps()), &[]);
    let (mut client, mut other) = (program.connect("/"), program.connect("/v2/models/chain"));
    let pairs: Vec<Vec<f64>> = (0..5).map(|at| affine(&[at as f32, 1.0, 2.0])).collect();
    // All of them at once: the requests of a conversation go through the chain in order.
    (0..5).for_each(|at| client.send(request("numbers", &[1, 3], &[at as f32, 1.0, 2.0])).unwrap());
    for at in 0..5 {
        let reply = json(&answer(&mut client));
        let (shape, six) = output(&reply, "six");
        if at < 2 {
            assert_eq!((shape, six), (vec![0, 6], vec![]), "the first window is not complete: {reply}");
            continue;
        }
        let expected: Vec<f64> = pairs[at - 2..=at].iter().flatten().map(|value| value * 2.0 + 1.0).collect();
        assert_eq!((shape, &six), (vec![1, 6], &expected), "{at}");
        assert!((output(&reply, "sum").1[0] - expected.iter().sum::<f64>()).abs() < 1e-4, "{reply}");
    }
    let reply = ask_json(&mut other, request("numbers", &[1, 3], &[0.0, 1.0, 2.0]));
    assert_eq!(output(&reply, "six").0, [0, 6], "another conversation has windows of its own");
    // After an end, the windows begin anew.
    client.send(Message::text(r#"{"event":"end"}"#)).unwrap();
    assert_eq!(json(&answer(&mut client)), json!({"event": "ended"}));
    let reply = ask_json(&mut client, request("numbers", &[1, 3], &[0.0, 1.0, 2.0]));
    assert_eq!(output(&reply, "six").0, [0, 6]);
    let body = request("numbers", &[1, 3], &[0.0, 1.0, 2.0]).into_text().unwrap();
    let reply = program.post("/v2/models/chain/infer", "", body.as_bytes()).json();
    assert_eq!(output(&reply, "six").0, [0, 6], "over HTTP a request is a stream of its own: {reply}");
}

#[test]
fn a_request_that_completes_several_windows_gets_a_row_for_each() {
    let steps = json!([
        step("affine", json!({"x": "numbers"}), json!({"y": "two"})),
        step(
            "windows",
            json!({"x": {"tensor": "two", "window": {"axis": 0, "size": 3, "hop": 1}, "reshape": [1, 6]}}),
            json!({"sum": "sum"})
        ),
    ]);
    let program = Program::serve(&repository("chain-rows", steps), &[]);
    let data: Vec<f32> = (0..15).map(|at| at as f32).collect();
    let reply = ask_json(&mut program.connect("/"), request("numbers", &[5, 3], &data));
    let (shape, sums) = output(&reply, "sum");
    assert_eq!(shape, [3, 1]);
    let pairs: Vec<Vec<f64>> = data.chunks(3).map(affine).collect();
    for (at, sum) in sums.iter().enumerate() {
        let expected: f64 = pairs[at..at + 3].iter().flatten().sum();
        assert!((sum - expected).abs() < 1e-4, "{at}: {sum} for {expected}");
    }
}

#[test]
fn a_request_whose_windows_find_no_memory_is_answered_and_the_next_one_works() {
    let steps = json!([
        step("affine", json!({"x": "numbers"}), json!({"y": "two"})),
        step(
            "windows",
            json!({"x": {"tensor": "two", "window": {"axis": 0, "size": 300, "hop": 1}, "reshape": [100, 6]}}),
            json!({"sum": "sum"})
        ),
    ]);
    let repository = repository("chain-memory", steps);
    let program = Program::serve(&repository, &["--max-memory", "200000"]);
    let mut client = program.connect("/");
    let error = ask_json(&mut client, request("numbers", &[1000, 3], &[1.0; 3000]));
    assert!(
        error["error"].as_str().is_some_and(|error| error.starts_with("step 2 (`windows`): ")),
        "{error}"
    );
    let reply = ask_json(&mut client, request("numbers", &[300, 3], &[1.0; 900]));
    assert_eq!(output(&reply, "sum").0, [100, 1]);
}

#[test]
fn a_model_that_is_not_public_runs_only_in_chains() {
    let program = Program::serve(&repository("chain-private", two_steps()), &[]);
    let error = program.get("/v2/models/affine");
    assert_eq!(error.status, 404, "{}", error.json());
    assert!(error.json()["error"].as_str().unwrap().ends_with("this server has `chain`"), "{}", error.json());
    assert_eq!(program.refused_upgrade("/v2/models/windows").0, 404);
    assert_eq!(program.get("/v2/models/chain/ready").status, 200);
    let metadata = program.get("/v2/models/chain").json();
    assert_eq!(metadata["inputs"][0]["name"], "numbers");
    assert_eq!(metadata["outputs"][1], json!({"name": "sum", "datatype": "FP32", "shape": [-1, 1]}));
}

#[test]
fn an_error_in_a_step_names_it_and_the_next_request_works() {
    let repository = folder("chain-error");
    put(&repository, "divide", "share", json!({}));
    let steps = json!([step("divide", json!({"a": "a", "b": "b"}), json!({"q": "q"}))]);
    put_chain(&repository, "chain", &json!({"ensemble_scheduling": {"step": steps}}));
    let program = Program::serve(&repository, &["--default-model", "chain"]);
    let mut client = program.connect("/");
    let mut divide = |b: i32| {
        let input = |name: &str, value: i32| json!({"name": name, "shape": [1, 1], "datatype": "INT32", "data": [value]});
        ask_json(
            &mut client,
            Message::text(json!({"id": "x", "inputs": [input("a", 6), input("b", b)]}).to_string()),
        )
    };
    for _ in 0..2 {
        let error = divide(0);
        assert_eq!((&error["code"], &error["id"]), (&json!("inference_failed"), &json!("x")), "{error}");
        assert!(error["error"].as_str().unwrap().starts_with("step 1 (`divide`): "), "{error}");
        assert_eq!(output(&divide(3), "q").1, [2.0]);
    }
}

#[test]
fn a_full_queue_of_a_step_and_a_deadline_are_answered_as_for_one_model() {
    let repository = folder("chain-limits");
    put(&repository, "slow", "slow200", json!({"instance_group": {"count": 1}}));
    let steps = json!([
        step("slow", json!({"x": "x"}), json!({"y": "between"})),
        step("slow", json!({"x": "between"}), json!({"y": "y"})),
    ]);
    put_chain(&repository, "chain", &json!({"ensemble_scheduling": {"step": steps}}));
    let program = Program::serve(&repository, &["--default-model", "chain", "--queue-capacity", "1"]);
    let mut client = program.connect("/");
    for _ in 0..6 {
        client.send(request("x", &[1, 1], &[2.0])).unwrap();
    }
    let codes: Vec<Value> = (0..6).map(|_| json(&answer(&mut client))["code"].clone()).collect();
    assert!(codes.contains(&json!("overloaded")) && codes.contains(&Value::Null), "{codes:?}");
    drop(program);
    let mut program = Program::serve(&repository, &["--default-model", "chain"]);
    let mut client = program.connect("/");
    let late = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}],
                      "parameters": {"timeout": 1}});
    client.send(request("x", &[1, 1], &[2.0])).unwrap();
    client.send(Message::text(late.to_string())).unwrap();
    assert_eq!(json(&answer(&mut client))["code"], Value::Null);
    let error = json(&answer(&mut client));
    assert_eq!(error["code"], "deadline_exceeded", "{error}");
    // A chain that is under way when the server stops is finished.
    client.send(request("x", &[1, 1], &[2.0])).unwrap();
    client.send(Message::Ping("x".into())).unwrap();
    while !matches!(client.read().unwrap(), Message::Pong(_)) {}
    program.signal(Signal::TERM);
    assert_eq!(output(&json(&answer(&mut client)), "y").0, [1, 1]);
    assert_eq!(close_code(&mut client), 1001);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_reload_of_a_steps_model_replaces_the_chain_and_an_unchanged_one_stays() {
    let repository = folder("chain-reload");
    put(&repository, "m", "version1", json!({"public": false}));
    let steps = json!([step("m", json!({"x": "x"}), json!({"y": "y"}))]);
    put_chain(&repository, "chain", &json!({"ensemble_scheduling": {"step": steps}}));
    let mut program = Program::serve(&repository, &[]);
    let ask = |program: &Program| {
        let body = request("x", &[1], &[7.0]).into_text().unwrap();
        output(&program.post("/v2/models/chain/infer", "", body.as_bytes()).json(), "y").1[0]
    };
    assert_eq!(ask(&program), 1.0);
    program.signal(Signal::HUP);
    program.wait_for("models reloaded: 0 loaded, 0 replaced or gone, 2 unchanged, 0 failed");
    let draft = repository.join("m/draft");
    std::fs::copy(test_model("version2").join("model.onnx"), &draft).unwrap();
    std::fs::rename(draft, repository.join("m/model.onnx")).unwrap();
    program.signal(Signal::HUP);
    program.wait_for("models reloaded: 2 loaded, 2 replaced or gone, 0 unchanged, 0 failed");
    assert_eq!(ask(&program), 2.0);
    // A chain that does not fit any more stays as it was.
    put_chain(
        &repository,
        "chain",
        &json!({"ensemble_scheduling": {"step": [step("n", json!({}), json!({"y": "y"}))]}}),
    );
    program.signal(Signal::HUP);
    program.wait_for("what was served before stays: step 1 (`n`): the repository has no such model");
    assert_eq!(ask(&program), 2.0);
}

#[test]
fn a_chain_that_does_not_fit_its_models_is_refused_at_load_with_the_step_and_what_fits() {
    let good = |change: Value| json!([step("affine", json!({"x": "numbers"}), json!({"y": "two"})), change]);
    for (at, (steps, words)) in [
        (json!([]), "the number of ensemble_scheduling.step is 0"),
        (json!([step("affin", json!({}), json!({"y": "y"}))]), "step 1 (`affin`): the repository has no"),
        (json!([step("affine", json!({}), json!({"y": "y"}))]), "input_map lacks the model's input `x`"),
        (
            json!([step("affine", json!({"z": "a"}), json!({"y": "y"}))]),
            "input_map names `z`, but the model has `x`",
        ),
        (
            json!([step("affine", json!({"x": "a"}), json!({"z": "y"}))]),
            "output_map names `z`, but the model has `y`",
        ),
        (
            good(step("windows", json!({"x": "two"}), json!({"sum": "sum"}))),
            "its shape is [?, 2], but the input takes [?, 6]",
        ),
        (
            good(step(
                "windows",
                json!({"x": {"tensor": "two", "window": {"axis": 5, "size": 6}}}),
                json!({"sum": "s"}),
            )),
            "window.axis is 5, but the tensor has 2 axes",
        ),
        (
            good(step(
                "windows",
                json!({"x": {"tensor": "two", "window": {"axis": 1, "size": 2, "hop": 3}}}),
                json!({"sum": "s"}),
            )),
            "window.hop is 3: expected 1 to 2",
        ),
        (
            good(step("windows", json!({"x": {"tensor": "two", "windov": 1}}), json!({"sum": "s"}))),
            "expected the name of a tensor, or an object with `tensor`",
        ),
        (
            good(step("affine", json!({"x": "numbers"}), json!({"y": "two"}))),
            "output `y` becomes `two`, which is there already",
        ),
        (
            json!([step("loud", json!({"x": "a"}), json!({"score": "s"}))]),
            "it keeps a state from request to request",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let repository = repository(&format!("chain-wrong-{at}"), steps);
        let state = json!({"sequence": {"states": [{"input": "before", "output": "after"}]}});
        put(&repository, "loud", "loud", state);
        let output = onnxd().arg("check").arg(&repository).output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && report.contains(words), "{words}: {report}");
    }
    let repository = repository("chain-fields", two_steps());
    let manifest = json!({"ensemble_scheduling": {"step": two_steps()}, "max_batch_size": 4});
    put_chain(&repository, "chain", &manifest);
    let output = onnxd().arg("check").arg(&repository).output().unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("the other fields belong into the model.json of its steps")
    );
}

#[test]
fn check_runs_the_whole_chain_and_prints_the_time_and_the_shapes_of_each_step() {
    let repository = repository("chain-check", two_steps());
    let output = onnxd().arg("check").arg(&repository).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    for words in [
        "takes    numbers: FP32 [",
        "step 1   affine (version 1): ",
        "makes two [1, 2]",
        "makes six [1, 6], sum [1, 1]",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

/// A repository with a chain that reads a letter in each bright region of a photograph, with `model`.
fn reader(test: &str, model: &str, crop: Value) -> PathBuf {
    let repository = folder(test);
    let scaled = json!({"color": "gray", "scale": 1.0 / 255.0});
    let det = json!({"public": false, "inputs": [{"name": "image", "image": scaled}], "result": {"kind": "regions"}});
    put(&repository, "find", "map", det);
    let image = json!({"scale": 1.0 / 255.0});
    let read = json!({"public": false, "inputs": [{"name": "image", "image": image}],
                      "result": {"kind": "text", "output": "scores"}});
    put(&repository, "read", model, read);
    let steps = json!([
        {"model_name": "find", "input_map": {"image": "photo"}, "result": "places"},
        {"model_name": "read", "input_map": {"image": {"tensor": "photo", "crop": crop}}, "result": "letters"},
    ]);
    put_chain(&repository, "chain", &json!({"ensemble_scheduling": {"step": steps}}));
    repository
}

/// A dark photograph of 80 x 48 pixels with bright rectangles of a colour.
fn photo(rectangles: &[([u32; 4], [u8; 3])]) -> Message {
    let level = |x: u32, y: u32| {
        let found = rectangles.iter().find(|([left, top, right, bottom], _)| {
            (*left..*right).contains(&x) && (*top..*bottom).contains(&y)
        });
        image::Rgb(found.map_or([0, 0, 0], |(_, colour)| *colour))
    };
    let photo = image::RgbImage::from_fn(80, 48, level);
    Message::binary(encode(photo, image::ImageFormat::Png))
}

#[test]
fn each_region_of_a_photograph_is_cut_out_and_gets_the_text_of_its_run() {
    let program = Program::serve(&reader("chain-crop", "tints", json!({"regions": "places"})), &[]);
    let mut client = program.connect("/");
    let colours = [("r", [255, 150, 150]), ("g", [150, 255, 150]), ("b", [170, 170, 255])];
    let places = [[8, 6, 32, 16], [44, 6, 72, 16], [20, 28, 60, 40]];
    let parts: Vec<([u32; 4], [u8; 3])> = places.into_iter().zip(colours.map(|(_, colour)| colour)).collect();
    let reply = ask_json(&mut client, photo(&parts));
    let lines = reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}"));
    assert_eq!((lines.len(), &reply["coordinates"]), (3, &json!("image")), "{reply}");
    for ([left, top, ..], (letter, _)) in places.into_iter().zip(colours) {
        let near = |line: &&Value| {
            let corner = |axis: usize| line["polygon"][0][axis].as_f64().unwrap();
            (corner(0) - f64::from(left)).abs() < 9.0 && (corner(1) - f64::from(top)).abs() < 9.0
        };
        let line = lines.iter().find(near).unwrap_or_else(|| panic!("{left} {top}: {reply}"));
        assert_eq!(line["text"], letter, "{reply}");
        assert!(
            line["score"].as_f64().unwrap() > 0.5 && line["text_score"].as_f64().unwrap() > 0.3,
            "{line}"
        );
    }
    assert!(reply.get("outputs").is_none(), "{reply}");
    let nothing = ask_json(&mut client, photo(&[]));
    assert_eq!(nothing["results"], json!([[]]), "no region, no text");
    let tensor = json!({"inputs": [{"name": "photo", "shape": [1, 1, 24, 40], "datatype": "FP32",
                                    "data": vec![0.0; 24 * 40]}]});
    let error = ask_json(&mut client, Message::text(tensor.to_string()));
    assert!(
        error["error"].as_str().unwrap().contains("the image came as a tensor: send the file"),
        "{error}"
    );
    assert_eq!(ask_json(&mut client, photo(&parts[..1]))["results"][0][0]["text"], "r");
}

#[test]
fn a_part_that_cannot_be_run_has_an_error_in_its_place_and_the_others_have_their_texts() {
    let crop = json!({"regions": "places"});
    let program = Program::serve(&reader("chain-fussy", "fussy", crop), &["--workers", "1"]);
    let mut client = program.connect("/");
    // Without red, the model fails.
    let parts = [([8, 6, 32, 16], [255, 150, 150]), ([44, 6, 72, 16], [20, 255, 150])];
    let reply = ask_json(&mut client, photo(&parts));
    let lines = reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}"));
    assert_eq!(lines.len(), 2, "{reply}");
    let (failed, read): (Vec<&Value>, Vec<&Value>) = lines.iter().partition(|line| line["error"].is_string());
    assert_eq!((failed.len(), &read[0]["text"]), (1, &json!("r")), "{reply}");
    assert!(failed[0]["polygon"].is_array() && failed[0].get("text").is_none(), "{reply}");
    let error = ask_json(&mut client, photo(&parts[1..]));
    assert!(error["error"].as_str().unwrap().starts_with("step 2 (`read`): "), "no part is left: {error}");
    assert_eq!(ask_json(&mut client, photo(&parts[..1]))["results"][0][0]["text"], "r");
}

#[test]
fn a_crop_that_does_not_fit_is_refused_at_load() {
    for (at, (crop, words)) in [
        (
            json!({"regions": "place"}),
            "regions are `place`, but the results of the steps before are `places`",
        ),
        (
            json!({"regions": "places", "turn_when": {"tensor": "angle", "class": 1}}),
            "turn_when names the tensor `angle`",
        ),
        (json!({"region": "places"}), "expected the name of a tensor, or an object"),
    ]
    .into_iter()
    .enumerate()
    {
        let output =
            onnxd().arg("check").arg(reader(&format!("chain-crop-{at}"), "tints", crop)).output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && report.contains(words), "{words}: {report}");
    }
}
