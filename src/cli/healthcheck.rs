//! `onnxd healthcheck`: a probe for images that have no shell and no curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::flags::address;

#[derive(Debug, Args)]
pub struct HealthcheckFlags {
    /// The address that the server was told to listen on
    #[arg(long, default_value = "0.0.0.0:8080", env = "ONNXD_LISTEN", value_parser = address)]
    listen: SocketAddr,
}

const PATIENCE: Duration = Duration::from_secs(3);

pub fn run(flags: &HealthcheckFlags) -> ExitCode {
    match ask(reachable(flags.listen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onnxd healthcheck: {}: {error}", flags.listen);
            ExitCode::FAILURE
        }
    }
}

/// An address that means "any" is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn ask(address: SocketAddr) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).map_err(failed)?;
    let status = answer.split_whitespace().nth(1).unwrap_or("nothing");
    if status == "200" { Ok(()) } else { Err(format!("not ready: /health answered {status}")) }
}
