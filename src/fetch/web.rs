//! One request over HTTP: redirects, secrets, and statuses in words.
//!
//! A redirect is followed when it does not leave https (unless http is allowed). The Authorization header
//! goes to the host that was named, and not to the hosts that it redirects to, which are often storages
//! that refuse a request with two kinds of credentials.

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

/// A server that wants to be asked later than this is asked then all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// HTTP with what the user said about it.
pub struct Web<'a> {
    fetching: &'a Fetching,
    roots: RootCerts,
}

impl<'a> Web<'a> {
    pub fn new(fetching: &'a Fetching) -> Result<Web<'a>, String> {
        let roots =
            agent::roots(fetching.ca_file.as_deref()).map_err(|error| format!("--fetch-ca {error}"))?;
        Ok(Web { fetching, roots })
    }

    /// Asks for what is at an address, from a byte on. The answer is 200, 206 or 416.
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
        // Made for each request: whether there is a proxy depends on the host.
        agent::agent(uri.host().unwrap_or_default(), self.roots.clone(), silence).run(request).map_err(failed)
    }
}

/// What a status means for a download.
fn judged(response: Response<Body>, uri: &Uri) -> Result<Response<Body>, Failure> {
    let status = response.status();
    let meaning = match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(response);
        }
        StatusCode::UNAUTHORIZED => {
            "it wants to know who asks: set ONNXD_FETCH_AUTHORIZATION, or use a signed URL"
        }
        StatusCode::FORBIDDEN => {
            "it does not let us: has a signed URL expired, or may this user not read it?"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => "there is nothing at this address: look at `url`",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) wants to know who asks"
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

/// RFC 9110, 10.2.3: seconds, or a date. A date that has passed says nothing: one of the two clocks is wrong.
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

/// `bytes 5-9/10` (RFC 9110, 14.4): where the part begins, and the length of the whole when it is said.
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
