//! What must be known about an incomplete data message, so that it can be ended early.
//!
//! Only the state of one message belongs here; [`super`] decides when it ends early.

/// The data message that is arriving.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Message {
    /// True from its first fragment until its last.
    pub is_open: bool,
    pub is_text: bool,
    /// True when there was no memory for it: its end was passed on, and the rest is discarded.
    pub is_refused: bool,
    /// How many fragments have begun.
    pub fragments: usize,
    /// Its last three bytes, unmasked.
    pub tail: [u8; 3],
    /// Bytes of payload so far.
    pub length: u64,
}

impl Message {
    /// Records payload bytes of a frame. `at` is how many bytes of the frame came before them.
    pub fn passes(&mut self, bytes: &[u8], at: u64, mask: Option<[u8; 4]>) {
        let from = bytes.len().saturating_sub(self.tail.len());
        for (index, byte) in bytes.iter().enumerate().skip(from) {
            let key = mask.map_or(0, |mask| mask[((at % 4) as usize + index) % 4]);
            self.tail.rotate_left(1);
            self.tail[2] = byte ^ key;
        }
        self.length += bytes.len() as u64;
    }

    /// The bytes that complete the last character of a text that was cut short (RFC 3629 section 4); empty when it is
    /// complete. tungstenite would treat an incomplete character as an error of the peer.
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
