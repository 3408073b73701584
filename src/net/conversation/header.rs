//! A frame's header (RFC 6455 section 5.2), as far as [`super::frame_reader`] needs it.

/// The longest header of a frame.
pub const LONGEST: usize = 14;

/// A header that is being gathered, or passed on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Header {
    pub bytes: [u8; LONGEST],
    pub length: usize,
}

impl Header {
    /// A masked or unmasked header with a length of two bytes at most.
    pub fn short(first: u8, payload: u8, mask: Option<[u8; 4]>) -> Header {
        let mut header = Header::default();
        header.push(first);
        header.push(payload | mask_bit(mask));
        mask.into_iter().flatten().for_each(|byte| header.push(byte));
        header
    }

    /// The header of a fragment of whatever length.
    pub fn fragment(first: u8, payload: u64, mask: Option<[u8; 4]>) -> Header {
        let mut header = Header::default();
        header.push(first);
        header.push(127 | mask_bit(mask));
        payload.to_be_bytes().into_iter().for_each(|byte| header.push(byte));
        mask.into_iter().flatten().for_each(|byte| header.push(byte));
        header
    }

    /// # Panics
    /// When it is longer than a header can be.
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// Bytes of the whole header, as far as the ones that are there tell.
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

    pub fn is_whole(&self) -> bool {
        self.length > 0 && self.length == self.needed()
    }

    fn opcode(&self) -> u8 {
        self.bytes[0] & 0x0f
    }

    /// Text, binary or their continuation.
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

    /// The first byte without the bit of a last fragment.
    pub fn first_of_several(&self) -> u8 {
        self.bytes[0] & 0x7f
    }

    /// The masking key of a whole header.
    pub fn mask(&self) -> Option<[u8; 4]> {
        let masked = self.bytes[1] & 0x80 != 0;
        masked.then(|| self.bytes[self.length - 4..self.length].try_into().ok()).flatten()
    }

    /// The payload's length that a whole header declares.
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
