//! TLS on the public port: versions, keys, certificates that change, and peers that speak something else.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::*;
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};
use tungstenite::{Message, WebSocket};

pub type TlsClient = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

fn file(name: &str) -> PathBuf {
    root().join("tests/data/tls").join(name)
}

fn certificates(name: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(name).unwrap().map(Result::unwrap).collect()
}

/// A client that trusts the last certificate of a file.
pub fn trusting(path: &Path, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates(path).pop().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

pub fn tls(program: &Program, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), program.tcp())
}

pub fn connect(program: &Program, config: &Arc<ClientConfig>) -> TlsClient {
    tungstenite::client("ws://localhost/", tls(program, config)).unwrap().0
}

fn serve(certificate: &Path, key: &Path, flags: &[&str]) -> Program {
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let flags = [&["--tls-cert", certificate, "--tls-key", key], flags].concat();
    Program::serve(&root().join("model"), &flags)
}

pub fn ask_tls(client: &mut TlsClient, message: Message) -> serde_json::Value {
    client.send(message).unwrap();
    loop {
        match client.read().unwrap() {
            message @ Message::Text(_) => return json(&message),
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

#[test]
fn wss_and_https_are_served_by_every_form_of_key_in_tls_1_2_and_1_3() {
    for (certificate, key) in [
        ("ec.crt", "ec-sec1.key"),
        ("ec.crt", "ec-pkcs8.key"),
        ("rsa.crt", "rsa-pkcs1.key"),
        ("rsa.crt", "rsa-pkcs8.key"),
        ("ed25519.crt", "ed25519.key"),
        ("chain.crt", "ec-pkcs8.key"),
    ] {
        let program = serve(&file(certificate), &file(key), &[]);
        for version in [&version::TLS12, &version::TLS13] {
            let config = trusting(&file(certificate), version);
            let mut client = connect(&program, &config);
            let reply = ask_tls(&mut client, Message::binary(png(&held_out(3).1)));
            assert_eq!(best(&reply), held_out(3).0, "{certificate} {key}");
            let mut stream = tls(&program, &config);
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            assert_eq!(HttpResponse::read(&mut BufReader::new(stream)).status, 200);
        }
    }
}

#[test]
fn over_tls_requests_pipeline_and_long_messages_arrive_whole() {
    let (certificate, key) = (file("ec.crt"), file("ec-pkcs8.key"));
    let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let program = Program::serve(&test_model("open"), &flags);
    let mut client = connect(&program, &trusting(&certificate, &version::TLS13));
    for at in 0..100 {
        let text = format!(
            r#"{{"id":"{at}","inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":[{at},1]}}]}}"#
        );
        client.send(Message::text(text)).unwrap();
    }
    for at in 0..100 {
        assert_eq!(json(&client.read().unwrap())["id"], at.to_string());
    }
    let numbers: Vec<u32> = (0..200_000).collect();
    let request = serde_json::json!({"inputs": [
        {"name": "x", "shape": [1, 200_000], "datatype": "FP32", "data": numbers}]});
    let reply = ask_tls(&mut client, Message::text(request.to_string()));
    let doubled = reply["outputs"].as_array().unwrap().iter().find(|output| output["name"] == "doubled");
    let doubled = doubled.unwrap()["data"].as_array().unwrap();
    assert_eq!((doubled.len(), doubled[199_999].as_f64()), (200_000, Some(399_998.0)));
}

#[test]
fn a_plain_client_on_a_tls_port_is_told_so_in_plain_http() {
    let mut program = serve(&file("ec.crt"), &file("ec-pkcs8.key"), &[]);
    let response = program.get("/health");
    assert_eq!(response.status, 400);
    let sentence = response.json()["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains("connect to wss:// or https://"), "{sentence}");
    program.wait_for("this port speaks TLS");
}

#[test]
fn a_tls_client_on_a_plain_port_gets_a_400_and_the_log_names_the_mismatch() {
    let mut program = Program::digits();
    let mut stream = tls(&program, &trusting(&file("ec.crt"), &version::TLS13));
    assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err());
    let line = program.wait_for("this port is plain");
    assert!(line.contains("--tls-cert"), "{line}");
    // What such a client gets is HTTP: OpenSSL calls that WRONG_VERSION_NUMBER, which guides explain.
    let response = program.http([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]);
    assert_eq!(response.status, 400);
}

#[test]
fn a_handshake_that_drips_is_cut_and_rubbish_is_refused() {
    let mut program = serve(&file("ec.crt"), &file("ec-pkcs8.key"), &["--tls-timeout", "500ms"]);
    let mut silent = program.tcp();
    let mut slow = program.tcp();
    slow.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    for stream in [&mut silent, &mut slow] {
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "cut");
        program.wait_for("the TLS handshake took too long");
    }
    let mut rubbish = program.tcp();
    rubbish.write_all(&[0x16, 9, 9, 0, 4, 0, 0, 0, 0]).unwrap();
    program.wait_for("the TLS handshake failed");
    // An alert, then the end.
    let mut rest = Vec::new();
    let _ = rubbish.read_to_end(&mut rest);
    assert_eq!(rest.first(), Some(&0x15), "{rest:?}");
}

#[test]
fn a_new_certificate_is_used_when_the_files_change_and_at_sighup_and_a_wrong_one_is_not() {
    let folder = folder("renewed_certificate");
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let put = |from: &str, from_key: &str| {
        std::fs::copy(file(from), &certificate).unwrap();
        std::fs::copy(file(from_key), &key).unwrap();
    };
    put("ec.crt", "ec-pkcs8.key");
    let mut program = serve(&certificate, &key, &[]);
    let mut old = connect(&program, &trusting(&file("ec.crt"), &version::TLS13));
    let trusted = |name: &str| trusting(&file(name), &version::TLS13);
    let accepts = |program: &Program, config: &Arc<ClientConfig>| {
        tungstenite::client("ws://localhost/", tls(program, config)).is_ok()
    };
    // By itself, within a second or so.
    put("rsa.crt", "rsa-pkcs8.key");
    let rsa = trusted("rsa.crt");
    let begun = std::time::Instant::now();
    while !accepts(&program, &rsa) {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is not used");
    }
    // A certificate without its key changes nothing.
    put("ed25519.crt", "ec-pkcs8.key");
    program.signal(Signal::HUP);
    let line = program.wait_for("the old certificate stays");
    assert!(line.contains("does not belong to the first certificate"), "{line}");
    assert!(accepts(&program, &rsa));
    put("ed25519.crt", "ed25519.key");
    program.signal(Signal::HUP);
    program.wait_for("main reloaded");
    assert!(accepts(&program, &trusted("ed25519.crt")) && !accepts(&program, &rsa));
    // Whoever came before goes on.
    assert_eq!(best(&ask_tls(&mut old, Message::binary(png(&held_out(4).1)))), held_out(4).0);
}

/// A peer may send 32 key updates without a byte of data between them, as with OpenSSL and BoringSSL: each costs the
/// other side the derivation of a key, and nobody has a use for more.
#[test]
fn keys_may_be_updated_at_any_rate_with_data_between_and_a_flood_of_updates_alone_ends_its_connection_only() {
    let mut program = serve(&file("ec.crt"), &file("ec-pkcs8.key"), &[]);
    let config = trusting(&file("ec.crt"), &version::TLS13);
    let mut good = connect(&program, &config);
    let mut flood = connect(&program, &config);
    let (label, pixels) = held_out(3);
    for _ in 0..200 {
        good.get_mut().conn.refresh_traffic_keys().unwrap();
        assert_eq!(best(&ask_tls(&mut good, Message::binary(png(&pixels)))), label);
    }
    let stream = flood.get_mut();
    for _ in 0..200 {
        stream.conn.refresh_traffic_keys().unwrap();
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            break;
        }
    }
    assert!(loop {
        if let Err(error) = flood.read() {
            break !error.to_string().is_empty();
        }
    });
    program.wait_for("TooManyKeyUpdateRequests");
    assert_eq!(best(&ask_tls(&mut good, Message::binary(png(&pixels)))), label);
}

#[test]
fn a_certificate_that_cannot_serve_is_an_error_at_start_that_says_what_to_do() {
    for (certificate, key, part) in [
        ("ec.crt", "rsa-pkcs8.key", "does not belong to the first certificate"),
        ("ec.crt", "encrypted.key", "decrypt it with `openssl pkey"),
        ("ec.der", "ec-pkcs8.key", "this is DER: convert it with `openssl x509"),
        ("ec-pkcs8.key", "ec-pkcs8.key", "holds none: expected PEM"),
        ("ec.crt", "ec.crt", "-----BEGIN PRIVATE KEY-----"),
        ("none.crt", "ec-pkcs8.key", "No such file"),
        ("ec.crt", "", "--tls-key"),
        (
            "p521.crt",
            "p521.key",
            "does not know (ECDSA on P-521): expected RSA of 2,048 to 8,192 bits, ECDSA on P-256",
        ),
    ] {
        let mut command = onnxd();
        command.args(["serve", "--listen", "127.0.0.1:0", "--tls-cert"]).arg(file(certificate));
        if !key.is_empty() {
            command.arg("--tls-key").arg(file(key));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(said.contains(part), "{certificate} with {key}: {said}");
    }
}

#[test]
fn a_certificate_outside_its_time_is_named_and_served_all_the_same() {
    for (certificate, part) in
        [("expired.crt", "has expired on 2020-02-01"), ("early.crt", "is valid from 2110-01-01")]
    {
        let program = serve(&file(certificate), &file("ec-pkcs8.key"), &[]);
        assert!(program.seen.iter().any(|line| line.contains(part)), "{:?}", program.seen);
    }
}

#[test]
fn a_tls_peer_that_stops_reading_is_dropped_and_a_drain_says_1001() {
    let (certificate, key) = (file("ec.crt"), file("ec-pkcs8.key"));
    let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut program = Program::serve(&test_model("open"), &[&flags[..], &["--write-timeout", "1s"]].concat());
    let config = trusting(&certificate, &version::TLS13);
    let mut idle = connect(&program, &config);
    let mut stopped = connect(&program, &config);
    let numbers = vec![0.123_456_7; 200_000];
    let request = serde_json::json!({"inputs": [
        {"name": "x", "shape": [1, 200_000], "datatype": "FP32", "data": numbers}]});
    let message = Message::text(request.to_string());
    let writer = std::thread::spawn(move || while stopped.send(message.clone()).is_ok() {});
    program.wait_for("dropped: the peer read nothing for 1s");
    writer.join().unwrap();
    program.signal(Signal::TERM);
    let frame = loop {
        match idle.read() {
            Ok(Message::Close(frame)) => break frame,
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    };
    assert_eq!(u16::from(frame.unwrap().code), 1001);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn the_health_check_asks_over_tls_when_the_port_speaks_it() {
    let program = serve(&file("expired.crt"), &file("ec-pkcs8.key"), &[]);
    let check = |tls: bool| {
        let mut command = onnxd();
        command.args(["healthcheck", "--listen", &program.address.to_string()]);
        if tls {
            command.env("ONNXD_TLS_CERT", file("expired.crt"));
        }
        command.output().unwrap().status.code()
    };
    assert_eq!((check(true), check(false)), (Some(0), Some(1)));
}
