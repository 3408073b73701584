//! Tokens, origins and path prefixes, for boxes without a gateway; health stays open.

use std::io::{Read, Write};

use crate::support::*;
use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

/// The status of an upgrade with one more header.
fn upgrade(program: &Program, path: &str, header: Option<(&'static str, &str)>) -> u16 {
    let mut request = format!("ws://{}{path}", program.address).into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tungstenite::client(request, program.tcp()) {
        Ok((_, response)) => response.status().as_u16(),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            response.status().as_u16()
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn with_tokens_only_their_bearers_may_ask_and_probes() {
    let file = folder("tokens").join("tokens.txt");
    std::fs::write(&file, "# who may ask\nfirst-token\n\n  second-token  \n").unwrap();
    let mut program =
        Program::serve(&root().join("model"), &["--tokens", file.to_str().unwrap(), "--log", "debug"]);
    for (path, header, status) in [
        ("/", None, 401),
        ("/", Some(("authorization", "Bearer first-token")), 101),
        ("/", Some(("authorization", "bearer second-token")), 101),
        ("/", Some(("authorization", "Bearer # who may ask")), 401),
        ("/", Some(("authorization", "Bearer first-toke")), 401),
        ("/", Some(("authorization", "Bearer ")), 401),
        ("/", Some(("authorization", "Basic first-token")), 401),
        ("/?access_token=second-token", None, 101),
        ("/?access_token=third-token", None, 401),
        ("/nothing", None, 401),
    ] {
        assert_eq!(upgrade(&program, path, header), status, "{path} {header:?}");
    }
    for path in ["/health", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(program.get(path).status, 200, "{path}");
    }
    for path in ["/v2", "/v2/models/digits", "/v2/models/digits/ready", "/v2/models/x/ready", "/", "/nothing"]
    {
        let response = program.get(path);
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("bearer")), "{path}");
        assert!(!String::from_utf8_lossy(&response.body).contains("digits"), "{path}: {response:?}");
    }
    let ready =
        "GET /v2/models/digits/ready HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer first-token\r\n\r\n";
    assert_eq!(program.http(ready).status, 200);
    assert_eq!(program.post("/v2/models/digits/infer", "", b"{}").status, 401);
    assert_eq!(
        program.post("/v2/models/digits/infer", "Authorization: Bearer first-token\r\n", b"{}").status,
        400
    );
    // The file is read again at SIGHUP; one that cannot be used leaves the old tokens.
    std::fs::write(&file, "third-token\n").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("main reloaded");
    assert_eq!(upgrade(&program, "/?access_token=third-token", None), 101);
    assert_eq!(upgrade(&program, "/?access_token=first-token", None), 401);
    std::fs::write(&file, "# nobody\n").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("the old tokens stay");
    assert_eq!(upgrade(&program, "/?access_token=third-token", None), 101);
    program.signal(Signal::TERM);
    program.wait_for("stopped");
    assert!(
        !program.seen.iter().any(|line| line.contains("-token")),
        "a token is in the log: {:#?}",
        program.seen
    );
}

#[test]
fn without_a_token_nobody_learns_which_models_there_are() {
    let folder = folder("secret_models");
    let good = std::fs::read(test_model("affine").join("model.onnx")).unwrap();
    for (name, content) in [("good", good), ("secret-failed", b"no model".to_vec())] {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("model.onnx"), content).unwrap();
    }
    let tokens = folder.join("tokens.txt");
    // A byte order mark is no part of the first token.
    std::fs::write(&tokens, "\u{feff}one\n").unwrap();
    let program = Program::serve(&folder, &["--tokens", tokens.to_str().unwrap()]);
    let ready =
        |header: &str| program.http(format!("GET /v2/health/ready HTTP/1.1\r\nHost: t\r\n{header}\r\n"));
    assert_eq!((ready("").status, ready("").json()), (503, serde_json::json!({"ready": false})));
    let told = ready("Authorization: Bearer one\r\n").json();
    assert!(told["failed"].to_string().contains("secret-failed"), "{told}");
}

#[test]
fn with_origins_only_their_pages_may_ask_and_programs() {
    let flags = ["--allow-origin", "https://a.example", "--allow-origin", "http://localhost:3000"];
    let program = Program::serve(&root().join("model"), &flags);
    for (header, status) in [
        (None, 101),
        (Some(("origin", "https://a.example")), 101),
        (Some(("origin", "http://localhost:3000")), 101),
        (Some(("origin", "https://b.example")), 403),
        (Some(("origin", "http://localhost")), 403),
        (Some(("origin", "null")), 403),
    ] {
        assert_eq!(upgrade(&program, "/", header), status, "{header:?}");
    }
    assert_eq!(program.post("/v2/models/digits/infer", "Origin: https://b.example\r\n", b"{}").status, 403);
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn a_path_prefix_is_stripped_where_it_is_there() {
    let program = Program::serve(&root().join("model"), &["--path-prefix", "/infer/a/"]);
    for (path, status) in [
        ("/infer/a", 101),
        ("/infer/a/", 101),
        ("/infer/a/v2/models/digits", 101),
        ("/", 101),
        ("/infer/ab", 404),
        ("/infer", 404),
    ] {
        assert_eq!(upgrade(&program, path, None), status, "{path}");
    }
    assert_eq!(program.get("/infer/a/health").status, 200);
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn who_came_in_with_a_token_that_is_taken_away_is_closed_with_1008_and_others_are_not() {
    let tokens = folder("revoked_tokens").join("tokens.txt");
    std::fs::write(&tokens, "one\ntwo\n").unwrap();
    let mut program = Program::serve(&root().join("model"), &["--tokens", tokens.to_str().unwrap()]);
    let mut stays = program.connect("/?access_token=one");
    let mut goes = program.connect("/?access_token=two");
    // One of the second kind never lets its thread sleep: pings as fast as they are answered.
    let flood = program.connect("/?access_token=two");
    let (mut write, mut read) = (flood.get_ref().try_clone().unwrap(), flood.get_ref().try_clone().unwrap());
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1000);
    let writer = std::thread::spawn(move || while write.write_all(&pings).is_ok() {});
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while matches!(read.read(&mut bytes), Ok(1..)) {}
    });
    std::fs::write(&tokens, "one\nthree\n").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("main reloaded");
    // Both ends of the flood are over when the server is through with it.
    writer.join().unwrap();
    reader.join().unwrap();
    assert_eq!(close_code(&mut goes), 1008);
    drop(flood);
    let (label, pixels) = held_out(9);
    assert_eq!(best(&ask_json(&mut stays, Message::binary(png(&pixels)))), label);
    assert!(program.seen.iter().all(|line| !line.contains("two")), "{:?}", program.seen);
}

#[test]
fn rules_that_would_let_nobody_in_are_errors_at_start() {
    let empty = folder("no_tokens").join("tokens.txt");
    std::fs::write(&empty, "\n# none\n").unwrap();
    for (flags, part) in [
        (["--tokens", empty.to_str().unwrap()], "holds no token"),
        (["--tokens", "none.txt"], "the token file none.txt"),
        (["--allow-origin", "example.org"], "expected an origin"),
        (["--allow-origin", "https://example.org/"], "expected an origin"),
        (["--path-prefix", "a"], "begins with a slash"),
        (["--path-prefix", "/a b"], "no request's path can begin so"),
        (["--path-prefix", "/a?b"], "no request's path can begin so"),
        (["--path-prefix", "/模型"], "no request's path can begin so"),
        (["--path-prefix", "/a/../b"], "no request's path can begin so"),
    ] {
        let output = onnxd().args(["serve", "--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{flags:?}");
        assert!(
            String::from_utf8_lossy(&said).contains(part),
            "{flags:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn a_byte_order_mark_in_front_of_the_tokens_is_no_part_of_the_first() {
    let tokens = folder("marked_tokens").join("tokens.txt");
    std::fs::write(&tokens, "\u{feff}one\r\ntwo\r\n").unwrap();
    let program = Program::serve(&root().join("model"), &["--tokens", tokens.to_str().unwrap()]);
    for token in ["one", "two"] {
        assert_eq!(
            upgrade(&program, "/", Some(("authorization", &format!("Bearer {token}")))),
            101,
            "{token}"
        );
    }
}
