//! The program under test, clients to talk to it, and readers of the checked-in data.

pub mod cases;
pub mod files;
pub mod registry;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::{Message, WebSocket};

pub use cases::{Tolerance, check_cases, check_cases_within};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Client = WebSocket<TcpStream>;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `tests/models/<name>`.
pub fn test_model(name: &str) -> PathBuf {
    root().join("tests/models").join(name)
}

/// The program under test: what was built with the tests, or another build of it, as the static one.
pub fn program() -> PathBuf {
    std::env::var_os("ONNXD_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_onnxd").into(), PathBuf::from)
}

pub fn onnxd() -> Command {
    let mut command = Command::new(program());
    command.env_clear().current_dir(root()).stdin(Stdio::null());
    command
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "this never came to be: {what}");
        std::thread::yield_now();
    }
}

/// A folder of this test's own, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The test model `name` with a manifest, in a folder of its own.
pub fn with_manifest(name: &str, test: &str, manifest: &str) -> PathBuf {
    let folder = folder(test);
    std::fs::copy(test_model(name).join("model.onnx"), folder.join("model.onnx")).unwrap();
    std::fs::write(folder.join("model.json"), manifest).unwrap();
    folder
}

/// A running `onnxd serve`, killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
    pub address: SocketAddr,
}

impl Program {
    /// The default model.
    pub fn digits() -> Program {
        Program::serve(&root().join("model"), &[])
    }

    pub fn serve(model: &Path, flags: &[&str]) -> Program {
        let mut command = onnxd();
        command.arg("serve").arg(model).args(["--listen", "127.0.0.1:0"]).args(flags);
        Program::start(&mut command)
    }

    /// Starts a command that becomes `onnxd serve`, and waits until it is ready.
    pub fn start(command: &mut Command) -> Program {
        Program::start_and_read(command, |output, lines| {
            let _ = output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line));
        })
    }

    /// The same; from then on nobody reads its standard output, which stays open.
    pub fn start_unread(command: &mut Command) -> Program {
        Program::start_and_read(command, |mut output, lines| {
            let mut line = String::new();
            while !line.contains("ready on ") {
                line.clear();
                output.read_line(&mut line).unwrap();
                let _ = lines.send(line.trim_end().to_owned());
            }
            loop {
                std::thread::park();
            }
        })
    }

    fn start_and_read(
        command: &mut Command,
        read: impl FnOnce(BufReader<ChildStdout>, Sender<String>) + Send + 'static,
    ) -> Program {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || read(output, sender));
        let mut program = Program { child, lines, seen: vec![], address: ([0, 0, 0, 0], 0).into() };
        let line = program.wait_for("ready on ");
        let address = line.split("ready on ").nth(1).unwrap();
        program.address = address.trim_end_matches(['"', '}']).parse().unwrap();
        program
    }

    /// The next log line that holds `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("the program never said `{text}`; it said {:#?}", self.seen);
            });
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A log line that holds `text`, whether it has come already or is still to come.
    pub fn says(&mut self, text: &str) -> String {
        match self.seen.iter().find(|line| line.contains(text)) {
            Some(line) => line.clone(),
            None => self.wait_for(text),
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the program does not end; it said {:#?}", self.seen);
            std::thread::yield_now();
        }
    }

    /// Bytes of memory that it has.
    pub fn resident(&self) -> usize {
        self.status("VmRSS:").trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Threads that it has.
    pub fn threads(&self) -> usize {
        self.status("Threads:").parse().unwrap()
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    }

    /// Where operators ask, with `--ops-listen`.
    pub fn ops_address(&self) -> SocketAddr {
        let line = self.seen.iter().find(|line| line.contains("operators on http://")).unwrap();
        line.split("http://").nth(1).unwrap().trim_end_matches(['"', '}']).parse().unwrap()
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A conversation on `path`, which may have a query.
    pub fn connect(&self, path: &str) -> Client {
        let (client, _) = tungstenite::client(format!("ws://{}{path}", self.address), self.tcp()).unwrap();
        client
    }

    /// The status and body with which an upgrade is refused.
    pub fn refused_upgrade(&self, path: &str) -> (u16, Value) {
        let url = format!("ws://{}{path}", self.address);
        match tungstenite::client(url, self.tcp()) {
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                (response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null))
            }
            other => panic!("expected a refusal of {path}, but {:?} came", other.map(|_| "a conversation")),
        }
    }

    /// Sends bytes, then reads one response.
    pub fn http(&self, request: impl AsRef<[u8]>) -> HttpResponse {
        let mut stream = self.tcp();
        stream.write_all(request.as_ref()).unwrap();
        HttpResponse::read(&mut BufReader::new(stream))
    }

    pub fn get(&self, path: &str) -> HttpResponse {
        self.http(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub fn post(&self, path: &str, headers: &str, body: &[u8]) -> HttpResponse {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        request.extend_from_slice(body);
        self.http(request)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP response, as little of it as tests need.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl HttpResponse {
    pub fn read(stream: &mut impl BufRead) -> HttpResponse {
        let mut response = HttpResponse::read_head(stream);
        if let Some(length) = response.header("content-length") {
            response.body.resize(length.parse().unwrap(), 0);
            stream.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// For the answer to a HEAD request, which has no body whatever its length says.
    pub fn read_head(stream: &mut impl BufRead) -> HttpResponse {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut head).unwrap();
            assert!(read > 0, "the connection ended inside a response's head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        HttpResponse { status, head: head.to_ascii_lowercase(), body: vec![] }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// A conversation with the default model, as a bare stream: the answer to the handshake has been read.
pub fn upgraded(program: &Program) -> TcpStream {
    upgrade(program.tcp())
}

pub fn upgrade<S: Read + Write>(mut stream: S) -> S {
    let request = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Reads raw frames from the server until one has the opcode; its payload.
pub fn frame_with(stream: &mut impl Read, opcode: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                stream.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length) as usize
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if head[0] & 0x0f == opcode {
            return payload;
        }
    }
}

/// A binary message of 126 to 65,535 bytes as a client's frame, masked with zeros.
pub fn binary_frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    assert!(length > 125);
    [&[0x82, 0xfe][..], &length.to_be_bytes(), &[0; 4], payload].concat()
}

/// Raises this process's limit of open files for `wanted` connections; how many there may be, which is
/// fewer where the machine allows fewer.
pub fn raise_file_limit(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// For everything else that is open, in all tests at once.
    const OTHERS: u64 = 1500;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let current = limit.current.unwrap_or(u64::MAX).max(most.min(wanted as u64 + OTHERS));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }).unwrap();
    wanted.min(usize::try_from(current.saturating_sub(OTHERS)).unwrap_or(usize::MAX)).max(100)
}

/// Sends a message and returns the next data message.
pub fn ask(client: &mut Client, message: impl Into<Message>) -> Message {
    client.send(message.into()).unwrap();
    answer(client)
}

/// Sends a message and returns the JSON that comes back.
pub fn ask_json(client: &mut Client, message: impl Into<Message>) -> Value {
    json(&ask(client, message))
}

pub fn answer(client: &mut Client) -> Message {
    loop {
        match client.read().unwrap() {
            message @ (Message::Text(_) | Message::Binary(_)) => return message,
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

pub fn json(message: &Message) -> Value {
    serde_json::from_str(message.to_text().expect("a text message")).expect("JSON")
}

/// Reads until the server's close frame, and returns its code; 0 for none.
pub fn close_code(client: &mut Client) -> u16 {
    loop {
        match client.read() {
            Ok(Message::Close(Some(frame))) => return frame.code.into(),
            Ok(Message::Close(None)) => return 0,
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    }
}

/// The JSON and the bytes behind it of a `framing=v2` message.
pub fn split_v2(message: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = message.split_first_chunk::<4>().unwrap();
    let (json, tensors) = rest.split_at(u32::from_le_bytes(*length) as usize);
    (serde_json::from_slice(json).unwrap(), tensors)
}

pub fn v2(json: &str, tensors: &[u8]) -> Vec<u8> {
    [&(json.len() as u32).to_le_bytes(), json.as_bytes(), tensors].concat()
}

/// Label and pixels (28 × 28) of held-out digit `index`.
pub fn held_out(index: usize) -> (u8, Vec<u8>) {
    const RECORD: usize = 1 + 28 * 28;
    let mut file = std::fs::File::open(root().join("tests/data/digits-heldout.bin")).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    let record = &all[index * RECORD..(index + 1) * RECORD];
    (record[0], record[1..].to_vec())
}

/// A gray PNG of 28 × 28.
pub fn png(pixels: &[u8]) -> Vec<u8> {
    encode(image::GrayImage::from_raw(28, 28, pixels.to_vec()).unwrap(), image::ImageFormat::Png)
}

pub fn encode(image: impl Into<image::DynamicImage>, format: image::ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The digit that a reply of the default model puts first.
pub fn best(reply: &Value) -> u8 {
    let class = reply["outputs"][0]["data"][0].as_str().unwrap_or_else(|| panic!("no class in {reply}"));
    class.split(':').nth(2).unwrap().parse().unwrap()
}
