//! Uploads one blob, whole or in pieces, and continues after an interruption. Source: OCI distribution specification,
//! "pushing blobs".
//!
//! Invariants: a blob that the registry has is not sent. After an interruption, only the bytes that the registry does
//! not have are sent. A failed upload is cancelled.

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

/// The bytes of a blob: in memory, or in a compressed layer.
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

/// Sends a blob, unless the registry has it. `what` names it in messages.
///
/// Fails when the registry refuses it, or after all waits of [`BACK_OFF`] without progress.
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

/// Whether the registry has the blob. A redirect counts: the blob is then on a storage service of the registry.
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

/// Bytes of a piece after an upload in one request was interrupted. Complete pieces need not be sent again. A blob is
/// first sent whole, because registries differ: some refuse pieces below 5 MB, others refuse pieces above 4 MiB.
const CHUNK: u64 = 16 << 20;

struct Upload<'a> {
    client: &'a mut Client,
    digest: &'a Digest,
    source: Source<'a>,
    what: &'a str,
    transfer: Transfer,
    /// The largest number of bytes in one request.
    chunk: u64,
    /// The URL for the next request. `None` before the upload has begun.
    address: Option<String>,
    /// Bytes that the registry has.
    offset: u64,
    /// The largest `offset` so far. A larger one is progress, and resets the waits.
    best: u64,
}

impl Upload<'_> {
    /// Begins or continues the upload, and sends everything that the registry does not have.
    fn go_on(&mut self) -> Result<(), Failure> {
        let mut address = match self.address.clone() {
            Some(address) => self.resume(address)?,
            None => self.start()?,
        };
        let size = self.source.size();
        // The last request may carry content too. So a blob that fits one piece is sent by PUT alone, which every
        // registry supports.
        while size - self.offset > self.chunk {
            self.address = Some(address.clone());
            address = self.piece(&address)?;
        }
        self.address = Some(address.clone());
        self.finish(&address)
    }

    /// Begins a new upload. Returns its URL.
    fn start(&mut self) -> Result<String, Failure> {
        self.offset = 0;
        let url = self.client.url("blobs/uploads/");
        let response = self.client.ask(Method::POST, &url, &[], Content::Nothing)?;
        let response = self.expect(response, &[StatusCode::ACCEPTED])?;
        Ok(self.client.location(&response)?)
    }

    /// Asks how many bytes of an interrupted upload the registry has. Begins a new upload when the registry does not
    /// know the old one. Returns the URL for the next request.
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

    /// Sends one piece by PATCH. Returns the URL for the next request.
    fn piece(&mut self, address: &str) -> Result<String, Failure> {
        let length = self.chunk.min(self.source.size() - self.offset);
        let response = self.send(Method::PATCH, address, length, &[self.range(length)])?;
        let accepted = [StatusCode::ACCEPTED, StatusCode::CREATED, StatusCode::NO_CONTENT];
        let response = self.expect(response, &accepted)?;
        // The `Range` of this response is not used, because some registries send a wrong one. A missing byte is found
        // at the end, by the digest.
        self.offset += length;
        Ok(self.client.location(&response)?)
    }

    /// Sends the remaining bytes by PUT, with the digest, which completes the upload.
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

    /// The `Content-Range` header for the next `length` bytes. Both ends are included.
    fn range(&self, length: u64) -> (&'static str, String) {
        ("content-range", format!("{}-{}", self.offset, self.offset + length - 1))
    }

    /// Sends the next `length` bytes. After an interruption, later requests use pieces of [`CHUNK`] bytes, unless the
    /// user chose a size.
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

    /// Returns the response when its status is one of `expected`, and an error with an explanation otherwise.
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
            // The registry has dropped the upload. The next attempt begins a new one.
            StatusCode::NOT_FOUND if begun => {
                self.address = None;
                Failure::Again(error)
            }
            // `offset` is not what the registry has. The next attempt asks for it.
            StatusCode::RANGE_NOT_SATISFIABLE => Failure::Again(error),
            _ => Failure::of(status, error),
        })
    }

    /// Cancels the upload at the registry. Returns `error` unchanged.
    fn abandon(&mut self, error: PackError) -> PackError {
        if let Some(address) = self.address.take() {
            let _ = self.client.ask(Method::DELETE, &address, &[], Content::Nothing);
        }
        error
    }
}

/// The number of bytes that the registry has: N + 1 for `Range: 0-N`. `0-0` can mean no byte or one byte. It is read as
/// no byte, so the first byte is sent again.
fn received(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let end: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}
