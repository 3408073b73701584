//! A request body in chunks (RFC 9112 section 7.1), read strictly: what the grammar does not allow is refused.
//!
//! ureq-proto reads chunks too, but it takes `+51` and ` 51` for a size, a bare LF inside an extension, and anything
//! at all for a trailer, of which it reads any number. A gateway in front may read the same bytes in another way; then
//! the two disagree about where the next request begins, which is how requests are smuggled. So chunks are decoded
//! here, and ureq-proto is told of the end only. `docs/upstream.md` has the cases as they can be reported.

/// Digits of a chunk's size: as many as a `u64` has.
const MOST_DIGITS: usize = 16;

/// Where the reading of a chunked body stands.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes at the beginning of what is given that are known to hold no end of line.
    searched: usize,
    /// Bytes of extensions and trailers that may still come.
    spare: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// So many bytes of the chunk are still to come.
    Data(u64),
    DataEnd,
    Trailer,
    Ended,
}

impl Chunked {
    /// `spare` is how many bytes of extensions and trailers are passed over, in the whole body.
    pub fn new(spare: usize) -> Chunked {
        Chunked { state: State::Size, searched: 0, spare }
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes the next element off the front of `bytes`: how many bytes it has, and which of them are the body's. An
    /// element of no bytes means that more must come first; then `bytes` must begin in the same way.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, &'b [u8]), String> {
        match self.state {
            State::Size => {
                let Some((line, used)) = self.line(bytes)? else { return Ok((0, &[])) };
                let (size, extensions) = read_size(line)?;
                self.spend(extensions)?;
                self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                Ok((used, &[]))
            }
            State::Data(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - count as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                Ok((count, &bytes[..count]))
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok((2, &[]))
                }
                [] | [b'\r'] => Ok((0, &[])),
                _ => Err("a chunk is longer than its size says: expected CRLF behind it".into()),
            },
            State::Trailer => {
                let Some((line, used)) = self.line(bytes)? else { return Ok((0, &[])) };
                if line.is_empty() {
                    self.state = State::Ended;
                } else {
                    check_trailer(line)?;
                    self.spend(used)?;
                }
                Ok((used, &[]))
            }
            State::Ended => Ok((0, &[])),
        }
    }

    /// The first line without its CRLF, and how many bytes it has with it; `None` when its end has not come.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(&'b [u8], usize)>, String> {
        let end = bytes[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = bytes.len();
            // A size and its CRLF have a few bytes more.
            return if bytes.len() > self.spare + MOST_DIGITS + 2 { Err(self.too_much()) } else { Ok(None) };
        };
        self.searched = 0;
        match bytes[..end].split_last() {
            Some((b'\r', line)) => Ok(Some((line, end + 1))),
            _ => Err("a line of its framing ends with LF alone: expected CRLF".into()),
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.spare = self.spare.checked_sub(bytes).ok_or_else(|| self.too_much())?;
        Ok(())
    }

    fn too_much(&self) -> String {
        "its chunk extensions and trailers are longer than a request's head may be".into()
    }
}

/// A chunk's size, and how many bytes of extensions are behind it.
fn read_size(line: &[u8]) -> Result<(u64, usize), String> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err("a chunk has no size: expected hexadecimal digits at the beginning of the line".into());
    }
    if digits > MOST_DIGITS {
        return Err(format!("a chunk's size has {digits} digits: expected at most {MOST_DIGITS}"));
    }
    let hexadecimal = |digit: &u8| u64::from((*digit as char).to_digit(16).unwrap_or_default());
    let size = line[..digits].iter().fold(0, |size, digit| size << 4 | hexadecimal(digit));
    let extensions = &line[digits..];
    if !are_extensions(extensions) {
        return Err("expected nothing behind a chunk's size but extensions as `;name=value`".into());
    }
    Ok((size, extensions.len()))
}

/// RFC 9112 section 7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(behind) = skip_blanks(rest).strip_prefix(b";").map(skip_blanks).and_then(skip_token) else {
            return false;
        };
        rest = behind;
        if let Some(value) = skip_blanks(rest).strip_prefix(b"=").map(skip_blanks) {
            let Some(behind) = skip_token(value).or_else(|| skip_quoted(value)) else { return false };
            rest = behind;
        }
    }
    true
}

/// RFC 9112 section 7.1.2: a field line, as a head has it.
fn check_trailer(line: &[u8]) -> Result<(), String> {
    let is_field = skip_token(line)
        .and_then(|rest| rest.strip_prefix(b":"))
        .is_some_and(|value| value.iter().all(|byte| is_text(*byte)));
    if is_field { Ok(()) } else { Err("a trailer is no header field: expected `name: value`".into()) }
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

/// What is behind a token (RFC 9110 section 5.6.2); `None` where none begins.
fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = bytes.iter().take_while(|byte| is_token(byte)).count();
    (length > 0).then(|| &bytes[length..])
}

/// What is behind a quoted string (RFC 9110 section 5.6.4); `None` where none begins, or ends.
fn skip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(*escaped) => rest,
            [byte, rest @ ..] if *byte != b'\\' && is_text(*byte) => rest,
            _ => return None,
        };
    }
}

/// A character of a field's value: visible, blank, or beyond ASCII; no control character.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and what is left behind it; `None` when it has not ended.
    fn decode(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, String> {
        let mut chunked = Chunked::new(64);
        let (mut body, mut at, mut come) = (Vec::new(), 0, 0);
        while !chunked.is_ended() {
            let (used, data) = chunked.take(&bytes[at..come])?;
            body.extend_from_slice(data);
            at += used;
            if used == 0 && come == bytes.len() {
                return Ok(None);
            }
            if used == 0 {
                come = (come + piece).min(bytes.len());
            }
        }
        Ok(Some((body, bytes.len() - at)))
    }

    #[test]
    fn chunks_are_joined_however_they_come_and_what_is_behind_them_is_left() {
        for (bytes, body) in [
            (&b"5\r\nhello\r\n0\r\n\r\nGET /"[..], &b"hello"[..]),
            (b"5;a\r\nhello\r\n1; b=c ; d = \"e;\\\"\xe9\"\r\n!\r\n00\r\nX: y\r\nZ:\r\n\r\nGET /", b"hello!"),
            (b"0;a=\"\"\r\n\r\nGET /", b""),
            (b"0000000000000002\r\n\r\n\r\n0\r\n\r\nGET /", b"\r\n"),
            (b"A\r\n0123456789\r\n0\r\n\r\nGET /", b"0123456789"),
        ] {
            for piece in [1, 2, 3, 7, bytes.len()] {
                let (decoded, left) = decode(bytes, piece).unwrap().unwrap();
                // What came later than the end is not looked at.
                assert_eq!((decoded.as_slice(), left), (body, 5), "{}", bytes.escape_ascii());
            }
        }
        assert_eq!(decode(b"5\r\nhell", 1).unwrap(), None);
    }

    #[test]
    fn what_rfc_9112_does_not_allow_in_chunks_is_refused() {
        for bytes in [
            &b"+5\r\nhello\r\n0\r\n\r\n"[..],
            b"-5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"\t5\r\nhello\r\n0\r\n\r\n",
            b"\x0b5\r\nhello\r\n0\r\n\r\n",
            b"5\x0b\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5_0\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\r\nhello\r\n0\r\n\r\n",
            b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"5;\r\nhello\r\n0\r\n\r\n",
            b"5;a=\r\nhello\r\n0\r\n\r\n",
            b"5;a=\"b\r\nhello\r\n0\r\n\r\n",
            b"5;a=\"\\\r\nhello\r\n0\r\n\r\n",
            b"5;a b\r\nhello\r\n0\r\n\r\n",
            b"5;a\0\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"11111111111111111\r\n",
            b"00000000000000000\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nX: a\rb\r\n\r\n",
            b"0\r\nX: y\r\n folded\r\n\r\n",
            b"0\r\nX: \0\r\n\r\n",
        ] {
            for piece in [1, 5, bytes.len()] {
                assert!(
                    decode(bytes, piece).is_err(),
                    "{}: {:?}",
                    bytes.escape_ascii(),
                    decode(bytes, piece)
                );
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_bound_in_all() {
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(11));
        assert!(decode(trailers.as_bytes(), 1).unwrap_err().contains("longer than"));
        let extensions = format!("{}0\r\n\r\n", "1;abc\r\n!\r\n".repeat(20));
        assert!(decode(extensions.as_bytes(), 1).unwrap_err().contains("longer than"));
        let endless = [b'1'; 100];
        assert!(decode(&endless, 1).unwrap_err().contains("longer than"));
        let within = format!("0\r\n{}\r\n", "X: y\r\n".repeat(10));
        assert!(decode(within.as_bytes(), 1).is_ok());
    }
}
