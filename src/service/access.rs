//! Who may ask, on a box without a gateway in front: bearer tokens, and the origins of browsers.
//!
//! The health of the server as a whole stays open to every probe; that of a model, and its name, does not. A token comes as `Authorization: Bearer …`, or, from a browser's
//! WebSocket, which cannot set headers, as the query parameter `access_token`. Tokens are compared in
//! constant time and never logged; nothing of a query string is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use subtle::ConstantTimeEq;

use crate::ops::routes;
use crate::plain;

/// The rules; without any, everybody may ask.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<TokenFile>,
    /// As browsers send them: `https://example.org`, with a port where it is not the scheme's own.
    origins: Vec<String>,
    /// How often the tokens have been read again.
    epoch: AtomicU64,
}

/// What a peer came in with: a token, where one is needed.
pub struct Pass {
    token: Option<Box<str>>,
    /// Which reading of the tokens it was held against.
    epoch: u64,
}

/// A file of tokens, one a line; empty lines and those that begin with `#` are no tokens.
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
    /// Reads the token file, if there is one; a file without a token would lock everybody out, and is
    /// an error.
    pub fn new(tokens: Option<&Path>, origins: Vec<String>) -> Result<Access, String> {
        let tokens = match tokens {
            None => None,
            Some(path) => Some(TokenFile { path: path.into(), tokens: RwLock::new(read_tokens(path)?) }),
        };
        Ok(Access { tokens, origins, epoch: AtomicU64::new(0) })
    }

    /// Reads the token file again. When that fails the old tokens stay.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(file) = &self.tokens {
            let tokens = read_tokens(&file.path)?;
            *file.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Lets a request pass, or says with which response it is refused.
    pub fn check(&self, request: &Request<()>) -> Result<Pass, Box<Response<Vec<u8>>>> {
        self.check_origin(request)?;
        self.check_token(request)
    }

    /// False when the token that a peer came in with is none any more. Costs nothing until the tokens have
    /// been read again.
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

    /// RFC 6455 section 10.2: a browser tells whose page is asking; others tell nothing.
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
        // Before the tokens are looked at: what changes meanwhile is then looked at again.
        let epoch = self.epoch.load(Ordering::SeqCst);
        let Some(file) = &self.tokens else { return Ok(Pass { token: None, epoch }) };
        let message = match token(request) {
            None => "a token is needed: Authorization: Bearer <token>, or ?access_token=<token>",
            Some(token) if file.holds(&token) => return Ok(Pass { token: Some(token.into()), epoch }),
            Some(_) => "the token is not one of this server's",
        };
        let mut response = routes::error(StatusCode::UNAUTHORIZED, message);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(Box::new(response))
    }
}

impl TokenFile {
    /// Every token is compared, so that the time tells nothing of which one matched.
    fn holds(&self, token: &str) -> bool {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.iter().fold(false, |held, known| held | bool::from(known.as_bytes().ct_eq(token.as_bytes())))
    }
}

/// The token that a request brings. The header goes before the query.
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
