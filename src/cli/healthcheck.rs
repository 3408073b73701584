//! `onnxd healthcheck`: asks a running server for `/health`, for images that have no shell and no curl. What `/health`
//! answers is decided in `ops`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::flags::address;
use crate::net::tls::probe;

#[derive(Debug, Args)]
pub struct HealthcheckFlags {
    /// The address that the server listens on
    #[arg(long, default_value = "0.0.0.0:8080", env = "ONNXD_LISTEN", value_parser = address)]
    listen: SocketAddr,

    /// The server's certificate, if it has one: the port then uses TLS
    #[arg(long, env = "ONNXD_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The server's private address, if it has one: asked instead, because it answers when the port is full
    #[arg(long, env = "ONNXD_OPS_LISTEN", value_parser = address)]
    ops_listen: Option<SocketAddr>,
}

/// The time limit for the whole check. A limit for each read would accept a server that sends single bytes slowly.
const PATIENCE: Duration = Duration::from_secs(3);

/// Succeeds when `/health` answers 200 within [`PATIENCE`]. Otherwise prints the reason to standard error and fails.
/// The certificate is not verified, because the server is on this machine.
pub fn run(flags: &HealthcheckFlags) -> ExitCode {
    let (listen, tls) = match flags.ops_listen {
        Some(private) => (private, false),
        None => (flags.listen, flags.tls_cert.is_some()),
    };
    match ask(reachable(listen), tls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onnxd healthcheck: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The address to connect to: the loopback address when the server listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn ask(address: SocketAddr, tls: bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("/health was not answered within {PATIENCE:?}")
        }
        _ => error.to_string(),
    };
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    let stream = Timed { stream, deadline };
    let answer = if tls {
        get_health(probe::wrap(stream).map_err(|error| error.to_string())?)
    } else {
        get_health(stream)
    };
    let answer = answer.map_err(failed)?;
    let status = answer.split_whitespace().nth(1).unwrap_or("nothing");
    if status == "200" { Ok(()) } else { Err(format!("not ready: /health answered {status}")) }
}

fn get_health(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

/// A blocking stream. All its reads and writes fail after the deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
