//! Tests of the frame reader, alone or with tungstenite after it: pieces, memory and close frames.
//!
//! Whole conversations are tested in `conversation::tests`.

use std::io::Write;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::*;
use crate::error::Code;

/// A stream that arrives in portions and passes through the frame reader.
struct Source {
    bytes: Portions,
    frames: FrameReader,
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

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const CLOSE: OpCode = OpCode::Control(Control::Close);

fn frames(budget: usize) -> FrameReader {
    let limits = Limits { max_frame_bytes: 1 << 20, max_fragments: 100, ..Limits::default() };
    FrameReader::new(vec![], &limits, &Budget::new(budget))
}

fn websocket(bytes: Vec<u8>, portion: usize, frames: FrameReader) -> WebSocket<Source> {
    let config = WebSocketConfig::default().max_frame_size(Some(PIECE as usize)).read_buffer_size(1000);
    let source = Source { bytes: Portions { bytes, at: 0, portion }, frames };
    WebSocket::from_raw_socket(source, Role::Server, Some(config))
}

const PORTIONS: [usize; 11] = [1, 2, 3, 5, 7, 13, 14, 100, 1000, 1001, 1 << 20];

#[test]
fn messages_are_the_same_for_any_size_of_frames_and_portions() {
    let payload: Vec<u8> = (0..300_001u32).map(|at| (at * 7 % 251) as u8).collect();
    let text = "é".repeat(100_000);
    let bytes = [
        frame(BINARY, true, &payload),
        frame(TEXT, false, &text.as_bytes()[..70_001]),
        frame(PING, true, b"in between"),
        frame(CONTINUE, true, &text.as_bytes()[70_001..]),
        frame(BINARY, true, &payload[..PIECE as usize]),
        frame(BINARY, true, b""),
    ]
    .concat();
    let expected = [
        Message::binary(payload.clone()),
        Message::Ping(b"in between".to_vec().into()),
        Message::text(text),
        Message::binary(payload[..PIECE as usize].to_vec()),
        Message::binary(vec![]),
    ];
    for portion in PORTIONS {
        let mut ws = websocket(bytes.clone(), portion, frames(1 << 20));
        let messages: Vec<Message> = std::iter::from_fn(|| ws.read().ok()).collect();
        assert!(messages == expected, "portions of {portion}");
        let frames = &mut ws.get_mut().frames;
        let arrived: Vec<usize> = std::iter::from_fn(|| frames.arrived())
            .map(|arrived| match arrived {
                Arrived::Whole(share) => share.bytes(),
                Arrived::Refused(error) => panic!("{error}"),
            })
            .collect();
        let taken = [300_001, 200_000, PIECE as usize, 0].map(|length| length + MESSAGE);
        assert_eq!(arrived, taken, "each message has its own memory");
    }
}

/// What tungstenite and the conversation see of a stream under a budget: each message's length, or `None` when it was
/// refused. Pings are left out.
fn seen(bytes: &[u8], portion: usize, budget: usize) -> Vec<Option<usize>> {
    let mut ws = websocket(bytes.to_vec(), portion, frames(budget));
    let mut seen = Vec::new();
    loop {
        match ws.read() {
            Ok(Message::Ping(_)) => {}
            Ok(message) => seen.push(match ws.get_mut().frames.arrived() {
                Some(Arrived::Whole(share)) => {
                    assert_eq!(share.bytes(), message.len() + MESSAGE);
                    Some(message.len())
                }
                Some(Arrived::Refused(_)) => None,
                None => panic!("a message without a report of its arrival"),
            }),
            Err(tungstenite::Error::Protocol(_)) => return seen,
            Err(error) => panic!("portions of {portion}, budget of {budget}: {error}"),
        }
    }
}

#[test]
fn a_message_without_memory_is_refused_and_the_next_message_is_complete() {
    // Characters of one to four bytes, so that the budgets cut the text inside characters.
    let text = "aé€😀".repeat(5000);
    let (bytes, length) = (text.as_bytes(), text.len());
    let stream = [
        frame(TEXT, true, bytes),
        frame(TEXT, true, b"ok"),
        frame(TEXT, false, &bytes[..7]),
        frame(PING, true, b""),
        frame(CONTINUE, false, &bytes[7..20_003]),
        frame(CONTINUE, false, b""),
        frame(CONTINUE, true, &bytes[20_003..]),
        frame(BINARY, true, b"fine"),
    ]
    .concat();
    let whole = vec![Some(length), Some(2), Some(length), Some(4)];
    let refused = vec![None, Some(2), None, Some(4)];
    for portion in PORTIONS {
        assert_eq!(seen(&stream, portion, length + MESSAGE), whole, "portions of {portion}");
        for budget in [MESSAGE + 4, MESSAGE + 7, PIECE as usize + MESSAGE, length + MESSAGE - 1] {
            assert_eq!(seen(&stream, portion, budget), refused, "portions of {portion}, budget of {budget}");
        }
    }
}

#[test]
fn the_padding_completes_a_text_that_is_cut_inside_any_character() {
    for text in ["a", "é", "ࠀ", "€", "\u{d7ff}", "𐀀", "😀", "\u{10ffff}"] {
        for cut in 0..=text.len() {
            let mut message = super::Message::default();
            message.passes(&[b"xyz", &text.as_bytes()[..cut]].concat(), 0, None);
            let completed = [&text.as_bytes()[..cut], message.padding()].concat();
            assert!(std::str::from_utf8(&completed).is_ok(), "{text} cut at {cut}: {completed:x?}");
        }
    }
}

#[test]
fn a_header_alone_claims_at_most_the_memory_of_one_piece() {
    let mut frames = frames(1 << 20);
    let header = &frame(BINARY, true, &[0; 1 << 20])[..14];
    frames.pass(header, &mut [0; 100], Instant::now).unwrap();
    assert_eq!(frames.share.bytes(), PIECE as usize + MESSAGE);
}

#[test]
fn memory_is_given_back_when_a_message_is_refused() {
    let budget = Budget::new(PIECE as usize + MESSAGE);
    let mut frames = FrameReader::new(vec![], &Limits::default(), &budget);
    let mut source = Portions { bytes: frame(BINARY, true, &[0; 100_000]), at: 0, portion: 1000 };
    while frames.read(&mut source, &mut [0; 1000], Instant::now).unwrap() > 0 {}
    let Some(Arrived::Refused(error)) = frames.arrived() else { panic!("it was refused") };
    assert_eq!((error.code, budget.used()), (Code::TooLarge, 0));
}

#[test]
fn a_close_is_held_back_until_it_is_released_but_messages_before_it_pass() {
    let bytes =
        [frame(TEXT, true, b"one"), frame(TEXT, true, b"two"), frame(CLOSE, true, &[3, 232])].concat();
    for portion in PORTIONS {
        let mut ws = websocket(bytes.clone(), portion, frames(1 << 20));
        assert_eq!(ws.read().unwrap(), Message::text("one"));
        assert_eq!(ws.read().unwrap(), Message::text("two"));
        for _ in 0..3 {
            assert!(
                matches!(ws.read(), Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock)
            );
        }
        assert!(ws.get_ref().frames.closing_since().is_some());
        assert!(ws.get_ref().frames.incomplete_since().is_none(), "no message is incomplete");
        ws.get_mut().frames.release_close();
        assert!(matches!(ws.read(), Ok(Message::Close(Some(close))) if u16::from(close.code) == 1000));
    }
}

#[test]
fn a_message_is_incomplete_from_its_first_byte_to_its_last() {
    let mut frames = frames(1 << 20);
    let mut out = [0; 4096];
    let mut pass = |bytes: &[u8]| {
        frames.pass(bytes, &mut out, Instant::now).unwrap();
        frames.since.is_some()
    };
    let text = frame(TEXT, false, b"abc");
    assert!(pass(&text[..1]), "it begins with the first byte");
    assert!(pass(&text[1..]));
    assert!(pass(&frame(PING, true, b"")), "a ping between fragments does not end it");
    assert!(!pass(&frame(CONTINUE, true, b"d")));
    let ping = frame(PING, true, b"x");
    assert!(pass(&ping[..3]));
    assert!(!pass(&ping[3..]));
}

#[test]
fn a_message_with_too_many_fragments_is_refused() {
    let mut frames = frames(1 << 20);
    let mut out = [0; 4096];
    frames.pass(&frame(TEXT, false, b""), &mut out, Instant::now).unwrap();
    let fragment = frame(CONTINUE, false, b"");
    let passed = (0..200).take_while(|_| frames.pass(&fragment, &mut out, Instant::now).is_ok()).count();
    assert_eq!(passed, 99);
}

#[test]
fn a_message_after_the_handshake_is_passed_on_before_the_close_after_it_is_held() {
    let close = frame(OpCode::Control(Control::Close), true, &1000_u16.to_be_bytes());
    let message = frame(TEXT, true, b"abc");
    let already_read = [message.clone(), close].concat();
    let mut frames = FrameReader::new(already_read, &Limits::default(), &Budget::unbounded());
    let (mut nothing, mut out) = (io::empty(), [0; 1000]);
    let count = frames.read(&mut nothing, &mut out, Instant::now).unwrap();
    assert_eq!((&out[..count], frames.closing_since()), (&message[..], None));
    let held = frames.read(&mut nothing, &mut out, Instant::now).unwrap_err();
    assert_eq!((held.kind(), frames.closing_since().is_some()), (ErrorKind::WouldBlock, true));
}

#[test]
fn a_released_close_without_its_payload_counts_as_incomplete() {
    let mut close = frame(OpCode::Control(Control::Close), true, &1000_u16.to_be_bytes());
    close.pop();
    let mut frames = FrameReader::new(close, &Limits::default(), &Budget::unbounded());
    let (mut nothing, mut out) = (io::empty(), [0; 1000]);
    frames.read(&mut nothing, &mut out, Instant::now).unwrap_err();
    assert!(frames.incomplete_since().is_none(), "a held close is not incomplete");
    frames.release_close();
    assert!(frames.read(&mut nothing, &mut out, Instant::now).unwrap() > 0);
    assert!(frames.incomplete_since().is_some());
}
