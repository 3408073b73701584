//! TLS 1.2 and 1.3 for servers without a gateway in front: rustls with the `ring` provider, on a socket that never blocks.
//!
//! Here belong the TLS state of one connection, the server's certificate ([`identity`]) and a client for probes
//! ([`probe`]). Deadlines and sleeping are in [`super::socket`].
//!
//! Invariant: the TLS state does not own the socket. Each call gets it from the connection, so one thread owns both and no
//! lock is needed.

pub mod identity;
pub mod probe;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::ServerConnection;

pub use identity::{Identity, IdentityFiles};

/// The most encrypted bytes that wait for a slow peer. When they are used up, writes return `WouldBlock`.
const WRITE_BUFFER: usize = 64 << 10;

/// After this many reads from the socket that gave no byte to the caller, `read` returns. A peer could otherwise send
/// handshake messages or empty records without end and keep the thread busy.
const FRUITLESS: usize = 16;

/// The TLS state of one connection.
#[derive(Debug)]
pub struct TlsStream {
    tls: ServerConnection,
}

impl TlsStream {
    /// # Errors
    /// What rustls says, as a sentence for the log.
    pub fn new(identity: &Identity) -> Result<TlsStream, String> {
        let mut tls = ServerConnection::new(identity.config()).map_err(|error| error.to_string())?;
        tls.set_buffer_limit(Some(WRITE_BUFFER));
        Ok(TlsStream { tls })
    }

    /// Makes one step of the handshake. Returns true when the handshake is complete and all its bytes are sent.
    ///
    /// # Errors
    /// `WouldBlock` when the socket must become ready first; `InvalidData` when TLS refuses the peer; others when the peer
    /// went away.
    pub fn advance(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut ignored = 0;
        self.push(stream, &mut ignored)?;
        if !self.tls.is_handshaking() {
            return Ok(true);
        }
        self.fill(stream, &mut ignored, &mut 0)?;
        Ok(false)
    }

    /// Reads from the socket once and processes the records.
    fn fill(&mut self, stream: &mut TcpStream, received: &mut u64, written: &mut u64) -> io::Result<()> {
        let count = self.tls.read_tls(stream)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *received += count as u64;
        if let Err(error) = self.tls.process_new_packets() {
            // rustls has queued an alert that tells the peer the reason.
            let _ = self.push(stream, written);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    /// Reads decrypted bytes; 0 is the end of the stream. `received` and `written` count encrypted bytes.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived; `Interrupted` when many records were read but none had bytes for the caller;
    /// `InvalidData` when TLS refuses a record.
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
                // The stream ended without `close_notify`. HTTP and WebSocket notice when something is missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            match self.fill(stream, received, written) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            // TLS may have to answer, for example with a key update.
            if self.tls.wants_write() {
                match self.push(stream, written) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Encrypts as many of `bytes` as there is room for, and sends as much as the socket takes. Returns how many of
    /// `bytes` were used. `written` counts encrypted bytes.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room.
    pub fn write(&mut self, stream: &mut TcpStream, bytes: &[u8], written: &mut u64) -> io::Result<usize> {
        let count = self.tls.writer().write(bytes)?;
        match self.push(stream, written) {
            Err(error) if count == 0 || error.kind() != ErrorKind::WouldBlock => Err(error),
            // There was no room before the push, and now there is.
            Ok(()) if count == 0 => self.tls.writer().write(bytes),
            _ => Ok(count),
        }
    }

    /// True when encrypted bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends the encrypted bytes that wait. `written` counts them.
    ///
    /// # Errors
    /// `WouldBlock` when the socket does not take all of them.
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

    /// Queues the `close_notify` alert (RFC 8446 section 6.1).
    pub fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
    }
}
