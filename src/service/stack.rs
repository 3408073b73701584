//! Tests that the parsers on a connection's thread use only a small part of its stack, for any nesting that a
//! client sends.

use crate::memory::{Budget, Share};
use crate::model::{Datatype, Dim, Signature, TensorMetadata};
use crate::net::chunked::Chunked;
use crate::net::{head, listener};
use crate::wire::request::PARSER_DEPTH;
use crate::wire::{Defaults, decode, form};

fn signature() -> Signature {
    let tensor = |name: &str| TensorMetadata {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: vec![Dim::Open(None), Dim::Fixed(2)],
        accepts: &[],
        filled_by: None,
    };
    let (inputs, outputs) = (vec![tensor("x"), tensor("z")], vec![tensor("y")]);
    Signature { inputs, outputs, max_batch_size: None, has_state: true }
}

/// Lists and objects that are nested as deep as allowed, when they begin `within` levels below the top.
fn deep(within: usize) -> [String; 2] {
    let levels = PARSER_DEPTH - within;
    let lists = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    [lists, objects]
}

/// Requests with a deep value in each place that takes a value.
fn requests() -> Vec<String> {
    let at = |within: usize, before: &str, behind: &str| {
        deep(within).map(|deep| format!("{before}{deep}{behind}"))
    };
    [
        at(0, "", ""),
        at(1, r#"{"id":"#, "}"),
        at(1, r#"{"unknown":"#, "}"),
        at(1, r#"{"parameters":"#, "}"),
        at(1, r#"{"inputs":"#, "}"),
        at(1, r#"{"instances":"#, "}"),
        at(1, r#"{"outputs":"#, "}"),
        at(2, r#"{"parameters":{"sequence_id":"#, "}}"),
        at(2, r#"{"parameters":{"timeout":"#, "}}"),
        at(2, r#"{"parameters":{"unknown":"#, "}}"),
        at(3, r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":"#, "}]}"),
        at(3, r#"{"inputs":[{"name":"x","datatype":"FP32","shape":"#, "}]}"),
        at(3, r#"{"inputs":[{"name":"#, "}]}"),
        at(
            4,
            r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":"#,
            "}}]}",
        ),
        at(3, r#"{"outputs":[{"name":"#, "}]}"),
        at(4, r#"{"outputs":[{"name":"y","parameters":{"classification":"#, "}}]}"),
        at(2, r#"{"instances":["#, "]}"),
        at(3, r#"{"instances":[{"x":[1,2],"z":"#, "}]}"),
        at(3, r#"{"instances":[{"b64":"#, "}]}"),
    ]
    .into_iter()
    .flatten()
    .chain([format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))])
    .chain([format!(r#"{{"unknown":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000))])
    .collect()
}

/// Calls every parser that a connection's thread calls.
fn read_everything() {
    let (signature, defaults) = (signature(), Defaults::default());
    let memory = &mut Share::none(&Budget::unbounded());
    for request in requests() {
        let bytes = request.as_bytes();
        // The results do not matter here; most are errors.
        let _ = decode::from_text(&request, &signature, &defaults, memory);
        let _ = decode::from_text_body(bytes, &signature, &defaults, memory);
        let _ = decode::from_raw(bytes, &signature, &defaults, memory);
        let _ = decode::from_json_and_tensors(bytes, bytes.len(), &signature, &defaults, memory);
        let _ = decode::from_v2(
            &[&(bytes.len() as u32).to_le_bytes(), bytes].concat(),
            &signature,
            &defaults,
            memory,
        );
    }
    let _ = Defaults::from_query(&"framing=v2&a%5B%5B=[[[[&".repeat(1000));
    let _ = head::parse(
        &mut format!("GET /{} HTTP/1.1\r\n{}\r\n", "[/".repeat(4000), "X: ((((\r\n".repeat(127)).into(),
    );
    let body = format!("{}0\r\n{}\r\n", "1;a=\"((\"\r\n[\r\n".repeat(1000), "X: [\r\n".repeat(100));
    let (mut chunked, mut at) = (Chunked::new(usize::MAX >> 1), 0);
    while let Ok((1.., _)) = chunked.take(&body.as_bytes()[at..]).inspect(|(used, _)| at += used) {}
    assert!(chunked.is_ended());
    let _ = form::first_file(&b"--b\r\n\r\n\r\n".repeat(1000), "b");
    let _ = form::boundary(&"a;b=\"((\\\"".repeat(1000));
}

#[test]
fn every_parser_of_a_connections_thread_stays_within_a_quarter_of_its_stack_at_any_depth() {
    // A connection has the whole stack. The quarter leaves room for debug builds, other compilers, and TLS.
    for stack in [listener::STACK, listener::STACK / 4] {
        // When a thread overflows its stack, the whole test program ends with SIGSEGV.
        std::thread::Builder::new().stack_size(stack).spawn(read_everything).unwrap().join().unwrap();
    }
}
