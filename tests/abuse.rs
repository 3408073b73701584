//! What can end a server in practice, one fault in each test. A well-behaved client runs beside it, loses nothing, and
//! prints its times.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;
use rustix::net::sockopt;
use serde_json::json;
use tungstenite::Message;

fn digits(flags: &[&str]) -> Program {
    Program::serve(&root().join("model"), flags)
}

/// Runs `abuse` while a good client asks one digit after another, and holds it to every answer.
fn beside<T>(what: &str, program: &mut Program, abuse: impl FnOnce(&mut Program) -> T) -> T {
    let mut client = program.connect("/");
    beside_client(what, |picture| ask_json(&mut client, picture), || abuse(program))
}

/// The same with a client that is there already.
fn beside_client<T>(
    what: &str,
    mut ask: impl FnMut(Message) -> serde_json::Value + Send,
    abuse: impl FnOnce() -> T,
) -> T {
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let pictures: Vec<_> = (0..20).map(|index| png(&held_out(index).1)).collect();
    let expected: Vec<_> = pictures.iter().map(|picture| ask(Message::binary(picture.clone()))).collect();
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::SeqCst) || times.len() < 20 {
                let which = times.len() % pictures.len();
                let asked = Instant::now();
                let reply = ask(Message::binary(pictures[which].clone()));
                times.push(asked.elapsed());
                assert_eq!(reply, expected[which]);
                begun.store(true, Ordering::SeqCst);
            }
            times
        });
        while !begun.load(Ordering::SeqCst) && !good.is_finished() {
            std::thread::yield_now();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(abuse));
        over.store(true, Ordering::SeqCst);
        let mut times = good.join().expect("the good client lost nothing");
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        let line = format!(
            "abuse: {what}: a good client on the side: {} of {} answered, median {:.2} ms, p99 {:.2} ms\n",
            times.len(),
            times.len(),
            at(0.5),
            at(0.99)
        );
        // Past the capture of the test runner: these figures are to be seen.
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Reads to the end of the stream; what came.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server let it be"),
        _ => bytes,
    }
}

/// Writes a byte now and then until the server has had enough of it.
fn drip(streams: &mut [TcpStream], byte: u8, pause: Duration) {
    let begun = Instant::now();
    while !streams.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} drip on", streams.len());
        std::thread::sleep(pause);
        streams.iter_mut().for_each(|stream| drop(stream.write(&[byte])));
        if streams.iter().all(|stream| {
            stream.set_nonblocking(true).unwrap();
            let over = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).unwrap();
            over
        }) {
            return;
        }
    }
}

const DRIP: Duration = Duration::from_millis(50);

#[test]
fn a_head_that_drips_is_answered_408() {
    let mut program = digits(&["--head-timeout", "1s"]);
    beside("50 heads that drip", &mut program, |program| {
        let mut streams: Vec<_> = (0..50).map(|_| program.tcp()).collect();
        drip(&mut streams, b'G', DRIP);
        for stream in &mut streams {
            assert!(rest(stream).starts_with(b"HTTP/1.1 408 "));
        }
    });
}

#[test]
fn a_tls_hello_that_drips_is_cut() {
    let file = |name: &str| root().join("tests/data/tls").join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("ec.crt"), file("ec-pkcs8.key"));
    let mut program = digits(&["--tls-cert", &certificate, "--tls-key", &key, "--tls-timeout", "1s"]);
    let config = crate::tls::trusting(certificate.as_ref(), &rustls::version::TLS13);
    let mut good = crate::tls::connect(&program, &config);
    let ask = |picture| crate::tls::ask_tls(&mut good, picture);
    beside_client("50 TLS hellos that drip", ask, || {
        let mut streams: Vec<_> = (0..50).map(|_| program.tcp()).collect();
        drip(&mut streams, 0x16, DRIP);
    });
    program.wait_for("the TLS handshake");
}

#[test]
fn a_message_that_drips_is_closed_with_1008() {
    let mut program = digits(&["--message-timeout", "1s"]);
    beside("50 messages that drip", &mut program, |program| {
        let mut streams: Vec<_> = (0..50)
            .map(|_| {
                let mut stream = upgraded(program);
                stream.write_all(&[0x82, 0xfe, 0x7f, 0xff, 0, 0, 0, 0]).unwrap();
                stream
            })
            .collect();
        drip(&mut streams, 0, DRIP);
        for stream in &mut streams {
            let close = rest(stream);
            assert_eq!((close[0], &close[2..4]), (0x88, &1008_u16.to_be_bytes()[..]));
        }
    });
}

#[test]
fn a_silent_peer_that_does_not_answer_a_ping_is_dropped() {
    let mut program = digits(&["--ping-interval", "500ms", "--ping-timeout", "500ms"]);
    beside("50 peers that went silent without a FIN", &mut program, |program| {
        let mut streams: Vec<_> = (0..50).map(|_| upgraded(program)).collect();
        for stream in &mut streams {
            assert_eq!(rest(stream), [0x89, 0], "a ping, then the end");
        }
    });
}

#[test]
fn a_reset_in_mid_inference_costs_nobody_anything() {
    let mut program = digits(&[]);
    beside("200 resets in mid-inference", &mut program, |program| {
        let frame = binary_frame(&png(&held_out(7).1));
        for _ in 0..200 {
            let mut stream = upgraded(program);
            stream.write_all(&frame).unwrap();
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
}

#[test]
fn a_reader_that_stops_is_dropped() {
    let mut program = digits(&["--write-timeout", "1s", "--max-in-flight", "1000"]);
    beside("a reader that stops", &mut program, |program| {
        let mut stream = upgraded(program);
        // Each of these small questions has an answer forty times as long.
        let question = [&[0x81, 0x82, 0, 0, 0, 0][..], b"{}"].concat().repeat(1000);
        while stream.write_all(&question).is_ok() {}
        program.wait_for("dropped: the peer read nothing for 1s");
    });
}

#[test]
fn fragments_without_end_are_closed_with_1008() {
    let mut program = digits(&["--message-timeout", "1s"]);
    beside("fragments without end", &mut program, |program| {
        let mut stream = upgraded(program);
        stream.write_all(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
        let fragments = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
        while stream.write_all(&fragments).is_ok() {}
        program.wait_for("closed with 1008");
    });
}

#[test]
fn a_frame_that_declares_what_does_not_come_takes_no_memory() {
    let mut program = digits(&[]);
    beside("frames of 1 GB and of 16 MB, declared", &mut program, |program| {
        let header = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        let mut huge = upgraded(program);
        huge.write_all(&header(1 << 30)).unwrap();
        assert_eq!(&rest(&mut huge)[2..4], 1009_u16.to_be_bytes());
        let before = program.resident();
        let streams: Vec<_> = (0..200)
            .map(|_| {
                let mut stream = upgraded(program);
                stream.write_all(&header(16 << 20)).unwrap();
                stream.write_all(&[0; 1000]).unwrap();
                stream
            })
            .collect();
        let grown = program.resident().saturating_sub(before);
        assert!(grown < 100 << 20, "200 × 16 MB declared, and {grown} bytes were taken");
        drop(streams);
    });
}

#[test]
fn ten_thousand_connections_without_a_byte_are_held_and_let_go() {
    let count = raise_file_limit(10_000);
    let mut program = digits(&["--max-connections", "11000", "--head-timeout", "5s"]);
    beside(&format!("{count} connects without a byte"), &mut program, |program| {
        let streams: Vec<_> = (0..count).map(|_| program.tcp()).collect();
        for mut stream in streams {
            assert!(rest(&mut stream).is_empty());
        }
    });
}

#[test]
fn a_flood_of_pings_is_answered_as_far_as_its_answers_are_read() {
    let mut program = digits(&["--write-timeout", "1s"]);
    beside("a flood of pings", &mut program, |program| {
        let mut stream = upgraded(program);
        let pings = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[7; 125]].concat().repeat(1000);
        while stream.write_all(&pings).is_ok() {}
        program.wait_for("dropped: the peer read nothing for 1s");
    });
}

#[test]
fn a_client_that_closes_at_once_after_a_hundred_requests_hurts_nobody() {
    // A busy machine may have all of them waiting at once; more than the queue holds would be `overloaded`.
    let mut program = digits(&["--queue-capacity", "5100"]);
    beside("50 clients that close after 100 requests", &mut program, |program| {
        let requests = binary_frame(&png(&held_out(8).1)).repeat(100);
        for _ in 0..50 {
            let mut stream = upgraded(program);
            stream.write_all(&requests).unwrap();
        }
        for _ in 0..50 {
            program.wait_for("conversation ended");
        }
    });
}

#[test]
fn what_clients_that_close_had_sent_is_not_worked_off() {
    let mut program = Program::serve(&test_model("slow200"), &["--workers", "1"]);
    let request = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]});
    let text = request.to_string();
    let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0][..], text.as_bytes()].concat();
    for _ in 0..5 {
        let mut stream = upgraded(&program);
        stream.write_all(&frame.repeat(100)).unwrap();
        stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
        drop(stream);
    }
    for _ in 0..5 {
        program.wait_for("conversation ended");
    }
    // 500 of these would take 100 seconds; what was running when they went takes a moment.
    let mut timely = request;
    timely["parameters"] = json!({"timeout": 3_000_000});
    let reply = ask_json(&mut program.connect("/"), Message::text(timely.to_string()));
    assert_eq!(reply["outputs"][0]["data"], json!([2.0]), "{reply}");
}
