//! Bodies over plain HTTP: in chunks, in forms, without a name, and within the memory that all clients share.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::*;
use serde_json::json;

const INFER: &str = "/v2/models/digits/infer";

fn digit() -> String {
    let image = base64(&png(&held_out(4).1));
    json!({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}]}).to_string()
}

fn chunked_head() -> String {
    format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
}

#[test]
fn chunks_that_rfc_9112_does_not_allow_are_refused_and_no_request_behind_them_is_answered() {
    let program = Program::digits();
    let (body, behind) = (digit(), "GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n");
    let size = format!("{:x}", body.len());
    for framing in [
        format!("+{size}\r\n{body}\r\n0\r\n\r\n"),
        format!(" {size}\r\n{body}\r\n0\r\n\r\n"),
        format!("\x0b{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\x0b\r\n{body}\r\n0\r\n\r\n"),
        format!("{size} \r\n{body}\r\n0\r\n\r\n"),
        format!("{size};a\nb\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\n{body}\r\n0\r\n\r\n"),
        format!("{size}\r\n{body}\r\n+0\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nrubbish\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nX: y\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nX: y\r\n\n"),
    ] {
        let mut stream = BufReader::new(program.tcp());
        stream.get_mut().write_all(format!("{}{framing}{behind}", chunked_head()).as_bytes()).unwrap();
        let response = HttpResponse::read(&mut stream);
        let shown = framing.replace(&body, "BODY");
        assert_eq!((response.status, response.header("connection")), (400, Some("close")), "{shown:?}");
        assert!(response.json()["error"].as_str().unwrap().starts_with("the body: "), "{response:?}");
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "{shown:?}: something more was answered");
    }
    // What it allows is taken, and what is behind it is answered.
    let signature = "f".repeat(64);
    let framing = format!(
        "{size};chunk-signature={signature};a=\"b;\\\"c\"\r\n{body}\r\n000\r\nX-Checksum: 1\r\nY:\r\n\r\n"
    );
    let mut stream = BufReader::new(program.tcp());
    stream.get_mut().write_all(format!("{}{framing}{behind}", chunked_head()).as_bytes()).unwrap();
    assert_eq!(best(&HttpResponse::read(&mut stream).json()), 4);
    assert_eq!(HttpResponse::read(&mut stream).json()["name"], "onnxd");
}

#[test]
fn trailers_and_extensions_that_never_end_are_refused() {
    let program = Program::digits();
    for endless in [format!("0\r\n{}", "X: yyyy\r\n".repeat(4000)), "1;aaaaaaaaaa\r\n{\r\n".repeat(4000)] {
        let response = program.http(format!("{}{endless}", chunked_head()));
        assert_eq!(response.status, 400);
        let sentence = response.json()["error"].to_string();
        assert!(sentence.contains("chunk extensions and trailers are longer"), "{sentence}");
    }
}

#[test]
fn a_body_takes_memory_while_it_comes_and_too_many_are_answered_overloaded_at_once() {
    const MEMORY: usize = 8 << 20;
    let program = Program::serve(&root().join("model"), &["--max-memory", &MEMORY.to_string()]);
    let long = vec![b'x'; 6 << 20];
    // One that holds most of it, and does not end.
    let hold = || {
        let mut holds = program.tcp();
        write!(holds, "POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", long.len() + 1)
            .unwrap();
        holds.write_all(&long).unwrap();
        holds
    };
    let mut holds = hold();
    let chunk =
        [format!("{}{:x}\r\n", chunked_head(), long.len()).as_bytes(), &long, b"\r\n0\r\n\r\n"].concat();
    for request in [chunk, post(&long)] {
        let mut response = program.http(&request);
        until("a second body finds no memory", || {
            // On a busy machine a later body can take the memory first, and the one that was to hold it is refused.
            if is_answered(&holds) {
                holds = hold();
            }
            response = program.http(&request);
            response.status == 503
        });
        assert_eq!(
            (response.header("retry-after"), response.header("connection")),
            (Some("1"), Some("close"))
        );
        assert_eq!(response.json()["code"], "overloaded");
        assert!(response.json()["error"].as_str().unwrap().contains("try again later"), "{response:?}");
    }
    assert_eq!(best(&program.post(INFER, "", digit().as_bytes()).json()), 4, "a small one finds some");
    // What can never fit is told so: by its head alone, and when it comes without a length.
    let lie = format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", MEMORY + 1);
    assert_eq!(program.http(lie).status, 413);
    let endless = vec![b'x'; MEMORY];
    drop(holds);
    until("the memory is given back, and a long body is read", || program.http(post(&long)).status == 400);
    let chunk =
        [format!("{}{:x}\r\n", chunked_head(), MEMORY + 1).as_bytes(), &endless, b"x\r\n0\r\n\r\n"].concat();
    assert_eq!(program.http(chunk).status, 413);
}

/// True when the server has sent something, or has closed the connection.
fn is_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let answered = !stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    answered
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn an_image_is_taken_for_one_whatever_the_content_type_says() {
    let program = Program::digits();
    let (label, pixels) = held_out(4);
    let gray = image::GrayImage::from_raw(28, 28, pixels.clone()).unwrap();
    for file in [png(&pixels), encode(gray, image::ImageFormat::Jpeg)] {
        for header in
            ["", "Content-Type: application/x-www-form-urlencoded\r\n", "Content-Type: text/plain\r\n"]
        {
            let response = program.post(INFER, header, &file);
            assert_eq!((response.status, best(&response.json())), (200, label), "{header}");
        }
    }
    // Of a model that takes no images they are what they are: no JSON.
    let affine = Program::serve(&test_model("affine"), &[]);
    for (program, path, body, part) in [
        (&affine, "/v2/models/affine/infer", png(&pixels), "`Content-Type: application/octet-stream`"),
        (
            &program,
            INFER,
            b"\xff\xfe\x00rubbish".to_vec(),
            "`Content-Type: image/jpeg` or `Content-Type: image/png`",
        ),
        (&program, INFER, b"plain words".to_vec(), "or a file in a form"),
    ] {
        let response = program.post(path, "", &body);
        let sentence = response.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(response.status, 400);
        assert!(sentence.contains("no request in JSON") && sentence.contains(part), "{sentence}");
    }
}

#[test]
fn the_first_file_of_a_form_is_the_payload() {
    let program = Program::digits();
    let (label, pixels) = held_out(7);
    let part = |head: &str, content: &[u8]| {
        [b"--x-y\r\nContent-Disposition: form-data; ", head.as_bytes(), b"\r\n\r\n", content, b"\r\n"]
            .concat()
    };
    let field = part("name=\"comment\"", b"a digit");
    let file = part("name=\"file\"; filename=\"7.png\"\r\nContent-Type: image/png", &png(&pixels));
    let other = part("name=\"file\"; filename=\"4.png\"", &png(&held_out(4).1));
    let header = "Content-Type: multipart/form-data; boundary=x-y\r\n";
    let form = [&field[..], &file, &other, b"--x-y--\r\n"].concat();
    let response = program.post(INFER, header, &form);
    assert_eq!((response.status, best(&response.json())), (200, label));
    for (header, form, sentence) in [
        (header, [&field[..], b"--x-y--\r\n"].concat(), "has no file"),
        (header, [&field[..], &file].concat(), "was cut"),
        (header, b"{}".to_vec(), "does not begin with the boundary"),
        ("Content-Type: multipart/form-data\r\n", form.clone(), "names no boundary"),
    ] {
        let response = program.post(INFER, header, &form);
        assert_eq!(response.status, 400);
        assert!(response.json()["error"].as_str().unwrap().contains(sentence), "{sentence}: {response:?}");
    }
}

#[test]
fn what_is_said_twice_with_a_sign_or_in_a_list_is_refused() {
    let program = Program::serve(&test_model("affine"), &[]);
    let infer = "/v2/models/affine/infer";
    let request = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let length = request.len();
    for (headers, status) in [
        (format!("Inference-Header-Content-Length: {length}\r\n"), 200),
        (format!("Inference-Header-Content-Length: +{length}\r\n"), 400),
        (format!("Inference-Header-Content-Length: -{length}\r\n"), 400),
        (format!("Inference-Header-Content-Length: {length}\r\n").repeat(2), 400),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n".into(), 400),
        ("Content-Type: application/json\r\nContent-Type: image/png\r\n".into(), 400),
        ("Content-Encoding: identity\r\nContent-Encoding: gzip\r\n".into(), 415),
    ] {
        assert_eq!(program.post(infer, &headers, request.as_bytes()).status, status, "{headers}");
    }
    let good = r#""name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]"#;
    for (request, status) in [
        (format!(r#"{{"inputs":[{{{good}}}]}}"#), 200),
        (r#"{"inputs":[["x",[1,3],"FP32",[1,2,3]]]}"#.into(), 400),
        (format!(r#"{{"inputs":[{{{good}}}],"parameters":[]}}"#), 400),
        (format!(r#"{{"inputs":[{{{good}}}],"outputs":[["y"]]}}"#), 400),
        (format!(r#"{{"inputs":[{{{good}}}],"outputs":[{{"name":"y","parameters":[0]}}]}}"#), 400),
        (format!(r#"{{"inputs":[{{{good},"parameters":[]}}]}}"#), 400),
        (format!(r#"{{"unknown":{}{},"inputs":[{{{good}}}]}}"#, "[".repeat(127), "]".repeat(127)), 200),
        (format!(r#"{{"unknown":{}{},"inputs":[{{{good}}}]}}"#, "[".repeat(128), "]".repeat(128)), 400),
        (
            format!(r#"{{"unknown":{}{},"inputs":[{{{good}}}]}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            400,
        ),
    ] {
        let response = program.post(infer, "", request.as_bytes());
        let shown: String = request.chars().take(100).collect();
        assert_eq!(response.status, status, "{shown}: {}", String::from_utf8_lossy(&response.body));
    }
}

/// With `ONNXD_TEST_PROGRAM` on another build, whose stack frames are other ones.
#[test]
fn a_connection_stands_whatever_nests_as_deep_as_it_may_and_deeper() {
    let manifest = r#"{"sequence": {"states": [{"input": "state", "output": "state_out"}]}}"#;
    let program = Program::serve(&with_manifest("running", "deep_nesting", manifest), &[]);
    let input = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
    let mut client = program.connect("/?framing=v2");
    for depth in [124, 125, 128, 129, 60_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for request in [
                deep.clone(),
                format!(r#"{{"inputs":[{input}],"parameters":{{"sequence_id":{deep}}}}}"#),
                format!(r#"{{"inputs":[{input}],"parameters":{{"unknown":{deep}}}}}"#),
                format!(r#"{{"inputs":[{input}],"id":{deep}}}"#),
                format!(r#"{{"inputs":[{input}],"unknown":{deep}}}"#),
                format!(r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{deep}}}]}}"#),
                format!(r#"{{"inputs":{deep}}}"#),
                format!(r#"{{"instances":[{{"x":{deep}}}]}}"#),
                format!(r#"{{"instances":[{deep}]}}"#),
            ] {
                let response = program.post("/v2/models/deep_nesting/infer", "", request.as_bytes());
                assert!(matches!(response.status, 200 | 400), "{depth}: {response:?}");
                let reply = ask_json(&mut client, tungstenite::Message::text(request.clone()));
                assert!(reply["error"].is_string() || reply["outputs"].is_array(), "{depth}: {reply}");
                let reply = ask_json(&mut client, tungstenite::Message::binary(v2(&request, &[])));
                assert!(reply["error"].is_string() || reply["outputs"].is_array(), "{depth}: {reply}");
            }
        }
    }
    assert_eq!(program.get("/health").status, 200);
}
