//! A server of one file that fails as the test tells it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does with a request; after the last of them, `Whole` for ever.
#[derive(Clone)]
pub enum Act {
    /// Sends the file, or the part of it that is asked for.
    Whole,
    /// Sends the file, whatever part is asked for.
    NoRanges,
    /// Sends so many bytes of what it said that it would, and is gone.
    Cut(usize),
    /// The same, and they are wrong.
    Spoilt(usize),
    /// Sends so many bytes, and then nothing, until the client is gone.
    Silent(usize),
    /// Sends the file in so many pieces, with time between them.
    Slow(usize, Duration),
    /// Sends the file without saying how long it is.
    Unsaid,
    /// Sends bytes until the client is gone.
    Endless,
    /// Says that so many bytes come.
    Says(u64),
    /// A status, and headers, each with its line's end.
    Answer(u16, String),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct Files {
    pub address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Says a word when a request's answer has begun and will not go on.
    pub silent: Receiver<()>,
}

struct Server {
    content: Vec<u8>,
    acts: Mutex<std::vec::IntoIter<Act>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    silent: Sender<()>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Files {
    pub fn start(content: &[u8], acts: Vec<Act>) -> Files {
        Files::serve(content, acts, None)
    }

    /// Over TLS, for `localhost`, by a certificate of the tests' authority.
    pub fn start_tls(content: &[u8], acts: Vec<Act>) -> Files {
        let file = |name: &str| super::root().join("tests/data/tls").join(name);
        let chain = CertificateDer::pem_file_iter(file("chain.crt")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file("ec-pkcs8.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Files::serve(
            content,
            acts,
            Some(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())),
        )
    }

    fn serve(content: &[u8], acts: Vec<Act>, tls: Option<Arc<ServerConfig>>) -> Files {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (silent, quiet) = channel();
        let acts = Mutex::new(acts.into_iter());
        let server = Arc::new(Server { content: content.into(), acts, asked: Arc::clone(&asked), silent });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, tls) = (server.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => server.answer(stream),
                    Some(config) => server.answer(secure(config, stream)),
                });
            }
        });
        Files { address, scheme, asked, silent: quiet }
    }

    pub fn url(&self, path: &str) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The `Range` of each request.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.asked().iter().map(|asked| asked.header("range").map(str::to_owned)).collect()
    }
}

fn secure(config: Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

impl Server {
    /// One request, then the connection ends.
    fn answer(&self, mut stream: impl Stream) -> Option<()> {
        let asked = read(&mut BufReader::new(&mut stream))?;
        let begin = asked.header("range").map_or(0, |range| {
            range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
        });
        self.asked.lock().unwrap().push(asked);
        let act = self.acts.lock().unwrap().next().unwrap_or(Act::Whole);
        let whole = &self.content[..];
        let part = whole.get(begin..).filter(|part| !part.is_empty());
        let head = match (&act, part) {
            (Act::Answer(status, headers), _) => format!("{status} .\r\n{headers}content-length: 0\r\n"),
            (Act::Says(length), _) => format!("200 OK\r\ncontent-length: {length}\r\n"),
            (Act::Endless, _) => "200 OK\r\ntransfer-encoding: chunked\r\n".into(),
            (Act::Unsaid, _) => "200 OK\r\n".into(),
            (Act::NoRanges, _) => format!("200 OK\r\ncontent-length: {}\r\n", whole.len()),
            (_, None) => format!("416 .\r\ncontent-range: bytes */{}\r\ncontent-length: 0\r\n", whole.len()),
            (_, Some(part)) if begin == 0 => format!("200 OK\r\ncontent-length: {}\r\n", part.len()),
            (_, Some(part)) => format!(
                "206 Partial Content\r\ncontent-range: bytes {begin}-{}/{}\r\ncontent-length: {}\r\n",
                whole.len() - 1,
                whole.len(),
                part.len()
            ),
        };
        stream.write_all(format!("HTTP/1.1 {head}connection: close\r\n\r\n").as_bytes()).ok()?;
        let part = part.unwrap_or_default();
        match act {
            Act::Answer(..) => {}
            Act::Whole => stream.write_all(part).ok()?,
            Act::NoRanges | Act::Unsaid => stream.write_all(whole).ok()?,
            Act::Cut(length) => stream.write_all(&part[..length]).ok()?,
            Act::Spoilt(length) => stream.write_all(&vec![0; length]).ok()?,
            Act::Slow(pieces, wait) => {
                for piece in part.chunks(part.len().div_ceil(pieces)) {
                    stream.write_all(piece).ok()?;
                    stream.flush().ok()?;
                    std::thread::sleep(wait);
                }
            }
            Act::Silent(length) => {
                stream.write_all(&part[..length]).ok()?;
                stream.flush().ok()?;
                self.silent.send(()).ok()?;
                let _ = stream.read(&mut [0]);
            }
            Act::Says(_) => {
                let _ = stream.read(&mut [0]);
            }
            Act::Endless => loop {
                stream.write_all(b"4\r\nmore\r\n").ok()?;
            },
        }
        stream.flush().ok()
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let headers = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Some(Asked { path, headers })
}
