//! Plain HTTP on the public port, and the private listener.

use std::io::{BufReader, Read, Write};

use crate::support::*;
use serde_json::json;

fn infer_digit() -> String {
    let image = base64(&png(&held_out(4).1));
    json!({"id": "h", "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}]})
        .to_string()
}

const INFER: &str = "/v2/models/digits/infer";

#[test]
fn health_metadata_and_inference_are_on_one_port() {
    let program = Program::digits();
    let health = program.get("/health");
    assert_eq!((health.status, health.json()), (200, json!({"health": "true"})));
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits/ready",
        "/v2/models/digits/versions/1/ready",
    ] {
        assert_eq!(program.get(path).status, 200, "{path}");
    }
    assert_eq!(program.get("/v2").json()["name"], "onnxd");
    let metadata = program.get("/v2/models/digits").json();
    assert_eq!(metadata["versions"], json!(["1"]));
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 28, 28]));
    assert_eq!(metadata["inputs"][0]["parameters"]["accepts"], json!(["image/jpeg", "image/png"]));
    assert_eq!(metadata["outputs"], json!([{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]));
    let response = program.post(INFER, "", infer_digit().as_bytes());
    assert_eq!((response.status, best(&response.json()), &response.json()["id"]), (200, 4, &json!("h")));
    let raw = program.post(INFER, "Content-Type: image/png\r\n", &png(&held_out(4).1));
    assert_eq!((raw.status, best(&raw.json())), (200, 4));
}

#[test]
fn a_body_that_nobody_wants_is_not_waited_for_whatever_it_expects() {
    let program = Program::digits();
    for expect in ["", "Expect: 100-continue\r\n"] {
        let request = format!("GET /health HTTP/1.1\r\nHost: test\r\n{expect}Content-Length: 2\r\n\r\n");
        let response = program.http(request);
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    }
}

#[test]
fn an_empty_line_behind_a_request_is_no_beginning_of_a_next_one() {
    let program = Program::serve(&root().join("model"), &["--head-timeout", "300ms"]);
    let mut stream = program.tcp();
    let request = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n\r\n";
    stream.write_all(request).unwrap();
    assert_eq!(HttpResponse::read(&mut BufReader::new(&stream)).status, 200);
    // Nothing comes for twice the time of a head; then the connection is still good.
    stream.set_read_timeout(Some(std::time::Duration::from_millis(600))).unwrap();
    assert!(stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    assert_eq!(HttpResponse::read(&mut BufReader::new(&stream)).status, 200);
}

#[test]
fn the_binary_extension_goes_both_ways_with_its_length_header() {
    let program = Program::serve(&test_model("affine"), &[]);
    let head = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"parameters":{"binary_data_output":true}}"#;
    let mut body = head.as_bytes().to_vec();
    [1f32, 2.0, 3.0].iter().for_each(|value| body.extend_from_slice(&value.to_le_bytes()));
    let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let response = program.post("/v2/models/affine/infer", &header, &body);
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    let length: usize = response.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(response.body[length..], [4.5f32.to_le_bytes(), 4.5f32.to_le_bytes()].concat());
    let raw = program.post(
        "/v2/models/affine/infer",
        "Inference-Header-Content-Length: 0\r\n",
        &body[head.len()..],
    );
    assert_eq!(raw.json()["outputs"][0]["data"], json!([4.5, 4.5]));
    let lie = program.post("/v2/models/affine/infer", "Inference-Header-Content-Length: 999\r\n", &body);
    assert_eq!(lie.status, 400);
    let rubbish = program.post("/v2/models/affine/infer", "Inference-Header-Content-Length: x\r\n", &body);
    assert_eq!(rubbish.status, 400);
}

#[test]
fn what_is_wrong_has_the_status_that_the_protocol_says_and_a_sentence() {
    let program = Program::serve(&root().join("model"), &["--max-message-bytes", "5000"]);
    let head = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}\r\n");
    let upgrade = "Host: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let v13 = "Sec-WebSocket-Version: 13\r\n";
    for (request, status) in [
        (head("GET /nothing", "Host: t\r\n"), 404),
        (head("GET /v2/models/none", "Host: t\r\n"), 404),
        (head("GET /v2/models/digits/versions/2", "Host: t\r\n"), 404),
        (head("POST /v2/models/none/infer", "Host: t\r\nContent-Length: 0\r\n"), 404),
        (head("POST /health", "Host: t\r\nContent-Length: 0\r\n"), 405),
        (head("GET /v2/models/digits/infer", "Host: t\r\n"), 405),
        (head("DELETE /v2", "Host: t\r\n"), 405),
        (head("GET /", "Host: t\r\n"), 426),
        (head("POST /v2/models/digits/infer", "Host: t\r\n"), 411),
        (head("POST /v2/models/digits/infer", "Host: t\r\nContent-Length: 5001\r\n"), 413),
        (head("POST /v2/models/digits/infer", "Host: t\r\nContent-Length: 0\r\n"), 400),
        (head("POST /v2/models/digits/infer?classification=x", "Host: t\r\nContent-Length: 0\r\n"), 400),
        (head("POST /v2/models/digits/infer", "Host: t\r\nTransfer-Encoding: gzip\r\n"), 501),
        (
            head(
                "POST /v2/models/digits/infer",
                "Host: t\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n",
            ),
            415,
        ),
        (
            head(
                "POST /v2/models/digits/infer",
                "Host: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            ),
            400,
        ),
        (head("GET /health", ""), 400),
        (head("GET /health", &format!("Host: t\r\nX: {}\r\n", "x".repeat(20_000))), 431),
        (head("GET /health", &format!("Host: t\r\n{}", "X: y\r\n".repeat(200))), 431),
        ("rubbish\r\n\r\n".into(), 400),
        ("GET / HTTP/3.0\r\n\r\n".into(), 400),
        (head("GET /", &format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")), 426),
        (head("GET /", &format!("{upgrade}{v13}")), 400),
        (head("GET /", &format!("{upgrade}{v13}Sec-WebSocket-Key: short\r\n")), 400),
        (head("POST /", &format!("{upgrade}{key}{v13}")), 400),
        // RFC 9110 section 7.8: these are plain requests.
        (head("GET /", &format!("Host: t\r\nUpgrade: websocket\r\n{key}{v13}")), 426),
        (
            head("GET /", &format!("Host: t\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n{key}{v13}")),
            426,
        ),
        (format!("GET / HTTP/1.0\r\n{upgrade}{key}{v13}\r\n"), 426),
        (head("GET /", &format!("{upgrade}{key}{key}{v13}")), 400),
        (head("GET /", &format!("{upgrade}{key}{v13}{v13}")), 400),
        (head("GET /", &format!("{upgrade}{key}{v13}Content-Length: 6\r\n")) + "\u{1}\u{0}abcd", 400),
        (head("GET /", &format!("{upgrade}{key}{v13}Transfer-Encoding: chunked\r\n")) + "0\r\n\r\n", 400),
        (head("GET /health", &format!("{upgrade}{key}{v13}")), 404),
        (head("GET /v2/models/none", &format!("{upgrade}{key}{v13}")), 404),
        (head("GET /?framing=morse", &format!("{upgrade}{key}{v13}")), 400),
    ] {
        let shown: String = request.chars().take(120).collect();
        let response = program.http(&request);
        assert_eq!(response.status, status, "{shown:?}: {}", String::from_utf8_lossy(&response.body));
        assert!(response.json()["error"].is_string(), "{shown:?}");
        assert!(response.header("date").is_some(), "{shown:?}");
        if status == 426 {
            assert_eq!(response.header("upgrade"), Some("websocket"), "{shown:?}");
        }
        match status {
            405 => assert!(response.header("allow").is_some(), "{shown:?}"),
            426 if request.contains("Version: 8") => {
                assert_eq!(response.header("sec-websocket-version"), Some("13"))
            }
            _ => {}
        }
    }
    // And the server is none the worse for it.
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn an_upgrade_may_spread_its_headers_as_http_allows() {
    let program = Program::digits();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    for headers in [
        "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive,\tupgrade\r\nUpgrade: h2c, WebSocket\r\n",
    ] {
        let mut stream = BufReader::new(program.tcp());
        write!(stream.get_mut(), "GET / HTTP/1.1\r\nHost: t\r\n{headers}{key}\r\n").unwrap();
        assert_eq!(HttpResponse::read_head(&mut stream).status, 101, "{headers:?}");
    }
}

#[test]
fn every_response_has_a_date_also_a_101_and_one_that_turns_a_peer_away() {
    let program = Program::serve(&root().join("model"), &["--max-connections", "1"]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    let mut stays = BufReader::new(program.tcp());
    write!(stays.get_mut(), "GET /health HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let health = HttpResponse::read(&mut stays);
    write!(stays.get_mut(), "GET / HTTP/1.1\r\nHost: t\r\n{upgrade}\r\n").unwrap();
    let switched = HttpResponse::read_head(&mut stays);
    let turned_away = HttpResponse::read(&mut BufReader::new(program.tcp()));
    assert_eq!(turned_away.header("retry-after"), Some("1"));
    for (response, status) in [(health, 200), (switched, 101), (turned_away, 503)] {
        assert_eq!(response.status, status);
        // RFC 9110 section 5.6.7, in lower case.
        let date = response.header("date").unwrap_or_else(|| panic!("{response:?}"));
        assert!(date.len() == 29 && date.ends_with(" gmt"), "{date}");
    }
}

#[test]
fn the_subprotocol_binary_is_taken_and_unknown_ones_are_left_out_and_logged() {
    let mut program = Program::digits();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    for (offered, taken) in [
        ("Sec-WebSocket-Protocol: binary\r\n", Some("binary")),
        ("Sec-WebSocket-Protocol: mqtt, binary\r\n", Some("binary")),
        ("Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: x,binary ,y\r\n", Some("binary")),
        ("Sec-WebSocket-Protocol: mqtt\r\n", None),
        ("", None),
    ] {
        let mut stream = BufReader::new(program.tcp());
        write!(stream.get_mut(), "GET / HTTP/1.1\r\nHost: t\r\n{upgrade}{offered}\r\n").unwrap();
        let response = HttpResponse::read_head(&mut stream);
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, taken), "{offered}");
    }
    program.says("offers the subprotocols `mqtt`");
}

#[test]
fn a_head_that_drips_is_given_up_as_a_whole() {
    let program = Program::serve(&root().join("model"), &["--head-timeout", "300ms"]);
    let mut stream = program.tcp();
    // Every byte comes in time for itself; the head does not.
    let drip = std::thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || while stream.write_all(b"G").is_ok() {}
    });
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.contains(" 4"), "{answer}");
    drip.join().unwrap();
    let mut stream = program.tcp();
    stream.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    let response = HttpResponse::read(&mut BufReader::new(&mut stream));
    assert_eq!(response.status, 408);
    // A connection without a byte is closed without a word.
    let mut silent = program.tcp();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_connection_is_kept_for_the_next_request_unless_the_client_says_otherwise() {
    let program = Program::digits();
    let body = infer_digit();
    let mut stream = BufReader::new(program.tcp());
    for _ in 0..3 {
        write!(stream.get_mut(), "GET /health HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert_eq!(HttpResponse::read(&mut stream).status, 200);
        write!(stream.get_mut(), "HEAD /v2 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let head = HttpResponse::read_head(&mut stream);
        assert_eq!(head.status, 200);
        assert_ne!(head.header("content-length"), Some("0"));
        write!(
            stream.get_mut(),
            "POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        assert_eq!(best(&HttpResponse::read(&mut stream).json()), 4);
        write!(stream.get_mut(), "GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert_eq!(HttpResponse::read(&mut stream).status, 404);
    }
    // Two requests in one packet are answered one after the other.
    write!(
        stream.get_mut(),
        "GET /v2 HTTP/1.1\r\nHost: t\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    assert_eq!(HttpResponse::read(&mut stream).json()["name"], "onnxd");
    assert_eq!(HttpResponse::read(&mut stream).json()["health"], "true");
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "closed as asked");
    // HTTP/1.0 keeps nothing unless it is asked for, and says so when it does.
    let mut stream = BufReader::new(program.tcp());
    write!(stream.get_mut(), "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    assert_eq!(HttpResponse::read(&mut stream).header("connection"), Some("keep-alive"));
    write!(stream.get_mut(), "GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(HttpResponse::read(&mut stream).status, 200);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_body_may_wait_for_100_continue_and_may_come_in_chunks() {
    let program = Program::digits();
    let body = infer_digit();
    let mut stream = BufReader::new(program.tcp());
    write!(
        stream.get_mut(),
        "POST {INFER} HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    assert_eq!(HttpResponse::read_head(&mut stream).status, 100);
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(best(&HttpResponse::read(&mut stream).json()), 4);
    write!(stream.get_mut(), "POST {INFER} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    for chunk in body.as_bytes().chunks(100) {
        write!(stream.get_mut(), "{:x};a=b\r\n", chunk.len()).unwrap();
        stream.get_mut().write_all(chunk).unwrap();
        stream.get_mut().write_all(b"\r\n").unwrap();
    }
    stream.get_mut().write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(best(&HttpResponse::read(&mut stream).json()), 4);
    // A refused expectation costs the client no body.
    write!(
        stream.get_mut(),
        "POST /v2/models/none/infer HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    .unwrap();
    assert_eq!(HttpResponse::read(&mut stream).status, 404);
}

#[test]
fn a_body_that_is_too_long_broken_or_too_slow_is_refused() {
    let flags = ["--max-message-bytes", "1000", "--body-timeout", "300ms"];
    let program = Program::serve(&root().join("model"), &flags);
    let chunked = format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let long = format!("{chunked}{}", format!("{:x}\r\n{}\r\n", 400, "x".repeat(400)).repeat(3));
    assert_eq!(program.http(long).status, 413);
    assert_eq!(program.http(format!("{chunked}zz\r\n")).status, 400);
    assert_eq!(program.http(format!("{chunked}5\r\nab")).status, 408);
    let short = format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(program.http(short).status, 408);
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn operators_have_a_listener_of_their_own_which_serves_no_inference() {
    let mut program = Program::serve(&root().join("model"), &["--ops-listen", "127.0.0.1:0"]);
    program.address = program.ops_address();
    for (path, status) in [
        ("/health", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2", 200),
        ("/v2/models/digits", 200),
        ("/v2/models/none", 404),
        ("/nothing", 404),
        ("/", 426),
    ] {
        assert_eq!(program.get(path).status, status, "{path}");
    }
    assert_eq!(program.post(INFER, "", b"{}").status, 404);
    assert_eq!(program.post("/health", "", b"").status, 405);
    // Bodies that do not come, or lie about their size, hold up neither operators nor the end.
    let mut unfinished = program.tcp();
    unfinished.write_all(b"POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n").unwrap();
    assert_eq!(HttpResponse::read(&mut BufReader::new(&unfinished)).status, 405);
    let mut lie = program.tcp();
    lie.write_all(b"POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000000000\r\n\r\n").unwrap();
    assert_eq!(program.get("/health").status, 200);
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn an_answer_to_head_has_no_body_also_when_it_refuses() {
    let program = Program::digits();
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for (request, status) in [
        ("HEAD /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".to_owned(), 200),
        ("HEAD /health HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("HEAD /v2/models/digits HTTP/1.1\r\nHost: t\r\n{upgrade}\r\n"), 400),
        ("HEAD /health HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
    ] {
        let mut stream = program.tcp();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {text}");
        assert!(text.ends_with("\r\n\r\n"), "{request}: {text}");
    }
}
