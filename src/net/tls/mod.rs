//! TLS in the container, for boxes without a gateway: rustls on a socket that never blocks.
//!
//! TLS 1.2 and 1.3, with the `ring` provider. The stream keeps no socket of its own; whoever owns the
//! connection hands it in, so one thread owns everything and no lock is needed.

pub mod identity;
pub mod probe;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::ServerConnection;

pub use identity::{Identity, IdentityFiles};

/// Bytes that may wait, encrypted, for a peer that does not take them; then writes say `WouldBlock`.
const WRITE_BUFFER: usize = 64 << 10;

/// Reads from the socket without a byte for the caller (handshake messages, empty records) after which
/// the caller gets its turn: a peer can send such for ever.
const FRUITLESS: usize = 16;

/// One connection's TLS.
#[derive(Debug)]
pub struct TlsStream {
    tls: ServerConnection,
}

impl TlsStream {
    pub fn new(identity: &Identity) -> Result<TlsStream, String> {
        let mut tls = ServerConnection::new(identity.config()).map_err(|error| error.to_string())?;
        tls.set_buffer_limit(Some(WRITE_BUFFER));
        Ok(TlsStream { tls })
    }

    /// Goes a step on in the handshake; true when it is done and everything is sent. Errors:
    /// `WouldBlock`, `InvalidData` for what TLS refuses, others for a peer that went away.
    pub fn advance(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut ignored = 0;
        self.push(stream, &mut ignored)?;
        if !self.tls.is_handshaking() {
            return Ok(true);
        }
        self.fill(stream, &mut ignored, &mut 0)?;
        Ok(false)
    }

    /// Reads from the socket once.
    fn fill(&mut self, stream: &mut TcpStream, received: &mut u64, written: &mut u64) -> io::Result<()> {
        let count = self.tls.read_tls(stream)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *received += count as u64;
        if let Err(error) = self.tls.process_new_packets() {
            // The peer is told by the alert that is queued now.
            let _ = self.push(stream, written);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    /// Reads what the peer sent; 0 is its end. `Interrupted` when there is more to look at and nothing
    /// of it was for the caller so far.
    pub fn read(
        &mut self,
        stream: &mut TcpStream,
        buffer: &mut [u8],
        received: &mut u64,
        written: &mut u64,
    ) -> io::Result<usize> {
        for _ in 0..FRUITLESS {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without a goodbye: the protocols above tell when something is missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            match self.fill(stream, received, written) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            // TLS may owe an answer of its own.
            if self.tls.wants_write() {
                match self.push(stream, written) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Takes what there is room for, and sends as much of it as the peer takes.
    pub fn write(&mut self, stream: &mut TcpStream, bytes: &[u8], written: &mut u64) -> io::Result<usize> {
        let count = self.tls.writer().write(bytes)?;
        match self.push(stream, written) {
            Err(error) if count == 0 || error.kind() != ErrorKind::WouldBlock => Err(error),
            // There was no room, and now there is.
            Ok(()) if count == 0 => self.tls.writer().write(bytes),
            _ => Ok(count),
        }
    }

    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends what waits; `WouldBlock` when the peer does not take all of it.
    pub fn push(&mut self, stream: &mut TcpStream, written: &mut u64) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *written += count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
    }
}
