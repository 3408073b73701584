//! The flags of `serve`, each with its environment variable.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration::{duration, duration_or_never};
use super::fetching::FetchFlags;
use super::limits::Limits;

/// How to serve.
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
    pub limits: LimitFlags,

    #[command(flatten)]
    pub fetch: FetchFlags,

    #[command(flatten)]
    pub log: LogFlags,
}

/// TLS on the public port, where no gateway brings it.
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

/// How models are loaded again, beside those that are served.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reload (at SIGHUP, too)")]
pub struct ReloadFlags {
    /// How often to look whether the models' files have changed; 0 is never
    #[arg(long, env = "ONNXD_WATCH", value_parser = duration_or_never, default_value = "0")]
    pub watch: Duration,

    /// How long conversations may go on with a version that was replaced; 0 is until they end
    #[arg(long, env = "ONNXD_RELOAD_DRAIN", value_parser = duration_or_never, default_value = "0")]
    pub reload_drain: Duration,
}

/// Who may ask, where no gateway decides it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access (health stays open)")]
pub struct AccessFlags {
    /// A file of bearer tokens, one a line; read again at SIGHUP
    #[arg(long, env = "ONNXD_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// An origin whose pages may ask, as `https://example.org`; may be given several times
    #[arg(long, env = "ONNXD_ALLOW_ORIGIN", value_delimiter = ',', value_parser = origin)]
    pub allow_origin: Vec<String>,

    /// What a gateway puts in front of every path, as /models/a
    #[arg(long, env = "ONNXD_PATH_PREFIX", value_parser = path_prefix, default_value = "")]
    pub path_prefix: String,
}

/// What nothing may exceed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits (times as 500ms, 30s, 2m, 1h, 1d)")]
pub struct LimitFlags {
    /// Connections at once; a further one gets 503 [default: 1024, or one for each 256 KiB of the container's memory]
    #[arg(long, env = "ONNXD_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// Connections at once on the private address; a further one gets 503
    #[arg(long, env = "ONNXD_MAX_OPS_CONNECTIONS", default_value_t = Limits::default().max_ops_connections)]
    pub max_ops_connections: usize,

    /// Bytes of a request head; more gets 431
    #[arg(long, env = "ONNXD_MAX_HEAD_BYTES", default_value_t = Limits::default().max_head_bytes)]
    pub max_head_bytes: usize,

    /// Bytes of a message or an HTTP body; more gets close 1009 or 413
    #[arg(long, env = "ONNXD_MAX_MESSAGE_BYTES", default_value_t = Limits::default().max_message_bytes)]
    pub max_message_bytes: usize,

    /// Bytes of one frame of a message; more gets close 1009
    #[arg(long, env = "ONNXD_MAX_FRAME_BYTES", default_value_t = Limits::default().max_frame_bytes)]
    pub max_frame_bytes: usize,

    /// Fragments of a message; more gets close 1008
    #[arg(long, env = "ONNXD_MAX_FRAGMENTS", default_value_t = Limits::default().max_fragments)]
    pub max_fragments: usize,

    /// Unanswered requests a conversation; further messages wait undecoded
    #[arg(long, env = "ONNXD_MAX_IN_FLIGHT", default_value_t = Limits::default().max_in_flight)]
    pub max_in_flight: usize,

    /// Bytes of a conversation's unanswered requests; then reading stops
    #[arg(long, env = "ONNXD_MAX_IN_FLIGHT_BYTES", default_value_t = Limits::default().max_in_flight_bytes)]
    pub max_in_flight_bytes: usize,

    /// Bytes of replies that are gathered before they are pushed to the socket; one may be larger
    #[arg(long, env = "ONNXD_WRITE_BUFFER_BYTES", default_value_t = Limits::default().write_buffer_bytes)]
    pub write_buffer_bytes: usize,

    /// Requests that wait for a worker, a model; more get `overloaded`
    #[arg(long, env = "ONNXD_QUEUE_CAPACITY", default_value_t = Limits::default().queue_capacity)]
    pub queue_capacity: usize,

    /// Pixels of an image, by its header
    #[arg(long, env = "ONNXD_MAX_IMAGE_PIXELS", default_value_t = Limits::default().max_image_pixels)]
    pub max_image_pixels: u64,

    /// Files and texts of one request
    #[arg(long, env = "ONNXD_MAX_FILES", default_value_t = Limits::default().max_files)]
    pub max_files: usize,

    /// Bytes of any one tensor that a request makes, from files or by open dimensions [default: 268435456, or
    /// --max-memory where that is less]
    #[arg(long, env = "ONNXD_MAX_TENSOR_BYTES")]
    pub max_tensor_bytes: Option<usize>,

    /// Bytes of weights that plans for batches may pack, a model; 0 is no batches
    #[arg(long, env = "ONNXD_MAX_PLAN_BYTES", default_value_t = Limits::default().max_plan_bytes)]
    pub max_plan_bytes: usize,

    /// Bytes that all clients together may make the server hold [default: three eighths of the container's memory]
    #[arg(long, env = "ONNXD_MAX_MEMORY")]
    pub max_memory: Option<usize>,

    /// Bytes of log lines that wait to be written; more are dropped and counted
    #[arg(long, env = "ONNXD_MAX_LOG_BYTES", default_value_t = Limits::default().max_log_bytes)]
    pub max_log_bytes: usize,

    /// Depth of a request's JSON, at most 128
    #[arg(long, env = "ONNXD_MAX_JSON_DEPTH", default_value_t = Limits::default().max_json_depth)]
    pub max_json_depth: usize,

    /// For a whole TLS handshake
    #[arg(long, env = "ONNXD_TLS_TIMEOUT", value_parser = duration, default_value = "10s")]
    pub tls_timeout: Duration,

    /// For a whole request head
    #[arg(long, env = "ONNXD_HEAD_TIMEOUT", value_parser = duration, default_value = "10s")]
    pub head_timeout: Duration,

    /// For an idle HTTP connection's next request
    #[arg(long, env = "ONNXD_KEEP_ALIVE_TIMEOUT", value_parser = duration, default_value = "75s")]
    pub keep_alive_timeout: Duration,

    /// For a whole HTTP body
    #[arg(long, env = "ONNXD_BODY_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub body_timeout: Duration,

    /// For a whole WebSocket message, from its first byte; more gets close 1008
    #[arg(long, env = "ONNXD_MESSAGE_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub message_timeout: Duration,

    /// Silence after which a conversation is pinged; 0 is never
    #[arg(long, env = "ONNXD_PING_INTERVAL", value_parser = duration_or_never, default_value = "20s")]
    pub ping_interval: Duration,

    /// For a sign of life after a ping
    #[arg(long, env = "ONNXD_PING_TIMEOUT", value_parser = duration, default_value = "20s")]
    pub ping_timeout: Duration,

    /// For a conversation without a request; 0 is for ever
    #[arg(long, env = "ONNXD_IDLE_TIMEOUT", value_parser = duration_or_never, default_value = "0")]
    pub idle_timeout: Duration,

    /// For a peer that reads nothing
    #[arg(long, env = "ONNXD_WRITE_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub write_timeout: Duration,

    /// For the peer's half of a close
    #[arg(long, env = "ONNXD_CLOSE_TIMEOUT", value_parser = duration, default_value = "5s")]
    pub close_timeout: Duration,

    /// From a request's arrival to the start of its inference; a request's own `timeout` may be shorter
    #[arg(long, env = "ONNXD_REQUEST_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub request_timeout: Duration,

    /// For one run of a model; a longer one ends the server with exit code 3, to be started again; 0 is for ever
    #[arg(long, env = "ONNXD_STUCK_TIMEOUT", value_parser = duration_or_never, default_value = "0")]
    pub stuck_timeout: Duration,

    /// After SIGTERM, how long to serve on while the probes say "not ready"; 0 is not at all
    #[arg(long, env = "ONNXD_DRAIN_DELAY", value_parser = duration_or_never, default_value = "0")]
    pub drain_delay: Duration,

    /// For accepted requests to be answered after SIGTERM
    #[arg(long, env = "ONNXD_DRAIN_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub drain_timeout: Duration,
}

impl LimitFlags {
    /// Checked: a limit of 0 would let nothing through.
    pub fn limits(&self) -> Result<Limits, String> {
        let default = Limits::default();
        let max_connections = self.max_connections.unwrap_or(default.max_connections);
        let max_memory = self.max_memory.unwrap_or(default.max_memory);
        let max_tensor_bytes = self.max_tensor_bytes.unwrap_or(max_memory.min(256 << 20));
        for (flag, value) in [
            ("max-connections", max_connections),
            ("max-ops-connections", self.max_ops_connections),
            ("max-head-bytes", self.max_head_bytes),
            ("max-message-bytes", self.max_message_bytes),
            ("max-frame-bytes", self.max_frame_bytes),
            ("max-fragments", self.max_fragments),
            ("write-buffer-bytes", self.write_buffer_bytes),
            ("max-in-flight", self.max_in_flight),
            ("max-in-flight-bytes", self.max_in_flight_bytes),
            ("queue-capacity", self.queue_capacity),
            ("max-tensor-bytes", max_tensor_bytes),
            ("max-files", self.max_files),
            ("max-memory", max_memory),
            ("max-json-depth", self.max_json_depth),
        ] {
            if value == 0 {
                return Err(format!("--{flag} is 0, which would let nothing through"));
            }
        }
        if self.max_json_depth > default.max_json_depth {
            return Err(format!(
                "--max-json-depth is {}, but the parser goes {} deep at most",
                self.max_json_depth, default.max_json_depth
            ));
        }
        Ok(Limits {
            max_connections,
            max_ops_connections: self.max_ops_connections,
            max_head_bytes: self.max_head_bytes,
            max_message_bytes: self.max_message_bytes,
            max_in_flight: self.max_in_flight,
            max_in_flight_bytes: self.max_in_flight_bytes,
            queue_capacity: self.queue_capacity,
            write_buffer_bytes: self.write_buffer_bytes,
            max_image_pixels: self.max_image_pixels,
            max_files: self.max_files,
            max_tensor_bytes,
            max_plan_bytes: self.max_plan_bytes,
            max_memory,
            max_log_bytes: self.max_log_bytes,
            max_json_depth: self.max_json_depth,
            tls_timeout: self.tls_timeout,
            head_timeout: self.head_timeout,
            keep_alive_timeout: self.keep_alive_timeout,
            body_timeout: self.body_timeout,
            max_frame_bytes: self.max_frame_bytes,
            max_fragments: self.max_fragments,
            message_timeout: self.message_timeout,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            close_timeout: self.close_timeout,
            request_timeout: self.request_timeout,
            stuck_timeout: self.stuck_timeout,
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
        })
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging (to standard output)")]
pub struct LogFlags {
    /// error, warn, info, debug or trace; or by module, as `info,onnxd::net=debug`
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

pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected HOST:PORT, for example 0.0.0.0:8080 or [::]:8080";
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
    addresses.next().ok_or_else(|| format!("the host has no address; {expected}"))
}

/// RFC 6454 section 6.2: scheme, host and port, and nothing behind them.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host).unwrap_or_default();
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return Err("expected an origin as a browser sends it, for example https://example.org".into());
    }
    Ok(text.to_owned())
}

fn path_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_end_matches('/');
    if prefix.is_empty() {
        return Ok(String::new());
    }
    if !prefix.starts_with('/') {
        return Err("expected a path that begins with a slash, for example /models/a".into());
    }
    // As requests have it: what is not so written would match none of them, and nobody would be told.
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
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: ServeFlags,
    }

    #[test]
    fn without_flags_the_limits_are_the_documented_defaults() {
        let flags = Program::parse_from(["onnxd"]).flags;
        assert_eq!(format!("{:?}", flags.limits.limits().unwrap()), format!("{:?}", Limits::default()));
    }

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

    #[test]
    fn a_limit_of_nothing_is_an_error() {
        let flags = Program::parse_from(["onnxd", "--max-in-flight", "0"]).flags;
        assert!(flags.limits.limits().unwrap_err().contains("--max-in-flight is 0"));
    }
}
