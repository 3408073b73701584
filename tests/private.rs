//! The private listener: it has the limits of the public port, and runs as long as the server.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::support::*;

/// A server with a private address, and the program that asks there.
fn serve(flags: &[&str]) -> Program {
    let flags = [&["--ops-listen", "127.0.0.1:0"], flags].concat();
    let mut program = Program::serve(&root().join("model"), &flags);
    program.address = program.ops_address();
    program
}

fn read(stream: &TcpStream) -> HttpResponse {
    HttpResponse::read(&mut BufReader::new(stream))
}

#[test]
fn operators_get_whole_answers_one_after_another_over_one_connection() {
    let program = serve(&[]);
    let mut stream = BufReader::new(program.tcp());
    for _ in 0..3 {
        for (line, status) in
            [("GET /health", 200), ("GET /v2", 200), ("DELETE /v2", 405), ("GET /nothing", 404)]
        {
            write!(stream.get_mut(), "{line} HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            let response = HttpResponse::read(&mut stream);
            assert_eq!(
                (response.status, response.header("allow").is_some()),
                (status, status == 405),
                "{line}"
            );
            assert!(response.header("date").is_some());
            assert!(response.json().is_object());
        }
        write!(stream.get_mut(), "HEAD /v2 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert_ne!(HttpResponse::read_head(&mut stream).header("content-length"), Some("0"));
    }
    assert_eq!(program.refused_upgrade("/v2/models/digits").0, 404);
    let root = program.get("/");
    assert_eq!((root.status, root.header("upgrade")), (426, Some("websocket")));
}

#[test]
fn a_body_whose_peer_is_gone_leaves_no_descriptor_and_no_thread() {
    let program = serve(&["--close-timeout", "200ms"]);
    let (descriptors, threads) = (program.descriptors(), program.threads());
    for length in [1u64, 1000, 1 << 20, 1 << 40] {
        for _ in 0..20 {
            let mut stream = program.tcp();
            write!(stream, "POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n").unwrap();
            assert_eq!(read(&stream).status, 405);
        }
    }
    until("what they took is given back", || {
        program.descriptors() <= descriptors && program.threads() <= threads
    });
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn half_sent_heads_take_no_more_threads_than_the_limit_and_are_given_up() {
    const MOST: usize = 16;
    let program = serve(&["--max-ops-connections", &MOST.to_string(), "--head-timeout", "2s"]);
    let before = program.threads();
    let crowd: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = program.tcp();
            // The server may have turned it away already.
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: ");
            stream
        })
        .collect();
    let mut answered = [0, 0];
    for (at, stream) in crowd.iter().enumerate() {
        assert!(program.threads() <= before + MOST, "{} threads at {at}, {before} before", program.threads());
        match read(stream).status {
            408 => answered[0] += 1,
            503 => answered[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(answered[0] >= MOST && answered[1] > 0, "{answered:?}");
    until("there is room again", || program.get("/health").status == 200);
}

#[test]
fn a_head_without_end_is_refused() {
    let program = serve(&[]);
    let response = program.http(format!("GET /health HTTP/1.1\r\nHost: t\r\nX: {}", "x".repeat(20_000)));
    assert_eq!(response.status, 431);
}

#[test]
fn running_out_of_descriptors_does_not_end_the_private_listener() {
    let binary = program().display().to_string();
    let line = format!(
        "ulimit -n 48 && exec {binary} serve model --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --head-timeout 60s"
    );
    let mut program =
        Program::start(std::process::Command::new("sh").arg("-c").arg(line).current_dir(root()));
    let public = program.address;
    program.address = program.ops_address();
    assert_eq!(program.get("/health").status, 200);
    // Descriptors run out on both ports, and the private one is asked meanwhile.
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(public).unwrap()).collect();
    program.wait_for("os error 24");
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = program.tcp();
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            stream
        })
        .collect();
    program.wait_for("os error 24");
    drop(crowd);
    for stream in &waiting {
        assert_eq!(read(stream).status, 200);
    }
    drop(waiting);
    assert_eq!(program.get("/health").status, 200);
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn probes_are_answered_while_the_server_drains() {
    let mut program = Program::serve(&test_model("slow200"), &["--ops-listen", "127.0.0.1:0"]);
    let ops = program.ops_address();
    let mut client = program.connect("/");
    // Work that outlasts the questions.
    let request = r#"{"instances":[[1,2,3]]}"#;
    for _ in 0..30 {
        client.send(tungstenite::Message::text(request)).unwrap();
    }
    answer(&mut client);
    program.signal(rustix::process::Signal::TERM);
    program.wait_for("draining");
    program.address = ops;
    let mut stream = program.tcp();
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    assert_eq!(read(&stream).status, 503);
    assert_eq!(program.get("/v2/health/live").status, 200);
    assert_eq!(close_code(&mut client), 1001);
    // A peer that stays does not hold up the end.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_path_that_is_no_ascii_is_answered_404_and_costs_no_relay() {
    let program = serve(&[]);
    for _ in 0..2 {
        let mut stream = program.tcp();
        stream.write_all("GET /\u{e9} HTTP/1.1\r\nHost: t\r\n\r\n".as_bytes()).unwrap();
        assert_eq!(read(&stream).status, 404);
    }
}
