//! Access control for a server without a gateway in front: bearer tokens, and the allowed origins of browsers.
//!
//! The health of the whole server is open to every probe. The health and the name of a model need a token. A
//! client sends its token as `Authorization: Bearer …`. A browser cannot set headers on a WebSocket, so it may use
//! the query parameter `access_token` instead.
//!
//! Invariants: tokens are compared in constant time. Tokens and query strings are never logged.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use subtle::ConstantTimeEq;

use crate::ops::routes;
use crate::plain;

/// The rules of access. Without rules, everyone may send requests.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<TokenFile>,
    /// The allowed origins in the form that browsers send: `https://example.org`, with a port unless it is the
    /// scheme's default port.
    origins: Vec<String>,
    /// The number of times that the token file was read again.
    epoch: AtomicU64,
}

/// The proof that a peer was admitted: its token, if the server requires one.
pub struct Pass {
    token: Option<Box<str>>,
    /// The value of [`Access::epoch`] when the token was checked.
    epoch: u64,
}

/// Whether a request is admitted by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Done,
    /// Its token must come in the body.
    ByKey,
}

/// A file of tokens, one per line. Empty lines and lines that begin with `#` are ignored.
struct TokenFile {
    path: PathBuf,
    tokens: RwLock<Vec<String>>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the token file, if there is one. Returns an error when the file cannot be read, or holds no token:
    /// then nobody could connect.
    pub fn new(tokens: Option<&Path>, origins: Vec<String>) -> Result<Access, String> {
        let tokens = match tokens {
            None => None,
            Some(path) => Some(TokenFile { path: path.into(), tokens: RwLock::new(read_tokens(path)?) }),
        };
        Ok(Access { tokens, origins, epoch: AtomicU64::new(0) })
    }

    /// Reads the token file again. When that fails, the old tokens stay valid and the error is returned.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(file) = &self.tokens {
            let tokens = read_tokens(&file.path)?;
            *file.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Checks the origin and the token of a request. Returns the error response (403 or 401) when it is refused.
    pub fn check(&self, request: &Request<()>) -> Result<Pass, Box<Response<Vec<u8>>>> {
        self.check_origin(request)?;
        self.check_token(request)
    }

    /// The same for a request that may have its token in its body. The result is then [`Admission::ByKey`], and the body must
    /// be checked with [`Access::check_key`].
    pub fn check_head(&self, request: &Request<()>) -> Result<Admission, Box<Response<Vec<u8>>>> {
        self.check_origin(request)?;
        if self.tokens.is_some() && token(request).is_none() {
            return Ok(Admission::ByKey);
        }
        self.check_token(request).map(|_| Admission::Done)
    }

    /// Checks the token that a body has. Returns the error response (401) when it is not valid, or there is none.
    pub fn check_key(&self, key: Option<&str>) -> Result<(), Box<Response<Vec<u8>>>> {
        match (&self.tokens, key) {
            (None, _) => Ok(()),
            (Some(file), Some(key)) if file.holds(key) => Ok(()),
            (Some(_), Some(_)) => Err(refused(UNKNOWN_TOKEN)),
            (Some(_), None) => {
                Err(refused("a token is needed: the field api_key, or Authorization: Bearer <token>"))
            }
        }
    }

    /// False when the token of an admitted peer is not valid any more. This compares one number, until the tokens
    /// are read again.
    pub fn still_holds(&self, pass: &mut Pass) -> bool {
        let epoch = self.epoch.load(Ordering::SeqCst);
        if epoch == pass.epoch {
            return true;
        }
        pass.epoch = epoch;
        match (&self.tokens, &pass.token) {
            (Some(file), Some(token)) => file.holds(token),
            _ => true,
        }
    }

    /// Checks the `Origin` header (RFC 6455 section 10.2). Browsers send it; other clients do not, and pass.
    fn check_origin(&self, request: &Request<()>) -> Result<(), Box<Response<Vec<u8>>>> {
        let Some(origin) = request.headers().get(ORIGIN).filter(|_| !self.origins.is_empty()) else {
            return Ok(());
        };
        if self.origins.iter().any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())) {
            return Ok(());
        }
        let message = "pages of this origin may not ask: see --allow-origin";
        Err(Box::new(routes::error(StatusCode::FORBIDDEN, message)))
    }

    fn check_token(&self, request: &Request<()>) -> Result<Pass, Box<Response<Vec<u8>>>> {
        // The epoch is read before the tokens: when they change meanwhile, the token is checked again later.
        let epoch = self.epoch.load(Ordering::SeqCst);
        let Some(file) = &self.tokens else { return Ok(Pass { token: None, epoch }) };
        let message = match token(request) {
            None => "a token is needed: Authorization: Bearer <token>, or ?access_token=<token>",
            Some(token) if file.holds(&token) => return Ok(Pass { token: Some(token.into()), epoch }),
            Some(_) => UNKNOWN_TOKEN,
        };
        Err(refused(message))
    }
}

const UNKNOWN_TOKEN: &str = "the token is not one of this server's";

fn refused(message: &str) -> Box<Response<Vec<u8>>> {
    let mut response = routes::error(StatusCode::UNAUTHORIZED, message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Box::new(response)
}

impl TokenFile {
    /// Compares with every token, so that the time does not show which one matched.
    fn holds(&self, token: &str) -> bool {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.iter().fold(false, |held, known| held | bool::from(known.as_bytes().ct_eq(token.as_bytes())))
    }
}

/// The token of a request. The header takes precedence over the query.
fn token(request: &Request<()>) -> Option<String> {
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let query = request.uri().query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "access_token").map(|(_, token)| token.into_owned())
}

fn read_tokens(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the token file {}: {error}", path.display()))?;
    let lines = plain::without_mark(&text)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(format!("the token file {} holds no token: expected one a line", path.display()));
    }
    Ok(tokens)
}
