//! The credentials for a registry. They come from the command line or the environment, from a credential helper, or
//! from the files that `docker login` and `podman login` write. How they are sent is in `client`.
//!
//! Invariant: `Debug` and all errors show the user name at most, never a secret.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::Deserialize;

use super::RegistryError;
use crate::transfer::digest::hex;

/// What identifies a user to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        username: String,
        password: String,
    },
    /// A refresh token for the token server of the registry.
    IdentityToken(String),
}

/// Shows no secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.name())
    }
}

impl Credentials {
    /// The value of an `Authorization` header with the Basic scheme (RFC 7617). `None` for a token, which only a token
    /// server accepts.
    pub fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            Credentials::IdentityToken(_) => None,
        }
    }

    /// The user for messages. Contains no secret.
    pub fn name(&self) -> &str {
        match self {
            Credentials::Password { username, .. } => username,
            Credentials::IdentityToken(_) => "the owner of a token",
        }
    }

    /// The long-term login of SWR: the user is `<project>@<AK>`, the password is computed from AK and SK. `project` is
    /// the name of a region, or of a project within a region.
    pub fn swr(project: &str, access_key: &str, secret_key: &str) -> Credentials {
        Credentials::Password {
            username: format!("{project}@{access_key}"),
            password: swr_password(access_key, secret_key),
        }
    }

    /// The credentials that `docker login` or `podman login` stored for a repository of a registry. `None` when there
    /// are none.
    ///
    /// Fails when a file of logins is malformed, or when its credential helper fails.
    pub fn kept(registry: &str, repository: &str) -> Result<Option<Credentials>, RegistryError> {
        for path in files(|name| std::env::var_os(name).map(PathBuf::from)) {
            let Ok(text) = std::fs::read(&path) else { continue };
            let failed = |message: String| {
                RegistryError::Credentials(format!("{}: {message}; log in again", path.display()))
            };
            let file: LoginFile = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
            if let Some(found) = file.find(registry, repository).map_err(failed)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The password of SWR's long-term login: the HMAC-SHA256 of the access key, with the secret key as the key, in 64
/// lower-case hexadecimal digits.
pub fn swr_password(access_key: &str, secret_key: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret_key.as_bytes());
    hex(hmac::sign(&key, access_key.as_bytes()).as_ref())
}

/// The files that may hold logins. The first file with a login for the registry is used.
fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    [
        variable("REGISTRY_AUTH_FILE"),
        docker.map(|folder| folder.join("config.json")),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LoginFile {
    auths: BTreeMap<String, Login>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    auth: String,
    identitytoken: String,
}

impl LoginFile {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>, String> {
        let name = place(registry).to_owned();
        if let Some((_, helper)) = self.cred_helpers.iter().find(|(key, _)| place(key) == name) {
            return ask(helper, registry);
        }
        // A key may name a host or a path on it. The longest matching key is used.
        let whole = format!("{name}/{repository}/");
        let login = self
            .auths
            .iter()
            .filter(|(key, _)| whole.starts_with(&format!("{}/", place(key))))
            .max_by_key(|(key, _)| place(key).len());
        if let Some((_, login)) = login {
            if !login.identitytoken.is_empty() {
                return Ok(Some(Credentials::IdentityToken(login.identitytoken.clone())));
            }
            if !login.auth.is_empty() {
                return login.password(registry).map(Some);
            }
        }
        match &self.creds_store {
            Some(store) => ask(store, registry),
            None => Ok(None),
        }
    }
}

impl Login {
    fn password(&self, registry: &str) -> Result<Credentials, String> {
        let decoded = STANDARD.decode(&self.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (username, password) =
            pair.ok_or_else(|| format!("the login for {registry} is not base64 of `user:password`"))?;
        Ok(Credentials::Password { username: username.into(), password: password.into() })
    }
}

/// The host, or host and path, that the key of a login names. The key may be the URL of an API, such as
/// `https://index.docker.io/v1/`.
fn place(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    // Logins of docker.io are stored under its older host names.
    if matches!(key, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { key }
}

/// Runs the credential helper `docker-credential-<name> get`. It reads the registry from its input and writes JSON.
/// `None` when it has no credentials for the registry.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed = |error: &dyn std::fmt::Display| format!("the credential helper {program}: {error}");
    let server = if place(registry) == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let mut child = Command::new(Path::new(&program))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    // The pipe closes at the end of this statement. A write error is ignored: a helper need not read its input.
    let _ = child.stdin.take().map(|mut input| input.write_all(server.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return if said.contains("credentials not found") { Ok(None) } else { Err(failed(&said.trim())) };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Password { username: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_swr_password_is_the_hmac_of_the_access_key() {
        // RFC 4231, test case 2.
        assert_eq!(
            swr_password("what do ya want for nothing?", "Jefe"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let credentials = Credentials::swr("cn-north-4", "AK", "SK");
        assert_eq!(credentials.name(), "cn-north-4@AK");
        assert!(!format!("{credentials:?}").contains(&swr_password("AK", "SK")));
    }

    #[test]
    fn of_logins_for_parts_of_a_registry_the_nearest_counts() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:x"));
        let auths = [("q.io", "all"), ("q.io/team", "team"), ("q.io/team/a", "a"), ("q.io/te", "te")]
            .map(|(key, user)| format!(r#""{key}":{{"auth":"{}"}}"#, auth(user)))
            .join(",");
        let file: LoginFile = serde_json::from_str(&format!(r#"{{"auths":{{{auths}}}}}"#)).unwrap();
        for (repository, user) in [("team/a", "a"), ("team/b", "team"), ("other", "all"), ("team/a/c", "a")] {
            assert_eq!(file.find("q.io", repository).unwrap().unwrap().name(), user, "{repository}");
        }
    }

    #[test]
    fn logins_are_found_by_host_however_their_key_is_written() {
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"r.example.org:5000":{{"identitytoken":"t"}},"bad.org":{{"auth":"?"}}}}}}"#,
            STANDARD.encode("me:secret:with:colons")
        );
        let file: LoginFile = serde_json::from_str(&text).unwrap();
        let password = Credentials::Password { username: "me".into(), password: "secret:with:colons".into() };
        assert_eq!(file.find("docker.io", "a/b").unwrap(), Some(password));
        assert_eq!(
            file.find("r.example.org:5000", "a").unwrap(),
            Some(Credentials::IdentityToken("t".into()))
        );
        assert_eq!(file.find("r.example.org", "a").unwrap(), None);
        assert!(file.find("bad.org", "a").unwrap_err().contains("not base64"));
    }
}
