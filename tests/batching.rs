//! Batches: measured or fixed sizes; a request in a batch does not affect the others.

use tungstenite::Message;

use crate::support::*;

/// Batches of up to `rows` rows, used without being measured, with one worker.
fn pinned(model: &str, test: &str, rows: usize) -> Program {
    let manifest = format!(
        r#"{{"max_batch_size": {rows}, "dynamic_batching": {{"preferred_batch_size": [{rows}], "max_queue_delay_microseconds": 200000}}}}"#
    );
    let mut program = Program::serve(&with_manifest(model, test, &manifest), &["--workers", "1"]);
    program.says("batches of");
    program
}

#[test]
fn rows_of_many_conversations_run_together_and_everyone_gets_his_own() {
    let program = pinned("affine", "batch-affine", 8);
    let mut clients: Vec<Client> = (0..24).map(|_| program.connect("/")).collect();
    for round in 0..20 {
        for (at, client) in clients.iter_mut().enumerate() {
            let row = [at as f32, round as f32, 1.0];
            let text = format!(r#"{{"instances": [{row:?}]}}"#);
            client.send(Message::text(text)).unwrap();
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let expected = serde_json::json!([[at as f32 + 1.5, round as f32 + 0.5]]);
            assert_eq!(json(&answer(client))["predictions"], expected);
        }
    }
}

#[test]
fn rows_that_fill_no_plan_are_answered_as_if_they_did() {
    let program = pinned("affine", "batch-uneven", 8);
    let mut client = program.connect("/");
    for rows in 1..=8 {
        let instances: Vec<[f32; 3]> = (0..rows).map(|row| [row as f32, 0.0, 1.0]).collect();
        let reply = ask_json(&mut client, Message::text(format!(r#"{{"instances": {instances:?}}}"#)));
        let expected: Vec<[f32; 2]> = (0..rows).map(|row| [row as f32 + 1.5, 0.5]).collect();
        assert_eq!(reply["predictions"], serde_json::json!(expected));
    }
}

#[test]
fn a_poisoned_row_fails_alone_and_its_batch_is_answered() {
    let program = pinned("share", "batch-share", 8);
    let mut clients: Vec<Client> = (0..16).map(|_| program.connect("/")).collect();
    for round in 0..10 {
        for (at, client) in clients.iter_mut().enumerate() {
            let divisor = if at == round { 0 } else { 2 };
            client
                .send(Message::text(format!(r#"{{"instances": [{{"a": [{at}], "b": [{divisor}]}}]}}"#)))
                .unwrap();
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let reply = json(&answer(client));
            if at == round {
                assert_eq!(reply["code"], "inference_failed", "{reply}");
            } else {
                assert_eq!(reply["predictions"], serde_json::json!([[at / 2]]), "{reply}");
            }
        }
    }
}

#[test]
fn a_deadline_that_passes_in_the_queue_is_answered_and_the_rest_of_the_batch_is_run() {
    let program = Program::serve(&test_model("slow200"), &["--workers", "1"]);
    let mut first = program.connect("/");
    let mut others: Vec<Client> = (0..4).map(|_| program.connect("/")).collect();
    let request = |timeout: u64| {
        Message::text(format!(
            r#"{{"parameters": {{"timeout": {timeout}}}, "inputs": [{{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}}]}}"#
        ))
    };
    first.send(request(0)).unwrap();
    for (at, client) in others.iter_mut().enumerate() {
        client.send(request(if at % 2 == 0 { 1 } else { 30_000_000 })).unwrap();
    }
    assert!(json(&answer(&mut first))["outputs"].is_array());
    for (at, client) in others.iter_mut().enumerate() {
        let reply = json(&answer(client));
        if at % 2 == 0 {
            assert_eq!(reply["code"], "deadline_exceeded", "{reply}");
        } else {
            assert!(reply["outputs"].is_array(), "{reply}");
        }
    }
}

#[test]
fn rows_that_depend_on_each_other_are_found_out_and_never_run_together() {
    let model = with_manifest("mixed", "batch-mixed", r#"{"max_batch_size": 8}"#);
    let mut program = Program::serve(&model, &[]);
    program.says("rows are not independent");
    program.says("batches do not pay");
    let reply =
        ask_json(&mut program.connect("/"), Message::text(r#"{"instances": [[1,2,3,4], [0,0,0,0]]}"#));
    assert_eq!(reply["predictions"], serde_json::json!([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]));
    let report = String::from_utf8(onnxd().arg("check").arg(&model).output().unwrap().stdout).unwrap();
    assert!(report.contains("2 rows: not used, rows are not independent"), "{report}");
}

#[test]
fn check_prints_what_each_size_of_batch_takes() {
    let model = with_manifest("affine", "batch-check", r#"{"max_batch_size": 4}"#);
    let report = String::from_utf8(onnxd().arg("check").arg(&model).output().unwrap().stdout).unwrap();
    assert!(report.contains("batches  1 row: "), "{report}");
    assert!(report.contains("         2 rows: ") && report.contains("times a single row's rate"), "{report}");
}

#[test]
fn a_lone_request_waits_for_no_batch() {
    let manifest = r#"{"max_batch_size": 8, "dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 3600000000}}"#;
    let mut program = Program::serve(&with_manifest("affine", "batch-lone", manifest), &["--workers", "1"]);
    program.says("batches of 8 are used");
    // An hour's delay would be a time-out here.
    let reply = ask_json(&mut program.connect("/"), Message::text(r#"{"instances": [[1,2,3]]}"#));
    assert!(reply["predictions"].is_array(), "{reply}");
}

#[test]
fn batches_that_cannot_be_meant_are_refused_at_start() {
    for (manifest, words) in [
        (
            r#"{"max_batch_size": 4, "dynamic_batching": {"preferred_batch_size": [8]}}"#,
            "has 1 to max_batch_size (4) rows",
        ),
        (r#"{"dynamic_batching": {"max_queue_delay_microseconds": 5}}"#, "needs `max_batch_size`"),
        (
            r#"{"max_batch_size": 4, "dynamic_batching": {"prefered_batch_size": [2]}}"#,
            "did you mean `preferred_batch_size`",
        ),
    ] {
        let model = with_manifest("affine", "batch-refused", manifest);
        let output = onnxd().arg("check").arg(&model).output().unwrap();
        assert!(!output.status.success());
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn plans_for_batches_take_no_more_memory_than_they_may() {
    let model = with_manifest("affine", "batch-bytes", r#"{"max_batch_size": 4}"#);
    let mut program = Program::serve(&model, &["--max-plan-bytes", "10", "--log", "debug"]);
    program.says("2 rows: not tried, the plans would have 392 bytes of weights (--max-plan-bytes)");
    program.says("batches do not pay");
}
