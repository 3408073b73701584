//! Reads a `multipart/form-data` body (RFC 7578), as browser forms and `curl -F` send it.
//!
//! We wrote our own strict reader, because the crates that read forms without async are unmaintained, or write a
//! stream into files. Here the whole body is already in memory and limited in size. This module only finds where each
//! field begins and ends.
//!
//! What does not belong here: reading HTTP, and decoding the file. Invariant: the content of a file is not copied.

use crate::error::{RequestError, shorten};

/// The largest number of parts in a form. A form with one file normally has only a few other fields.
const MOST_PARTS: usize = 64;

/// The largest number of bytes in the header lines of a part.
const MOST_HEADER_BYTES: usize = 8 << 10;

/// Returns the boundary from the value of a `Content-Type` header.
///
/// Errors: there is no boundary, or it is not valid (RFC 2046, section 5.1.1).
pub fn boundary(content_type: &str) -> Result<String, RequestError> {
    let named = parameters(content_type).into_iter().find(|(name, _)| name == "boundary");
    let Some((_, boundary)) = named else {
        return Err(RequestError::invalid(
            "the Content-Type multipart/form-data names no boundary: let the client make this header itself",
        ));
    };
    // The allowed characters are from RFC 2046, section 5.1.1.
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    if !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(is_valid) {
        let message = format!(
            "the form's boundary `{}` is not valid: expected 1 to 70 letters, digits or `'()+_,-./:=?`",
            shorten(&boundary)
        );
        return Err(RequestError::invalid(message));
    }
    Ok(boundary)
}

/// One field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'b> {
    /// The name of the field; empty when it has none.
    pub name: String,
    /// Whether it is a file.
    pub is_file: bool,
    pub content: &'b [u8],
}

/// Returns the content of the first file in a form.
///
/// Errors: the form has no file, or as in [`parts`].
pub fn first_file<'b>(form: &'b [u8], boundary: &str) -> Result<&'b [u8], RequestError> {
    let file = parts(form, boundary)?.into_iter().find(|part| part.is_file);
    file.map(|part| part.content).ok_or_else(|| {
        broken("has no file: expected a field with a `filename`, as `curl -F file=@digit.png` sends it")
    })
}

/// Returns the fields of a form. It reads the form to its end, so that an incomplete form is refused.
///
/// Errors: the form is malformed or incomplete, or has too many parts.
pub fn parts<'b>(form: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>, RequestError> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = form
        .strip_prefix(&delimiter[2..])
        .ok_or_else(|| broken("does not begin with the boundary that its Content-Type names"))?;
    let mut parts = Vec::new();
    for _ in 0..=MOST_PARTS {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        rest = end_of_delimiter(rest).ok_or_else(|| broken("has a boundary without the end of its line"))?;
        let (headers, content) =
            split_headers(rest).ok_or_else(|| broken("has a part whose header lines do not end"))?;
        let end = find(content, &delimiter).ok_or_else(|| broken("was cut: its last boundary is missing"))?;
        let (name, is_file) = described(headers, end).map_err(|what| broken(&what))?;
        parts.push(Part { name, is_file, content: &content[..end] });
        rest = &content[end + delimiter.len()..];
    }
    Err(broken(&format!("has more than {MOST_PARTS} parts")))
}

fn broken(what: &str) -> RequestError {
    RequestError::invalid(format!("the form (multipart/form-data) {what}"))
}

/// Returns the bytes after a delimiter's line. The line may end with blanks (RFC 2046, section 5.1.1).
fn end_of_delimiter(rest: &[u8]) -> Option<&[u8]> {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest[blanks..].strip_prefix(b"\r\n")
}

/// Splits a part into its header lines and its content.
fn split_headers(part: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(content) = part.strip_prefix(b"\r\n") {
        return Some((&[], content));
    }
    let end = find(&part[..part.len().min(MOST_HEADER_BYTES)], b"\r\n\r\n")?;
    Some((&part[..end], &part[end + 4..]))
}

/// Returns the name of a part with `length` bytes of content, and whether it is a file. When the user chose no file, a
/// browser sends an empty part with an empty file name; that part is not a file.
fn described(headers: &[u8], length: usize) -> Result<(String, bool), String> {
    let (mut name_of, mut file) = (String::new(), false);
    for line in headers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.trim().split_once(':') else {
            return Err(format!("has the header line `{}`: expected `name: value`", shorten(line.trim())));
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                let given = parameters(value);
                let named = given.iter().find(|(name, _)| name == "filename" || name == "filename*");
                file = named.is_some_and(|(_, name)| length > 0 || !name.is_empty());
                let named = given.into_iter().find(|(name, _)| name == "name");
                name_of = named.map(|(_, name)| name).unwrap_or_default();
            }
            // RFC 7578, section 4.7, deprecates this header. The content is never decoded here, so other encodings
            // are refused.
            "content-transfer-encoding" => {
                let coding = value.trim().to_ascii_lowercase();
                if !matches!(coding.as_str(), "binary" | "8bit" | "7bit") {
                    return Err("has a part with a Content-Transfer-Encoding: send files as they are".into());
                }
            }
            _ => {}
        }
    }
    Ok((name_of, file))
}

/// Returns the parameters of a header value, with names in lower case: `a; b=c; d="e;\"f"`. A piece without `=` is
/// ignored.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut pieces = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in value.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => {
                escaped = true;
                continue;
            }
            '"' => {
                quoted = !quoted;
                continue;
            }
            ';' if !quoted => {
                pieces.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    let pairs = pieces.iter().skip(1).filter_map(|piece| piece.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// Returns the position of the first `wanted` in `bytes`. `wanted` is not empty.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == wanted[0])?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "--b\r\nContent-Disposition: form-data; name=\"a;filename=x\"\r\n\r\n1\r\n";
    const FILE: &str = "--b\r\ncontent-disposition: form-data; name=f; filename=\"d;\\\".png\"\r\n\
                        Content-Type: image/png\r\n\r\n\x01\r\n--\r\n--B\r\n2\r\n";

    #[test]
    fn the_first_file_is_found_whatever_is_around_it() {
        for form in [
            format!("{FILE}--b--\r\n"),
            format!("{FIELD}{FILE}--b--"),
            format!("{FIELD}{FILE}{FILE}--b--\r\nepilogue"),
            format!("--b \t\r\n\r\nno headers\r\n{FILE}--b--"),
            format!("--b\r\nContent-Disposition: form-data; filename=\"\"\r\n\r\n\r\n{FILE}--b--"),
        ] {
            assert_eq!(first_file(form.as_bytes(), "b"), Ok(&b"\x01\r\n--\r\n--B\r\n2"[..]), "{form}");
        }
    }

    #[test]
    fn every_field_has_its_name_and_its_content() {
        let form = format!("{FIELD}{FILE}--b\r\n\r\nx\r\n--b--");
        let part = |name: &str, is_file, content| Part { name: name.into(), is_file, content };
        let expected = [
            part("a;filename=x", false, &b"1"[..]),
            part("f", true, b"\x01\r\n--\r\n--B\r\n2"),
            part("", false, b"x"),
        ];
        assert_eq!(parts(form.as_bytes(), "b"), Ok(expected.to_vec()));
    }

    #[test]
    fn a_form_that_is_cut_broken_or_without_a_file_is_refused_with_a_reason() {
        let many = format!("{}--b--", FIELD.repeat(65));
        let long = format!("--b\r\nX: {}\r\n\r\n\r\n--b--", "x".repeat(MOST_HEADER_BYTES));
        for (form, part) in [
            ("", "does not begin with the boundary"),
            ("preamble\r\n--b--", "does not begin with the boundary"),
            ("--b--", "has no file"),
            (&format!("{FIELD}--b--"), "has no file"),
            (FILE, "was cut"),
            (&FILE[..60], "header lines do not end"),
            ("--bc\r\n\r\n\r\n--b--", "without the end of its line"),
            ("--b", "without the end of its line"),
            ("--b\r\nrubbish\r\n\r\n\r\n--b--", "expected `name: value`"),
            ("--b\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--b--", "send files as they are"),
            (&many, "more than 64 parts"),
            (&long, "header lines do not end"),
        ] {
            let error = first_file(form.as_bytes(), "b").unwrap_err().message;
            assert!(error.contains(part), "{form:?}: {error}");
        }
    }

    #[test]
    fn the_boundary_is_read_as_mime_defines_it() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=----WebKitFormBoundaryX1", Some("----WebKitFormBoundaryX1")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a\u{7f}", None),
        ] {
            assert_eq!(boundary(content_type).ok().as_deref(), expected, "{content_type}");
        }
        assert!(boundary(&format!("a; boundary={}", "x".repeat(71))).is_err());
    }
}
