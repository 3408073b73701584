//! A signal to stop, under load: every accepted request is answered, and both sides count the same number.

use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::*;
use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

const RUNS: usize = 50;
const CLIENTS: usize = 64;
const IN_FLIGHT: usize = 4;

#[test]
fn fifty_drains_under_load_lose_no_accepted_request() {
    let request = |id: u64| {
        let row: Vec<f32> = (0..3).map(|at| (id % 7) as f32 + at as f32).collect();
        let request = json!({"id": id.to_string(), "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row}]});
        Message::text(request.to_string())
    };
    let mut total = 0;
    for run in 0..RUNS {
        let mut program = Program::serve(&test_model("affine"), &[]);
        let answered = AtomicU64::new(0);
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let mut client = program.connect("/");
                    let answered = &answered;
                    scope.spawn(move || {
                        let mut sent = 0;
                        let mut send = |client: &mut Client| {
                            // A send that fails is a server that has said goodbye already: read it.
                            let _ = client.send(request(sent));
                            sent += 1;
                        };
                        for _ in 0..IN_FLIGHT {
                            send(&mut client);
                        }
                        let mut received = 0;
                        loop {
                            match client.read().expect("a close before the end") {
                                Message::Close(frame) => {
                                    assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1001));
                                    return received;
                                }
                                message @ Message::Text(_) => {
                                    let reply = json(&message);
                                    assert_eq!(reply["id"], received.to_string(), "{reply}");
                                    assert!(reply["outputs"].is_array(), "{reply}");
                                    received += 1;
                                    answered.fetch_add(1, Ordering::Relaxed);
                                    send(&mut client);
                                }
                                _ => {}
                            }
                        }
                    })
                })
                .collect();
            while answered.load(Ordering::Relaxed) < 1000 {
                assert!(clients.iter().all(|client| !client.is_finished()));
                std::thread::yield_now();
            }
            program.signal(Signal::TERM);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let line = program.wait_for("requests accepted");
        let received: u64 = counts.iter().sum();
        assert!(
            line.contains(&format!(
                "{CLIENTS} conversations: {received} requests accepted, {received} answered"
            )),
            "run {run}: {received} answers came: {line}"
        );
        assert_eq!(program.wait().code(), Some(0));
        total += received;
    }
    println!("{RUNS} drains of {CLIENTS} conversations: {total} requests accepted, {total} answered");
}

#[test]
fn a_body_that_drips_does_not_hold_up_the_end_and_is_answered_503() {
    let mut program = Program::serve(&root().join("model"), &["--close-timeout", "500ms"]);
    let mut stream = program.tcp();
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    program.signal(Signal::TERM);
    program.wait_for("draining 1 connections");
    assert_eq!(HttpResponse::read(&mut BufReader::new(&stream)).status, 503);
    drop(stream);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_run_longer_than_the_stuck_timeout_ends_the_server_with_an_exit_code_of_its_own() {
    let flags = ["--workers", "1", "--stuck-timeout", "20ms"];
    let mut program = Program::serve(&test_model("slow"), &flags);
    let mut client = program.connect("/");
    client.send(Message::text(r#"{"instances": [[2]]}"#)).unwrap();
    let line = program.wait_for("longer than --stuck-timeout");
    assert!(line.contains("ERROR") && line.contains("slow-w0"), "{line}");
    program.wait_for("a run that does not end: draining 1 connections");
    assert_eq!(program.wait().code(), Some(3));
}

#[test]
fn a_run_shorter_than_the_stuck_timeout_changes_nothing() {
    let mut program = Program::serve(&test_model("affine"), &["--stuck-timeout", "60s"]);
    let reply = ask_json(&mut program.connect("/"), Message::text(r#"{"instances": [[1, 2, 3]]}"#));
    assert!(reply["predictions"].is_array(), "{reply}");
    assert_eq!(program.get("/v2/health/ready").status, 200);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}
