//! One blob: sent in pieces, and taken up again where the registry lost it.

use std::io::{Cursor, Read};
use std::time::Duration;

use http::header::{CONTENT_TYPE, RANGE};
use http::{Method, Response, StatusCode};
use ureq::Body;

use super::client::{Client, Content};
use super::{PackError, RegistryError};
use crate::pack::Progress;
use crate::pack::digest::Digest;
use crate::pack::layer::Compressed;
use crate::pack::progress::Transfer;

/// Where a blob's bytes are.
pub enum Source<'a> {
    Bytes(&'a [u8]),
    Layer(&'a Compressed),
}

impl Source<'_> {
    fn size(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Layer(layer) => layer.size,
        }
    }

    fn from(&self, offset: u64) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Source::Bytes(bytes) => {
                let mut cursor = Cursor::new(*bytes);
                cursor.set_position(offset);
                Box::new(cursor)
            }
            Source::Layer(layer) => Box::new(layer.from(offset)?),
        })
    }
}

/// Waits between attempts that bring the upload no further; after the last, it has failed.
const BACK_OFF: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Sends a blob, unless the registry has it.
pub fn blob(
    client: &mut Client,
    digest: &Digest,
    source: Source<'_>,
    what: &str,
    progress: &Progress,
) -> Result<(), PackError> {
    if is_there(client, digest, what)? {
        progress.say(&format!("{what}: is there already"));
        return Ok(());
    }
    let transfer = progress.begin(what, source.size());
    let mut upload = Upload { client, digest, source, what, transfer, address: None, offset: 0 };
    let mut waits = BACK_OFF.iter();
    loop {
        let begun_at = upload.offset;
        let error = match upload.go_on() {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(upload.abandon(error)),
            Err(Failure::Again(error)) => error,
        };
        if upload.offset > begun_at {
            waits = BACK_OFF.iter();
        }
        let Some(wait) = waits.next() else { return Err(upload.abandon(error.into())) };
        progress.say(&format!("{what}: {error}; going on in {} ms", wait.as_millis()));
        std::thread::sleep(*wait);
    }
    let size = upload.source.size();
    progress.say(&format!("{what}: sent {size} bytes, {digest}"));
    Ok(())
}

fn is_there(client: &mut Client, digest: &Digest, what: &str) -> Result<bool, RegistryError> {
    let url = client.url(&format!("blobs/{digest}"));
    let response = client.ask(Method::HEAD, &url, &[], Content::Nothing)?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(false),
        status if status.is_success() || status.is_redirection() => Ok(true),
        _ => Err(client.explain(response, what)),
    }
}

struct Upload<'a> {
    client: &'a mut Client,
    digest: &'a Digest,
    source: Source<'a>,
    what: &'a str,
    transfer: Transfer,
    /// Where the next piece goes; none before the registry gave a place.
    address: Option<String>,
    /// What the registry has.
    offset: u64,
}

enum Failure {
    /// It may be better next time.
    Again(RegistryError),
    Final(PackError),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        match error {
            RegistryError::Unreachable { .. } => Failure::Again(error),
            _ => Failure::Final(error.into()),
        }
    }
}

impl Upload<'_> {
    /// Takes the upload up, from where the registry is to the end.
    fn go_on(&mut self) -> Result<(), Failure> {
        let mut address = match self.address.take() {
            Some(address) => self.resume(address)?,
            None => self.start()?,
        };
        let size = self.source.size();
        // What fits one piece goes with the last request, which every registry understands.
        while size - self.offset > self.client.chunk {
            self.address = Some(address.clone());
            address = self.piece(&address)?;
        }
        self.address = Some(address.clone());
        self.finish(&address)
    }

    fn start(&mut self) -> Result<String, Failure> {
        self.offset = 0;
        let url = self.client.url("blobs/uploads/");
        let response = self.client.ask(Method::POST, &url, &[], Content::Nothing)?;
        let response = self.expect(response, &[StatusCode::ACCEPTED])?;
        Ok(self.client.location(&response)?)
    }

    /// Asks how far an interrupted upload came; begins anew when the registry does not know it.
    fn resume(&mut self, address: String) -> Result<String, Failure> {
        let response = self.client.ask(Method::GET, &address, &[], Content::Nothing)?;
        match (response.status(), received(&response)) {
            (StatusCode::NO_CONTENT, Some(offset)) if offset <= self.source.size() => {
                self.offset = offset;
                Ok(self.client.location(&response).unwrap_or(address))
            }
            _ => self.start(),
        }
    }

    fn piece(&mut self, address: &str) -> Result<String, Failure> {
        let length = self.client.chunk.min(self.source.size() - self.offset);
        let range = format!("{}-{}", self.offset, self.offset + length - 1);
        let response = self.send(Method::PATCH, address, length, &[("content-range", range)])?;
        let response = self.expect(response, &[StatusCode::ACCEPTED, StatusCode::NO_CONTENT])?;
        let next = self.client.location(&response)?;
        let sent = self.offset + length;
        // Some registries do not say how far they are.
        self.offset = received(&response).filter(|offset| *offset <= sent).unwrap_or(sent);
        Ok(next)
    }

    fn finish(&mut self, address: &str) -> Result<(), Failure> {
        let join = if address.contains('?') { '&' } else { '?' };
        let url = format!("{address}{join}digest={}", self.digest);
        let length = self.source.size() - self.offset;
        let response = self.send(Method::PUT, &url, length, &[])?;
        self.expect(response, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).map(drop)
    }

    fn send(
        &mut self,
        method: Method,
        url: &str,
        length: u64,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, Failure> {
        let mut headers = headers.to_vec();
        headers.push((CONTENT_TYPE.as_str(), "application/octet-stream".into()));
        let open = || -> std::io::Result<Box<dyn Read + '_>> {
            self.transfer.at(self.offset);
            Ok(Box::new(self.transfer.reading(self.source.from(self.offset)?.take(length))))
        };
        Ok(self.client.ask(method, url, &headers, Content::Stream(&open, length))?)
    }

    /// The response, when it is one of those; otherwise what it means.
    fn expect(&self, response: Response<Body>, expected: &[StatusCode]) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if expected.contains(&status) {
            return Ok(response);
        }
        let error = self.client.explain(response, self.what);
        Err(match status {
            // What the registry has is not what was said last: it must be asked.
            StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => Failure::Again(error),
            status if status.is_server_error() => Failure::Again(error),
            _ => Failure::Final(error.into()),
        })
    }

    /// Tells the registry that nothing will follow; the error is what it was.
    fn abandon(&mut self, error: PackError) -> PackError {
        if let Some(address) = self.address.take() {
            let _ = self.client.ask(Method::DELETE, &address, &[], Content::Nothing);
        }
        error
    }
}

/// How many bytes the registry has: one more than the end of its `Range: 0-N`. Nothing yet is `0-0`, as
/// is one byte; then the byte is sent again.
fn received(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let end: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}
