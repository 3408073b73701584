//! The flags of `serve`, each with its environment variable. The limits among them are in [`super::limits`], those of
//! downloads in [`super::fetching`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration::duration_or_never;
use super::fetching::FetchFlags;
use super::limits::Limits;

/// All flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeFlags {
    /// A model (an .onnx file, a folder with model.json or model.onnx, or a URL), or a folder of such folders
    /// [default: the folder `model`; where there is none, the digits model that is part of this program]
    #[arg(env = "ONNXD_MODEL")]
    pub model: Option<PathBuf>,

    /// The address of the public port: WebSocket and HTTP
    #[arg(long, default_value = "0.0.0.0:8080", env = "ONNXD_LISTEN", value_parser = address)]
    pub listen: SocketAddr,

    /// A private address for health, readiness and metadata (off unless given)
    #[arg(long, env = "ONNXD_OPS_LISTEN", value_parser = address)]
    pub ops_listen: Option<SocketAddr>,

    /// The model that `/` means, when there are several
    #[arg(long, env = "ONNXD_DEFAULT_MODEL")]
    pub default_model: Option<String>,

    /// Workers a model, over model.json's instance_group.count [default: the machine's cores]
    #[arg(long, env = "ONNXD_WORKERS", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,

    #[command(flatten)]
    pub tls: TlsFlags,

    #[command(flatten)]
    pub access: AccessFlags,

    #[command(flatten)]
    pub reload: ReloadFlags,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub fetch: FetchFlags,

    #[command(flatten)]
    pub log: LogFlags,
}

/// TLS on the public port, for servers without a gateway in front.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS (read again at SIGHUP, and when the files change)")]
pub struct TlsFlags {
    /// PEM: the server's certificate, then those that signed it; the port then speaks wss and https
    #[arg(long, env = "ONNXD_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM: the certificate's key (PKCS#8, PKCS#1 or SEC1), not encrypted
    #[arg(long, env = "ONNXD_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// How models are loaded again while the server runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reload (at SIGHUP, too)")]
pub struct ReloadFlags {
    /// How often to look whether the models' files have changed; 0 is never
    #[arg(long, env = "ONNXD_WATCH", value_parser = duration_or_never, default_value = "0")]
    pub watch: Duration,

    /// How long conversations may go on with a version that was replaced; 0 is without limit
    #[arg(long, env = "ONNXD_RELOAD_DRAIN", value_parser = duration_or_never, default_value = "0")]
    pub reload_drain: Duration,
}

/// Who may send requests, for servers without a gateway in front.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access (health stays open)")]
pub struct AccessFlags {
    /// A file of bearer tokens, one a line; read again at SIGHUP
    #[arg(long, env = "ONNXD_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// An origin whose pages may send requests, for example `https://example.org`; may be given several times
    #[arg(long, env = "ONNXD_ALLOW_ORIGIN", value_delimiter = ',', value_parser = origin)]
    pub allow_origin: Vec<String>,

    /// What a gateway puts in front of every path, for example /models/a
    #[arg(long, env = "ONNXD_PATH_PREFIX", value_parser = path_prefix, default_value = "")]
    pub path_prefix: String,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging (to standard output)")]
pub struct LogFlags {
    /// error, warn, info, debug or trace; or by module, for example `info,onnxd::net=debug`
    #[arg(long, env = "ONNXD_LOG", default_value = "info")]
    pub log: String,

    /// The form of a line
    #[arg(long, env = "ONNXD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object a line
    Json,
}

/// The first address that `HOST:PORT` resolves to.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected HOST:PORT, for example 0.0.0.0:8080 or [::]:8080";
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
    addresses.next().ok_or_else(|| format!("the host has no address; {expected}"))
}

/// An origin as in RFC 6454 section 6.2: scheme, host and port, with no path.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host).unwrap_or_default();
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return Err("expected an origin as a browser sends it, for example https://example.org".into());
    }
    Ok(text.to_owned())
}

/// A path without the slash at its end, written as requests write it.
fn path_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_end_matches('/');
    if prefix.is_empty() {
        return Ok(String::new());
    }
    if !prefix.starts_with('/') {
        return Err("expected a path that begins with a slash, for example /models/a".into());
    }
    // A prefix that is written in another way than requests write it would match none of them, without any error.
    let as_requested =
        prefix.parse::<http::Uri>().ok().filter(|uri| uri.path() == prefix && uri.query().is_none());
    if !prefix.is_ascii() || as_requested.is_none() {
        return Err("no request's path can begin so: expected a path alone, with whatever is not ASCII, a blank, `?` or \
                    `#` as %XX, for example /models/a%20b"
            .into());
    }
    if prefix.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("no request's path can begin so: clients resolve `.` and `..` before they ask".into());
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_that_no_request_can_have_is_an_error() {
        for wrong in ["a", "/a b", "/a?b", "/a#b", "/é", "/a/../b", "/./a", "/a\\b\u{7f}", "/a/?"] {
            assert!(path_prefix(wrong).is_err(), "{wrong}");
        }
        for (right, taken) in
            [("", ""), ("/", ""), ("/a/", "/a"), ("/a%20b", "/a%20b"), ("/v1/x-y_z", "/v1/x-y_z")]
        {
            assert_eq!(path_prefix(right).as_deref(), Ok(taken), "{right}");
        }
    }
}
