//! The address that a model is fetched from: an https URL, an http URL when that is allowed, or a file on this machine.
//! Sending requests to an address belongs to `web`.
//!
//! Invariant: a shown address has only scheme, host and path. It never has the query, because a query may be a
//! signature, and whoever knows the signature can fetch the file.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use percent_encoding::percent_decode_str;

/// A checked URL. `Display` shows it without its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The absolute path of a `file://` URL.
    File(PathBuf),
    /// An https or http URL with a host, and without a user or a password.
    Web(Uri),
}

impl Address {
    /// Reads a `file://`, `https://` or, with `allow_http`, `http://` URL.
    ///
    /// Fails for any other scheme, without a host, with a user or a password, or with a relative file path. The error
    /// says what was expected and contains no query and no password.
    pub fn parse(text: &str, allow_http: bool) -> Result<Address, String> {
        if let Some(rest) = text.strip_prefix("file://") {
            return file(rest).map(Address::File);
        }
        web(text, allow_http).map(Address::Web)
    }

    /// The last part of the path, percent-decoded: the file name. Empty when the path ends in `/`.
    pub fn last_part(&self) -> String {
        let path = match self {
            Address::File(path) => path.to_string_lossy().into_owned(),
            Address::Web(uri) => percent_decode_str(uri.path()).decode_utf8_lossy().into_owned(),
        };
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::File(path) => write!(f, "file://{}", path.display()),
            Address::Web(uri) => f.write_str(&shown(uri)),
        }
    }
}

/// The text of an address that may be shown: scheme, host, port and path, without the query.
pub fn shown(uri: &Uri) -> String {
    format!("{}{}", origin(uri), uri.path())
}

/// Scheme, host and port, for example `https://example.org:8443`. Credentials are only sent to the same origin.
pub fn origin(uri: &Uri) -> String {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

/// Reads what follows `file://`: an empty host or `localhost`, then an absolute path. Source: RFC 8089.
fn file(rest: &str) -> Result<PathBuf, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(format!("`file://{rest}` names no absolute path: expected file:///folder/model.onnx"));
    }
    let decoded = percent_decode_str(path).decode_utf8();
    decoded.map(|path| PathBuf::from(path.as_ref())).map_err(|_| format!("`file://{rest}` is not UTF-8"))
}

fn web(text: &str, allow_http: bool) -> Result<Uri, String> {
    let expected = "expected https://host/path, with % for what a URL may not hold, or file:///path";
    let uri: Uri = text.parse().map_err(|error| format!("this is not a URL ({error}): {expected}"))?;
    let authority = uri.authority().ok_or_else(|| format!("the URL has no host: {expected}"))?;
    if authority.as_str().contains('@') {
        return Err(format!(
            "the URL to {} holds a user or a password, which would be shown wherever it is: leave them out, and set \
             ONNXD_FETCH_AUTHORIZATION",
            authority.host()
        ));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if allow_http => Ok(uri),
        Some("http") => Err(format!(
            "{} is http, where everybody on the way sees what is asked and sent: name it by https, or allow it by \
             --allow-http",
            shown(&uri)
        )),
        other => Err(format!("the scheme `{}` is not known: {expected}", other.unwrap_or_default())),
    }
}

/// The address that a `Location` header of a response from `from` leads to. Source: RFC 9110, 10.2.2.
///
/// Fails when the address is one that [`Address::parse`] refuses, or a `file://` URL.
pub fn redirect(from: &Uri, location: &str, allow_http: bool) -> Result<Uri, String> {
    let whole = resolve(from, location);
    web(&whole, allow_http).map_err(|error| format!("{} redirects where it may not: {error}", shown(from)))
}

/// Resolves a relative reference. Source: RFC 3986, 5.2, only the cases where `from` has a host.
fn resolve(from: &Uri, reference: &str) -> String {
    let path_begins = reference.find(['/', '?', '#']).unwrap_or(reference.len());
    if reference[..path_begins].contains(':') {
        return reference.to_owned();
    }
    if reference.starts_with("//") {
        return format!("{}:{reference}", from.scheme_str().unwrap_or_default());
    }
    if reference.starts_with('/') {
        return format!("{}{reference}", origin(from));
    }
    if path_begins == 0 {
        return format!("{}{reference}", shown(from));
    }
    let mut folders: Vec<&str> = from.path().split('/').collect();
    folders.pop();
    let (path, rest) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    for part in path.split('/') {
        match part {
            "." => {}
            // The first element is the empty text before the first slash. It stays.
            ".." if folders.len() > 1 => drop(folders.pop()),
            ".." => {}
            part => folders.push(part),
        }
    }
    format!("{}{}{rest}", origin(from), folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let address = Address::parse("https://example.org:8443/a/m.onnx?signature=hush", false).unwrap();
        assert_eq!(address.to_string(), "https://example.org:8443/a/m.onnx");
        assert_eq!(address.last_part(), "m.onnx");
        let error = Address::parse("https://user:hush@example.org/", false).unwrap_err();
        assert!(error.contains("ONNXD_FETCH_AUTHORIZATION") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn an_address_that_cannot_be_fetched_from_says_what_is_expected() {
        for (text, part) in [
            ("http://example.org/m.onnx", "--allow-http"),
            ("ftp://example.org/m.onnx", "the scheme `ftp` is not known"),
            ("model.onnx", "expected https://"),
            ("https:///m.onnx", "expected https://"),
            ("https://example.org/a b", "with % for"),
            ("file://model.onnx", "names no absolute path"),
        ] {
            let error = Address::parse(text, false).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Address::parse("http://example.org/m.onnx", true).is_ok());
    }

    #[test]
    fn a_file_is_named_by_its_absolute_path_percent_encoded() {
        for text in ["file:///a%20b/m.onnx", "file://localhost/a%20b/m.onnx"] {
            assert_eq!(Address::parse(text, false), Ok(Address::File("/a b/m.onnx".into())));
        }
    }

    #[test]
    fn a_redirect_may_be_whole_or_relative() {
        let from: Uri = "https://a.org/x/y/m?q=1".parse().unwrap();
        for (location, whole) in [
            ("https://b.org/z", "https://b.org/z"),
            ("//b.org/z", "https://b.org/z"),
            ("/z?q=2", "https://a.org/z?q=2"),
            ("z?u=a/b:c", "https://a.org/x/y/z?u=a/b:c"),
            ("../z", "https://a.org/x/z"),
            ("../../../z", "https://a.org/z"),
            ("./z/w", "https://a.org/x/y/z/w"),
            ("?q=2", "https://a.org/x/y/m?q=2"),
        ] {
            assert_eq!(redirect(&from, location, false).unwrap().to_string(), whole, "{location}");
        }
        for (location, part) in
            [("http://a.org/", "--allow-http"), ("file:///etc/passwd", "`file`"), ("", "")]
        {
            match redirect(&from, location, false) {
                Err(error) => assert!(error.contains("redirects where it may not"), "{location}: {error}"),
                Ok(uri) => assert!(part.is_empty(), "{location}: {uri}"),
            }
        }
    }
}
