//! Decodes a chunked request body (RFC 9112 section 7.1) strictly: what the grammar does not allow is an error.
//!
//! ureq-proto decodes chunks too, but it accepts `+51` and ` 51` as a size, a bare LF inside an extension, and any number
//! of trailers with any content. A gateway in front of the server may decode the same bytes differently. Then the two
//! disagree about where the next request begins, and an attacker can smuggle a request past the gateway. So the server
//! decodes chunks here. `docs/upstream.md` lists the cases.
//!
//! Only the grammar belongs here. Reading from the socket, deadlines and memory are in [`super::body`].
//!
//! Invariants: nothing is copied or kept. Extensions and trailers of a whole body have a limit in bytes.

/// The most hexadecimal digits of a chunk's size, as many as a `u64` has.
const MOST_DIGITS: usize = 16;

/// The decoder's position in a chunked body.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// How many bytes at the front of the input were searched for the end of a line already.
    searched: usize,
    /// How many bytes of extensions and trailers are still allowed.
    spare: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next element is a line with a chunk's size.
    Size,
    /// This many bytes of the chunk are missing.
    Data(u64),
    /// The next element is the CRLF after a chunk.
    DataEnd,
    /// The next element is a trailer line, or the empty line that ends the body.
    Trailer,
    Ended,
}

impl Chunked {
    /// `spare` is the most bytes of extensions and trailers that are skipped in the whole body.
    pub fn new(spare: usize) -> Chunked {
        Chunked { state: State::Size, searched: 0, spare }
    }

    /// True when the whole body was decoded.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes the next element from the front of `bytes`. Returns how many bytes it has, and which of them belong to the
    /// body.
    ///
    /// 0 bytes mean that the body has ended or that more bytes must arrive first. In the next call, `bytes` must begin
    /// with the bytes that were not taken.
    ///
    /// # Errors
    /// A sentence that completes "the body: …", for a 400.
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
                _ => Err("a chunk is longer than its size says: expected CRLF after it".into()),
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

    /// The first line without its CRLF, and its length with the CRLF; `None` when its end has not arrived.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(&'b [u8], usize)>, String> {
        let end = bytes[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = bytes.len();
            // The size and the CRLF do not count as extensions.
            return if bytes.len() > self.spare + MOST_DIGITS + 2 { Err(self.too_much()) } else { Ok(None) };
        };
        self.searched = 0;
        match bytes[..end].split_last() {
            Some((b'\r', line)) => Ok(Some((line, end + 1))),
            _ => Err("a line of its framing ends with LF only: expected CRLF".into()),
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.spare = self.spare.checked_sub(bytes).ok_or_else(|| self.too_much())?;
        Ok(())
    }

    fn too_much(&self) -> String {
        "its chunk extensions and trailers are longer than the limit for a request's head".into()
    }
}

/// A chunk's size in bytes, and the length of its extensions in bytes.
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
        return Err("expected only extensions of the form `;name=value` after a chunk's size".into());
    }
    Ok((size, extensions.len()))
}

/// True for chunk extensions, RFC 9112 section 7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = skip_blanks(rest).strip_prefix(b";").map(skip_blanks).and_then(skip_token) else {
            return false;
        };
        rest = after;
        if let Some(value) = skip_blanks(rest).strip_prefix(b"=").map(skip_blanks) {
            let Some(after) = skip_token(value).or_else(|| skip_quoted(value)) else { return false };
            rest = after;
        }
    }
    true
}

/// A trailer must be a field line as in a head (RFC 9112 section 7.1.2).
fn check_trailer(line: &[u8]) -> Result<(), String> {
    let is_field = skip_token(line)
        .and_then(|rest| rest.strip_prefix(b":"))
        .is_some_and(|value| value.iter().all(|byte| is_text(*byte)));
    if is_field { Ok(()) } else { Err("a trailer is not a header field: expected `name: value`".into()) }
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

/// The bytes after a token (RFC 9110 section 5.6.2); `None` when `bytes` does not begin with one.
fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = bytes.iter().take_while(|byte| is_token(byte)).count();
    (length > 0).then(|| &bytes[length..])
}

/// The bytes after a quoted string (RFC 9110 section 5.6.4); `None` when `bytes` does not begin with a complete one.
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

/// True for a byte of a field's value: visible, blank, or beyond ASCII, but not a control character.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and how many bytes are left after it; `None` when it has not ended. `piece` bytes arrive at once.
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
    fn chunks_are_joined_for_any_size_of_pieces_and_the_bytes_after_the_body_are_not_taken() {
        for (bytes, body) in [
            (&b"5\r\nhello\r\n0\r\n\r\nGET /"[..], &b"hello"[..]),
            (b"5;a\r\nhello\r\n1; b=c ; d = \"e;\\\"\xe9\"\r\n!\r\n00\r\nX: y\r\nZ:\r\n\r\nGET /", b"hello!"),
            (b"0;a=\"\"\r\n\r\nGET /", b""),
            (b"0000000000000002\r\n\r\n\r\n0\r\n\r\nGET /", b"\r\n"),
            (b"A\r\n0123456789\r\n0\r\n\r\nGET /", b"0123456789"),
        ] {
            for piece in [1, 2, 3, 7, bytes.len()] {
                let (decoded, left) = decode(bytes, piece).unwrap().unwrap();
                // The next request is not part of the body.
                assert_eq!((decoded.as_slice(), left), (body, 5), "{}", bytes.escape_ascii());
            }
        }
        assert_eq!(decode(b"5\r\nhell", 1).unwrap(), None);
    }

    #[test]
    fn chunks_that_rfc_9112_does_not_allow_are_refused() {
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
    fn extensions_and_trailers_of_a_whole_body_have_a_limit() {
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
