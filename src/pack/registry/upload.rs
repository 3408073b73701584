//! One blob: sent in pieces, and taken up again where the registry lost it.

use std::io::{Cursor, Read};

use http::header::{CONTENT_TYPE, RANGE};
use http::{Method, Response, StatusCode};
use ureq::Body;

use super::PackError;
use super::client::{Client, Content};
use super::patience::{BACK_OFF, Failure, patiently};
use crate::pack::layer::Compressed;
use crate::transfer::agent::is_passing;
use crate::transfer::progress::Transfer;
use crate::transfer::{Digest, Progress};

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

/// Sends a blob, unless the registry has it.
pub fn blob(
    client: &mut Client,
    digest: &Digest,
    source: Source<'_>,
    what: &str,
    progress: &Progress,
) -> Result<(), PackError> {
    if patiently(what, progress, || is_there(client, digest, what))? {
        progress.say(&format!("{what}: is there already"));
        return Ok(());
    }
    let chunk = client.chunk.unwrap_or(u64::MAX);
    let transfer = progress.begin(what, source.size());
    let mut upload =
        Upload { client, digest, source, what, transfer, chunk, address: None, offset: 0, best: 0 };
    let mut waits = BACK_OFF.iter();
    loop {
        let error = match upload.go_on() {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(upload.abandon(error)),
            Err(Failure::Again(error)) => error,
        };
        if upload.offset > upload.best {
            upload.best = upload.offset;
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

fn is_there(client: &mut Client, digest: &Digest, what: &str) -> Result<bool, Failure> {
    let url = client.url(&format!("blobs/{digest}"));
    let response = client.ask(Method::HEAD, &url, &[], Content::Nothing)?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(false),
        status if status.is_success() || status.is_redirection() => {
            client.check_digest(&response, digest, what)?;
            Ok(true)
        }
        status => Err(Failure::of(status, client.explain(response, what))),
    }
}

/// Pieces of a blob whose upload as a whole was cut: what a piece brought is not sent again. Registries
/// differ in what they take (5 MB at least, 4 MiB at most), so a whole blob is tried first.
const CHUNK: u64 = 16 << 20;

struct Upload<'a> {
    client: &'a mut Client,
    digest: &'a Digest,
    source: Source<'a>,
    what: &'a str,
    transfer: Transfer,
    /// Bytes of a piece.
    chunk: u64,
    /// Where the next piece goes; none before the registry gave a place.
    address: Option<String>,
    /// What the registry has.
    offset: u64,
    /// The most that it had.
    best: u64,
}

impl Upload<'_> {
    /// Takes the upload up, from where the registry is to the end.
    fn go_on(&mut self) -> Result<(), Failure> {
        let mut address = match self.address.clone() {
            Some(address) => self.resume(address)?,
            None => self.start()?,
        };
        let size = self.source.size();
        // What fits one piece goes with the last request, which every registry understands.
        while size - self.offset > self.chunk {
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
        let status = response.status();
        match received(&response) {
            Some(offset) if status.is_success() && offset <= self.source.size() => {
                self.offset = offset;
                Ok(self.client.location(&response).unwrap_or(address))
            }
            _ if is_passing(status) => Err(Failure::Again(self.client.explain(response, self.what))),
            _ => self.start(),
        }
    }

    fn piece(&mut self, address: &str) -> Result<String, Failure> {
        let length = self.chunk.min(self.source.size() - self.offset);
        let response = self.send(Method::PATCH, address, length, &[self.range(length)])?;
        let accepted = [StatusCode::ACCEPTED, StatusCode::CREATED, StatusCode::NO_CONTENT];
        let response = self.expect(response, &accepted)?;
        // What registries say here of how far they are is not always so; the digest tells at the end.
        self.offset += length;
        Ok(self.client.location(&response)?)
    }

    fn finish(&mut self, address: &str) -> Result<(), Failure> {
        let join = if address.contains('?') { '&' } else { '?' };
        let url = format!("{address}{join}digest={}", self.digest);
        let length = self.source.size() - self.offset;
        let headers: Vec<_> =
            (self.offset > 0 && length > 0).then(|| self.range(length)).into_iter().collect();
        let response = self.send(Method::PUT, &url, length, &headers)?;
        let accepted = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let response = self.expect(response, &accepted)?;
        Ok(self.client.check_digest(&response, self.digest, self.what)?)
    }

    /// Of the next `length` bytes, both ends included.
    fn range(&self, length: u64) -> (&'static str, String) {
        ("content-range", format!("{}-{}", self.offset, self.offset + length - 1))
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
        let answer = self.client.ask(method, url, &headers, Content::Stream(&open, length));
        if answer.is_err() && self.client.chunk.is_none() {
            self.chunk = CHUNK;
        }
        Ok(answer?)
    }

    /// The response, when it is one of those; otherwise what it means.
    fn expect(
        &mut self,
        response: Response<Body>,
        expected: &[StatusCode],
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if expected.contains(&status) {
            return Ok(response);
        }
        let begun = self.address.is_some();
        let error = self.client.explain(response, self.what);
        Err(match status {
            // An upload that was begun is not known any more.
            StatusCode::NOT_FOUND if begun => {
                self.address = None;
                Failure::Again(error)
            }
            // What the registry has is not what was said last: it must be asked.
            StatusCode::RANGE_NOT_SATISFIABLE => Failure::Again(error),
            _ => Failure::of(status, error),
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
