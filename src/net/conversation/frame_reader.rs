//! Reads the peer's frames on their way from the socket to tungstenite, and changes what tungstenite would handle badly.
//!
//! - **Large frames are cut into pieces.** tungstenite allocates a frame's declared length as soon as it has read the
//!   header, so a few bytes could take 16 MB. Here a data frame longer than `PIECE` becomes several fragments of that
//!   length (RFC 6455 section 5.4), and memory grows with the bytes that have arrived.
//! - **Messages are charged to the memory budget**, piece by piece. When the budget is used up, the message is refused:
//!   tungstenite gets its end at once, and the rest is discarded. [`FrameReader::arrived`] reports this, and the
//!   conversation answers with an error. The next message is not affected.
//! - **A close frame is held back** until the conversation has answered everything before it, because tungstenite writes
//!   nothing after it has seen a close.
//! - **Incomplete messages are watched:** when they began, for their deadline, and how many fragments they have.
//!
//! Here belongs only what needs the bytes of frames. tungstenite checks whether frames are valid; what this module does not
//! understand passes unchanged.
//!
//! Invariant: unless a message is refused, tungstenite reads the same messages as without this module.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

use self::message::Message;
use super::header::{Header, LONGEST};
use crate::config::Limits;
use crate::error::RequestError;
use crate::memory::{Budget, Share};

/// Bytes of payload in a piece. It is a multiple of four, so that each piece starts at the first byte of the masking key.
/// Memory for a piece is charged before its bytes arrive, so a header alone can claim this much.
const PIECE: u64 = 16 << 10;

/// Bytes that are charged for each message in addition to its payload.
pub const MESSAGE: usize = 128;

/// The state of the peer's stream of frames.
#[derive(Debug)]
pub struct FrameReader {
    /// The longest frame in bytes of payload.
    max_frame: u64,
    /// The most fragments of a message.
    max_fragments: usize,
    /// Bytes that were read and not passed on: those after the handshake, and incomplete headers.
    rest: Vec<u8>,
    /// How many bytes of `rest` are used.
    used: usize,
    /// The header that is arriving.
    header: Header,
    /// Bytes that are inserted: the header of a piece, or the end of a refused message.
    output: Header,
    /// How many bytes of `output` are passed on.
    passed: usize,
    frame: Frame,
    message: Message,
    /// The memory of the incomplete message.
    share: Share,
    /// Messages that were passed on completely and not yet taken by [`FrameReader::arrived`].
    arrived: VecDeque<Arrived>,
    close: Close,
    refused: Option<Refused>,
    /// When the incomplete message or frame began.
    since: Option<Instant>,
}

/// The frame whose payload is arriving.
#[derive(Debug, Default, Clone, Copy)]
struct Frame {
    is_final: bool,
    is_data: bool,
    mask: Option<[u8; 4]>,
    /// How many bytes of the payload have passed.
    at: u64,
    /// How many bytes of the payload are missing.
    left: u64,
    /// How many bytes of the current piece are missing.
    piece_left: u64,
}

/// A data message that was passed on to tungstenite up to its end.
#[derive(Debug)]
pub enum Arrived {
    /// The whole message, and its memory.
    Whole(Share),
    /// The budget had no memory for it, so it was cut short.
    Refused(RequestError),
}

/// The state of the peer's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// None has arrived.
    Awaited,
    /// It arrived at this time and is held back.
    Held(Instant),
    /// It may be passed on.
    Released,
}

/// Why the stream of frames was ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A message has too many fragments.
    Fragments,
    /// A control frame is longer than 125 bytes (RFC 6455 section 5.5). tungstenite would allocate memory for it before
    /// it refuses it.
    Control,
}

impl FrameReader {
    /// `already_read` holds bytes that were read after the handshake. A frame longer than the limit is not cut, so that
    /// tungstenite refuses it by its header.
    pub fn new(already_read: Vec<u8>, limits: &Limits, memory: &Arc<Budget>) -> FrameReader {
        FrameReader {
            max_frame: limits.max_frame_bytes.min(limits.max_message_bytes) as u64,
            max_fragments: limits.max_fragments,
            rest: already_read,
            used: 0,
            header: Header::default(),
            output: Header::default(),
            passed: 0,
            frame: Frame::default(),
            message: Message::default(),
            share: Share::none(memory),
            arrived: VecDeque::new(),
            close: Close::Awaited,
            refused: None,
            since: None,
        }
    }

    /// The reason for an `InvalidData` error of [`FrameReader::read`]; `None` when the error came from the source.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// When the incomplete message began; `None` when there is none.
    pub fn incomplete_since(&self) -> Option<Instant> {
        self.since
    }

    /// Takes the oldest data message that was passed on. Call it once for each data message that tungstenite returns.
    pub fn arrived(&mut self) -> Option<Arrived> {
        self.arrived.pop_front()
    }

    /// True when a part of a message has passed, or bytes wait here, in addition to what [`FrameReader::arrived`] returned.
    pub fn has_more(&self) -> bool {
        self.used < self.rest.len() || !self.arrived.is_empty() || self.since.is_some()
    }

    /// When the peer's close frame arrived, while it is held back.
    pub fn closing_since(&self) -> Option<Instant> {
        match self.close {
            Close::Held(since) => Some(since),
            Close::Awaited | Close::Released => None,
        }
    }

    /// Lets the close frame pass in the next read.
    pub fn release_close(&mut self) {
        self.close = Close::Released;
    }

    /// Reads from `source`, and writes what tungstenite must see to `out`. Returns the number of bytes; 0 is the end of the
    /// stream. `now` is asked when a message begins.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived or a close frame is held back; `InvalidData` for [`Refused`]; others from
    /// `source`.
    pub fn read(
        &mut self,
        source: &mut impl Read,
        out: &mut [u8],
        now: impl Fn() -> Instant,
    ) -> io::Result<usize> {
        loop {
            if self.closing_since().is_some() {
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.used < self.rest.len() || self.has_output() {
                let rest = std::mem::take(&mut self.rest);
                let result = self.pass(&rest[self.used..], out, &now);
                let (used, made) = result?;
                self.used += used;
                if self.used == rest.len() {
                    self.used = 0;
                } else {
                    self.rest = rest;
                }
                if made > 0 {
                    return Ok(made);
                }
                continue;
            }
            // Almost all bytes pass unchanged, so they are read directly into `out` and only inspected there. Only an
            // incomplete header must wait in `rest`.
            if self.header.length > 0 {
                let missing = self.header.needed() - self.header.length;
                let mut header = [0; LONGEST];
                let count = source.read(&mut header[..missing])?;
                if count == 0 {
                    return Ok(0);
                }
                self.rest.extend_from_slice(&header[..count]);
                continue;
            }
            let room = self.unchanged().min(out.len());
            let count = source.read(&mut out[..room])?;
            if count == 0 {
                return Ok(0);
            }
            let passed = self.follow(&out[..count], &now)?;
            self.rest.extend_from_slice(&out[passed..count]);
            if passed > 0 {
                return Ok(passed);
            }
        }
    }

    /// True when bytes must be inserted, or a whole header waits to be passed on.
    fn has_output(&self) -> bool {
        self.passed < self.output.length || self.is_between_pieces() || self.header.is_whole()
    }

    /// True when the header of the next piece must be inserted.
    fn is_between_pieces(&self) -> bool {
        self.frame.left > 0 && self.frame.piece_left == 0 && !self.discards()
    }

    /// True when the payload that arrives belongs to a refused message.
    fn discards(&self) -> bool {
        self.message.is_refused && self.frame.is_data && self.frame.left > 0
    }

    /// How many bytes may pass before something must be inserted.
    fn unchanged(&self) -> usize {
        if self.frame.left > self.frame.piece_left && !self.discards() {
            usize::try_from(self.frame.piece_left).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        }
    }

    /// Inspects bytes that may pass unchanged, and returns how many may: all before a frame that must be cut or held back,
    /// or before an incomplete header.
    fn follow(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.frame.piece_left > 0 {
                let most = usize::try_from(self.frame.piece_left).unwrap_or(usize::MAX);
                let count = most.min(bytes.len() - at);
                self.payload_passes(&bytes[at..at + count]);
                at += count;
                continue;
            }
            let mut header = Header::default();
            while header.length < header.needed() && at + header.length < bytes.len() {
                header.push(bytes[at + header.length]);
            }
            if !header.is_whole() || self.cuts(header) || header.is_close() || self.discards_next(header) {
                break;
            }
            self.check(header)?;
            if header.is_data() && self.charge(header).is_err() {
                // `pass_header` charges again and refuses the message; here nothing can be inserted.
                break;
            }
            at += header.length;
            self.since.get_or_insert_with(&now);
            self.begin_frame(header);
            self.frame.piece_left = self.frame.left;
            self.end_if_empty();
        }
        Ok(at)
    }

    /// True for the header of a frame that must be cut into pieces.
    fn cuts(&self, header: Header) -> bool {
        header.is_data() && header.payload() > PIECE && header.payload() <= self.max_frame
    }

    /// True for the header of another fragment of a refused message.
    fn discards_next(&self, header: Header) -> bool {
        self.message.is_refused && header.is_continuation() || self.discards()
    }

    /// Passes bytes from `input` to `out`, with all changes. Returns how many bytes of each were used.
    fn pass(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        now: impl Fn() -> Instant,
    ) -> io::Result<(usize, usize)> {
        let (mut used, mut made) = (0, 0);
        while made < out.len() {
            if self.passed < self.output.length {
                let rest = &self.output.bytes[self.passed..self.output.length];
                let count = rest.len().min(out.len() - made);
                out[made..made + count].copy_from_slice(&rest[..count]);
                self.passed += count;
                made += count;
            } else if self.discards() {
                let most = usize::try_from(self.frame.left).unwrap_or(usize::MAX);
                let count = most.min(input.len() - used);
                if count == 0 {
                    break;
                }
                used += count;
                self.frame.left -= count as u64;
                self.end_if_empty();
            } else if self.frame.piece_left > 0 {
                let most = usize::try_from(self.frame.piece_left).unwrap_or(usize::MAX);
                let count = most.min(out.len() - made).min(input.len() - used);
                if count == 0 {
                    break;
                }
                out[made..made + count].copy_from_slice(&input[used..used + count]);
                self.payload_passes(&input[used..used + count]);
                (used, made) = (used + count, made + count);
            } else if self.frame.left > 0 {
                self.announce_piece();
            } else if self.header.is_whole() {
                // While a close frame is held, nothing is read. So the bytes before it are returned first.
                if made > 0 && self.header.is_close() && self.close == Close::Awaited {
                    break;
                }
                if !self.pass_header(&now)? {
                    break;
                }
            } else if used < input.len() {
                self.header.push(input[used]);
                used += 1;
                self.since.get_or_insert_with(&now);
            } else {
                break;
            }
        }
        Ok((used, made))
    }

    /// Begins the frame whose header is whole. Returns false when it is a close frame that is held back.
    fn pass_header(&mut self, now: impl Fn() -> Instant) -> io::Result<bool> {
        let header = self.header;
        self.check(header)?;
        if header.is_close() && self.close == Close::Awaited {
            self.close = Close::Held(now());
            if !self.message.is_open {
                self.since = None;
            }
            return Ok(false);
        }
        // A released close frame begins now, and its payload may still be missing.
        self.since.get_or_insert_with(&now);
        self.header = Header::default();
        if self.discards_next(header) {
            self.begin_frame(header);
        } else {
            match if header.is_data() { self.charge(header) } else { Ok(()) } {
                Ok(()) => {
                    self.begin_frame(header);
                    if self.cuts(header) {
                        // The first piece keeps the opcode and the reserved bits, without the final bit.
                        self.insert(Header::fragment(header.first_of_several(), PIECE, header.mask()));
                        self.frame.piece_left = PIECE;
                    } else {
                        self.insert(header);
                        self.frame.piece_left = self.frame.left;
                    }
                }
                Err(error) => {
                    let has_begun = header.is_continuation();
                    self.begin_frame(header);
                    self.refuse(error, (!has_begun).then_some(header.bytes[0]));
                }
            }
        }
        self.end_if_empty();
        Ok(true)
    }

    /// Inserts the bytes of `header`.
    fn insert(&mut self, header: Header) {
        (self.output, self.passed) = (header, 0);
    }

    /// Refuses too many fragments and too long control frames.
    fn check(&mut self, header: Header) -> io::Result<()> {
        if header.is_data() {
            let fragments = if self.message.is_open { self.message.fragments + 1 } else { 1 };
            if fragments > self.max_fragments {
                self.refused = Some(Refused::Fragments);
                let message = format!("a message may have {} fragments", self.max_fragments);
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        } else if header.payload() > 125 {
            self.refused = Some(Refused::Control);
            return Err(io::Error::new(ErrorKind::InvalidData, "a control frame may have 125 bytes"));
        }
        Ok(())
    }

    /// Charges the memory of a data frame, or of its first piece.
    fn charge(&mut self, header: Header) -> Result<(), RequestError> {
        // tungstenite refuses a frame that is too long by its header, and keeps no payload.
        let payload = if header.payload() > self.max_frame { 0 } else { header.payload().min(PIECE) };
        let message = if header.is_continuation() { 0 } else { MESSAGE };
        self.share.grow(message + payload as usize)
    }

    /// Records that the payload of a frame follows.
    fn begin_frame(&mut self, header: Header) {
        self.frame = Frame {
            is_final: header.is_final(),
            is_data: header.is_data(),
            mask: header.mask(),
            left: header.payload(),
            ..Frame::default()
        };
        if header.is_data() {
            if !header.is_continuation() {
                self.message = Message { is_text: header.is_text(), ..Message::default() };
            }
            self.message.is_open = true;
            self.message.fragments += 1;
        }
    }

    /// Inserts the header of the next piece of a frame, which is a continuation.
    fn announce_piece(&mut self) {
        let length = self.frame.left.min(PIECE);
        if let Err(error) = self.share.grow(length as usize) {
            return self.refuse(error, None);
        }
        let is_last = length == self.frame.left && self.frame.is_final;
        self.insert(Header::fragment(if is_last { 0x80 } else { 0 }, length, self.frame.mask));
        self.frame.piece_left = length;
    }

    /// Ends the message for tungstenite, and discards the rest of it. `first` is the first byte of the message's header when
    /// tungstenite has not seen it, and `None` when it has.
    fn refuse(&mut self, error: RequestError, first: Option<u8>) {
        self.share.shrink(usize::MAX);
        self.arrived.push_back(Arrived::Refused(error));
        self.message.is_refused = true;
        self.frame.piece_left = 0;
        let mask = self.frame.mask;
        let padding = if first.is_none() && self.message.is_text { self.message.padding() } else { &[] };
        let mut end = Header::short(first.unwrap_or(0) | 0x80, padding.len() as u8, mask);
        for (at, byte) in padding.iter().enumerate() {
            end.push(byte ^ mask.map_or(0, |mask| mask[at % 4]));
        }
        self.insert(end);
    }

    /// Records payload bytes that pass.
    fn payload_passes(&mut self, bytes: &[u8]) {
        if self.frame.is_data {
            self.message.passes(bytes, self.frame.at, self.frame.mask);
        }
        self.frame.at += bytes.len() as u64;
        self.frame.left -= bytes.len() as u64;
        self.frame.piece_left -= bytes.len() as u64;
        self.end_if_empty();
    }

    /// Ends the frame, and maybe the message, when no payload is missing.
    fn end_if_empty(&mut self) {
        if self.frame.left > 0 {
            return;
        }
        if self.frame.is_data && self.frame.is_final && self.message.is_open {
            if !self.message.is_refused {
                self.arrived.push_back(Arrived::Whole(self.share.take()));
            }
            self.message = Message::default();
        }
        if !self.message.is_open {
            self.since = None;
        }
    }
}

mod message;
#[cfg(test)]
mod tests;
