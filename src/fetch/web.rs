//! One HTTP request of a download, with its redirects and with messages for its errors. Repeated attempts belong to
//! `download`.
//!
//! Invariants: a redirect from https to http is followed only when http is allowed. The Authorization header is sent
//! only to the origin in the model's URL, never to another one that it redirects to. Those are often storage services,
//! which refuse a request that has both a signature and a header.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use http::{Request, Response, StatusCode, Uri};
use jiff::fmt::rfc2822::DateTimeParser;
use ureq::Body;
use ureq::tls::RootCerts;

use super::Failure;
use super::address::{origin, redirect, shown};
use crate::config::Fetching;
use crate::transfer::agent::{self, Advice, Silence};

/// Upper limit for the wait that a server asks for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// An HTTP client with the settings of the user.
pub struct Web<'a> {
    fetching: &'a Fetching,
    roots: RootCerts,
}

impl<'a> Web<'a> {
    /// Fails when the file of `--fetch-ca` cannot be read or holds no certificate.
    pub fn new(fetching: &'a Fetching) -> Result<Web<'a>, String> {
        let roots =
            agent::roots(fetching.ca_file.as_deref()).map_err(|error| format!("--fetch-ca {error}"))?;
        Ok(Web { fetching, roots })
    }

    /// Requests the content of an address, starting at byte `from`. Follows redirects. The status of the response is
    /// 200, 206 or 416; 200 starts at byte 0.
    ///
    /// Fails with [`Failure::Again`] when a later attempt may succeed, and with [`Failure::Final`] otherwise.
    pub fn get(&self, address: &Uri, from: u64) -> Result<Response<Body>, Failure> {
        let mut uri = address.clone();
        for _ in 0..=self.fetching.redirects {
            let secret = self.fetching.authorization.as_ref().filter(|_| origin(&uri) == origin(address));
            let mut request = Request::get(&uri).header(ACCEPT_ENCODING, "identity");
            if let Some(secret) = secret {
                request = request.header(AUTHORIZATION, secret);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = self.once(request)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return judged(response, &uri);
            }
            let location = text(response.headers(), LOCATION)
                .ok_or_else(|| Failure::Final(format!("{} redirects to nowhere", shown(&uri))))?;
            uri = redirect(&uri, location, self.fetching.allow_http).map_err(Failure::Final)?;
            log::debug!("redirected to {}", shown(&uri));
        }
        Err(Failure::Final(format!(
            "{} redirects more than {} times: is it a loop?",
            shown(address),
            self.fetching.redirects
        )))
    }

    fn once(&self, request: http::request::Builder) -> Result<Response<Body>, Failure> {
        let uri = request.uri_ref().cloned().unwrap_or_default();
        let failed = |error: ureq::Error| {
            let advice =
                Advice { own_authority: "--fetch-ca FILE", plain: "--allow-http, and name it by http://" };
            let message = format!("{} was not reached: {}", origin(&uri), agent::words(&error, &advice));
            if agent::is_lasting(&error) { Failure::Final(message) } else { Failure::again(message) }
        };
        let request = request.body(()).map_err(|error| failed(error.into()))?;
        let silence = Silence { write: self.fetching.silence, read: self.fetching.silence };
        // Each request has its own agent, because the proxy depends on the host.
        agent::agent(uri.host().unwrap_or_default(), self.roots.clone(), silence).run(request).map_err(failed)
    }
}

/// Returns a response with a usable status, and makes an error with advice from any other.
fn judged(response: Response<Body>, uri: &Uri) -> Result<Response<Body>, Failure> {
    let status = response.status();
    let meaning = match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(response);
        }
        StatusCode::UNAUTHORIZED => {
            "it requires credentials: set ONNXD_FETCH_AUTHORIZATION, or use a signed URL"
        }
        StatusCode::FORBIDDEN => "it refuses access: has a signed URL expired, or may this user not read it?",
        StatusCode::NOT_FOUND | StatusCode::GONE => "there is nothing at this address: look at `url`",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) requires credentials"
        }
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        status if agent::is_passing(status) => "the server failed",
        _ => "an answer that was not expected",
    };
    let message = format!("{}: HTTP {status}: {meaning}", shown(uri));
    if !agent::is_passing(status) {
        return Err(Failure::Final(message));
    }
    let wait = text(response.headers(), RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
    Err(Failure::Again { message, wait })
}

/// The wait in a `Retry-After` header: seconds or a date. Source: RFC 9110, 10.2.3. A date in the past is ignored,
/// because then one of the two clocks is wrong.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
            SystemTime::from(then).duration_since(now).ok()?
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Reads `Content-Range: bytes 5-9/10`: the offset of the first byte, and the size of the whole file in bytes, if the
/// server knows it. `None` for any other form. Source: RFC 9110, 14.4.
pub fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        // 1994-11-06 08:49:37, the RFC's example.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("86400", Some(120)),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_content_range_says_where_a_part_begins_and_how_long_the_whole_is() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("lines 5-9/10", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, value.parse().unwrap())]);
            assert_eq!(content_range(&headers), expected, "{value}");
        }
    }
}
