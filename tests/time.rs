//! Every deadline, on a clock that stands still until the test moves it forward. The server runs in this process, with
//! the default limits, and no test waits for real time.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;
use onnxd::clock::Clock;
use onnxd::config::{AccessFlags, Fetching, Limits, ReloadFlags, TlsFlags};
use onnxd::metrics::Cause;
use onnxd::server::{Server, Settings};
use serde_json::json;
use tungstenite::Message;

struct Timed {
    server: Server,
    clock: Clock,
}

impl Timed {
    fn start(model: &str, change: impl FnOnce(&mut Settings)) -> Timed {
        let clock = Clock::stopped();
        let mut settings = Settings {
            model: root().join(model).into(),
            listen: ([127, 0, 0, 1], 0).into(),
            ops_listen: None,
            default_model: None,
            workers: Some(1),
            tls: TlsFlags { tls_cert: None, tls_key: None },
            access: AccessFlags { tokens: None, allow_origin: vec![], path_prefix: String::new() },
            reload: ReloadFlags { watch: Duration::ZERO, reload_drain: Duration::ZERO },
            limits: Limits::default(),
            fetching: Fetching::default(),
            clock: clock.clone(),
        };
        change(&mut settings);
        Timed { server: Server::start(settings).unwrap(), clock }
    }

    fn seconds(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }

    /// A connection that the server has accepted: its time counts.
    fn tcp(&self) -> TcpStream {
        let before = self.server.counters().connections.get();
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        until("the connection is accepted", || self.server.counters().connections.get() > before);
        stream
    }

    fn connect(&self) -> Client {
        let mut client = tungstenite::client("ws://test/", self.tcp()).unwrap().0;
        pong(&mut client);
        client
    }

    /// Sets the clock forward a second at a time until the server answers or goes away; how many.
    fn seconds_until_answer(&self, stream: &TcpStream) -> u32 {
        stream.set_nonblocking(true).unwrap();
        let mut seconds = 0;
        until("there is an answer", || {
            let ready = stream.peek(&mut [0]).is_ok();
            if !ready {
                self.seconds(1.0);
                seconds += 1;
                // Not to outrun the server: what is due now gets the time of a system call or two.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(20) && stream.peek(&mut [0]).is_err() {
                    std::thread::yield_now();
                }
            }
            ready
        });
        stream.set_nonblocking(false).unwrap();
        seconds
    }

    fn ended(&self, cause: Cause) -> u64 {
        self.server.counters().ended(cause).get()
    }
}

/// Sends a ping and waits for its pong: the server has seen all that was sent before, and that the
/// peer lives. Fails on anything else that comes.
fn pong(client: &mut Client) {
    client.send(Message::Ping(b"x".to_vec().into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(b"x".to_vec().into()));
}

/// Waits until the server has read all that was written: its side's receive queue is empty.
fn has_read(stream: &TcpStream) {
    let hexadecimal = |address: std::net::SocketAddr| match address.ip() {
        std::net::IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from(ip).swap_bytes(), address.port()),
        std::net::IpAddr::V6(_) => panic!("the tests are on IPv4"),
    };
    let ends = [stream.peer_addr(), stream.local_addr()].map(|address| hexadecimal(address.unwrap()));
    let [theirs, ours] = ends;
    until("the server has read it", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| line.contains(&format!("{theirs} {ours} ")));
        line.is_none_or(|line| line.split_whitespace().nth(4).unwrap().ends_with(":00000000"))
    });
}

fn is_over(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_))
}

#[test]
fn a_silent_conversation_is_pinged_after_20_s_and_dropped_20_s_later_unless_it_lives() {
    let timed = Timed::start("model", |_| {});
    let (mut lives, mut dies) = (timed.connect(), timed.connect());
    timed.seconds(19.9);
    assert_eq!(timed.server.counters().pings.get(), 0);
    timed.seconds(0.1);
    until("both are pinged", || timed.server.counters().pings.get() == 2);
    assert!(matches!(lives.read().unwrap(), Message::Ping(_)));
    // A read sends tungstenite's pong, and any byte is a sign of life.
    pong(&mut lives);
    timed.seconds(19.9);
    pong(&mut lives);
    assert_eq!(timed.ended(Cause::Silent), 0);
    timed.seconds(0.1);
    until("the silent one is dropped", || timed.ended(Cause::Silent) == 1);
    assert!(matches!(dies.read(), Ok(Message::Ping(_))), "the ping that it did not answer");
    assert!(dies.read().is_err());
    pong(&mut lives);
}

#[test]
fn whoever_is_not_read_because_it_has_asked_enough_is_not_taken_for_dead() {
    let timed = Timed::start("tests/models/slow", |settings| settings.limits.max_in_flight_bytes = 1);
    let mut client = timed.connect();
    let request = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]});
    client.send(Message::text(request.to_string())).unwrap();
    until("it is accepted", || timed.server.counters().requests.get() == 1);
    // Inference takes more than a second. Meanwhile a ping goes out, and much more time passes than a pong may take.
    timed.seconds(20.0);
    until("it is pinged", || timed.server.counters().pings.get() == 1);
    timed.seconds(40.0);
    let mut answered = false;
    while !answered {
        answered = matches!(client.read().expect("it lives"), Message::Text(_));
    }
    assert_eq!(timed.ended(Cause::Silent), 0);
    pong_after(&mut client);
}

#[test]
fn with_an_idle_time_out_a_conversation_without_requests_is_closed_with_1000_pings_or_not() {
    let timed = Timed::start("model", |settings| settings.limits.idle_timeout = Duration::from_secs(60));
    let mut client = timed.connect();
    timed.seconds(59.0);
    assert!(matches!(client.read().unwrap(), Message::Ping(_)));
    let reply = ask_json(&mut client, Message::binary(png(&held_out(2).1)));
    assert_eq!(best(&reply), held_out(2).0);
    for _ in 0..5 {
        timed.seconds(10.0);
        pong(&mut client);
    }
    timed.seconds(10.0);
    assert_eq!(close_code(&mut client), 1000);
    // Its own half of the close is waited for, for 5 s.
    assert_eq!(timed.ended(Cause::Idle), 0);
    timed.seconds(5.0);
    until("it is over", || timed.ended(Cause::Idle) == 1);
}

#[test]
fn a_head_has_10_s_as_a_whole_and_a_next_request_75_s_to_begin() {
    let timed = Timed::start("model", |_| {});
    let mut drips = timed.tcp();
    let (mut silent, mut again) = (timed.tcp(), timed.tcp());
    again.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(HttpResponse::read(&mut BufReader::new(&again)).status, 200);
    for byte in b"GET / HTT" {
        drips.write_all(&[*byte]).unwrap();
        has_read(&drips);
        timed.seconds(1.0);
    }
    assert_eq!(timed.server.connections(), 3);
    // From its first byte on the head has ten seconds of its own; the first moment counted until then.
    let took = timed.seconds_until_answer(&drips);
    assert!((1..=10).contains(&took), "{took}");
    assert_eq!(HttpResponse::read(&mut BufReader::new(&drips)).status, 408);
    assert!(is_over(&mut silent), "nothing is owed to who said nothing");
    timed.seconds(40.0);
    again.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(HttpResponse::read(&mut BufReader::new(&again)).status, 200);
    until("the others are gone", || {
        drop(drips.shutdown(std::net::Shutdown::Both));
        timed.server.connections() == 1
    });
    timed.seconds(75.0);
    assert!(is_over(&mut again));
}

#[test]
fn a_tls_handshake_has_10_s() {
    let file = |name: &str| Some(root().join("tests/data/tls").join(name));
    let timed = Timed::start("model", |settings| {
        settings.tls = TlsFlags { tls_cert: file("ec.crt"), tls_key: file("ec-pkcs8.key") };
    });
    let mut drips = timed.tcp();
    for byte in [0x16, 3, 1, 0, 200, 1, 0, 0, 190] {
        drips.write_all(&[byte]).unwrap();
        has_read(&drips);
        timed.seconds(1.0);
    }
    assert_eq!(timed.server.counters().handshakes_failed.get(), 0);
    timed.seconds(1.0);
    assert!(is_over(&mut drips));
    assert_eq!(timed.server.counters().handshakes_failed.get(), 1);
}

#[test]
fn a_body_has_30_s() {
    let timed = Timed::start("model", |_| {});
    let mut stream = timed.tcp();
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    let begun = timed.clock.now();
    for _ in 0..10 {
        stream.write_all(b"x").unwrap();
        has_read(&stream);
        timed.seconds(1.0);
    }
    timed.seconds_until_answer(&stream);
    let took = timed.clock.now() - begun;
    assert!((30..=40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(HttpResponse::read(&mut BufReader::new(&stream)).status, 408);
}

#[test]
fn a_message_has_30_s_from_its_first_byte() {
    let timed = Timed::start("model", |_| {});
    let mut client = timed.connect();
    // A first fragment; the ping behind it shows that it has come.
    client.get_mut().write_all(&[0x02, 0x81, 0, 0, 0, 0, 7]).unwrap();
    pong(&mut client);
    for _ in 0..29 {
        timed.seconds(1.0);
        client.get_mut().write_all(&[0x00, 0x81, 0, 0, 0, 0, 7]).unwrap();
        pong(&mut client);
    }
    assert_eq!(timed.ended(Cause::TooSlow), 0);
    timed.seconds(1.0);
    assert_eq!(close_code(&mut client), 1008);
    // Between messages the clock does not run.
    let mut client = timed.connect();
    for _ in 0..3 {
        timed.seconds(15.0);
        pong(&mut client);
        let reply = ask_json(&mut client, Message::binary(png(&held_out(6).1)));
        assert_eq!(best(&reply), held_out(6).0);
    }
}

#[test]
fn a_write_that_stays_blocked_has_30_s() {
    let timed = Timed::start("tests/models/open", |_| {});
    let mut client = timed.connect();
    // The answer has more bytes than the system keeps for a peer that reads nothing.
    let count = 4_000_000;
    let data = "1,".repeat(count);
    let data = data.trim_end_matches(',');
    let request =
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","data":[{data}]}}]}}"#);
    client.send(Message::text(request)).unwrap();
    until("the answer is written", || timed.server.counters().answers.get() == 1);
    let begun = timed.clock.now();
    until("it is dropped", || {
        timed.seconds(1.0);
        std::thread::yield_now();
        timed.ended(Cause::Stalled) == 1
    });
    assert!(timed.clock.now() - begun >= Duration::from_secs(30));
}

#[test]
fn a_request_has_30_s_in_the_queue_or_the_time_that_it_says_if_that_is_shorter() {
    let timed = Timed::start("tests/models/slow200", |_| {});
    let mut client = timed.connect();
    let request = |id: &str, timeout: u64| {
        let request = json!({"id": id, "parameters": {"timeout": timeout},
            "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]});
        Message::text(request.to_string())
    };
    // The first keeps the only worker busy.
    for (id, timeout) in [("busy", 0), ("short", 10_000_000), ("default", 0), ("long", 600_000_000)] {
        client.send(request(id, timeout)).unwrap();
    }
    pong_after(&mut client);
    timed.seconds(10.1);
    let codes: Vec<_> = (0..2).map(|_| json(&answer(&mut client))["code"].clone()).collect();
    assert_eq!(codes[1], "deadline_exceeded", "{codes:?}");
    timed.seconds(20.0);
    for id in ["default", "long"] {
        let reply = json(&answer(&mut client));
        assert_eq!(reply["id"], id);
    }
}

/// Waits until all that was sent has been read by the server.
fn pong_after(client: &mut Client) {
    client.send(Message::Ping(b"x".to_vec().into())).unwrap();
    while !matches!(client.read().unwrap(), Message::Pong(_)) {}
}
