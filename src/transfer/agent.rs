//! The HTTP client: its settings, the certificate authorities that it trusts, and messages for its errors. What a
//! status or a redirect means is decided by the caller, not here.

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

/// Time limit for the name lookup, and for the connection including its TLS handshake.
const CONNECT: Duration = Duration::from_secs(20);

/// Time limits for one write and one read. If no byte moves for so long, the request fails.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// The longest wait until the peer takes a byte.
    pub write: Duration,
    /// The longest wait until the peer sends a byte.
    pub read: Duration,
}

/// An HTTP client for requests to `host`. It follows no redirect, and no status is an error: the caller decides about
/// both. The proxy is that of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; requests to this machine use none.
pub fn agent(host: &str, roots: RootCerts, silence: Silence) -> Agent {
    // A proxy cannot reach servers on this machine, so it is not used for them.
    let is_here = host.starts_with("localhost") || host.starts_with("127.") || host.starts_with("[::1]");
    let proxy = if is_here { None } else { Proxy::try_from_env() };
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .user_agent(concat!("onnxd/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_write(Some(silence.write))
        .timeout_per_read(Some(silence.read))
        // Limits the whole head, because single bytes that arrive slowly would pass the limit of one read.
        .timeout_recv_response(Some(silence.read))
        .build()
        .new_agent()
}

/// The authorities to trust: those of a PEM file, or the public ones when there is no file.
///
/// Fails when the file cannot be read, is not PEM or holds no certificate. The error names the file.
pub fn roots(file: Option<&Path>) -> Result<RootCerts, String> {
    match file {
        None => Ok(RootCerts::WebPki),
        Some(path) => authorities(path).map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn authorities(path: &Path) -> Result<RootCerts, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let items: Result<Vec<PemItem<'static>>, ureq::Error> = parse_pem(&pem).collect();
    let certificates: Vec<Certificate<'static>> = items
        .map_err(|error| error.to_string())?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err("holds no certificate: expected PEM, `-----BEGIN CERTIFICATE-----`".into());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Whether the same request may succeed later: the status is 408, 429 or 5xx.
pub fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error()
}

/// Whether every further attempt would fail with the same error, because settings or certificates are wrong. rustls
/// reports its errors as [`std::io::ErrorKind::InvalidData`].
pub fn is_lasting(error: &ureq::Error) -> bool {
    use ureq::Error::{BadUri, Http, InvalidProxyUrl, Io, Pem, Rustls, Tls};
    match error {
        BadUri(_) | Http(_) | InvalidProxyUrl | Pem(_) | Rustls(_) | Tls(_) => true,
        Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The flags of the running command that error messages recommend.
#[derive(Debug, Clone, Copy)]
pub struct Advice {
    /// The flag that names another certificate authority.
    pub own_authority: &'static str,
    /// The flag that allows HTTP without TLS.
    pub plain: &'static str,
}

/// The text of an error, with advice for the usual causes.
pub fn words(error: &ureq::Error, advice: &Advice) -> String {
    let said = error.to_string();
    let todo = if said.contains("UnknownIssuer") || said.contains("CaUsedAsEndEntity") {
        format!(": its certificate is not from a public authority; name its own by {}", advice.own_authority)
    } else if said.contains("InvalidContentType") || said.contains("corrupt message") {
        format!(": it does not speak TLS on this port; if that is intended, add {}", advice.plain)
    } else if said.contains("proxy") {
        ": the proxy is from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; NO_PROXY lists full names of hosts that need none"
            .into()
    } else if said.contains("NotValidForName") {
        ": its certificate is for another host name".into()
    } else if said.contains("Expired") || said.contains("NotValidYet") {
        ": look at its certificate, and at this machine's clock".into()
    } else {
        String::new()
    };
    format!("{said}{todo}")
}
