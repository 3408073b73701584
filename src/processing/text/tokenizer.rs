//! The field's own tokenizer library, behind the few words that [`super`] needs of it.
//!
//! One text at a time: of batches the library makes threads of its own, and a worker is one already.

use tokenizers::PostProcessor;
use tokenizers::utils::padding::{PaddingDirection, PaddingStrategy};
use tokenizers::utils::truncation::TruncationDirection;

use super::{FileSays, Fill};
use crate::error::{Code, RequestError};

/// A tokenizer as its file describes it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The most tokens of a text, without the special ones.
    most: usize,
    /// The end that is cut off.
    cut: TruncationDirection,
}

/// The most bytes of one text that are looked at when they make no tokens, spaces for example.
const MOST_BYTES: usize = 256 << 10;

/// Bytes that the library keeps for each byte of a text, for a while.
const BYTES_A_BYTE: usize = 48;

/// Tokens behind the last one that is kept: so far, at least, a cut may change what came before it.
const MARGIN: usize = 64;

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`, and what it says about lengths.
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
        // A request is filled up as a whole, and by us: the library fills in parallel. And a text is cut by us,
        // who have to know how much there was.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        Ok((Tokenizer { inner, most: usize::MAX, cut }, says))
    }

    /// Sets how many tokens a text may have, special ones included.
    pub fn limit(&mut self, max_length: usize) -> Result<(), String> {
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        self.most = max_length.saturating_sub(special);
        if self.most == 0 {
            return Err(format!("max_length is {max_length}, but {special} tokens are added to each text"));
        }
        Ok(())
    }

    /// Bytes that [`Tokenizer::encode`] takes for a text of such a length.
    pub fn memory(&self, length: usize) -> usize {
        length.min(self.first_bytes().max(MOST_BYTES)).saturating_mul(BYTES_A_BYTE)
    }

    /// Bytes of a text that nearly always make all the tokens that may be.
    fn first_bytes(&self) -> usize {
        self.most.saturating_mul(16).saturating_add(4096)
    }

    /// Appends the tokens of `text` and their segments. False when there were more than the limit.
    ///
    /// Of a long text as much is looked at as makes enough tokens, or [`MOST_BYTES`] of it when they do not.
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

    /// The end of the text that is kept when it is cut, of about so many bytes.
    fn part<'t>(&self, text: &'t str, bytes: usize) -> &'t str {
        match text.len().checked_sub(bytes) {
            None => text,
            Some(over) if self.cut == TruncationDirection::Left => &text[text.ceil_char_boundary(over)..],
            Some(_) => &text[..text.floor_char_boundary(bytes)],
        }
    }
}
