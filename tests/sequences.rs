//! Sequences: a state is kept from request to request, in order, and requests of other sequences do not change it. The
//! model answers with the sum of everything that a sequence has sent.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::*;

const STATE: &str = r#"{"input": "state", "output": "state_out"}"#;

fn running(test: &str, more: &str, sequence: &str, flags: &[&str]) -> Program {
    let manifest = format!(r#"{{{more} "sequence": {{"states": [{STATE}] {sequence}}}}}"#);
    Program::serve(&with_manifest("running", test, &manifest), flags)
}

fn step(x: f32, parameters: &Value) -> String {
    json!({"parameters": parameters, "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [x, 1.0]}]})
        .to_string()
}

fn sums(reply: &Value) -> (f64, f64) {
    let data = &reply["outputs"][0]["data"];
    (data[0].as_f64().unwrap_or_else(|| panic!("{reply}")), data[1].as_f64().unwrap())
}

fn ask_step(client: &mut Client, x: f32, parameters: Value) -> Value {
    ask_json(client, Message::text(step(x, &parameters)))
}

#[test]
fn a_conversation_is_a_sequence_whose_pipelined_steps_keep_their_order_on_many_workers() {
    let program = running("sequence-order", "", "", &["--workers", "4"]);
    let mut clients: Vec<Client> = (0..8).map(|_| program.connect("/")).collect();
    for client in &mut clients {
        for x in 1..=30 {
            client.send(Message::text(step(x as f32, &json!({})))).unwrap();
        }
    }
    for client in &mut clients {
        for x in 1..=30 {
            let sum = f64::from(x * (x + 1) / 2);
            assert_eq!(sums(&json(&answer(client))), (sum, f64::from(x)));
        }
    }
}

#[test]
fn a_state_begins_at_zero_and_never_leaks_into_another_conversation() {
    let program = running("sequence-leak", "", "", &["--workers", "1"]);
    for _ in 0..3 {
        let mut client = program.connect("/");
        assert_eq!(sums(&ask_step(&mut client, 5.0, json!({}))), (5.0, 1.0));
        assert_eq!(sums(&ask_step(&mut client, 5.0, json!({}))), (10.0, 2.0));
    }
}

#[test]
fn the_state_is_no_input_or_output_of_the_signature() {
    let program = running("sequence-signature", "", "", &[]);
    let metadata = program.get("/v2/models/sequence-signature").json();
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (names(&metadata["inputs"]), names(&metadata["outputs"])),
        (vec!["x".into()], vec!["y".into()])
    );
}

#[test]
fn start_and_end_begin_the_conversations_sequence_anew() {
    let program = running("sequence-flags", "", "", &[]);
    let mut client = program.connect("/");
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({}))).0, 1.0);
    assert_eq!(sums(&ask_step(&mut client, 2.0, json!({"sequence_start": true}))).0, 2.0);
    assert_eq!(sums(&ask_step(&mut client, 3.0, json!({"sequence_end": true}))).0, 5.0);
    assert_eq!(sums(&ask_step(&mut client, 4.0, json!({}))).0, 4.0);
}

#[test]
fn one_conversation_holds_several_named_sequences_apart() {
    let program = running("sequence-named", "", ", \"max_sequences\": 2", &[]);
    let mut client = program.connect("/");
    let unknown = ask_step(&mut client, 1.0, json!({"sequence_id": 7}));
    assert!(
        unknown["error"].as_str().unwrap().contains("begin it with the parameter sequence_start"),
        "{unknown}"
    );
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({"sequence_id": 7, "sequence_start": true}))).0, 1.0);
    assert_eq!(
        sums(&ask_step(&mut client, 10.0, json!({"sequence_id": "b", "sequence_start": true}))).0,
        10.0
    );
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({"sequence_id": 7}))).0, 2.0);
    assert_eq!(sums(&ask_step(&mut client, 10.0, json!({"sequence_id": "b"}))).0, 20.0);
    assert_eq!(sums(&ask_step(&mut client, 100.0, json!({}))).0, 100.0, "the conversation's own is a third");
    let third = ask_step(&mut client, 1.0, json!({"sequence_id": "c", "sequence_start": true}));
    assert_eq!(third["code"], "overloaded", "{third}");
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({"sequence_id": 7, "sequence_end": true}))).0, 3.0);
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({"sequence_id": "c", "sequence_start": true}))).0, 1.0);
    let ended = ask_step(&mut client, 1.0, json!({"sequence_id": 7}));
    assert_eq!(ended["code"], "invalid_request", "{ended}");
    let other = ask_step(&mut program.connect("/"), 1.0, json!({"sequence_id": "b"}));
    assert_eq!(other["code"], "invalid_request", "an id means nothing in another conversation: {other}");
}

#[test]
fn over_http_a_sequence_lives_by_its_id_until_it_ends_or_is_idle_for_too_long() {
    let program = running("sequence-http", "", ", \"max_sequence_idle_microseconds\": 300000000", &[]);
    let post = |x: f32, parameters: Value| {
        let path = "/v2/models/sequence-http/infer";
        program.post(path, "", step(x, &parameters).as_bytes()).json()
    };
    assert_eq!(sums(&post(1.0, json!({}))).0, 1.0);
    assert_eq!(sums(&post(1.0, json!({}))).0, 1.0, "without an id each request is a sequence of its own");
    assert_eq!(sums(&post(1.0, json!({"sequence_id": 3, "sequence_start": true}))).0, 1.0);
    assert_eq!(sums(&post(1.0, json!({"sequence_id": 3}))).0, 2.0);
    assert_eq!(sums(&post(1.0, json!({"sequence_id": 3, "sequence_end": true}))).0, 3.0);
    assert_eq!(post(1.0, json!({"sequence_id": 3}))["code"], "invalid_request");

    let short =
        running("sequence-idle", "", ", \"max_sequences\": 1, \"max_sequence_idle_microseconds\": 0", &[]);
    let post = |parameters: Value| {
        short.post("/v2/models/sequence-idle/infer", "", step(1.0, &parameters).as_bytes()).json()
    };
    assert_eq!(sums(&post(json!({"sequence_id": 1, "sequence_start": true}))).0, 1.0);
    assert_eq!(post(json!({"sequence_id": 1}))["code"], "invalid_request", "it was idle for too long");
    for id in 2..5 {
        let reply = post(json!({"sequence_id": id, "sequence_start": true}));
        assert_eq!(sums(&reply).0, 1.0, "one that is idle for too long takes no other's place");
    }
}

#[test]
fn a_declared_initial_state_is_what_a_sequence_begins_with() {
    let manifest = r#"{"sequence": {"states": [{"input": "state", "output": "state_out", "initial": 100}]}}"#;
    let program = Program::serve(&with_manifest("running", "sequence-initial", manifest), &[]);
    assert_eq!(sums(&ask_step(&mut program.connect("/"), 1.0, json!({}))), (101.0, 101.0));
}

#[test]
fn states_of_different_conversations_are_batched_along_their_axis_and_stay_apart() {
    let manifest = r#"{"max_batch_size": 8, "dynamic_batching": {"preferred_batch_size": [2, 4, 8]},
        "sequence": {"states": [{"input": "state", "output": "state_out", "batch_axis": 1}]}}"#;
    let mut program =
        Program::serve(&with_manifest("running", "sequence-batch", manifest), &["--workers", "1"]);
    program.says("batches of 2, 4, 8 are used");
    let mut clients: Vec<Client> = (0..13).map(|_| program.connect("/")).collect();
    for round in 1..=20 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(Message::text(step(at as f32, &json!({})))).unwrap();
        }
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(sums(&json(&answer(client))), ((at * round) as f64, round as f64));
        }
    }
}

#[test]
fn a_step_that_is_refused_changes_nothing_and_the_next_goes_on() {
    let program = running("sequence-refused", "", "", &[]);
    let mut client = program.connect("/");
    assert_eq!(sums(&ask_step(&mut client, 1.0, json!({}))).0, 1.0);
    let refused = ask_json(&mut client, Message::text(r#"{"inputs": []}"#));
    assert_eq!(refused["code"], "invalid_request");
    let late = step(1.0, &json!({"timeout": 1}));
    client.send(Message::text(late)).unwrap();
    let late = json(&answer(&mut client));
    let before = if late["code"] == "deadline_exceeded" { 1.0 } else { sums(&late).0 };
    assert_eq!(sums(&ask_step(&mut client, 5.0, json!({}))).0, before + 5.0);
}

#[test]
fn a_state_that_does_not_fit_is_refused_at_start_with_the_names() {
    for (states, words) in [
        (
            r#"{"input": "stat", "output": "state_out"}"#,
            "`stat` is not an input of the model, which has `x`, `state`",
        ),
        (r#"{"input": "state", "output": "nothing"}"#, "`nothing` is not an output of the model"),
        (
            r#"{"input": "state", "output": "y"}"#,
            "output `y` is FP32 [1, 2], but input `state` is FP32 [1, 1, 2]",
        ),
    ] {
        let manifest = format!(r#"{{"sequence": {{"states": [{states}]}}}}"#);
        let model = with_manifest("running", "sequence-wrong", &manifest);
        let output = onnxd().arg("check").arg(&model).output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && report.contains(words), "{report}");
    }
}

#[test]
fn a_step_that_is_refused_for_lack_of_room_may_be_sent_again_and_its_sequence_is_as_it_was() {
    let program = running("sequence-full", "", "", &["--workers", "1", "--queue-capacity", "1"]);
    let over = std::sync::atomic::AtomicBool::new(false);
    let crowd: Vec<Client> = (0..3).map(|_| program.connect("/")).collect();
    let mut client = program.connect("/");
    let (mut replies, mut refused) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        // They keep the queue full.
        for mut client in crowd {
            let over = &over;
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    for id in 0..20 {
                        let parameters = json!({"sequence_id": id, "sequence_start": true});
                        client.write(Message::text(step(1.0, &parameters))).unwrap();
                    }
                    client.flush().unwrap();
                    (0..20).for_each(|_| drop(answer(&mut client)));
                }
            });
        }
        for id in 0..300 {
            for (x, flag) in [(1.0, "sequence_start"), (2.0, "none"), (4.0, "sequence_end")] {
                let mut parameters = json!({"sequence_id": id});
                if flag != "none" {
                    parameters[flag] = true.into();
                }
                // Again and again until there is room for it.
                let reply = loop {
                    let reply = ask_step(&mut client, x, parameters.clone());
                    if reply["code"] != "overloaded" {
                        break reply;
                    }
                    refused += 1;
                };
                replies.push(reply);
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(refused > 0, "nothing was ever refused: the queue was never full");
    for replies in replies.chunks(3) {
        assert_eq!(replies.iter().map(|reply| sums(reply).0).collect::<Vec<_>>(), [1.0, 3.0, 7.0]);
    }
}
