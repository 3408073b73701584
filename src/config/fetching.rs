//! How models are fetched: flags, and every bound with its default and reason.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::HeaderValue;

use super::duration::duration;

/// Models that `model.json` names by `url`, or that are named by a URL themselves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fetching (models with a `url`)")]
pub struct FetchFlags {
    /// Where what is fetched is kept [default: $XDG_CACHE_HOME/onnxd, or $HOME/.cache/onnxd]
    #[arg(long, env = "ONNXD_CACHE", value_name = "FOLDER")]
    pub cache: Option<PathBuf>,

    /// The SHA-256 of a model that is named by its URL, 64 hexadecimal digits
    #[arg(long, env = "ONNXD_SHA256", value_name = "HEX")]
    pub sha256: Option<String>,

    /// Fetch over http:// too, where everybody on the way sees what is asked and sent
    #[arg(long, env = "ONNXD_ALLOW_HTTP", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_http: bool,

    /// PEM: the authorities that a server's certificate may be from, instead of the public ones
    #[arg(long, env = "ONNXD_FETCH_CA", value_name = "FILE")]
    pub fetch_ca: Option<PathBuf>,

    /// The Authorization header for the hosts that a `url` names (not for those they redirect to); better
    /// in the environment, where no list of processes shows it
    #[arg(long, env = "ONNXD_FETCH_AUTHORIZATION", hide_env_values = true, value_name = "HEADER")]
    pub fetch_authorization: Option<String>,

    /// Bytes of a download
    #[arg(long, env = "ONNXD_MAX_DOWNLOAD_BYTES", default_value_t = Fetching::default().max_download_bytes,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_download_bytes: u64,

    /// Bytes of an archive when it is unpacked
    #[arg(long, env = "ONNXD_MAX_UNPACKED_BYTES", default_value_t = Fetching::default().max_unpacked_bytes,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_unpacked_bytes: u64,

    /// For a server that sends nothing; a slow one may take as long as it needs
    #[arg(long, env = "ONNXD_FETCH_SILENCE", value_parser = duration, default_value = "60s")]
    pub fetch_silence: Duration,

    /// After which no further attempt is begun
    #[arg(long, env = "ONNXD_FETCH_PATIENCE", value_parser = duration, default_value = "30m")]
    pub fetch_patience: Duration,
}

/// What fetching may do, and how long it tries.
#[derive(Debug, Clone)]
pub struct Fetching {
    /// Where what is fetched is kept; none when neither a flag nor the environment names a place.
    pub cache: Option<PathBuf>,
    /// Of a model that is named by its URL.
    pub sha256: Option<String>,
    pub allow_http: bool,
    /// PEM: the authorities to trust, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    pub authorization: Option<HeaderValue>,
    /// Bytes of a download. Default 4 GiB: what the engine's own memory makes of more fits few machines.
    pub max_download_bytes: u64,
    /// Bytes of an archive when it is unpacked. Default 8 GiB: twice the above; weights compress badly.
    pub max_unpacked_bytes: u64,
    /// Files and folders of an archive. Default 10,000: a model with a file for each tensor stays below.
    pub max_entries: usize,
    /// How long a server may send nothing. Default 60 s: object storages take that to wake an object.
    pub silence: Duration,
    /// After which no further attempt is begun. Default 30 min: a network that comes and goes comes back.
    pub patience: Duration,
    /// Attempts in a row that bring nothing further. Default 8, which take about a minute.
    pub attempts: u32,
    /// The wait after a first fruitless attempt; it doubles with each. Default 500 ms.
    pub first_wait: Duration,
    /// What the waits do not grow above, unless the server asks for more. Default 30 s.
    pub longest_wait: Duration,
    /// Redirects of one request. Default 10, as browsers and curl have (20 and 50) with room to spare.
    pub redirects: u32,
}

impl Default for Fetching {
    fn default() -> Self {
        Fetching {
            cache: None,
            sha256: None,
            allow_http: false,
            ca_file: None,
            authorization: None,
            max_download_bytes: 4 << 30,
            max_unpacked_bytes: 8 << 30,
            max_entries: 10_000,
            silence: Duration::from_secs(60),
            patience: Duration::from_secs(30 * 60),
            attempts: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            redirects: 10,
        }
    }
}

impl FetchFlags {
    pub fn fetching(&self) -> Result<Fetching, String> {
        let authorization = self.fetch_authorization.as_ref().map(|header| {
            let mut value = HeaderValue::from_str(header).map_err(
                |_| "--fetch-authorization holds what no header may: expected for example `Bearer …`",
            )?;
            value.set_sensitive(true);
            Ok::<_, &str>(value)
        });
        Ok(Fetching {
            cache: self.cache.clone().or_else(home),
            sha256: self.sha256.clone(),
            allow_http: self.allow_http,
            ca_file: self.fetch_ca.clone(),
            authorization: authorization.transpose()?,
            max_download_bytes: self.max_download_bytes,
            max_unpacked_bytes: self.max_unpacked_bytes,
            silence: self.fetch_silence,
            patience: self.fetch_patience,
            ..Fetching::default()
        })
    }
}

/// By the XDG base directory specification, which wants relative paths ignored.
fn home() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("onnxd"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: FetchFlags,
    }

    #[test]
    fn without_flags_fetching_has_the_documented_defaults() {
        let fetching = Program::parse_from(["onnxd"]).flags.fetching().unwrap();
        let expected = Fetching { cache: fetching.cache.clone(), ..Fetching::default() };
        assert_eq!(format!("{fetching:?}"), format!("{expected:?}"));
    }

    #[test]
    fn an_authorization_that_is_no_header_is_an_error_that_does_not_show_it() {
        let flags = Program::parse_from(["onnxd", "--fetch-authorization", "Bearer hush\n"]).flags;
        let error = flags.fetching().unwrap_err();
        assert!(error.contains("--fetch-authorization") && !error.contains("hush"), "{error}");
    }
}
