//! What a peer sends, on its way from the socket to tungstenite: followed frame by frame, and large
//! frames cut into pieces.
//!
//! tungstenite reserves a frame's declared length when it has read the header, and keeps the buffer for
//! as long as the conversation lives: sixteen bytes would take sixteen megabytes. Here a data frame
//! longer than `PIECE` becomes fragments of that length (RFC 6455 section 5.4; the masking key goes
//! round in four bytes, so it stays the same for pieces that are multiples of four). Memory then grows
//! with what has come, and is given back with the message.
//!
//! Following the frames also tells when a message began that has not ended, which is what its deadline
//! counts from, and of how many fragments it is made. Whether a frame is right is tungstenite's to say:
//! what is not understood here passes unchanged.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use crate::net::socket::Socket;

/// Bytes of payload in a piece; a multiple of four.
const PIECE: u64 = 64 << 10;

/// The longest header of a frame.
const HEADER: usize = 14;

/// The stream that tungstenite reads and writes.
#[derive(Debug)]
pub struct Inflow {
    socket: Socket,
    frames: Frames,
}

impl Inflow {
    /// `already_read` is what came behind the handshake; a frame longer than `max_frame` is left whole,
    /// to be refused by its header.
    pub fn new(socket: Socket, already_read: Vec<u8>, max_frame: usize, max_fragments: usize) -> Inflow {
        let max_frame = max_frame as u64;
        Inflow {
            socket,
            frames: Frames { max_frame, max_fragments, rest: already_read, ..Frames::default() },
        }
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// What was refused here, by an error `InvalidData`.
    pub fn refused(&self) -> Option<Refused> {
        self.frames.refused
    }

    /// Since when a message is under way that has not ended.
    pub fn incomplete_since(&self) -> Option<Instant> {
        self.frames.since
    }
}

impl Read for Inflow {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let clock = self.socket.clock().clone();
        self.frames.read(&mut self.socket, out, || clock.now())
    }
}

impl Write for Inflow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
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

/// Where the stream of frames stands.
#[derive(Debug, Default)]
struct Frames {
    max_frame: u64,
    max_fragments: usize,
    /// Read and not passed on yet: what came behind the handshake, and headers that are not whole.
    rest: Vec<u8>,
    used: usize,
    /// The header that is being gathered.
    header: Gathered,
    /// A header to be passed on.
    output: Gathered,
    /// The frame whose payload is passing.
    frame: Frame,
    /// Payload bytes left of the frame, and of the piece that was announced last.
    frame_left: u64,
    piece_left: u64,
    /// A data message has begun and its last fragment has not come; the fragments so far.
    open: bool,
    fragments: usize,
    refused: Option<Refused>,
    since: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Gathered {
    bytes: [u8; HEADER],
    length: usize,
    /// Of an output: how much is passed on.
    passed: usize,
}

/// What of a frame's header its pieces need.
#[derive(Debug, Default, Clone, Copy)]
struct Frame {
    is_final: bool,
    is_data: bool,
    mask: Option<[u8; 4]>,
}

impl Frames {
    /// Reads from `source` what is to be passed on.
    fn read(
        &mut self,
        source: &mut impl Read,
        out: &mut [u8],
        now: impl Fn() -> Instant,
    ) -> io::Result<usize> {
        loop {
            if self.used < self.rest.len() || self.has_output() {
                let rest = std::mem::take(&mut self.rest);
                let (used, made) = self.pass(&rest[self.used..], out, &now)?;
                self.used += used;
                if self.used == rest.len() {
                    self.used = 0;
                } else {
                    self.rest = rest;
                }
                if made > 0 {
                    return Ok(made);
                }
            }
            // Almost all bytes pass as they are, so they are read to where they go, and only looked at.
            // Just a header that is not whole yet has to wait here.
            if let Some(missing) = self.missing_header() {
                let mut header = [0; HEADER];
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

    fn has_output(&self) -> bool {
        self.output.passed < self.output.length || self.frame_left > 0 && self.piece_left == 0
    }

    /// How many bytes of a header that has begun are known to be missing.
    fn missing_header(&self) -> Option<usize> {
        (self.header.length > 0).then(|| self.header.needed() - self.header.length)
    }

    /// How many bytes may come before something has to be put in between.
    fn unchanged(&self) -> usize {
        if self.frame_left > self.piece_left {
            usize::try_from(self.piece_left).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        }
    }

    /// Looks at bytes that pass as they are, and says how many of them may: up to a frame that is to be
    /// cut, or a header that is not whole.
    fn follow(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.piece_left > 0 {
                let most = usize::try_from(self.piece_left).unwrap_or(usize::MAX);
                let count = most.min(bytes.len() - at);
                at += count;
                self.payload_passed(count);
                continue;
            }
            let mut header = Gathered::default();
            while header.length < header.needed() && at + header.length < bytes.len() {
                header.bytes[header.length] = bytes[at + header.length];
                header.length += 1;
            }
            if header.length < header.needed() || self.cuts(header) {
                break;
            }
            at += header.length;
            self.since.get_or_insert_with(&now);
            self.header = header;
            self.begin_frame()?;
            // It has passed already.
            self.output = Gathered::default();
        }
        Ok(at)
    }

    fn payload_passed(&mut self, count: usize) {
        self.piece_left -= count as u64;
        self.frame_left -= count as u64;
        if self.frame_left == 0 {
            self.end_frame();
        }
    }

    /// True for the header of a frame that goes on in pieces.
    fn cuts(&self, header: Gathered) -> bool {
        header.is_data() && header.payload() > PIECE && header.payload() <= self.max_frame
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
            if self.output.passed < self.output.length {
                let rest = &self.output.bytes[self.output.passed..self.output.length];
                let count = rest.len().min(out.len() - made);
                out[made..made + count].copy_from_slice(&rest[..count]);
                self.output.passed += count;
                made += count;
            } else if self.piece_left > 0 {
                let most = usize::try_from(self.piece_left).unwrap_or(usize::MAX);
                let count = most.min(out.len() - made).min(input.len() - used);
                if count == 0 {
                    break;
                }
                out[made..made + count].copy_from_slice(&input[used..used + count]);
                (used, made) = (used + count, made + count);
                self.payload_passed(count);
            } else if self.frame_left > 0 {
                self.announce_piece();
            } else if used < input.len() {
                self.header.bytes[self.header.length] = input[used];
                self.header.length += 1;
                used += 1;
                self.since.get_or_insert_with(&now);
                if self.header.length == self.header.needed() {
                    self.begin_frame()?;
                }
            } else {
                break;
            }
        }
        Ok((used, made))
    }

    fn begin_frame(&mut self) -> io::Result<()> {
        let header = std::mem::take(&mut self.header);
        let (first, length) = (header.bytes[0], header.payload());
        let masked = header.bytes[1] & 0x80 != 0;
        let key = masked.then(|| header.bytes[header.length - 4..header.length].try_into().ok()).flatten();
        self.frame = Frame { is_final: first & 0x80 != 0, is_data: header.is_data(), mask: key };
        if self.frame.is_data {
            self.fragments = if self.open { self.fragments + 1 } else { 1 };
            self.open = true;
            if self.fragments > self.max_fragments {
                self.refused = Some(Refused::Fragments);
                let message = format!("a message may have {} fragments", self.max_fragments);
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        }
        if !self.frame.is_data && length > 125 {
            self.refused = Some(Refused::Control);
            return Err(io::Error::new(ErrorKind::InvalidData, "a control frame may have 125 bytes"));
        }
        self.frame_left = length;
        if self.cuts(header) {
            // The reserved bits go with the first piece, which is not the last.
            self.output = piece_header(first & 0x7f, PIECE, self.frame.mask);
            self.piece_left = PIECE;
        } else {
            self.output = header;
            self.piece_left = length;
        }
        if length == 0 {
            self.end_frame();
        }
        Ok(())
    }

    /// The header of the next piece of a frame: a continuation.
    fn announce_piece(&mut self) {
        let length = self.frame_left.min(PIECE);
        let is_last = length == self.frame_left && self.frame.is_final;
        self.output = piece_header(if is_last { 0x80 } else { 0 }, length, self.frame.mask);
        self.piece_left = length;
    }

    fn end_frame(&mut self) {
        if self.frame.is_data && self.frame.is_final {
            self.open = false;
        }
        if !self.open {
            self.since = None;
        }
    }
}

impl Gathered {
    /// Bytes of the header, as far as the ones that are there tell (RFC 6455 section 5.2).
    fn needed(&self) -> usize {
        if self.length < 2 {
            return 2;
        }
        let extended = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.bytes[1] & 0x80 != 0 { 4 } else { 0 }
    }

    /// Text, binary or their continuation.
    fn is_data(&self) -> bool {
        self.bytes[0] & 0x0f <= 2
    }

    /// The payload's length that a whole header declares.
    fn payload(&self) -> u64 {
        match self.bytes[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.bytes[2], self.bytes[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.bytes[2..10]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        }
    }
}

fn piece_header(first: u8, length: u64, mask: Option<[u8; 4]>) -> Gathered {
    let mut header = Gathered::default();
    header.bytes[0] = first;
    header.bytes[1] = 127 | if mask.is_some() { 0x80 } else { 0 };
    header.bytes[2..10].copy_from_slice(&length.to_be_bytes());
    header.length = 10;
    if let Some(mask) = mask {
        header.bytes[10..14].copy_from_slice(&mask);
        header.length = 14;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Message, WebSocket};

    /// Bytes in portions, through the frames.
    struct Source {
        bytes: Portions,
        frames: Frames,
    }

    struct Portions {
        bytes: Vec<u8>,
        at: usize,
        portion: usize,
    }

    impl Read for Portions {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.portion.min(out.len()).min(self.bytes.len() - self.at);
            out[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Read for Source {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.frames.read(&mut self.bytes, out, Instant::now)
        }
    }

    impl Write for Source {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn frames() -> Frames {
        Frames { max_frame: 1 << 20, max_fragments: 100, ..Frames::default() }
    }

    fn messages(bytes: Vec<u8>, portion: usize) -> Vec<Message> {
        let config = WebSocketConfig::default().max_frame_size(Some(PIECE as usize)).read_buffer_size(1000);
        let source = Source { bytes: Portions { bytes, at: 0, portion }, frames: frames() };
        let mut ws = WebSocket::from_raw_socket(source, Role::Server, Some(config));
        std::iter::from_fn(|| ws.read().ok()).collect()
    }

    #[test]
    fn messages_are_the_same_whatever_the_size_of_frames_and_portions() {
        let payload: Vec<u8> = (0..300_001u32).map(|at| (at * 7 % 251) as u8).collect();
        let text = "é".repeat(100_000);
        let bytes = [
            frame(OpCode::Data(Data::Binary), true, &payload),
            frame(OpCode::Data(Data::Text), false, &text.as_bytes()[..70_001]),
            frame(OpCode::Control(Control::Ping), true, b"in between"),
            frame(OpCode::Data(Data::Continue), true, &text.as_bytes()[70_001..]),
            frame(OpCode::Data(Data::Binary), true, &payload[..PIECE as usize]),
            frame(OpCode::Data(Data::Binary), true, b""),
        ]
        .concat();
        let expected = [
            Message::binary(payload.clone()),
            Message::Ping(b"in between".to_vec().into()),
            Message::text(text),
            Message::binary(payload[..PIECE as usize].to_vec()),
            Message::binary(vec![]),
        ];
        for portion in [1, 2, 3, 5, 7, 13, 14, 100, 1000, 1001, 1 << 20] {
            assert!(messages(bytes.clone(), portion) == expected, "portions of {portion}");
        }
    }

    #[test]
    fn it_is_known_when_a_message_is_under_way() {
        let mut frames = frames();
        let mut out = [0; 4096];
        let mut pass = |bytes: &[u8]| {
            frames.pass(bytes, &mut out, Instant::now).unwrap();
            frames.since.is_some()
        };
        let text = frame(OpCode::Data(Data::Text), false, b"abc");
        assert!(pass(&text[..1]), "from the first byte on");
        assert!(pass(&text[1..]));
        assert!(pass(&frame(OpCode::Control(Control::Ping), true, b"")), "a ping in between does not end it");
        assert!(!pass(&frame(OpCode::Data(Data::Continue), true, b"d")));
        let ping = frame(OpCode::Control(Control::Ping), true, b"x");
        assert!(pass(&ping[..3]));
        assert!(!pass(&ping[3..]));
    }

    #[test]
    fn fragments_without_end_have_an_end() {
        let mut frames = frames();
        let mut out = [0; 4096];
        frames.pass(&frame(OpCode::Data(Data::Text), false, b""), &mut out, Instant::now).unwrap();
        let fragment = frame(OpCode::Data(Data::Continue), false, b"");
        let passed = (0..200).take_while(|_| frames.pass(&fragment, &mut out, Instant::now).is_ok()).count();
        assert_eq!(passed, 99);
    }
}
