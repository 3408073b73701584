//! Text: a typed sentence becomes its embedding, as onnxruntime and the tokenizer library make it; and models that take
//! texts themselves.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

const SENTENCE: &str = "the cat sat on the mat";

fn embed() -> Program {
    Program::serve(&test_model("embed"), &["--workers", "1"])
}

/// The embeddings of a case of the model `embed`, by onnxruntime.
fn expected(case: &str) -> Vec<f32> {
    let file = std::fs::read(test_model(&format!("embed/cases/{case}.expected.bin"))).unwrap();
    let (_, bytes) = split_v2(&file);
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn inputs(texts: Value) -> Message {
    let count = texts.as_array().unwrap().len();
    let input = json!({"name": "input_ids", "shape": [count], "datatype": "BYTES", "data": texts});
    Message::text(json!({"inputs": [input]}).to_string())
}

/// The numbers of a reply's only output.
fn numbers(reply: &Value) -> Vec<f32> {
    serde_json::from_value(reply["outputs"][0]["data"].clone())
        .unwrap_or_else(|_| panic!("no numbers in {reply}"))
}

fn assert_near(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?} is not {theirs:?}");
}

/// The model `name` with another manifest, and its tokenizer.
fn changed(name: &str, test: &str, manifest: &str) -> PathBuf {
    let folder = with_manifest(name, test, manifest);
    std::fs::copy(test_model(name).join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    folder
}

#[test]
fn typed_sentences_answer_as_onnxruntime_and_its_tokenizer_do_and_so_do_ready_tensors() {
    for model in ["embed", "bag"] {
        let program = Program::serve(&test_model(model), &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        assert_eq!(check_cases(&mut client, &test_model(model).join("cases"), 1e-5), 10, "{model}");
    }
}

#[test]
fn a_sentence_is_taken_as_it_is_in_every_form_that_the_protocol_has() {
    let program = embed();
    let mut client = program.connect("/");
    let one = expected("one");
    for message in
        [Message::text(SENTENCE), Message::binary(SENTENCE.as_bytes().to_vec()), inputs(json!([SENTENCE]))]
    {
        let reply = ask_json(&mut client, message);
        assert_eq!(reply["outputs"][0]["shape"], json!([1, 6]), "{reply}");
        assert_near(&numbers(&reply), &one);
    }
    for rows in
        [json!([SENTENCE]), json!([{"input_ids": SENTENCE}]), json!([{"b64": base64(SENTENCE.as_bytes())}])]
    {
        let reply = ask_json(&mut client, Message::text(json!({"instances": rows}).to_string()));
        let row: Vec<f32> = serde_json::from_value(reply["predictions"][0].clone()).unwrap();
        assert_near(&row, &one);
    }
    for kind in ["text/plain; charset=utf-8", "application/octet-stream"] {
        let head = format!("Content-Type: {kind}\r\n");
        let reply = program.post("/v2/models/embed/infer", &head, SENTENCE.as_bytes());
        assert_near(&numbers(&reply.json()), &one);
    }
    // As a browser's fetch sends JSON, if nobody tells it what it sends.
    let body = inputs(json!([SENTENCE])).into_data();
    let reply = program.post("/v2/models/embed/infer", "Content-Type: text/plain\r\n", &body);
    assert_near(&numbers(&reply.json()), &one);
}

#[test]
fn a_batch_is_filled_up_and_filling_stays_out_of_the_mean() {
    let program = embed();
    let mut client = program.connect("/");
    let texts = json!(["the cat", "a dog ran after the black cat !", ""]);
    let together = numbers(&ask_json(&mut client, inputs(texts.clone())));
    assert_near(&together, &expected("unequal"));
    let alone: Vec<f32> = texts
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|text| numbers(&ask_json(&mut client, inputs(json!([text])))))
        .collect();
    assert_near(&together, &alone);
}

#[test]
fn only_a_text_that_begins_with_a_brace_has_to_come_inside_a_request() {
    let program = embed();
    let mut client = program.connect("/");
    for text in ["42", "\"quoted\"", "[1, 2]", "null", "", "  two words ", "\u{1f431}", "line\nbreak\0"] {
        let bare = ask_json(&mut client, Message::text(text));
        assert_near(&numbers(&bare), &numbers(&ask_json(&mut client, inputs(json!([text])))));
    }
    let reply = ask_json(&mut client, Message::text("{curly}"));
    assert!(reply["error"].as_str().unwrap().contains("goes into `inputs`"), "{reply}");
    assert_eq!(ask_json(&mut client, inputs(json!(["{curly}"])))["outputs"][0]["shape"], json!([1, 6]));
    let reply = ask_json(&mut client, Message::text("{}"));
    let example = reply["error"].as_str().unwrap().split("this model: ").nth(1).unwrap();
    assert!(example.contains(r#""data":["The quick brown fox"#), "{example}");
    assert!(ask_json(&mut client, Message::text(example))["outputs"].is_array());
}

#[test]
fn a_very_long_text_is_cut_and_answered_quickly_whatever_is_in_it() {
    let program = embed();
    let mut client = program.connect("/");
    let long = expected("long");
    let begun = Instant::now();
    let reply = ask_json(&mut client, Message::text("the cat sat on the mat and ".repeat(40_000)));
    assert_near(&numbers(&reply), &long);
    for text in [" ", "a", "\u{1f431}", "猫", "e\u{301}", "\u{200d}", "\0", "a ", "日本語 "] {
        let reply = ask_json(&mut client, Message::text(text.repeat((1 << 20) / text.len())));
        assert_eq!(reply["outputs"][0]["shape"], json!([1, 6]), "{text:?}: {reply}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "ten texts of a megabyte took {:?}", begun.elapsed());
    // Of sixteen megabytes in which there is no token one is looked at.
    let folder =
        changed("embed", "text_large", &std::fs::read_to_string(test_model("embed/model.json")).unwrap());
    let program = Program::serve(&folder, &["--workers", "1"]);
    let reply = ask_json(&mut program.connect("/"), Message::text(" ".repeat(15 << 20)));
    assert_eq!(reply["outputs"][0]["shape"], json!([1, 6]), "{reply}");
    assert!(program.resident() < 300 << 20, "{} bytes are resident", program.resident());
}

#[test]
fn what_is_wrong_with_a_text_is_told_with_its_place_and_the_next_is_answered() {
    let program = embed();
    let v2_input = |data: &[u8], count: usize, rest: &str| {
        let input = json!({"name": "input_ids", "shape": [count], "datatype": "BYTES",
            "parameters": {"binary_data_size": data.len()}});
        Message::binary(v2(&format!(r#"{{"inputs":[{input}{rest}]}}"#), data))
    };
    let element = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    let bad = [element(b"fine"), element(b"bad \xff")].concat();
    let mask = r#",{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[1,1,1]}"#;
    let mut client = program.connect("/?framing=v2");
    for (message, words) in [
        (v2_input(&bad, 2, ""), "input `input_ids`, text 1 is not UTF-8"),
        (v2_input(&bad, 3, ""), "holds 3 elements, but the data has 2"),
        (v2_input(&element(b"fine"), 1, mask), "is made of the text in input `input_ids`: leave it out"),
        (
            Message::text(r#"{"inputs":[{"name":"input_ids","shape":[1,1],"datatype":"INT64","data":[2]}]}"#),
            "missing input `attention_mask`, `token_type_ids`",
        ),
        (
            Message::text(
                r#"{"instances":["fine",{"input_ids":[2],"attention_mask":[1],"token_type_ids":[0]}]}"#,
            ),
            "do not go with",
        ),
        (
            Message::text(
                r#"{"inputs":[{"name":"input_ids","shape":[1,1],"datatype":"BYTES","data":["a"]}]}"#,
            ),
            "expected [n]",
        ),
        (
            Message::text(r#"{"inputs":[{"name":"input_ids","shape":[1],"datatype":"BYTES","data":[7]}]}"#),
            "expected a string",
        ),
    ] {
        let reply = ask_json(&mut client, message);
        assert!(
            reply["error"].as_str().is_some_and(|error| error.contains(words)),
            "expected `{words}` in {reply}"
        );
        assert_near(&numbers(&ask_json(&mut client, Message::text(SENTENCE))), &expected("one"));
    }
    let reply = ask_json(&mut program.connect("/"), Message::binary(b"\xc3\x28".to_vec()));
    assert!(reply["error"].as_str().unwrap().contains("text 0 is not UTF-8"), "{reply}");
    let reply = program.post("/v2/models/embed/infer", "Content-Type: text/plain\r\n", b"\xff");
    assert_eq!(reply.status, 400);
    // A tokenizer that adds no token of its own makes nothing of nothing.
    let program = Program::serve(&test_model("bag"), &[]);
    let reply = ask_json(&mut program.connect("/"), Message::text(""));
    assert!(reply["error"].as_str().unwrap().contains("text 0 has no token in it"), "{reply}");
}

#[test]
fn metadata_reports_tensors_and_says_that_text_may_stand_for_them() {
    let metadata = embed().get("/v2/models/embed").json();
    let made = json!({"filled_by": "input_ids"});
    assert_eq!(metadata["inputs"][0]["parameters"], json!({"accepts": ["text/plain"]}));
    assert_eq!(metadata["inputs"][0]["datatype"], "INT64");
    assert_eq!((&metadata["inputs"][1]["parameters"], &metadata["inputs"][2]["parameters"]), (&made, &made));
    let output = json!({"name": "hidden", "datatype": "FP32", "shape": [-1, 6]});
    assert_eq!(metadata["outputs"][0], output);
}

#[test]
fn a_fixed_length_is_filled_up_to_and_too_much_is_refused_where_it_is_not_to_be_cut() {
    let manifest = r#"{"inputs": [
        {"name": "input_ids", "shape": [-1, 16], "text": {"truncation": false}},
        {"name": "attention_mask", "shape": [-1, 16]}, {"name": "token_type_ids", "shape": [-1, 16]}],
        "outputs": [{"name": "hidden", "pooling": "mean", "normalize": "l2"}]}"#;
    let program = Program::serve(&changed("embed", "text_fixed", manifest), &[]);
    let mut client = program.connect("/");
    assert_near(&numbers(&ask_json(&mut client, Message::text(SENTENCE))), &expected("one"));
    let reply = ask_json(&mut client, Message::text("cat ".repeat(15)));
    assert_eq!(reply["code"], "too_large");
    assert!(reply["error"].as_str().unwrap().contains("text 0 has more than 16 tokens"), "{reply}");
    let manifest =
        r#"{"inputs": [{"name": "input_ids", "text": {"padding": "max_length", "max_length": 9}}]}"#;
    let program = Program::serve(&changed("embed", "text_padded", manifest), &[]);
    let reply = ask_json(&mut program.connect("/"), Message::text("cat"));
    assert_eq!(
        reply["outputs"][0]["shape"],
        json!([1, 9, 6]),
        "without pooling the tokens' vectors are answered"
    );
}

#[test]
fn a_declaration_that_does_not_fit_its_model_or_its_tokenizer_is_told_at_start() {
    let text = |text: &str| format!(r#"{{"inputs": [{{"name": "input_ids", "text": {text}}}]}}"#);
    let output = |output: &str| format!(r#"{{"outputs": [{{"name": "hidden", {output}}}]}}"#);
    for (at, (manifest, part)) in [
        (text(r#"{"tokenizer": "none.json"}"#), "none.json: No such file"),
        (text(r#"{"tokenizer": "model.json"}"#), "model.json: "),
        (text(r#"{"max_length": 2}"#), "but 2 tokens are added to each text"),
        (text(r#"{"attention_mask": "mask"}"#), "name `mask`, but the file has"),
        (text(r#"{"attention_mask": "token_type_ids"}"#), "made of something else already"),
        (
            r#"{"inputs": [{"name": "input_ids", "shape": [-1, 8], "text": {"max_length": 9}}]}"#.into(),
            "max_length is 9, but the input holds 8 tokens",
        ),
        (
            r#"{"inputs": [{"name": "input_ids", "shape": [-1, 8], "text": {}}, {"name": "attention_mask", "shape": [-1, 7]}]}"#.into(),
            "input `input_ids` holds 8 tokens, but `attention_mask` 7",
        ),
        (output(r#""pooling": "sum""#), "expected one of `mean`, `cls`, `max`"),
        (output(r#""normalize": "l1""#), "expected `l2`"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = changed("embed", &format!("text_bad_{at}"), &manifest);
        let output = onnxd().args(["serve", "--listen", "127.0.0.1:0"]).arg(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{manifest}: {said}");
        assert!(said.contains(part), "{manifest}: {said}");
    }
}

#[test]
fn check_shows_that_text_is_taken_and_measures_a_sentence() {
    let output = onnxd().arg("check").arg(test_model("embed")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for part in [
        "or BYTES [n]: text/plain",
        "or made of the text in input_ids",
        "on the sentence below",
        "quick brown fox",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

/// The classes of a reply of the model `weather`.
fn weather(reply: &Value) -> Vec<&str> {
    let classes = reply["outputs"][0]["data"].as_array();
    classes
        .unwrap_or_else(|| panic!("no classes in {reply}"))
        .iter()
        .map(|class| class.as_str().unwrap())
        .collect()
}

/// A request to the model `weather`.
fn said(texts: Value) -> Message {
    let shape = json!([texts.as_array().unwrap().len(), 1]);
    let input = json!({"name": "text", "shape": shape, "datatype": "BYTES", "data": texts});
    Message::text(json!({"inputs": [input]}).to_string())
}

#[test]
fn a_text_classifier_is_served_as_it_was_exported_and_takes_text_in_every_form() {
    let program = Program::serve(&test_model("weather"), &["--workers", "1"]);
    let metadata = program.get("/v2/models/weather").json();
    assert_eq!(metadata["inputs"][0], json!({"name": "text", "datatype": "BYTES", "shape": [-1, 1]}));
    let mut client = program.connect("/");
    for message in
        [Message::text("The SUN shines"), Message::binary("The SUN shines"), said(json!(["The SUN shines"]))]
    {
        let reply = ask_json(&mut client, message);
        assert_eq!((weather(&reply), &reply["outputs"][1]["shape"]), (vec!["good"], &json!([1, 2])));
        assert_eq!(reply["outputs"][2]["data"], json!(["The SUN shines!"]));
    }
    for kind in ["text/plain; charset=utf-8", "application/octet-stream"] {
        let reply =
            program.post("/v2/models/weather/infer", &format!("Content-Type: {kind}\r\n"), b"rain, rain");
        assert_eq!(weather(&reply.json()), ["bad"]);
    }
    let rows = json!({"instances": [["rain"], {"text": ["sun"]}, ["Привет"]]}).to_string();
    let reply = ask_json(&mut client, Message::text(rows));
    let predictions = reply["predictions"].as_array().unwrap_or_else(|| panic!("{reply}"));
    let classes: Vec<&str> = predictions.iter().map(|row| row["weather"].as_str().unwrap()).collect();
    assert_eq!(classes, ["bad", "good", "good"]);
    // What an error shows as an example can be sent.
    let reply = ask_json(&mut client, Message::text("{}"));
    let example = reply["error"].as_str().unwrap().split("this model: ").nth(1).unwrap();
    assert!(ask_json(&mut client, Message::text(example))["outputs"].is_array(), "{example}");
}

#[test]
fn texts_of_many_clients_run_together_and_each_gets_its_own_answer() {
    let manifest = r#"{"max_batch_size": 64, "dynamic_batching": {"max_queue_delay_microseconds": 2000}}"#;
    let folder = with_manifest("weather", "text_batches", manifest);
    let program = Program::serve(&folder, &["--workers", "1"]);
    let texts =
        ["sun", "rain", "The sun shines", "snow and rain and cloud", "", "sun sun sun sun sun sun sun"];
    std::thread::scope(|scope| {
        for at in 0..8 {
            let mut client = program.connect("/");
            scope.spawn(move || {
                for round in 0..40 {
                    let text = texts[(at + round) % texts.len()];
                    let reply = ask_json(&mut client, Message::text(text));
                    assert_eq!(reply["outputs"][2]["data"], json!([format!("{text}!")]), "{reply}");
                    let expected = if text.contains("rain") { "bad" } else { "good" };
                    assert_eq!(weather(&reply), [expected], "{text}");
                }
            });
        }
    });
}

#[test]
fn a_text_that_a_model_cannot_take_is_refused_and_nobody_else_is_affected() {
    let program = Program::serve(&test_model("weather"), &["--workers", "1"]);
    let mut client = program.connect("/");
    let mut other = program.connect("/?framing=v2");
    let input = |data: Value, shape: Value, datatype: &str| {
        let input = json!({"name": "text", "shape": shape, "datatype": datatype, "data": data});
        Message::text(json!({"inputs": [input]}).to_string())
    };
    for (message, words) in [
        (Message::binary(vec![b'a', 0xff]), "element 0 is not UTF-8"),
        (input(json!([1]), json!([1, 1]), "BYTES"), "element 0 is 1: expected a string"),
        (input(json!(["a"]), json!([1]), "BYTES"), "expected [-1,1]"),
        (input(json!(["a", "b"]), json!([1, 1]), "BYTES"), "holds 1 elements"),
        (input(json!([1.0]), json!([1, 1]), "FP32"), "expected BYTES"),
        (Message::text(r#"{"instances": ["rain"]}"#), "expected [1]"),
        (Message::text("{rain}"), "goes into `inputs`"),
    ] {
        let reply = ask_json(&mut client, message);
        assert_eq!(reply["code"], "invalid_request", "{reply}");
        assert!(reply["error"].as_str().unwrap().contains(words), "expected `{words}` in {reply}");
        assert_eq!(weather(&ask_json(&mut client, Message::text("rain"))), ["bad"]);
    }
    let tensor = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    let request = |text: &[u8]| {
        let bytes = tensor(text);
        let input = json!({"name": "text", "shape": [1, 1], "datatype": "BYTES",
            "parameters": {"binary_data_size": bytes.len()}});
        Message::binary(v2(&json!({"inputs": [input]}).to_string(), &bytes))
    };
    let reply = ask_json(&mut other, request(&[0xc3]));
    assert!(reply["error"].as_str().unwrap().contains("input `text`: element 0 is not UTF-8"), "{reply}");
    assert_eq!(weather(&ask_json(&mut other, request("rain".as_bytes()))), ["bad"]);
}
