//! What a peer sends, on its way from the socket to tungstenite, followed frame by frame.
//!
//! - **Large frames are cut into pieces.** tungstenite reserves a frame's declared length when it has read the header:
//!   sixteen bytes would take sixteen megabytes. Here a data frame longer than `PIECE` becomes fragments of that length
//!   (RFC 6455 section 5.4). Memory then grows with what has come.
//! - **Messages take their memory from the budget** as they come, a piece at a time. When it is used up, tungstenite gets
//!   the message's end at once, and the rest of it is thrown away. [`FrameReader::arrived`] says so, and the conversation
//!   answers `overloaded`; the stream of frames stays whole.
//! - **A close frame is held back** until the conversation has answered what came before it: tungstenite writes nothing
//!   more once it has seen a close.
//! - It is known when a message began that has not ended, which its deadline counts from, and of how many fragments it is
//!   made.
//!
//! Whether a frame is right is tungstenite's to say: what is not understood here passes unchanged.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

use self::message::Message;
use super::header::{Header, LONGEST};
use crate::config::Limits;
use crate::error::RequestError;
use crate::memory::{Budget, Share};

/// Bytes of payload in a piece; a multiple of four, so that the masking key begins anew with each. A piece's memory is
/// taken before it has come, so this is what a header alone can claim.
const PIECE: u64 = 16 << 10;

/// Bytes that a message takes beside its payload, however short it is.
pub const MESSAGE: usize = 128;

/// Where the stream of frames stands.
#[derive(Debug)]
pub struct FrameReader {
    max_frame: u64,
    max_fragments: usize,
    /// Read and not passed on yet: what came behind the handshake, and headers that are not whole.
    rest: Vec<u8>,
    used: usize,
    /// The header that is being gathered.
    header: Header,
    /// What is put in between: the header of a piece, or the end of a message that is refused.
    output: Header,
    /// How much of it is passed on.
    passed: usize,
    frame: Frame,
    message: Message,
    /// The memory of the message under way.
    share: Share,
    /// The messages whose last byte has been passed on.
    arrived: VecDeque<Arrived>,
    close: Close,
    refused: Option<Refused>,
    /// Since when something is under way that has not ended.
    since: Option<Instant>,
}

/// The frame whose payload is passing.
#[derive(Debug, Default, Clone, Copy)]
struct Frame {
    is_final: bool,
    is_data: bool,
    mask: Option<[u8; 4]>,
    /// Payload bytes that have come, and that are left, of the frame; and that are left of the piece that was announced
    /// last.
    at: u64,
    left: u64,
    piece_left: u64,
}

/// A data message that tungstenite has got whole.
#[derive(Debug)]
pub enum Arrived {
    Whole(Share),
    /// There was no memory for it, so it is not all there.
    Refused(RequestError),
}

/// The peer's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Awaited,
    Held(Instant),
    Released,
}

/// What of a peer's frames is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many fragments of a message.
    Fragments,
    /// A control frame that is longer than one may be (RFC 6455 section 5.5). tungstenite would take memory
    /// for all of it first.
    Control,
}

impl FrameReader {
    /// `already_read` is what came behind the handshake; a frame longer than the limit is left whole, to be refused by
    /// its header.
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

    /// What was refused here, by an error `InvalidData`.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Since when a message is under way that has not ended.
    pub fn incomplete_since(&self) -> Option<Instant> {
        self.since
    }

    /// The oldest data message that was passed on and not asked for yet; they come in the order of the messages.
    pub fn arrived(&mut self) -> Option<Arrived> {
        self.arrived.pop_front()
    }

    /// Since when a close frame of the peer is held back.
    pub fn closing_since(&self) -> Option<Instant> {
        match self.close {
            Close::Held(since) => Some(since),
            Close::Awaited | Close::Released => None,
        }
    }

    /// Lets a close frame pass.
    pub fn release_close(&mut self) {
        self.close = Close::Released;
    }

    /// Reads from `source` what is to be passed on.
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
            // Almost all bytes pass as they are, so they are read to where they go, and only looked at.
            // Just a header that is not whole yet has to wait here.
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

    /// Something is to be put in, or a whole header waits to be passed on.
    fn has_output(&self) -> bool {
        self.passed < self.output.length || self.is_between_pieces() || self.header.is_whole()
    }

    fn is_between_pieces(&self) -> bool {
        self.frame.left > 0 && self.frame.piece_left == 0 && !self.throws_away()
    }

    /// The payload that comes is that of a message without memory.
    fn throws_away(&self) -> bool {
        self.message.is_refused && self.frame.is_data && self.frame.left > 0
    }

    /// How many bytes may come before something has to be put in between.
    fn unchanged(&self) -> usize {
        if self.frame.left > self.frame.piece_left && !self.throws_away() {
            usize::try_from(self.frame.piece_left).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        }
    }

    /// Looks at bytes that pass as they are, and says how many of them may: up to a frame that is to be
    /// cut or held back, or a header that is not whole.
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
            if !header.is_whole() || self.cuts(header) || header.is_close() || self.throws_away_next(header) {
                break;
            }
            self.check(header)?;
            if header.is_data() && self.charge(header).is_err() {
                // It is refused where something can be put in.
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

    /// True for the header of a frame that goes on in pieces.
    fn cuts(&self, header: Header) -> bool {
        header.is_data() && header.payload() > PIECE && header.payload() <= self.max_frame
    }

    /// True for the header of a further fragment of a message that is refused.
    fn throws_away_next(&self, header: Header) -> bool {
        self.message.is_refused && header.is_continuation() || self.throws_away()
    }

    /// Passes on what it can: bytes used of `input`, bytes made of `out`.
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
            } else if self.throws_away() {
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
                // What came before a close is taken before the close counts as held: nothing is read after that.
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

    /// Begins the frame whose header is whole. False when it is held back.
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
        // A close frame has waited, and its payload may still be to come.
        self.since.get_or_insert_with(&now);
        self.header = Header::default();
        if self.throws_away_next(header) {
            self.begin_frame(header);
        } else {
            match if header.is_data() { self.charge(header) } else { Ok(()) } {
                Ok(()) => {
                    self.begin_frame(header);
                    if self.cuts(header) {
                        // The reserved bits go with the first piece, which is not the last.
                        self.put_in(Header::fragment(header.first_of_several(), PIECE, header.mask()));
                        self.frame.piece_left = PIECE;
                    } else {
                        self.put_in(header);
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

    fn put_in(&mut self, header: Header) {
        (self.output, self.passed) = (header, 0);
    }

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

    /// Takes the memory of a data frame, or of its first piece.
    fn charge(&mut self, header: Header) -> Result<(), RequestError> {
        // A frame that is too long is refused by its header, and nothing of it is kept.
        let payload = if header.payload() > self.max_frame { 0 } else { header.payload().min(PIECE) };
        let message = if header.is_continuation() { 0 } else { MESSAGE };
        self.share.grow(message + payload as usize)
    }

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

    /// The header of the next piece of a frame: a continuation.
    fn announce_piece(&mut self) {
        let length = self.frame.left.min(PIECE);
        if let Err(error) = self.share.grow(length as usize) {
            return self.refuse(error, None);
        }
        let is_last = length == self.frame.left && self.frame.is_final;
        self.put_in(Header::fragment(if is_last { 0x80 } else { 0 }, length, self.frame.mask));
        self.frame.piece_left = length;
    }

    /// Ends the message for tungstenite, whose `first` byte it has not seen, or which has begun. What still comes of it
    /// is thrown away.
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
        self.put_in(end);
    }

    fn payload_passes(&mut self, bytes: &[u8]) {
        if self.frame.is_data {
            self.message.passes(bytes, self.frame.at, self.frame.mask);
        }
        self.frame.at += bytes.len() as u64;
        self.frame.left -= bytes.len() as u64;
        self.frame.piece_left -= bytes.len() as u64;
        self.end_if_empty();
    }

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
