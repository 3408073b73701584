//! Conversations: order, pings, back-pressure, closing.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::*;
use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

fn slow(id: &str) -> Message {
    Message::text(
        json!({"id": id, "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]})
            .to_string(),
    )
}

fn slow_program(flags: &[&str]) -> Program {
    Program::serve(&test_model("slow200"), &[&["--workers", "1"], flags].concat())
}

/// Sends a ping and reads until its pong: by then everything sent before it has been taken. Data
/// messages that come first are returned.
fn ping(client: &mut Client) -> Vec<serde_json::Value> {
    client.send(Message::Ping(b"here?".to_vec().into())).unwrap();
    let mut before = Vec::new();
    loop {
        match client.read().unwrap() {
            Message::Pong(payload) => {
                assert_eq!(&payload[..], b"here?");
                return before;
            }
            message => before.push(json(&message)),
        }
    }
}

#[test]
fn a_ping_is_answered_while_a_slow_inference_runs() {
    let program = Program::serve(&test_model("slow"), &["--workers", "1"]);
    let mut client = program.connect("/");
    client.send(slow("1")).unwrap();
    assert!(ping(&mut client).is_empty(), "the reply took more than a second, and the pong came before it");
    assert_eq!(json(&answer(&mut client))["id"], "1");
}

#[test]
fn a_ping_is_answered_while_a_result_is_made_that_takes_long() {
    let manifest = r#"{"result": {"kind": "detections", "decoder": "yolo", "output": "y", "labels": ["ship"],
                       "rotated": true, "max": 3000}}"#;
    let program = Program::serve(&with_manifest("boxes", "boxes_long", manifest), &["--workers", "1"]);
    // Turned boxes that lie apart, and then many more at the place of the last: each is compared with all others. The
    // model itself only gives back what it gets.
    let (apart, anchors) = (2999, 10_000);
    let mut numbers = vec![1f32; 6 * anchors];
    for anchor in 0..anchors {
        let cell = anchor.min(apart - 1);
        numbers[anchor] = (cell % 100) as f32 * 10.0;
        numbers[anchors + anchor] = (cell / 100) as f32 * 10.0;
        numbers[4 * anchors + anchor] = 0.9 - cell as f32 * 1e-4;
    }
    let tensor = |name: &str, shape: [usize; 3]| {
        let size = shape.iter().product::<usize>() * 4;
        json!({"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}})
    };
    numbers.extend([0.0; 2 + 4]);
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let inputs =
        [tensor("y_in", [1, 6, anchors]), tensor("logits_in", [1, 1, 2]), tensor("boxes_in", [1, 1, 4])];
    let mut client = program.connect("/?framing=v2");
    let begun = Instant::now();
    client.send(Message::binary(v2(&json!({"inputs": inputs}).to_string(), &bytes))).unwrap();
    let mut longest = Duration::ZERO;
    let reply = loop {
        let asked = Instant::now();
        client.send(Message::Ping(Default::default())).unwrap();
        match client.read().unwrap() {
            Message::Pong(_) => longest = longest.max(asked.elapsed()),
            message => break json(&message),
        }
    };
    assert_eq!(reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}")).len(), apart);
    // If the connection's thread made the result, it would read one ping only afterwards.
    let whole = begun.elapsed();
    assert!(longest * 2 < whole, "a pong took {longest:?} of {whole:?}");
}

#[test]
fn an_answer_known_at_once_waits_for_the_ones_before_it() {
    let program = slow_program(&[]);
    let mut client = program.connect("/");
    client.send(slow("first")).unwrap();
    client.send(Message::text(r#"{"id": "second", "inputs": []}"#)).unwrap();
    assert_eq!(json(&answer(&mut client))["id"], "first");
    let second = json(&answer(&mut client));
    assert_eq!((&second["id"], &second["code"]), (&json!("second"), &json!("invalid_request")));
}

#[test]
fn a_ping_behind_more_requests_than_may_be_in_flight_is_answered_at_once() {
    let program = Program::serve(&test_model("slow"), &["--workers", "1", "--max-in-flight", "2"]);
    let mut client = program.connect("/");
    for id in 0..4 {
        client.send(slow(&id.to_string())).unwrap();
    }
    assert!(
        ping(&mut client).is_empty(),
        "each reply takes more than a second, and the pong came before them"
    );
    for id in 0..4 {
        assert_eq!(json(&answer(&mut client))["id"], id.to_string());
    }
}

#[test]
fn at_max_in_flight_bytes_reading_stops_until_an_answer_has_left() {
    let program = slow_program(&["--max-in-flight-bytes", "150"]);
    let mut client = program.connect("/");
    // About 90 bytes each.
    for id in ["1", "2", "3"] {
        client.send(slow(id)).unwrap();
    }
    // The ping is behind the third request, which is not read before the first is answered.
    let before = ping(&mut client);
    assert!(!before.is_empty() && before[0]["id"] == "1", "{before:?}");
    for id in before.len() + 1..=3 {
        assert_eq!(json(&answer(&mut client))["id"], id.to_string());
    }
}

#[test]
fn who_closes_right_behind_his_requests_gets_all_answers() {
    let program = slow_program(&["--max-in-flight", "8", "--close-timeout", "30s"]);
    let mut client = program.connect("/");
    for id in 0..12 {
        client.send(slow(&id.to_string())).unwrap();
    }
    client.close(None).unwrap();
    for id in 0..12 {
        assert_eq!(json(&answer(&mut client))["id"], id.to_string());
    }
    assert!(matches!(client.read(), Ok(Message::Close(_))), "and then the close");
}

#[test]
fn a_full_queue_answers_overloaded_at_once_and_loses_nothing() {
    let program = slow_program(&["--queue-capacity", "1"]);
    let mut client = program.connect("/");
    for id in 0..6 {
        client.send(slow(&id.to_string())).unwrap();
    }
    let (mut served, mut overloaded) = (0, 0);
    for id in 0..6 {
        let reply = json(&answer(&mut client));
        assert_eq!(reply["id"], id.to_string());
        match reply["code"].as_str() {
            None => served += 1,
            Some("overloaded") => overloaded += 1,
            Some(other) => panic!("{other}"),
        }
    }
    assert!(served >= 1 && overloaded >= 1, "{served} served, {overloaded} overloaded");
    let reply = ask_json(&mut client, slow("after"));
    assert_eq!(reply["outputs"][0]["data"], json!([2.0]));
}

#[test]
fn a_request_whose_deadline_passed_in_the_queue_is_told_so() {
    let program = slow_program(&[]);
    let mut client = program.connect("/");
    client.send(slow("long")).unwrap();
    let hasty = json!({"id": "hasty", "parameters": {"timeout": 1000},
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]});
    client.send(Message::text(hasty.to_string())).unwrap();
    assert_eq!(json(&answer(&mut client))["id"], "long");
    let reply = json(&answer(&mut client));
    assert_eq!((&reply["id"], &reply["code"]), (&json!("hasty"), &json!("deadline_exceeded")));
    let mut client = program.connect("/?timeout=1");
    client.send(slow("1")).unwrap();
    assert!(["1", "2"].contains(&json(&answer(&mut client))["id"].as_str().unwrap()));
}

#[test]
fn what_a_vanished_client_had_queued_is_not_run() {
    let program = slow_program(&[]);
    let mut gone = program.connect("/");
    for id in 0..25 {
        gone.send(slow(&id.to_string())).unwrap();
    }
    ping(&mut gone);
    drop(gone);
    // The 25 would take five seconds and more; this one waits for two at most.
    let request = json!({"parameters": {"timeout": 3_000_000},
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]});
    let reply = ask_json(&mut program.connect("/"), Message::text(request.to_string()));
    assert_eq!(reply["outputs"][0]["data"], json!([2.0]), "{reply}");
}

#[test]
fn a_message_over_the_limit_is_answered_by_close_1009() {
    let program = Program::serve(&root().join("model"), &["--max-message-bytes", "1000"]);
    let mut client = program.connect("/");
    client.send(Message::binary(vec![0; 1001])).unwrap();
    assert_eq!(close_code(&mut client), 1009);
    // One that only says it will be large is closed before it comes.
    let mut client = program.connect("/");
    client.get_mut().write_all(&[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    assert_eq!(close_code(&mut client), 1009);
    // And one in fragments, each of them small.
    let mut client = program.connect("/");
    let fragment = |opcode: u8| [&[opcode, 0x80 | 100, 0, 0, 0, 0][..], &[0; 100]].concat();
    client.get_mut().write_all(&fragment(0x02)).unwrap();
    for _ in 0..10 {
        client.get_mut().write_all(&fragment(0x00)).unwrap();
    }
    assert_eq!(close_code(&mut client), 1009);
}

#[test]
fn a_frame_over_its_own_limit_is_answered_by_close_1009_and_the_same_message_in_smaller_ones_is_not() {
    let program = Program::serve(&test_model("open"), &["--max-frame-bytes", "100"]);
    let message = slow("x").into_data();
    let frame = |opcode: u8, payload: &[u8]| {
        [&[opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat()
    };
    let (first, second) = message.split_at(message.len() / 2);
    let mut client = program.connect("/");
    client.get_mut().write_all(&[frame(0x01, first), frame(0x80, second)].concat()).unwrap();
    assert_eq!(json(&answer(&mut client))["id"], "x");
    client.get_mut().write_all(&frame(0x81, &[b' '; 101])).unwrap();
    assert_eq!(close_code(&mut client), 1009);
}

#[test]
fn what_breaks_rfc_6455_is_closed_with_the_code_it_asks_for() {
    let program = Program::digits();
    for (frame, code) in [
        // Text that is not UTF-8.
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe][..], 1007),
        // Not masked.
        (&[0x82, 0x01, 0x00], 1002),
        // A reserved opcode.
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        // A reserved bit, with no extension agreed on.
        (&[0xc2, 0x80, 0, 0, 0, 0], 1002),
        // A continuation of nothing.
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),
        // A ping in fragments.
        (&[0x09, 0x80, 0, 0, 0, 0], 1002),
        // A ping that declares 16 MB.
        (&[0x89, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 1002),
    ] {
        let mut client = program.connect("/");
        client.get_mut().write_all(frame).unwrap();
        assert_eq!(close_code(&mut client), code, "{frame:x?}");
    }
    // The close handshake itself: our close is echoed, then the stream ends.
    let mut client = program.connect("/");
    client.close(None).unwrap();
    close_code(&mut client);
    assert_eq!(client.get_mut().read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_signal_to_stop_answers_what_was_accepted_and_says_1001() {
    let mut program = slow_program(&[]);
    let mut client = program.connect("/");
    let mut idle = program.connect("/");
    for id in 0..5 {
        client.send(slow(&id.to_string())).unwrap();
    }
    let answered = ping(&mut client).len();
    program.signal(Signal::TERM);
    program.wait_for("draining 2 connections");
    for id in answered..5 {
        assert_eq!(json(&answer(&mut client))["id"], id.to_string());
    }
    assert_eq!((close_code(&mut client), close_code(&mut idle)), (1001, 1001));
    assert!(client.read().is_err() && idle.read().is_err(), "after the close there is nothing");
    assert!(std::net::TcpStream::connect(program.address).is_err(), "the port is closed");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn after_a_signal_requests_are_served_for_the_drain_delay_while_probes_say_not_ready() {
    let mut program = Program::serve(&root().join("model"), &["--drain-delay", "1500ms"]);
    program.signal(Signal::TERM);
    program.wait_for("leaving");
    assert_eq!((program.get("/health").status, program.get("/v2/health/ready").status), (503, 503));
    let mut late = program.connect("/");
    assert_eq!(best(&ask_json(&mut late, Message::binary(png(&held_out(8).1)))), 8);
    assert_eq!(close_code(&mut late), 1001);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let mut program = slow_program(&[]);
    let mut client = program.connect("/");
    for id in 0..30 {
        client.send(slow(&id.to_string())).unwrap();
    }
    ping(&mut client);
    program.signal(Signal::INT);
    program.wait_for("draining");
    program.signal(Signal::INT);
    assert_eq!(program.wait().code(), Some(130));
}

#[test]
fn a_ping_is_answered_while_draining_and_what_else_is_sent_is_not_taken() {
    let mut program = slow_program(&[]);
    let mut client = program.connect("/");
    client.send(slow("1")).unwrap();
    client.send(slow("2")).unwrap();
    ping(&mut client);
    program.signal(Signal::TERM);
    program.wait_for("draining");
    client.send(slow("too late")).unwrap();
    let before: Vec<_> = ping(&mut client).iter().map(|reply| reply["id"].clone()).collect();
    for id in before.len() + 1..=2 {
        assert_eq!(json(&answer(&mut client))["id"], id.to_string());
    }
    assert_eq!(close_code(&mut client), 1001);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_peer_that_never_pauses_does_not_hold_up_the_end() {
    let mut program = Program::digits();
    let client = program.connect("/");
    // Fragments without end and without content, which never make a message.
    let mut stream = client.get_ref().try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        stream.write_all(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
        let fragments = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
        while stream.write_all(&fragments).is_ok() {}
    });
    program.signal(Signal::TERM);
    program.wait_for("stopped");
    assert_eq!(program.wait().code(), Some(0));
    drop(client);
    flood.join().unwrap();
}

#[test]
fn a_peer_that_stops_reading_is_dropped_and_a_slow_one_is_not() {
    let mut program = Program::serve(&test_model("open"), &["--write-timeout", "1s"]);
    let request = json!({"inputs": [
        {"name": "x", "shape": [1, 200_000], "datatype": "FP32", "data": vec![0.123_456_7; 200_000]}]});
    let message = Message::text(request.to_string());
    let mut slow = program.connect("/");
    let mut stopped = program.connect("/");
    for client in [&mut slow, &mut stopped] {
        client.get_mut().set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut writer = tungstenite::WebSocket::from_raw_socket(
            client.get_ref().try_clone().unwrap(),
            tungstenite::protocol::Role::Client,
            None,
        );
        let message = message.clone();
        std::thread::spawn(move || while writer.send(message.clone()).is_ok() {});
    }
    // Read in small pieces, for three times the time-out, with less than it between two of them.
    let begun = Instant::now();
    let mut piece = vec![0; 64 << 10];
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(slow.get_mut().read(&mut piece).unwrap() > 0, "the slow reader was dropped");
        std::thread::sleep(Duration::from_millis(50));
    }
    let peer = stopped.get_ref().local_addr().unwrap().to_string();
    let line = program.wait_for("dropped: the peer read nothing for 1s");
    assert!(line.contains(&peer), "{line}");
}

#[test]
fn a_silent_peer_is_pinged_and_lives_if_it_answers_and_is_dropped_if_not() {
    let flags = ["--ping-interval", "200ms", "--ping-timeout", "400ms"];
    let mut program = Program::serve(&root().join("model"), &flags);
    let mut alive = program.connect("/");
    let mut dead = program.connect("/");
    for _ in 0..4 {
        // tungstenite's client answers a ping when it reads again.
        assert!(matches!(alive.read().unwrap(), Message::Ping(_)));
    }
    frame_with(dead.get_mut(), 0x9);
    let peer = dead.get_ref().local_addr().unwrap().to_string();
    assert!(program.wait_for("no sign of life for 400ms after a ping").contains(&peer));
    assert_eq!(best(&ask_json(&mut alive, Message::binary(png(&held_out(5).1)))), 5);
    // Without pings nobody is asked.
    let program = Program::serve(&root().join("model"), &["--ping-interval", "0", "--idle-timeout", "700ms"]);
    let mut idle = program.connect("/");
    assert!(matches!(idle.read().unwrap(), Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
}

#[test]
fn a_message_that_drips_is_given_up_as_a_whole_and_pings_in_between_do_not_help_it() {
    let program = Program::serve(&root().join("model"), &["--message-timeout", "500ms"]);
    let mut client = program.connect("/");
    let stream = client.get_mut();
    // The first fragment of a message, then a ping, then a byte of a header: nothing of it is an end.
    stream.write_all(&[0x02, 0x81, 0, 0, 0, 0, 7]).unwrap();
    stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).unwrap();
    frame_with(stream, 0xa);
    stream.write_all(&[0x80]).unwrap();
    let close = frame_with(stream, 0x8);
    assert_eq!(close[..2], 1008u16.to_be_bytes());
    assert!(String::from_utf8_lossy(&close[2..]).contains("a message took longer than 500ms"));
}

#[test]
fn fragments_are_counted_and_a_message_of_too_many_is_closed() {
    let program = Program::serve(&root().join("model"), &["--max-fragments", "10"]);
    let fragments = |count: usize| {
        let mut bytes = vec![0x02, 0x80, 0, 0, 0, 0];
        bytes.extend([0x00, 0x80, 0, 0, 0, 0].repeat(count - 2));
        bytes.extend([0x80, 0x80, 0, 0, 0, 0]);
        bytes
    };
    let mut client = program.connect("/");
    client.get_mut().write_all(&fragments(10)).unwrap();
    assert_eq!(json(&answer(&mut client))["code"], "invalid_request", "ten make a message, though no image");
    client.get_mut().write_all(&fragments(11)).unwrap();
    assert_eq!(close_code(&mut client), 1008);
}

#[test]
fn a_long_message_goes_both_ways_in_pieces_and_arrives_whole() {
    let program = Program::serve(&test_model("open"), &[]);
    let mut client = program.connect("/?framing=v2");
    let values: Vec<u8> = (0..300_000u32).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let json = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,300000],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}],"outputs":[{{"name":"doubled","parameters":{{"binary_data":true}}}}]}}"#,
        values.len()
    );
    let reply = ask(&mut client, Message::binary(v2(&json, &values))).into_data();
    let expected: Vec<u8> = (0..300_000u32).flat_map(|value| (value as f32 * 2.0).to_le_bytes()).collect();
    assert_eq!(split_v2(&reply).1, expected);
    // No frame of it is longer than 64 KiB.
    client.send(Message::binary(v2(&json, &values))).unwrap();
    let stream = client.get_mut();
    assert_eq!(frame_with(stream, 0x2).len(), 64 << 10);
    for _ in 0..17 {
        assert_eq!(frame_with(stream, 0x0).len(), 64 << 10);
    }
}

#[test]
fn connections_beyond_the_limit_get_503_and_a_place_that_is_left_is_given_again() {
    let program = Program::serve(&root().join("model"), &["--max-connections", "2"]);
    let first = program.connect("/");
    let mut second = program.connect("/");
    let (status, body) = program.refused_upgrade("/");
    assert_eq!(status, 503, "{body}");
    drop(first);
    ping(&mut second);
    // The place is free once the first connection's thread is through; until then it is refused.
    let begun = Instant::now();
    while program.get("/health").status != 200 {
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn requests_and_a_close_that_come_with_the_handshake_are_all_answered() {
    let program = Program::serve(&test_model("affine"), &[]);
    let masked = |first: u8, payload: &[u8]| {
        let head = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        [&head[..], payload].concat()
    };
    let request = masked(0x81, br#"{"instances": [[1, 2, 3]]}"#);
    let mut bytes = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .to_vec();
    bytes.extend(masked(0x89, b"?"));
    bytes.extend(request.repeat(3));
    bytes.extend(masked(0x88, &1000_u16.to_be_bytes()));
    let mut stream = std::io::BufReader::new(program.tcp());
    stream.get_mut().write_all(&bytes).unwrap();
    assert_eq!(HttpResponse::read_head(&mut stream).status, 101);
    assert_eq!(frame_with(&mut stream, 0xa), b"?");
    for _ in 0..3 {
        assert_eq!(frame_with(&mut stream, 0x1), br#"{"predictions":[[4.5,4.5]]}"#);
    }
    assert_eq!(frame_with(&mut stream, 0x8), 1000_u16.to_be_bytes());
}
