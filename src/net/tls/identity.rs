//! The server's TLS certificate chain and key: reads them from PEM files, and reads them again when they change.
//!
//! The files are checked when a connection arrives, at most once a second. So a renewed certificate needs no signal, and no
//! thread watches the files. When the new pair does not fit, often because only one file is written yet, the old pair
//! stays in use; this is logged once and tried again at each check.
//!
//! Handshakes are in [`super`]. Invariant: after the start there is always a valid pair in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

/// The paths of the certificate and key.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// PEM: the server's certificate first, then the certificates that signed it.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
    pub key: PathBuf,
}

/// The certificate and key in use.
#[derive(Debug)]
pub struct Identity {
    files: IdentityFiles,
    state: Mutex<InUse>,
}

#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    /// The state of the files when `config` was read.
    seen: Seen,
    /// The state of files that did not fit, when this was logged already.
    complained: Option<Seen>,
    /// When the files were checked last.
    looked: SystemTime,
}

/// Length in bytes and modification time of the certificate and of the key; `None` for a file that cannot be read.
type Seen = [Option<(u64, SystemTime)>; 2];

/// The shortest time between two checks of the files.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a certificate causes a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// A sentence that names the file, what was expected and how to correct it.
    pub fn read(files: IdentityFiles) -> Result<Identity, String> {
        let seen = look(&files);
        let config = Arc::new(load(&files)?);
        let looked = SystemTime::now();
        Ok(Identity { files, state: Mutex::new(InUse { config, seen, complained: None, looked }) })
    }

    /// Reads both files again. When that fails, the old certificate and key stay in use.
    pub fn reload(&self) -> Result<(), String> {
        let seen = look(&self.files);
        let loaded = load(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.config = Arc::new(loaded?);
        state.seen = seen;
        Ok(())
    }

    /// The configuration for a new connection. Checks the files first, at most once a second.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        // When the clock was set back, `duration_since` fails, and the files are checked.
        if now.duration_since(state.looked).is_ok_and(|since| since < LOOK) {
            return state.config.clone();
        }
        state.looked = now;
        let seen = look(&self.files);
        if seen != state.seen {
            match load(&self.files) {
                Ok(config) => {
                    state.config = Arc::new(config);
                    state.seen = seen;
                    log::info!("the TLS certificate has changed; the new one is in use");
                }
                // The next check tries again even if the files look the same: granting read access changes neither
                // length nor time.
                Err(error) if state.complained != Some(seen) => {
                    state.complained = Some(seen);
                    log::error!("the TLS certificate has changed, and the old one stays in use: {error}");
                }
                Err(_) => {}
            }
        }
        state.config.clone()
    }
}

fn look(files: &IdentityFiles) -> Seen {
    [&files.certificate, &files.key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.len(), found.modified().ok()?))
    })
}

fn load(files: &IdentityFiles) -> Result<ServerConfig, String> {
    let IdentityFiles { certificate: certificate_file, key: key_file } = files;
    let chain = read_chain(certificate_file)?;
    let key = read_key(key_file)?;
    let subject =
        chain.first().map(|first| examine(first, certificate_file)).transpose()?.unwrap_or_default();
    let certificate_file = certificate_file.display();
    let key_file = key_file.display();
    let refused = |error: Error| match error {
        // The provider returns this for a kind of key that it does not support.
        Error::General(_) => format!(
            "the key in {key_file} is of a kind that this program does not know{}: expected RSA of 2,048 to 8,192 bits, \
             ECDSA on P-256 or P-384, or Ed25519; `openssl ecparam -name prime256v1 -genkey` makes one",
            key_kind(&chain)
        ),
        Error::InconsistentKeys(_) => format!(
            "the key in {key_file} does not belong to the first certificate in {certificate_file} ({subject}): \
             expected the server's own certificate first, and its key"
        ),
        error => format!("the certificate in {certificate_file} with the key in {key_file}: {error}"),
    };
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // With tickets, a device that reconnects needs no full handshake, and the server keeps no state for it.
    config.ticketer = ring::Ticketer::new().map_err(|error| format!("TLS tickets: {error}"))?;
    Ok(config)
}

/// The name of a common kind of key that is not supported, from the certificate's public key (RFC 5480, RFC 8410), with a
/// space and parentheses; empty for other kinds.
fn key_kind(chain: &[CertificateDer<'_>]) -> String {
    let Some(certificate) = chain.first().and_then(|first| Certificate::from_der(first).ok()) else {
        return String::new();
    };
    let algorithm = certificate.tbs_certificate.subject_public_key_info.algorithm;
    let curve = algorithm.parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    let kind = match curve.unwrap_or(algorithm.oid).to_string().as_str() {
        "1.3.132.0.35" => "ECDSA on P-521",
        "1.3.132.0.10" => "ECDSA on secp256k1",
        "1.3.101.113" => "Ed448",
        _ => return String::new(),
    };
    format!(" ({kind})")
}

/// Reads a file, and removes the byte order mark that some editors write.
fn read_file(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    let mut content =
        std::fs::read(path).map_err(|error| format!("the TLS {what} {}: {error}", path.display()))?;
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    Ok(content)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(path, "certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| format!("the TLS certificate {}: {error}", path.display()))?;
    if chain.is_empty() {
        return Err(format!(
            "the TLS certificate {} holds none: expected PEM, with a line `-----BEGIN CERTIFICATE-----`{}",
            path.display(),
            der_hint(&pem, "x509")
        ));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read_file(path, "key")?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let path = path.display();
        let encrypted = b"ENCRYPTED";
        if pem.windows(encrypted.len()).any(|window| window == encrypted) {
            return format!(
                "the TLS key {path} is encrypted, and the server cannot ask for a password: \
                 decrypt it with `openssl pkey -in {path} -out plain.pem`"
            );
        }
        format!(
            "the TLS key {path} holds none ({error}): expected PEM, with a line `-----BEGIN PRIVATE KEY-----`, \
             `-----BEGIN RSA PRIVATE KEY-----` or `-----BEGIN EC PRIVATE KEY-----`{}",
            der_hint(&pem, "pkey")
        )
    })
}

/// A hint when the file is DER instead of PEM: DER begins with the tag of a SEQUENCE.
fn der_hint(bytes: &[u8], command: &str) -> String {
    let is_der = bytes.first() == Some(&0x30);
    if is_der {
        format!("; this is DER: convert it with `openssl {command} -inform der`")
    } else {
        String::new()
    }
}

/// Logs for how long a certificate is valid. Returns its subject.
///
/// An expired certificate is logged as an error but accepted: a machine whose clock is not set yet must still start.
fn examine(certificate: &CertificateDer<'_>, path: &Path) -> Result<String, String> {
    let path = path.display();
    let certificate = Certificate::from_der(certificate)
        .map_err(|error| format!("the TLS certificate {path}: {error}"))?
        .tbs_certificate;
    let subject = certificate.subject.to_string();
    let (from, to) = (certificate.validity.not_before, certificate.validity.not_after);
    let now = SystemTime::now();
    if now > to.to_system_time() {
        log::error!(
            "the TLS certificate {path} ({subject}) has expired on {to}: clients will refuse it; renew it"
        );
    } else if now < from.to_system_time() {
        log::error!(
            "the TLS certificate {path} ({subject}) is valid from {from} on: clients will refuse it until then; check this \
             machine's clock"
        );
    } else if to.to_system_time().duration_since(now).is_ok_and(|left| left < SOON) {
        log::warn!("the TLS certificate {path} ({subject}) expires on {to}: renew it");
    } else {
        log::info!("TLS certificate {path} ({subject}), valid until {to}");
    }
    Ok(subject)
}
