//! How models are downloaded: the flags, and every limit of a download with its default and reason.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::HeaderValue;

use super::duration::duration;

/// Flags for models that `model.json` names by `url`, or that the user names by a URL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fetching (models with a `url`)")]
pub struct FetchFlags {
    /// The folder for downloads [default: $XDG_CACHE_HOME/onnxd, or $HOME/.cache/onnxd]
    #[arg(long, env = "ONNXD_CACHE", value_name = "FOLDER")]
    pub cache: Option<PathBuf>,

    /// The SHA-256 of the model, if MODEL is a URL: 64 hexadecimal digits
    #[arg(long, env = "ONNXD_SHA256", value_name = "HEX")]
    pub sha256: Option<String>,

    /// Allow http:// too, where anybody on the network path can read requests and models
    #[arg(long, env = "ONNXD_ALLOW_HTTP", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_http: bool,

    /// PEM: the certificate authorities to trust for downloads, instead of the public ones
    #[arg(long, env = "ONNXD_FETCH_CA", value_name = "FILE")]
    pub fetch_ca: Option<PathBuf>,

    /// The Authorization header for the hosts that a `url` names (not for those they redirect to); safer in the
    /// environment, because lists of processes show flags
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

    /// For a server that sends nothing; a server that is only slow has no limit
    #[arg(long, env = "ONNXD_FETCH_SILENCE", value_parser = duration, default_value = "60s")]
    pub fetch_silence: Duration,

    /// After this time no further attempt starts
    #[arg(long, env = "ONNXD_FETCH_PATIENCE", value_parser = duration, default_value = "30m")]
    pub fetch_patience: Duration,
}

/// What a download may do, and how long it tries.
#[derive(Debug, Clone)]
pub struct Fetching {
    /// The folder for downloads; `None` if neither a flag nor the environment names one.
    pub cache: Option<PathBuf>,
    /// The SHA-256 of a model that is named by its URL, as 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Whether a URL may be http://.
    pub allow_http: bool,
    /// PEM: the certificate authorities to trust, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The Authorization header for the hosts that a `url` names.
    pub authorization: Option<HeaderValue>,
    /// Bytes of a download. Default 4 GiB: few machines have the memory to run a larger model.
    pub max_download_bytes: u64,
    /// Bytes of an archive when it is unpacked. Default 8 GiB, twice the download: weights
    /// hardly compress.
    pub max_unpacked_bytes: u64,
    /// Files and folders of an archive. Default 10,000: enough for a model that has a file for each
    /// tensor.
    pub max_entries: usize,
    /// How long a server may send nothing. Default 60 s: object storages may need that long before the
    /// first byte.
    pub silence: Duration,
    /// After this time no further attempt starts. Default 30 min: most network failures are shorter.
    pub patience: Duration,
    /// Attempts in a row that bring no new bytes. Default 8, which take about a minute.
    pub attempts: u32,
    /// The wait after the first attempt that brings no new bytes. It doubles with each such attempt. Default 500 ms.
    pub first_wait: Duration,
    /// The longest wait between attempts, unless the server asks for more. Default 30 s.
    pub longest_wait: Duration,
    /// Redirects of one request. Default 10. Browsers allow 20 and curl 50.
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
    /// The settings that these flags make. The error names the flag that is wrong, and never shows the secret.
    pub fn fetching(&self) -> Result<Fetching, String> {
        let authorization = self.fetch_authorization.as_ref().map(|header| {
            let mut value = HeaderValue::from_str(header).map_err(
                |_| "--fetch-authorization has characters that a header cannot have: expected for example `Bearer …`",
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

/// The default folder, by the XDG base directory specification: relative paths in these variables are ignored.
fn home() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("onnxd"))
}

#[cfg(test)]
mod tests {
    use super::super::limit::Unit;
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
    fn docs_fetch_md_states_the_default_of_every_limit_that_is_a_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fetch.md");
        let text = std::fs::read_to_string(path).unwrap();
        let fetching = Fetching::default();
        let bytes = |bytes: u64| Unit::Bytes.as_documented(bytes);
        for (flag, default) in [
            ("max-download-bytes", bytes(fetching.max_download_bytes)),
            ("max-unpacked-bytes", bytes(fetching.max_unpacked_bytes)),
            ("fetch-silence", format!("{} s", fetching.silence.as_secs())),
            ("fetch-patience", format!("{} min", fetching.patience.as_secs() / 60)),
        ] {
            let stated = format!("`--{flag}` ({default})");
            assert!(text.contains(&stated), "docs/fetch.md does not state {stated}");
        }
    }

    #[test]
    fn an_authorization_that_is_no_header_is_an_error_that_does_not_show_it() {
        let flags = Program::parse_from(["onnxd", "--fetch-authorization", "Bearer hush\n"]).flags;
        let error = flags.fetching().unwrap_err();
        assert!(error.contains("--fetch-authorization") && !error.contains("hush"), "{error}");
    }
}
