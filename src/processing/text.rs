//! Turns text into tensors of tokens. Each text is cut to the largest number of tokens, and all texts of a request
//! are padded to the same number. The attention mask says which tokens are padding.
//!
//! What belongs here: lengths, padding and tensors. What does not: the tokenizer itself (`tokenizer`). Invariant: all
//! tensors of one request have the shape `[texts, tokens]`.

#[cfg_attr(not(feature = "text"), path = "text/absent.rs")]
mod tokenizer;

use super::Allowance;
use crate::config::Limits;
use crate::error::show_shape;
use crate::error::{Code, RequestError};
use crate::model::manifest::{Padding, PaddingWord, TextInput};
use crate::model::{Datatype, Elements, Signature, Tensor, TensorMetadata};

use tokenizer::Tokenizer;

/// The media types that [`TextEncoder`] accepts.
pub const MEDIA_TYPES: &[&str] = &["text/plain"];

/// The largest number of tokens of a text when neither `model.json` nor the tokenizer's file gives one. Most models
/// of this kind were made for 512.
const MAX_LENGTH: usize = 512;

/// Makes the tensors of one text input, and of the inputs that are filled from the same text.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    /// The index of the input that takes the text.
    source: usize,
    /// The indices and contents of the inputs that are filled. `source` is one of them.
    parts: Vec<(usize, Part)>,
    max_length: usize,
    /// Whether a text that is too long is cut. Otherwise it is refused.
    truncation: bool,
    /// All texts of a request are padded to the longest text, but at least to this number of tokens.
    at_least: usize,
    /// The number of tokens is rounded up to a multiple of this number.
    multiple: usize,
    fill: Fill,
    max_tensor_bytes: usize,
}

/// What an input holds for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Ids,
    AttentionMask,
    TokenTypeIds,
}

/// The values of a padding token, and the side where padding is added.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fill {
    /// The id of the padding token.
    pub id: u32,
    /// The segment of the padding token.
    pub type_id: u32,
    /// Whether padding stands before the text. Otherwise it stands after the text.
    pub on_the_left: bool,
}

/// What the tokenizer's file says about lengths and padding.
#[derive(Debug, Default)]
pub struct FileSays {
    /// The largest number of tokens of a text, if the file gives one.
    pub max_length: Option<usize>,
    /// The number of tokens that each text is padded to. `None` pads to the longest text of the request.
    pub padding: Option<usize>,
    /// The number of tokens is rounded up to a multiple of this, if the file gives one.
    pub multiple: Option<usize>,
    /// The values of the padding token.
    pub fill: Fill,
}

/// The tokens of all texts of a request, one text after the other.
#[derive(Default)]
struct Tokens {
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    /// The end of each text, as an index into `ids` and `type_ids`.
    ends: Vec<usize>,
    longest: usize,
}

impl TextEncoder {
    /// Makes an encoder from the declaration in `model.json` and the content of the tokenizer's file. `parts` lists
    /// the inputs that are filled; the first of them takes the text.
    ///
    /// Errors: a sentence about what does not agree, such as the shape of an input or the number of tokens.
    pub fn new(
        spec: &TextInput,
        file: &[u8],
        parts: Vec<(usize, Part)>,
        signature: &Signature,
        limits: &Limits,
    ) -> Result<TextEncoder, String> {
        let (mut tokenizer, says) =
            Tokenizer::parse(file).map_err(|error| format!("{}: {error}", spec.tokenizer))?;
        let inputs = || parts.iter().map(|(index, _)| &signature.inputs[*index]);
        for input in inputs() {
            check(input)?;
        }
        let mut lengths = inputs().filter_map(|input| Some((&input.name, input.shape[1].fixed()?)));
        let first = lengths.next();
        if let Some((name, length)) = first
            && let Some((other, differs)) = lengths.find(|(_, other)| *other != length)
        {
            return Err(format!("input `{name}` holds {length} tokens, but `{other}` {differs}"));
        }
        let fixed = first.map(|(_, length)| length);
        let max_length = longest(spec, fixed, says.max_length)?;
        tokenizer.limit(max_length)?;
        let at_least = match (fixed, spec.padding) {
            (Some(length), _) => length,
            (None, Some(Padding::Word(PaddingWord::MaxLength))) => max_length,
            (None, Some(Padding::Word(PaddingWord::Longest))) => 1,
            (None, Some(Padding::Length(length))) => length,
            (None, None) => says.padding.map_or(1, |length| length.min(max_length)),
        };
        let multiple = says.multiple.filter(|_| fixed.is_none()).unwrap_or(1).max(1);
        let source = parts[0].0;
        let (truncation, fill, max_tensor_bytes) = (spec.truncation, says.fill, limits.max_tensor_bytes);
        Ok(TextEncoder {
            tokenizer,
            source,
            parts,
            max_length,
            truncation,
            at_least,
            multiple,
            fill,
            max_tensor_bytes,
        })
    }

    /// Returns the index of the input that takes the text.
    pub fn source(&self) -> usize {
        self.source
    }

    /// Returns the id of the padding token.
    pub fn filling(&self) -> u32 {
        self.fill.id
    }

    /// Makes the tensors of texts, each of the shape `[texts, tokens]`. Each comes with the index of its input in the
    /// signature.
    ///
    /// Errors: a text is not UTF-8, has no tokens, or is too long; the tensors are larger than the limit; the request
    /// is no longer wanted; or the budget is used up.
    pub fn encode(
        &self,
        texts: &[Vec<u8>],
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<Vec<(usize, Tensor)>, RequestError> {
        let name = &signature.inputs[self.source].name;
        let tokens = self.tokens(texts, allowance).map_err(|error| RequestError {
            message: format!("input `{name}`, {}", error.message),
            ..error
        })?;
        let length = tokens.longest.max(self.at_least).next_multiple_of(self.multiple);
        let values = tokens.ends.len().saturating_mul(length);
        // The values of one input exist as `u32` before they are converted to the datatype of the input.
        let _values = allowance.memory.take_beside(values.saturating_mul(size_of::<u32>()))?;
        allowance.memory.grow(values.saturating_mul(size_of::<i64>() * self.parts.len()))?;
        let tensors = self.parts.iter().map(|(index, part)| {
            let values = self.values(&tokens, length, *part);
            let elements = elements(signature.inputs[*index].datatype, values);
            let tensor =
                Tensor::new(vec![tokens.ends.len(), length], elements).map_err(RequestError::invalid)?;
            Ok((*index, tensor))
        });
        tensors.collect()
    }

    /// Makes the tokens of all texts, and checks the time limit before each text.
    fn tokens(&self, texts: &[Vec<u8>], allowance: &mut Allowance<'_>) -> Result<Tokens, RequestError> {
        let mut tokens = Tokens::default();
        let mut held = allowance.memory.beside();
        for (index, text) in texts.iter().enumerate() {
            (allowance.is_due)()?;
            let _taken = held.take_beside(self.tokenizer.memory(text.len()))?;
            let text = str::from_utf8(text)
                .map_err(|error| RequestError::invalid(format!("text {index} is not UTF-8: {error}")))?;
            let begin = tokens.ids.len();
            let is_whole = self
                .tokenizer
                .encode(text, &mut tokens.ids, &mut tokens.type_ids)
                .map_err(|error| error.within(&format!("text {index}")))?;
            if !is_whole && !self.truncation {
                let most = self.max_length;
                let message =
                    format!("text {index} has more than {most} tokens (max_length), and truncation is off");
                return Err(RequestError::new(Code::TooLarge, message));
            }
            let length = tokens.ids.len() - begin;
            if length == 0 {
                let message = format!("text {index} has no token in it: leave it out");
                return Err(RequestError::invalid(message));
            }
            tokens.ends.push(tokens.ids.len());
            // There are two numbers for each token. A list that grows needs up to three times its length: its old
            // memory and new memory of twice the size.
            held.resize(tokens.ids.len() * 2 * size_of::<u32>() * 3)?;
            tokens.longest = tokens.longest.max(length);
            let bytes = tokens
                .longest
                .max(self.at_least)
                .saturating_mul(texts.len())
                .saturating_mul(size_of::<i64>());
            if bytes > self.max_tensor_bytes {
                let (count, most) = (texts.len(), self.max_tensor_bytes);
                let message =
                    format!("{count} texts make {bytes} bytes of tokens: the limit is {most}, send fewer");
                return Err(RequestError::new(Code::TooLarge, message));
            }
        }
        Ok(tokens)
    }

    /// Returns the values for one input: `length` values for each text.
    fn values(&self, tokens: &Tokens, length: usize, part: Part) -> Vec<u32> {
        let mut values = Vec::with_capacity(tokens.ends.len() * length);
        let mut begin = 0;
        for end in &tokens.ends {
            let row = begin..*end;
            let missing = length - row.len();
            let fill = match part {
                Part::Ids => self.fill.id,
                Part::AttentionMask => 0,
                Part::TokenTypeIds => self.fill.type_id,
            };
            let (left, right) = if self.fill.on_the_left { (missing, 0) } else { (0, missing) };
            values.extend(std::iter::repeat_n(fill, left));
            match part {
                Part::Ids => values.extend_from_slice(&tokens.ids[row]),
                Part::AttentionMask => values.extend(row.map(|_| 1)),
                Part::TokenTypeIds => values.extend_from_slice(&tokens.type_ids[row]),
            }
            values.extend(std::iter::repeat_n(fill, right));
            begin = *end;
        }
        values
    }
}

/// Checks that an input has the shape `[batch, sequence]` and a datatype that can hold token ids.
fn check(input: &TensorMetadata) -> Result<(), String> {
    let fits = matches!(input.datatype, Datatype::Int64 | Datatype::Int32 | Datatype::Fp32 | Datatype::Bool);
    if fits && input.shape.len() == 2 {
        return Ok(());
    }
    Err(format!(
        "input `{}` is {} {}, but text makes INT64, INT32, FP32 or BOOL of shape [batch, sequence]",
        input.name,
        input.datatype,
        show_shape(&input.shape_i64())
    ))
}

/// Returns the largest number of tokens of a text, from `model.json`, the tokenizer's file, and the shape of the
/// input (`fixed`).
fn longest(spec: &TextInput, fixed: Option<usize>, file: Option<usize>) -> Result<usize, String> {
    for (field, said) in [("max_length", spec.max_length), ("padding", said_padding(spec))] {
        if let (Some(fixed), Some(said)) = (fixed, said)
            && said > fixed
        {
            return Err(format!("{field} is {said}, but the input holds {fixed} tokens"));
        }
    }
    let most = spec.max_length.or(file).or(fixed).unwrap_or(MAX_LENGTH);
    Ok(most.min(fixed.unwrap_or(most)))
}

fn said_padding(spec: &TextInput) -> Option<usize> {
    match spec.padding {
        Some(Padding::Length(length)) => Some(length),
        _ => None,
    }
}

fn elements(datatype: Datatype, values: Vec<u32>) -> Elements {
    match datatype {
        Datatype::Int32 => Elements::Int32(values.into_iter().map(|value| value as i32).collect()),
        Datatype::Fp32 => Elements::Fp32(values.into_iter().map(|value| value as f32).collect()),
        Datatype::Bool => Elements::Bool(values.into_iter().map(|value| value != 0).collect()),
        _ => Elements::Int64(values.into_iter().map(i64::from).collect()),
    }
}

#[cfg(feature = "text")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Budget, Share};
    use crate::model::Dim;

    /// A tokenizer with a number for each word. It cuts and pads on the left, to at most 3 tokens and a multiple of
    /// 2.
    const FILE: &str = r#"{
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "truncation": {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": 2,
                    "pad_id": 9, "pad_type_id": 0, "pad_token": "<pad>"},
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"a": 1, "b": 2, "c": 3, "?": 4}, "unk_token": "?"}}"#;

    fn signature() -> Signature {
        let input = |name: &str, datatype| TensorMetadata {
            name: name.into(),
            datatype,
            shape: vec![Dim::Open(None); 2],
            accepts: &[],
            filled_by: None,
        };
        let inputs = vec![input("ids", Datatype::Int32), input("mask", Datatype::Bool)];
        Signature { inputs, outputs: vec![], max_batch_size: None, has_state: false }
    }

    fn encoder(spec: TextInput, limits: &Limits) -> TextEncoder {
        let parts = vec![(0, Part::Ids), (1, Part::AttentionMask)];
        TextEncoder::new(&spec, FILE.as_bytes(), parts, &signature(), limits).unwrap()
    }

    fn fill(spec: TextInput, limits: &Limits, texts: &[&str]) -> Result<[Elements; 2], RequestError> {
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let mut memory = Share::none(&Budget::unbounded());
        let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
        let tensors = encoder(spec, limits).encode(&texts, &signature(), &mut allowance)?;
        let elements = tensors.into_iter().map(|(_, tensor)| tensor.into_elements());
        Ok(elements.collect::<Vec<_>>().try_into().unwrap())
    }

    #[test]
    fn model_json_overrides_the_tokenizers_file() {
        let filled = |spec| fill(spec, &Limits::default(), &["a b c a b", "c"]).unwrap();
        let [ids, mask] = filled(TextInput::default());
        assert_eq!(ids, Elements::Int32(vec![9, 3, 1, 2, 9, 9, 9, 3]));
        assert_eq!(mask, Elements::Bool(vec![false, true, true, true, false, false, false, true]));
        let [ids, _] = filled(TextInput { max_length: Some(2), ..TextInput::default() });
        assert_eq!(ids, Elements::Int32(vec![1, 2, 9, 3]));
        let [ids, _] = filled(TextInput { padding: Some(Padding::Length(6)), ..TextInput::default() });
        assert_eq!(ids, Elements::Int32(vec![9, 9, 9, 3, 1, 2, 9, 9, 9, 9, 9, 3]));
    }

    #[test]
    fn texts_with_too_many_tokens_are_refused_before_memory_is_taken() {
        let limits = Limits { max_tensor_bytes: 1 << 20, ..Limits::default() };
        let spec = TextInput {
            padding: Some(Padding::Length(1 << 16)),
            max_length: Some(1 << 16),
            ..TextInput::default()
        };
        let error = fill(spec, &limits, &["a", "a", "a"]).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        assert!(error.message.contains("3 texts make 1572864 bytes of tokens"), "{error}");
    }
}
