//! A registry that fails as the test tells it. It has the part of the distribution API that a push needs.
//! tests/image/run tests a real registry.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use ring::digest::{SHA256, digest};

/// What the registry wants to know of its users.
#[derive(Clone, Default)]
pub enum Login {
    #[default]
    Nothing,
    /// `user:password`, with each request.
    Basic(&'static str),
    /// `user:password` for a token, which is good for so many requests.
    Token(&'static str, usize),
}

/// What it does wrong, to a request whose `METHOD path` contains the text; each once.
pub enum Fault {
    /// Reads so much of the body, and is gone.
    Cut(&'static str, usize),
    /// Answers this status and body, whatever was sent.
    Answer(&'static str, u16, &'static str),
    /// Says that it keeps this, whatever was sent.
    Keeps(&'static str, &'static str),
}

#[derive(Default)]
pub struct State {
    pub blobs: HashMap<String, Vec<u8>>,
    /// By tag or digest: media type and content.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    /// `METHOD path` of each request, and its `Authorization`.
    pub requests: Vec<(String, Option<String>)>,
    pub faults: Vec<Fault>,
    /// What `Location` begins with; nothing is a path alone.
    pub elsewhere: String,
    login: Login,
    token: usize,
    token_used: usize,
    uploads: Vec<Option<Vec<u8>>>,
}

pub struct Registry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct Request {
    line: String,
    headers: HashMap<String, String>,
    length: usize,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn head(&self) -> String {
        let Answer { status, headers, body } = self;
        format!("HTTP/1.1 {status} .\r\n{headers}content-length: {}\r\n\r\n", body.len())
    }
}

fn answer(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, headers: headers.into(), body: body.into() }
}

pub fn sha256(bytes: &[u8]) -> String {
    let digits: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

impl Registry {
    pub fn start(login: Login) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { login, ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                std::thread::spawn(move || converse(stream, address, &state));
            }
        });
        Registry { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn fails(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// How often a request like this came.
    pub fn count(&self, text: &str) -> usize {
        self.state().requests.iter().filter(|(line, _)| line.contains(text)).count()
    }
}

fn converse(stream: TcpStream, address: SocketAddr, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    if reader.fill_buf().ok()?.first() == Some(&0x16) {
        // The first byte of a TLS handshake: the answer of every server that speaks HTTP alone.
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
        return None;
    }
    loop {
        let request = read(&mut reader)?;
        if request.headers.get("expect").is_some_and(|expected| expected == "100-continue") {
            if let Some(refusal) = state.lock().unwrap().fault(&request.line) {
                stream.write_all(refusal.head().as_bytes()).ok()?;
                stream.write_all(&refusal.body).ok()?;
                // The body is not wanted, and who sends it all the same meets a closed door.
                return None;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let cut = state.lock().unwrap().cut(&request.line);
        let mut body = vec![0; cut.unwrap_or(request.length)];
        reader.read_exact(&mut body).ok()?;
        let mut state = state.lock().unwrap();
        state.requests.push((request.line.clone(), request.headers.get("authorization").cloned()));
        if cut.is_some() {
            // What came before the cut is kept as a piece, and nobody is told.
            let piece = Request { line: request.line.replacen("PUT", "PATCH", 1), ..request };
            state.answer(&piece, &body, address);
            return None;
        }
        let mut answer = state.answer(&request, &body, address);
        if let Some(content) = state.kept(&request, &body) {
            answer.headers += &format!("docker-content-digest: {}\r\n", sha256(&content));
        }
        let head = request.line.starts_with("HEAD ");
        drop(state);
        stream.write_all(answer.head().as_bytes()).ok()?;
        if !head {
            stream.write_all(&answer.body).ok()?;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    Some(Request { line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(), headers, length })
}

impl State {
    fn cut(&mut self, line: &str) -> Option<usize> {
        let found = self
            .faults
            .iter()
            .position(|fault| matches!(fault, Fault::Cut(text, _) if line.contains(text)))?;
        match self.faults.remove(found) {
            Fault::Cut(_, after) => Some(after),
            Fault::Answer(..) | Fault::Keeps(..) => None,
        }
    }

    /// The content whose digest the answer tells.
    fn kept(&mut self, request: &Request, body: &[u8]) -> Option<Vec<u8>> {
        let line = &request.line;
        let found = self.faults.iter().find_map(|fault| match fault {
            Fault::Keeps(text, content) if line.contains(text) => Some(content.as_bytes().to_vec()),
            _ => None,
        });
        found.or_else(|| line.starts_with("PUT /v2/a/b/manifests/").then(|| body.to_vec()))
    }

    fn fault(&mut self, line: &str) -> Option<Answer> {
        let fault = |fault: &Fault| matches!(fault, Fault::Answer(text, ..) if line.contains(text));
        let found = self.faults.iter().position(fault)?;
        match self.faults.remove(found) {
            Fault::Answer(_, status, body) => Some(answer(status, "", body)),
            Fault::Cut(..) | Fault::Keeps(..) => None,
        }
    }

    fn answer(&mut self, request: &Request, body: &[u8], address: SocketAddr) -> Answer {
        let line = &request.line;
        if let Some(fault) = self.fault(line) {
            return fault;
        }
        if let Some(refusal) = self.refusal(request, address) {
            return refusal;
        }
        let (method, url) = line.split_once(' ').unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let last = path.rsplit('/').next().unwrap().to_owned();
        match method {
            "GET" if path == "/v2/" => answer(200, "", ""),
            "GET" if path == "/token" => {
                (self.token, self.token_used) = (self.token + 1, 0);
                answer(200, "", format!(r#"{{"token":"t{}"}}"#, self.token))
            }
            "HEAD" if path.contains("/blobs/") => {
                answer(if self.blobs.contains_key(&last) { 200 } else { 404 }, "", "")
            }
            "POST" => {
                self.uploads.push(Some(Vec::new()));
                answer(202, &self.place(self.uploads.len() - 1), "")
            }
            "PATCH" | "PUT" | "GET" | "DELETE" if path.contains("/uploads/") => {
                self.upload(method, last.parse().unwrap(), query, request, body)
            }
            "PUT" => {
                let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
                self.manifests.insert(last, (media_type, body.to_vec()));
                answer(201, "", "")
            }
            _ => answer(404, "", ""),
        }
    }

    fn refusal(&mut self, request: &Request, address: SocketAddr) -> Option<Answer> {
        let given = request.headers.get("authorization").map(String::as_str);
        let basic = |login: &str| format!("Basic {}", super::base64(login.as_bytes()));
        let challenge = match self.login {
            Login::Nothing => return None,
            Login::Basic(login) if given == Some(&basic(login)) => return None,
            Login::Basic(_) => "Basic realm=\"here\"".to_owned(),
            Login::Token(login, _) if request.line.contains(" /token?") => {
                return (given != Some(&basic(login)))
                    .then(|| answer(401, "", r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#));
            }
            Login::Token(_, uses) => {
                if given == Some(&format!("Bearer t{}", self.token)) && self.token_used < uses {
                    self.token_used += 1;
                    return None;
                }
                format!(
                    "Bearer realm=\"http://{address}/token\",service=\"s\",scope=\"repository:a/b:pull,push\""
                )
            }
        };
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Some(answer(401, &format!("www-authenticate: {challenge}\r\n"), body))
    }

    fn place(&self, upload: usize) -> String {
        format!("location: {}/v2/a/b/blobs/uploads/{upload}?state=s\r\n", self.elsewhere)
    }

    fn upload(&mut self, method: &str, id: usize, query: &str, request: &Request, body: &[u8]) -> Answer {
        let place = self.place(id);
        let Some(upload) = self.uploads.get_mut(id).and_then(Option::as_mut) else {
            return answer(404, "", "");
        };
        if method == "DELETE" {
            self.uploads[id] = None;
            return answer(204, "", "");
        }
        // What is sent without a range is meant for the beginning.
        let range =
            request.headers.get("content-range").map_or("0", |range| range.split('-').next().unwrap());
        if !body.is_empty() && range != upload.len().to_string() {
            return answer(416, &place, "");
        }
        upload.extend_from_slice(body);
        let range = format!("range: 0-{}\r\n", upload.len().saturating_sub(1));
        match method {
            "PUT" => {
                let content = self.uploads[id].take().unwrap();
                let digest = query.rsplit_once("digest=").unwrap().1.to_owned();
                if sha256(&content) != digest {
                    return answer(400, "", r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.insert(digest, content);
                answer(201, "", "")
            }
            "PATCH" => answer(202, &(place + &range), ""),
            _ => answer(204, &(place + &range), ""),
        }
    }
}
