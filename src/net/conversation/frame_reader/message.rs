//! The data message that is passing, as far as it must be known when it has to be ended early.

/// The data message that is passing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Message {
    /// It has begun, and its last fragment has not come.
    pub is_open: bool,
    pub is_text: bool,
    /// There was no memory for it: its end was passed on, and what still comes is thrown away.
    pub is_refused: bool,
    pub fragments: usize,
    /// Its last bytes, unmasked.
    pub tail: [u8; 3],
    pub length: u64,
}

impl Message {
    /// Follows payload bytes of a frame, of which `at` have come before; only the last ones are kept.
    pub fn passes(&mut self, bytes: &[u8], at: u64, mask: Option<[u8; 4]>) {
        let from = bytes.len().saturating_sub(self.tail.len());
        for (index, byte) in bytes.iter().enumerate().skip(from) {
            let key = mask.map_or(0, |mask| mask[((at % 4) as usize + index) % 4]);
            self.tail.rotate_left(1);
            self.tail[2] = byte ^ key;
        }
        self.length += bytes.len() as u64;
    }

    /// What completes the character that the text was cut in, if it was cut in one (RFC 3629 section 4): tungstenite
    /// takes a text whose last character is not whole for an error of the peer's.
    pub fn padding(&self) -> &'static [u8] {
        let known = self.tail.len().min(usize::try_from(self.length).unwrap_or(usize::MAX));
        for back in 1..=known {
            let byte = self.tail[self.tail.len() - back];
            let length = match byte {
                0x80..=0xbf => continue,
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return &[],
            };
            return match (length - back.min(length), byte, back) {
                (3, 0xf0, 1) => &[0x90, 0x80, 0x80],
                (2, 0xe0, 1) => &[0xa0, 0x80],
                (missing, ..) => &[0x80, 0x80, 0x80][..missing],
            };
        }
        &[]
    }
}
