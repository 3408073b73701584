//! The field's own tokenizer library, behind the few words that [`super`] needs of it.
//!
//! One text at a time: of batches the library makes threads of its own, and a worker is one already.

use tokenizers::utils::padding::{PaddingDirection, PaddingStrategy};
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams};
use tokenizers::{Encoding, PostProcessor};

use super::{FileSays, Fill};
use crate::wire::{Code, RequestError};

/// A tokenizer as its file describes it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_length: usize,
    from_the_left: bool,
}

/// The most bytes of one text that are looked at. For each byte the library keeps some forty.
const MOST_BYTES: usize = 1 << 20;

/// Tokens behind the last one that is kept: so far, at least, a cut may change what came before it.
const MARGIN: usize = 64;

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`, and what it says about lengths.
    pub fn parse(file: &[u8]) -> Result<(Tokenizer, FileSays), String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(file).map_err(|error| error.to_string())?;
        let mut says =
            FileSays { max_length: inner.get_truncation().map(|cut| cut.max_length), ..FileSays::default() };
        let from_the_left =
            inner.get_truncation().is_some_and(|cut| cut.direction == TruncationDirection::Left);
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
        // A request is filled up as a whole, and by us: the library fills in parallel.
        inner.with_padding(None);
        Ok((Tokenizer { inner, max_length: usize::MAX, from_the_left }, says))
    }

    /// Sets how many tokens a text may have, special ones included.
    pub fn limit(&mut self, max_length: usize) -> Result<(), String> {
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_length <= special {
            return Err(format!("max_length is {max_length}, but {special} tokens are added to each text"));
        }
        let direction =
            if self.from_the_left { TruncationDirection::Left } else { TruncationDirection::Right };
        let truncation = TruncationParams { max_length, direction, ..TruncationParams::default() };
        self.inner.with_truncation(Some(truncation)).map_err(|error| error.to_string())?;
        self.max_length = max_length;
        Ok(())
    }

    /// Appends the tokens of `text` and their segments. False when there were more than the limit.
    ///
    /// Of a long text as much is looked at as makes enough tokens, or [`MOST_BYTES`] when nothing does.
    pub fn encode(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
        type_ids: &mut Vec<u32>,
    ) -> Result<bool, RequestError> {
        let mut bytes = self.max_length.saturating_mul(16).saturating_add(4096);
        loop {
            let part = self.part(text, bytes.min(MOST_BYTES));
            let failed = |error: tokenizers::Error| {
                RequestError::new(Code::InferenceFailed, format!("the tokenizer failed: {error}"))
            };
            let encoding = self.inner.encode_fast(part, true).map_err(failed)?;
            let over: usize = encoding.get_overflowing().iter().map(Encoding::len).sum();
            if part.len() == text.len() || over >= MARGIN || bytes >= MOST_BYTES {
                ids.extend_from_slice(encoding.get_ids());
                type_ids.extend_from_slice(encoding.get_type_ids());
                return Ok(over == 0 && part.len() == text.len());
            }
            bytes = bytes.saturating_mul(4);
        }
    }

    /// The end of the text that is kept when it is cut, of about so many bytes.
    fn part<'t>(&self, text: &'t str, bytes: usize) -> &'t str {
        match text.len().checked_sub(bytes) {
            None => text,
            Some(over) if self.from_the_left => &text[text.ceil_char_boundary(over)..],
            Some(_) => &text[..text.floor_char_boundary(bytes)],
        }
    }
}
