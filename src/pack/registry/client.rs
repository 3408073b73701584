//! The HTTP client for one repository of a registry: authentication by challenge, manifests, and messages for errors.
//! The steps of an upload are in `upload`; repeated attempts are in `patience`.
//!
//! Invariant: credentials go only to the registry itself and to the token server that it names, and never to the token
//! server over HTTP when the registry uses HTTPS.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use ureq::{Agent, Body, SendBody};

use super::RegistryError;
use super::credentials::Credentials;
use super::patience::Failure;
use crate::pack::Reference;
use crate::pack::image::Document;
use crate::plain;
use crate::transfer::Digest;
use crate::transfer::agent::{self, Advice, Silence};

/// How to reach a registry, and with which credentials.
#[derive(Debug)]
pub struct Access {
    /// Use HTTP without TLS.
    pub plain_http: bool,
    /// A PEM file with the authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// `None` to push without a login.
    pub credentials: Option<Credentials>,
    /// Bytes in each request of an upload. `None` sends each blob in one request.
    pub chunk: Option<u64>,
}

/// Bytes that are read of an error message or a token. The rest is ignored.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// The longest wait until the registry takes a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest wait until the registry sends a byte. It is long, because a registry may hash a whole layer first.
const PATIENCE: Duration = Duration::from_secs(600);

/// A body of more bytes than this is sent with `Expect: 100-continue`. Without it, a refusal that arrives while the
/// body is sent would be lost.
const ASK_FIRST: u64 = 1 << 20;

/// The header with the digest that the registry stored. Source: OCI distribution specification, "pushing manifests".
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A client for one repository of a registry.
pub struct Client {
    agent: Agent,
    /// The registry as the user named it, for messages.
    registry: String,
    /// Scheme, host and port, for example `https://registry-1.docker.io`.
    origin: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The `Authorization` header of the next requests.
    authorization: Option<String>,
    /// Bytes in each request of an upload. `None` sends each blob in one request.
    pub chunk: Option<u64>,
}

/// The body of a request. It is sent twice when the registry first asks for a new token.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A function that opens a reader, and the number of bytes to read from it.
    Stream(&'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>, u64),
}

impl Client {
    /// Makes a client for the repository of `reference`. Sends nothing.
    ///
    /// Fails when the file with authorities cannot be read or holds no certificate.
    pub fn new(reference: &Reference, access: Access) -> Result<Client, RegistryError> {
        let roots = agent::roots(access.ca_file.as_deref()).map_err(RegistryError::Credentials)?;
        // The API of docker.io is on another host.
        let host =
            if reference.registry == "docker.io" { "registry-1.docker.io" } else { &reference.registry };
        let scheme = if access.plain_http { "http" } else { "https" };
        let agent = agent::agent(host, roots, Silence { write: SILENCE, read: PATIENCE });
        Ok(Client {
            agent,
            registry: reference.registry.clone(),
            origin: format!("{scheme}://{host}"),
            repository: reference.repository.clone(),
            credentials: access.credentials,
            authorization: None,
            chunk: access.chunk,
        })
    }

    /// Checks that the host is a registry and that it accepts the credentials. Source: OCI distribution specification,
    /// `GET /v2/`.
    pub fn login(&mut self) -> Result<(), RegistryError> {
        let url = format!("{}/v2/", self.origin);
        let response = self.ask(Method::GET, &url, &[], Content::Nothing)?;
        if response.status().is_success() { Ok(()) } else { Err(self.explain(response, "the login")) }
    }

    /// The URL of `path` in this repository, for example of `blobs/uploads/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.origin, self.repository)
    }

    /// The URL in the `Location` header of a response. The header may be a path of this registry (RFC 9110, 10.2.2).
    ///
    /// Fails when the header is missing or neither a URL nor a path.
    pub fn location(&self, response: &Response<Body>) -> Result<String, RegistryError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location {
            Some(whole) if whole.contains("://") => Ok(whole.to_owned()),
            Some(path) if path.starts_with('/') => Ok(format!("{}{path}", self.origin)),
            _ => Err(self.refused("it gave no `Location` to send a layer to: is this a registry?".into())),
        }
    }

    /// Sends a manifest. `name` is its tag or its digest. Replaces what the tag pointed to.
    ///
    /// Fails when the registry refuses the manifest or stores other bytes.
    pub fn put_manifest(&mut self, name: &str, manifest: &Document) -> Result<(), Failure> {
        let url = self.url(&format!("manifests/{name}"));
        let headers = [(CONTENT_TYPE.as_str(), manifest.media_type.to_owned())];
        let response = self.ask(Method::PUT, &url, &headers, Content::Bytes(&manifest.bytes))?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                Ok(self.check_digest(&response, &manifest.digest, &format!("the manifest of `{name}`"))?)
            }
            status => Err(Failure::of(status, self.explain(response, &format!("the manifest of `{name}`")))),
        }
    }

    /// Checks that the registry stored what was sent, by the `Docker-Content-Digest` header of its response. A proxy or
    /// a registry could have changed the content, and the tag would then give another image. `what` names the content
    /// in the error.
    ///
    /// The header is optional and may have another hash function. Then there is nothing to compare, and no error.
    pub fn check_digest(
        &self,
        response: &Response<Body>,
        sent: &Digest,
        what: &str,
    ) -> Result<(), RegistryError> {
        let kept = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        let other = kept.filter(|kept| kept.starts_with("sha256:") && *kept != sent.to_string());
        match other {
            None => Ok(()),
            Some(kept) => Err(self.refused(format!(
                "{what}: {sent} was sent, but the registry says that it keeps {kept}: do not use this image; is a \
                 proxy between that changes what is sent? Ask who runs the registry"
            ))),
        }
    }

    /// Sends a request. After a 401 it answers the challenge, if it can, and sends the request again. Returns a
    /// response of any status, also a second 401.
    ///
    /// Fails when the registry or its token server cannot be reached, or when the token server refuses the credentials.
    pub fn ask(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, String)],
        content: Content<'_>,
    ) -> Result<Response<Body>, RegistryError> {
        let response = self.once(&method, url, headers, content).map_err(|error| self.unreachable(&error))?;
        // A challenge from another host is not answered: it could name any server as the one to send the password to.
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(url) || !self.authorize(&response)? {
            return Ok(response);
        }
        self.once(&method, url, headers, content).map_err(|error| self.unreachable(&error))
    }

    /// Whether a URL has the origin of this registry.
    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.origin).is_some_and(|rest| rest.starts_with('/'))
    }

    fn once(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, String)],
        content: Content<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // The upload URL may be on a storage service outside the registry. That service gets no credentials.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_own(url)) {
            request = request.header(AUTHORIZATION, authorization);
        }
        match content {
            Content::Nothing if [Method::GET, Method::HEAD, Method::DELETE].contains(method) => {
                self.agent.run(request.body(())?)
            }
            Content::Nothing => self.agent.run(request.header(CONTENT_LENGTH, 0).body(&[][..])?),
            Content::Bytes(bytes) => self.agent.run(request.header(CONTENT_LENGTH, bytes.len()).body(bytes)?),
            Content::Stream(open, length) => {
                let mut reader = open()?;
                let body = SendBody::from_reader(&mut reader);
                if length > ASK_FIRST {
                    request = request.header(EXPECT, "100-continue");
                }
                self.agent.run(request.header(CONTENT_LENGTH, length).body(body)?)
            }
        }
    }

    /// Sets `authorization` by the challenge of a 401. False when there are no credentials for it, or when the same
    /// ones were just refused.
    fn authorize(&mut self, response: &Response<Body>) -> Result<bool, RegistryError> {
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .collect();
        if let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let token = self.token(challenge)?;
            self.authorization = Some(format!("Bearer {token}"));
            return Ok(true);
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        let Some(authorization) = self.credentials.as_ref().and_then(Credentials::basic).filter(|_| basic)
        else {
            return Ok(false);
        };
        let new = self.authorization.as_ref() != Some(&authorization);
        self.authorization = Some(authorization);
        Ok(new)
    }

    /// Gets a token from the server that the challenge names: by GET, or by POST with a refresh token. Source: Docker's
    /// registry documentation, "token authentication".
    fn token(&self, challenge: &Challenge) -> Result<String, RegistryError> {
        let realm = challenge
            .get("realm")
            .ok_or_else(|| self.refused("its challenge names no token server".into()))?;
        if realm.starts_with("http://") && self.origin.starts_with("https://") {
            return Err(
                self.refused(format!("its token server {realm} would get the password without encryption"))
            );
        }
        // The scope of the challenge is not used: for `GET /v2/`, some registries name an unrelated repository in it.
        let scope = format!("repository:{}:pull,push", self.repository);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(challenge.get("service").map(|service| ("service", service)));
        query.append_pair("scope", &scope);
        let failed = |error: ureq::Error| RegistryError::Unreachable {
            registry: format!("{}'s token server {realm}", self.registry),
            message: words(&error),
        };
        let mut response = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                query.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
                query.append_pair("client_id", "onnxd");
                let form = query.finish();
                let form_type = "application/x-www-form-urlencoded";
                self.agent
                    .post(realm)
                    .header(CONTENT_TYPE, form_type)
                    .send(form.as_bytes())
                    .map_err(failed)?
            }
            credentials => {
                let join = if realm.contains('?') { '&' } else { '?' };
                let mut request = self.agent.get(format!("{realm}{join}{}", query.finish()));
                if let Some(basic) = credentials.as_ref().and_then(Credentials::basic) {
                    request = request.header(AUTHORIZATION, basic);
                }
                request.call().map_err(failed)?
            }
        };
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        if !response.status().is_success() {
            return Err(self.explain(response, "the login"));
        }
        let text =
            response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string().map_err(failed)?;
        let token =
            serde_json::from_str::<Token>(&text).ok().and_then(|token| token.token.or(token.access_token));
        token.ok_or_else(|| self.refused(format!("its token server {realm} gave no token")))
    }

    fn without_right(&self, who: &str) -> String {
        format!(
            "{who}, without the right to push to `{}`: does its organisation exist, and may this user write there?",
            self.repository
        )
    }

    /// The error of a request that the registry answered, but not with success.
    pub fn refused(&self, message: String) -> RegistryError {
        RegistryError::Refused { registry: self.registry.clone(), message }
    }

    fn unreachable(&self, error: &ureq::Error) -> RegistryError {
        RegistryError::Unreachable { registry: self.registry.clone(), message: words(error) }
    }

    /// The error for an unexpected status: what it means for `what`, what to do, and the message of the registry.
    pub fn explain(&self, mut response: Response<Body>, what: &str) -> RegistryError {
        let status = response.status();
        let who = match &self.credentials {
            None => "nobody is logged in".to_owned(),
            Some(credentials) => format!("logged in as {}", credentials.name()),
        };
        let repository = &self.repository;
        let meaning = match status.as_u16() {
            401 if self.authorization.as_ref().is_some_and(|sent| sent.starts_with("Bearer ")) => {
                self.without_right(&who)
            }
            401 => format!(
                "{who}, and that is not accepted (wrong or expired password?): log in by `docker login {}`, or \
                 set ONNXD_REGISTRY_USERNAME and ONNXD_REGISTRY_PASSWORD",
                self.registry
            ),
            403 => self.without_right(&who),
            404 | 405 => format!(
                "there is no place for `{repository}`: expected HOST/ORGANISATION/NAME:TAG with an organisation \
                 that exists, on a host that is a registry"
            ),
            413 => {
                "a request was too large for the registry or a proxy in front of it: send smaller pieces, \
                    --chunk-bytes 1000000"
                    .into()
            }
            429 => "too many requests: try again later".into(),
            500..=599 => {
                "the registry itself failed (is its disk full?): try again, and ask who runs it".into()
            }
            300..=399 => "it redirects elsewhere: name the registry by the host that it redirects to".into(),
            _ => "an answer that was not expected".into(),
        };
        let body =
            response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string().unwrap_or_default();
        let said =
            errors_in(&body).map(|said| format!(" It said: {}.", plain::line(said))).unwrap_or_default();
        self.refused(format!("{what}: HTTP {status}: {meaning}.{said}"))
    }
}

/// The error message in a body: the `errors` of the OCI distribution specification, or the first 200 characters of a
/// text. `None` for an empty body or HTML.
fn errors_in(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(Errors { errors }) = serde_json::from_str(body) {
        let all: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.code, error.message).trim().to_owned())
            .collect();
        return Some(all.join("; ")).filter(|all| !all.is_empty());
    }
    let line: String = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    Some(line).filter(|line| !line.is_empty() && !line.starts_with('<'))
}

/// The text of a transport error, with the flags of `onnxd pack` as advice.
fn words(error: &ureq::Error) -> String {
    agent::words(error, &Advice { own_authority: "--registry-ca FILE", plain: "--plain-http" })
}

/// One challenge of a `WWW-Authenticate` header: `Scheme key="value",key=value`. Source: RFC 9110, 11.6.1.
#[derive(Debug)]
struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
            let value;
            (value, rest) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            parameters.push((key, value.trim().to_owned()));
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_inside_its_quotes() {
        let text = r#"Bearer realm="https://auth.example.org/token",service="registry",scope="repository:a/b:pull,push""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.get("realm"), Some("https://auth.example.org/token"));
        assert_eq!(challenge.get("service"), Some("registry"));
        assert_eq!(challenge.get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(Challenge::parse("Basic realm=x, charset=UTF-8").unwrap().get("charset"), Some("UTF-8"));
        assert_eq!(Challenge::parse("Basic").unwrap().scheme, "basic");
    }
}
