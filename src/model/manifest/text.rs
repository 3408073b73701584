//! The input kind `text`: how text becomes token ids.

use serde::Deserialize;

use super::checks::within;
use super::kind::InputKind;

/// Tokens of a text.
const MOST_TOKENS: usize = 1 << 20;

/// How text becomes the token ids of its input, `[rows, tokens]`, and the tensors of the inputs beside it, which have
/// the same shape. `inputs[].text` of `model.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextInput {
    /// The tokenizer's file, in the format of Hugging Face `tokenizers`. Relative to the folder. Default:
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// The most tokens of a text, with the special tokens. Default: the value in the tokenizer's file, else the
    /// input's own fixed length, else 512.
    pub max_length: Option<usize>,
    /// Whether a longer text is cut (the default) or refused.
    pub truncation: bool,
    /// Default: the value in the tokenizer's file, else `longest`.
    pub padding: Option<Padding>,
    /// The input that gets 1 for a token and 0 for padding. Default: `attention_mask`, if the model has it.
    pub attention_mask: Option<String>,
    /// The input that gets the segment of each token. Default: `token_type_ids`, if the model has it.
    pub token_type_ids: Option<String>,
}

impl Default for TextInput {
    fn default() -> Self {
        TextInput {
            tokenizer: "tokenizer.json".into(),
            max_length: None,
            truncation: true,
            padding: None,
            attention_mask: None,
            token_type_ids: None,
        }
    }
}

/// The number of tokens that the texts of a request are padded to. All texts of a request get the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Padding {
    Word(PaddingWord),
    /// This many tokens; if the longest text of the request has more, then as many as that text.
    Length(usize),
}

/// The words that a padding can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingWord {
    /// As many tokens as the longest text of the request.
    Longest,
    /// Always `max_length` tokens.
    MaxLength,
}

impl InputKind for TextInput {
    fn validate(&self) -> Result<(), String> {
        if self.max_length == Some(0) {
            return Err("max_length is 0: expected a number of tokens".into());
        }
        within("max_length", self.max_length, 1, MOST_TOKENS)?;
        if let Some(Padding::Length(length @ 1..)) = self.padding {
            within("padding", Some(length), 1, MOST_TOKENS)?;
        }
        match (self.padding, self.max_length) {
            (Some(Padding::Length(0)), _) => {
                Err("padding is 0: expected `longest`, `max_length` or a number of tokens".into())
            }
            (Some(Padding::Length(length)), Some(most)) if length > most => {
                Err(format!("padding is {length}, but max_length is {most}: expected at most {most}"))
            }
            _ => Ok(()),
        }
    }
}
