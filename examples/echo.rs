//! A WebSocket echo for the conformance suite, with the same listener, head and conversation code that serves models.
//!
//! Usage: `echo ADDRESS [CERTIFICATE KEY]`, with TLS if it gets two PEM files. It prints `ready on ADDRESS` and runs until
//! its standard input ends.

use std::io::Read;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use onnxd::clock::Clock;
use onnxd::config::Limits;
use onnxd::engine::Outcome;
use onnxd::error::RequestError;
use onnxd::memory::{Budget, Share};
use onnxd::net::connections::{Connections, Shared};
use onnxd::net::listener::Listener;
use onnxd::net::service::{Begun, Dialogue, Exchange, Incoming, Progress, Refusal, ReplySlot, Service};
use onnxd::net::tls::{Identity, IdentityFiles};
use onnxd::readiness::{Readiness, State};
use tungstenite::Message;

struct Echo;

impl Service for Echo {
    type Dialogue = Echo;
    type Exchange = Echo;

    fn upgrade(&self, _: &Request<()>) -> Result<Echo, Refusal> {
        Ok(Echo)
    }

    fn begin(&self, _: &Request<()>) -> Begun<Echo> {
        Begun::Respond(self.refuse(StatusCode::UPGRADE_REQUIRED, "connect a WebSocket"))
    }

    fn refuse(&self, status: StatusCode, message: &str) -> Response<Vec<u8>> {
        let mut response = Response::new(message.as_bytes().to_vec());
        *response.status_mut() = status;
        response
    }

    fn fail(&self, failure: &RequestError) -> Response<Vec<u8>> {
        self.refuse(failure.code.status(), &failure.message)
    }
}

impl Dialogue for Echo {
    type Pending = ();

    fn receive(&mut self, message: Incoming<'_>, _: Share, _: &ReplySlot) -> Progress<(), Message> {
        Progress::Answered(match message {
            Incoming::Text(text) => Message::text(text),
            Incoming::Binary(bytes) => Message::binary(bytes.to_vec()),
        })
    }

    fn refuse(&mut self, error: &RequestError) -> Message {
        Message::text(error.to_string())
    }

    fn answer(&mut self, (): (), _: Outcome, _: &mut Share) -> Option<Message> {
        Some(Message::text("an echo has nothing to wait for"))
    }
}

impl Exchange for Echo {
    type Pending = ();

    fn receive(&mut self, body: &[u8], _: Share, _: &ReplySlot) -> Progress<(), Response<Vec<u8>>> {
        Progress::Answered(Response::new(body.to_vec()))
    }

    fn answer(&mut self, (): (), _: Outcome, _: &mut Share) -> Response<Vec<u8>> {
        Response::new(Vec::new())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match start(&arguments) {
        Ok(listener) => {
            println!("ready on {}", listener.address);
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            listener.stop();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> Result<Listener, String> {
    let said = |error: std::io::Error| error.to_string();
    let (address, identity) = match arguments {
        [] => ("127.0.0.1:0", None),
        [address] => (address.as_str(), None),
        [address, certificate, key] => {
            let files = IdentityFiles { certificate: certificate.into(), key: key.into() };
            (address.as_str(), Some(Arc::new(Identity::read(files)?)))
        }
        _ => return Err("expected ADDRESS, or ADDRESS CERTIFICATE KEY".into()),
    };
    let readiness = Arc::new(Readiness::default());
    readiness.set(State::Ready);
    let limits = Limits::default();
    let shared = Shared {
        service: Echo,
        identity,
        memory: Budget::new(limits.max_memory),
        limits,
        readiness,
        connections: Arc::new(Connections::new().map_err(said)?),
        counters: Arc::default(),
        clock: Clock::system(),
    };
    TcpListener::bind(address).and_then(|socket| Listener::start(socket, Arc::new(shared))).map_err(said)
}
