//! HTTP as a client: one agent's settings, the authorities it trusts, and its errors in words.

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

/// For a name to be found, and for a connection to be made with TLS and all.
const CONNECT: Duration = Duration::from_secs(20);

/// A peer that takes or sends no byte for so long is gone.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    pub write: Duration,
    pub read: Duration,
}

/// An agent for a host. It follows no redirect, and takes every status for an answer: both are the
/// caller's to judge. The proxy is the environment's.
pub fn agent(host: &str, roots: RootCerts, silence: Silence) -> Agent {
    // A proxy cannot reach this machine for us, whatever the environment says.
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
        // A head that drips is no answer either.
        .timeout_recv_response(Some(silence.read))
        .build()
        .new_agent()
}

/// The authorities of a PEM file, or the public ones.
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

/// Whether the same request may be answered better later.
pub fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error()
}

/// Whether a transport's error will come again however often one tries: wrong settings, wrong certificates.
/// What TLS does not like comes as data that is not valid.
pub fn is_lasting(error: &ureq::Error) -> bool {
    use ureq::Error::{BadUri, Http, InvalidProxyUrl, Io, Pem, Rustls, Tls};
    match error {
        BadUri(_) | Http(_) | InvalidProxyUrl | Pem(_) | Rustls(_) | Tls(_) => true,
        Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The flags that an error's advice names.
#[derive(Debug, Clone, Copy)]
pub struct Advice {
    /// The one that names another authority.
    pub own_authority: &'static str,
    /// The one that allows HTTP without TLS.
    pub plain: &'static str,
}

/// A transport's error, with what to do about the usual ones.
pub fn words(error: &ureq::Error, advice: &Advice) -> String {
    let said = error.to_string();
    let todo = if said.contains("UnknownIssuer") || said.contains("CaUsedAsEndEntity") {
        format!(": its certificate is not from a public authority; name its own by {}", advice.own_authority)
    } else if said.contains("InvalidContentType") || said.contains("corrupt message") {
        format!(": it does not speak TLS on this port; if that is meant so, add {}", advice.plain)
    } else if said.contains("proxy") {
        ": the proxy is from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; hosts that need none are named whole in NO_PROXY"
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
