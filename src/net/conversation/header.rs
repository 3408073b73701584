//! The header of a WebSocket frame (RFC 6455 section 5.2), as far as [`super::frame_reader`] needs it.
//!
//! Only the bytes of one header belong here. tungstenite checks whether a header is valid.

/// The length of the longest header in bytes.
pub const LONGEST: usize = 14;

/// A header, or the first bytes of one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Header {
    pub bytes: [u8; LONGEST],
    /// How many of `bytes` are set.
    pub length: usize,
}

impl Header {
    /// A header for a payload of at most 125 bytes. `first` is its first byte: final bit, reserved bits and opcode.
    pub fn short(first: u8, payload: u8, mask: Option<[u8; 4]>) -> Header {
        let mut header = Header::default();
        header.push(first);
        header.push(payload | mask_bit(mask));
        mask.into_iter().flatten().for_each(|byte| header.push(byte));
        header
    }

    /// A header for a payload of any length. `first` is its first byte: final bit, reserved bits and opcode.
    pub fn fragment(first: u8, payload: u64, mask: Option<[u8; 4]>) -> Header {
        let mut header = Header::default();
        header.push(first);
        header.push(127 | mask_bit(mask));
        payload.to_be_bytes().into_iter().for_each(|byte| header.push(byte));
        mask.into_iter().flatten().for_each(|byte| header.push(byte));
        header
    }

    /// Appends a byte.
    ///
    /// # Panics
    /// When the header has [`LONGEST`] bytes already.
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// The length of the whole header in bytes; 2 while the first two bytes are not known.
    pub fn needed(&self) -> usize {
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

    /// True when all bytes of the header are set.
    pub fn is_whole(&self) -> bool {
        self.length > 0 && self.length == self.needed()
    }

    fn opcode(&self) -> u8 {
        self.bytes[0] & 0x0f
    }

    /// True for text, binary and continuation frames.
    pub fn is_data(&self) -> bool {
        self.opcode() <= 2
    }

    pub fn is_continuation(&self) -> bool {
        self.opcode() == 0
    }

    pub fn is_text(&self) -> bool {
        self.opcode() == 1
    }

    pub fn is_close(&self) -> bool {
        self.opcode() == 8
    }

    pub fn is_final(&self) -> bool {
        self.bytes[0] & 0x80 != 0
    }

    /// The first byte without the final bit.
    pub fn first_of_several(&self) -> u8 {
        self.bytes[0] & 0x7f
    }

    /// The masking key of a whole header; `None` when the frame is not masked.
    pub fn mask(&self) -> Option<[u8; 4]> {
        let masked = self.bytes[1] & 0x80 != 0;
        masked.then(|| self.bytes[self.length - 4..self.length].try_into().ok()).flatten()
    }

    /// The declared length of the payload in bytes. The header must be whole.
    pub fn payload(&self) -> u64 {
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

fn mask_bit(mask: Option<[u8; 4]>) -> u8 {
    if mask.is_some() { 0x80 } else { 0 }
}
