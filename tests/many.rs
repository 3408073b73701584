//! Many conversations: ten thousand that are idle and then not, and some that are busy.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::*;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use tungstenite::Message;

const PING: &[u8] = &[0x89, 0x81, 0, 0, 0, 0, b'?'];

/// Each answers a ping and an inference.
fn all_answer<S: Read + Write>(conversations: &mut [S]) {
    for conversation in &mut *conversations {
        conversation.write_all(PING).unwrap();
    }
    for conversation in &mut *conversations {
        assert_eq!(frame_with(conversation, 0xa), b"?");
    }
    let (label, pixels) = held_out(5);
    let message = binary_frame(&png(&pixels));
    // As many at once as the queue holds.
    for some in conversations.chunks_mut(1000) {
        for conversation in &mut *some {
            conversation.write_all(&message).unwrap();
        }
        for conversation in &mut *some {
            let reply = serde_json::from_slice(&frame_with(conversation, 0x1)).unwrap();
            assert_eq!(best(&reply), label);
        }
    }
}

fn tell(what: &str, count: usize, idle: usize, after: usize) {
    let kib = |bytes: usize| bytes as f64 / 1024.0 / count as f64;
    // Past the capture of the test runner: these figures are to be seen.
    let line = format!(
        "{count} {what} conversations: {:.1} KiB of memory each, {:.1} KiB after a ping and an inference\n",
        kib(idle),
        kib(after)
    );
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn ten_thousand_idle_conversations_are_held_and_each_still_answers() {
    let count = raise_file_limit(10_000);
    let flags = ["--max-connections", "10100", "--log", "info,onnxd::net=warn"];
    let program = Program::serve(&root().join("model"), &flags);
    // What the first ones cost is not theirs alone.
    let mut first: Vec<TcpStream> = (0..10).map(|_| upgraded(&program)).collect();
    all_answer(&mut first);
    let before = program.resident();
    let mut conversations: Vec<TcpStream> = (0..count).map(|_| upgraded(&program)).collect();
    let idle = program.resident() - before;
    all_answer(&mut conversations);
    tell("plain", count, idle, program.resident() - before);
}

#[test]
fn a_thousand_idle_tls_conversations_are_held_and_each_still_answers() {
    let count = raise_file_limit(1000);
    let file = |name: &str| root().join("tests/data/tls").join(name);
    let (certificate, key) = (file("ec.crt"), file("ec-pkcs8.key"));
    let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let program = Program::serve(&root().join("model"), &flags);
    let config = crate::tls::trusting(&certificate, &rustls::version::TLS13);
    let connect =
        || -> StreamOwned<ClientConnection, TcpStream> { upgrade(crate::tls::tls(&program, &config)) };
    let mut first: Vec<_> = (0..10).map(|_| connect()).collect();
    all_answer(&mut first);
    let before = program.resident();
    let mut conversations: Vec<_> = (0..count).map(|_| connect()).collect();
    let idle = program.resident() - before;
    all_answer(&mut conversations);
    tell("TLS", count, idle, program.resident() - before);
}

#[test]
fn conversations_with_many_short_requests_are_answered_in_order_and_take_little_memory() {
    let program = Program::serve(&root().join("model"), &["--workers", "2"]);
    let images: Vec<(u8, String)> = (0..8)
        .map(|index| {
            let (label, pixels) = held_out(index);
            let data: Vec<f32> = pixels.iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
            let input = json!({"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": data});
            (label, json!({"id": index.to_string(), "inputs": [input]}).to_string())
        })
        .collect();
    // One after the other, each of these becomes a guest of the model.
    let mut clients: Vec<Client> = (0..32).map(|_| program.connect("/")).collect();
    let ask = |client: &mut Client, times: usize| {
        for (index, (label, request)) in images.iter().enumerate().cycle().take(times) {
            client.send(Message::text(request)).unwrap();
            let reply = json(&answer(client));
            assert_eq!((&reply["id"], best(&reply)), (&json!(index.to_string()), *label));
        }
    };
    clients.iter_mut().for_each(|client| ask(client, 8));
    let before = program.resident();
    clients.iter_mut().for_each(|client| ask(client, 64));
    let each = program.resident().saturating_sub(before) / clients.len();
    assert!(each < 256 << 10, "a conversation takes {each} more bytes after many requests");
    // All at once, with several requests in flight: some are run by workers, some by the conversations themselves.
    std::thread::scope(|scope| {
        for client in &mut clients {
            let images = &images;
            scope.spawn(move || {
                for round in 0..50 {
                    let flight = if round % 2 == 0 { 1 } else { images.len() };
                    for (_, request) in &images[..flight] {
                        client.send(Message::text(request)).unwrap();
                    }
                    for (index, (label, _)) in images[..flight].iter().enumerate() {
                        let reply = json(&answer(client));
                        assert_eq!((&reply["id"], best(&reply)), (&json!(index.to_string()), *label));
                    }
                }
            });
        }
    });
}
