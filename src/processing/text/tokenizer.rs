//! Wraps the `tokenizers` library of Hugging Face behind the few functions that [`super`] needs.
//!
//! What belongs here: calls of the library. What does not: padding and tensors. Invariant: texts are encoded one at a
//! time, because for a batch the library would start threads of its own, and each worker is already a thread.

use tokenizers::PostProcessor;
use tokenizers::utils::padding::{PaddingDirection, PaddingStrategy};
use tokenizers::utils::truncation::TruncationDirection;

use super::{FileSays, Fill};
use crate::error::{Code, RequestError};

/// A tokenizer as its file describes it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The largest number of tokens of a text, without the special tokens.
    most: usize,
    /// The side of the text that is cut.
    cut: TruncationDirection,
}

/// The number of bytes of a text after which reading stops, even if they make few tokens (for example, only spaces).
const MOST_BYTES: usize = 256 << 10;

/// The bytes that the library needs for a short time for each byte of text.
const BYTES_A_BYTE: usize = 48;

/// The number of extra tokens that are made after the last token that is kept. A cut in the text can change the
/// tokens just before it, so the kept tokens must not be near the cut.
const MARGIN: usize = 64;

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`. It returns the tokenizer, and what the file says about lengths.
    ///
    /// Errors: the message of the library.
    pub fn parse(file: &[u8]) -> Result<(Tokenizer, FileSays), String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(file).map_err(|error| error.to_string())?;
        let mut says =
            FileSays { max_length: inner.get_truncation().map(|cut| cut.max_length), ..FileSays::default() };
        let cut = inner.get_truncation().map(|truncation| truncation.direction).unwrap_or_default();
        match inner.get_padding() {
            Some(padding) => {
                let on_the_left = matches!(padding.direction, PaddingDirection::Left);
                says.fill = Fill { id: padding.pad_id, type_id: padding.pad_type_id, on_the_left };
                says.multiple = padding.pad_to_multiple_of;
                says.padding = match padding.strategy {
                    PaddingStrategy::BatchLongest => None,
                    PaddingStrategy::Fixed(length) => Some(length),
                };
            }
            None => {
                let names = ["[PAD]", "<pad>", "<|pad|>"];
                says.fill.id = names.iter().find_map(|name| inner.token_to_id(name)).unwrap_or(0);
            }
        }
        // We pad the texts ourselves, because all texts of a request need the same length, and the library would pad
        // in parallel. We also cut texts ourselves, because we must know whether a text was too long.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        Ok((Tokenizer { inner, most: usize::MAX, cut }, says))
    }

    /// Sets the largest number of tokens of a text, including the special tokens.
    ///
    /// Errors: there would be no room for any other token.
    pub fn limit(&mut self, max_length: usize) -> Result<(), String> {
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        self.most = max_length.saturating_sub(special);
        if self.most == 0 {
            return Err(format!("max_length is {max_length}, but {special} tokens are added to each text"));
        }
        Ok(())
    }

    /// Returns the bytes that [`Tokenizer::encode`] needs for a text of `length` bytes.
    pub fn memory(&self, length: usize) -> usize {
        length.min(self.first_bytes().max(MOST_BYTES)).saturating_mul(BYTES_A_BYTE)
    }

    /// Returns a number of bytes of text that nearly always makes as many tokens as are allowed.
    fn first_bytes(&self) -> usize {
        self.most.saturating_mul(16).saturating_add(4096)
    }

    /// Appends the tokens of `text` to `ids`, and their segments to `type_ids`. Returns false when the text had more
    /// tokens than the limit.
    ///
    /// A long text is not read to its end: reading stops when there are enough tokens, or after [`MOST_BYTES`].
    pub fn encode(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
        type_ids: &mut Vec<u32>,
    ) -> Result<bool, RequestError> {
        let failed = |error: tokenizers::Error| {
            RequestError::new(Code::InferenceFailed, format!("the tokenizer failed: {error}"))
        };
        let mut bytes = self.first_bytes();
        let most_bytes = bytes.max(MOST_BYTES);
        let (mut encoding, is_part) = loop {
            let part = self.part(text, bytes);
            let encoding = self.inner.encode_fast(part, false).map_err(failed)?;
            let is_part = part.len() < text.len();
            if !is_part || bytes == most_bytes || encoding.len() >= self.most.saturating_add(MARGIN) {
                break (encoding, is_part);
            }
            bytes = bytes.saturating_mul(4).min(most_bytes);
        };
        let is_whole = !is_part && encoding.len() <= self.most;
        encoding.truncate(self.most, 0, self.cut);
        encoding.take_overflowing();
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        ids.extend_from_slice(encoding.get_ids());
        type_ids.extend_from_slice(encoding.get_type_ids());
        Ok(is_whole)
    }

    /// Returns about `bytes` bytes of the text, from the side that is kept when the text is cut.
    fn part<'t>(&self, text: &'t str, bytes: usize) -> &'t str {
        match text.len().checked_sub(bytes) {
            None => text,
            Some(over) if self.cut == TruncationDirection::Left => &text[text.ceil_char_boundary(over)..],
            Some(_) => &text[..text.floor_char_boundary(bytes)],
        }
    }
}
