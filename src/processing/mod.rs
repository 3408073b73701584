//! Between the wire and the model: image files, sound and text become tensors, hidden states become embeddings,
//! scores become classes. Pure functions of their input and of what `model.json` says.

pub mod audio;
pub mod embedding;
pub mod image;
pub mod scores;
pub mod text;

use crate::error::{Code, RequestError};
use crate::memory::{Budget, Share};
use crate::model::signature::EXAMPLE_TEXT;
use crate::model::{Input, Row, Signature, Tensor, TensorMetadata};

use self::audio::AudioStream;
use self::image::ImageDecoder;
use self::text::TextEncoder;

/// What the preparation of a request may take.
pub struct Allowance<'a> {
    /// The request's memory: the tensors that are made go on it, and what is needed for a while comes from its budget.
    pub memory: &'a mut Share,
    /// Asked between files: why the request is not to be gone on with, if it is not.
    pub is_due: &'a dyn Fn() -> Result<(), RequestError>,
}

/// Turns what the wire took into what the model takes. Runs on a worker, not on the connection's
/// thread: decoding a photograph takes longer than most inferences, a conversation must answer its
/// pings meanwhile, and the workers bound how much is decoded at once.
#[derive(Debug, Default)]
pub struct Preprocessor {
    /// One an input, in the signature's order.
    decoders: Vec<Option<Decoder>>,
    texts: Vec<TextEncoder>,
}

/// How an input's files become its tensor.
#[derive(Debug)]
pub enum Decoder {
    Image(ImageDecoder),
    Audio(AudioStream),
}

impl Decoder {
    /// The tensor of an input's files, a row for each, and what later steps must know of those rows.
    fn decode(
        &self,
        files: &[Vec<u8>],
        input: &TensorMetadata,
        allowance: &mut Allowance<'_>,
    ) -> Result<(Tensor, Vec<Row>), RequestError> {
        match self {
            Decoder::Image(decoder) => {
                let (rows, placements) = decoder.decode(files, allowance)?;
                let mut shape = input.shape_with_open(1);
                shape[0] = files.len();
                let place = |placement| Row { placement: Some(placement), ..Row::default() };
                let tensor = Tensor::new(shape, rows).map_err(RequestError::invalid)?;
                Ok((tensor, placements.into_iter().map(place).collect()))
            }
            Decoder::Audio(stream) => Ok((stream.decode(files, allowance)?, Vec::new())),
        }
    }
}

/// A request's inputs, ready for the engine.
#[derive(Debug)]
pub struct Prepared {
    /// One for each input, in the signature's order.
    pub tensors: Vec<Tensor>,
    /// What later steps must know of the rows that were files; empty when there were none.
    pub rows: Vec<Row>,
}

impl Preprocessor {
    pub fn new(decoders: Vec<Option<Decoder>>, texts: Vec<TextEncoder>) -> Preprocessor {
        Preprocessor { decoders, texts }
    }

    /// The stream of sound that a model's single input is.
    pub fn stream(&self) -> Option<&AudioStream> {
        match self.decoders.as_slice() {
            [Some(Decoder::Audio(stream))] => Some(stream),
            _ => None,
        }
    }

    /// Decodes the inputs that came as files, and makes tokens of those that came as text. Tensors pass as they are.
    pub fn prepare(
        &self,
        inputs: Vec<Input>,
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<Prepared, RequestError> {
        let mut tensors = Vec::with_capacity(inputs.len());
        let (mut rows, mut filled) = (Vec::new(), Vec::new());
        for (at, given) in inputs.into_iter().enumerate() {
            let bytes = given.memory().min(allowance.memory.bytes());
            tensors.push(match given {
                Input::Tensor(tensor) => Some(tensor),
                Input::Files(files) => {
                    let (tensor, known) = self.decode(at, &files, signature, allowance)?;
                    rows = known;
                    allowance.memory.shrink(bytes);
                    Some(tensor)
                }
                Input::Text(texts) => {
                    filled.extend(self.encode(at, &texts, signature, allowance)?);
                    allowance.memory.shrink(bytes);
                    None
                }
                // It comes from the encoder of that text.
                Input::FilledBy(_) => None,
            });
        }
        for (at, tensor) in filled {
            tensors[at] = Some(tensor);
        }
        let tensors: Option<Vec<Tensor>> = tensors.into_iter().collect();
        let tensors = tensors.ok_or_else(|| {
            RequestError::new(
                Code::InferenceFailed,
                "an input was not made from the text that it is made from",
            )
        })?;
        Ok(Prepared { tensors, rows })
    }

    fn decode(
        &self,
        at: usize,
        files: &[Vec<u8>],
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<(Tensor, Vec<Row>), RequestError> {
        let input = &signature.inputs[at];
        let within = |error: RequestError| RequestError {
            message: format!("input `{}`, {}", input.name, error.message),
            ..error
        };
        match self.decoders.get(at) {
            Some(Some(decoder)) => decoder.decode(files, input, allowance).map_err(within),
            _ => Err(within(RequestError::new(Code::InferenceFailed, "there is no decoder for its files"))),
        }
    }

    /// The tensors that are made from a text, with their places in the signature.
    fn encode(
        &self,
        at: usize,
        texts: &[Vec<u8>],
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<Vec<(usize, Tensor)>, RequestError> {
        let encoder = self.texts.iter().find(|encoder| encoder.source() == at);
        let encoder = encoder.ok_or_else(|| {
            let message =
                format!("input `{}`: there is no tokenizer for its text", signature.inputs[at].name);
            RequestError::new(Code::InferenceFailed, message)
        })?;
        encoder.encode(texts, signature, allowance)
    }

    /// What a warm-up runs: `zeros`, and a sentence where text is taken. A sentence has an attention mask that is not zero.
    pub fn sample(&self, zeros: Vec<Tensor>, signature: &Signature) -> Result<Vec<Tensor>, RequestError> {
        let mut inputs: Vec<Input> = zeros.into_iter().map(Input::Tensor).collect();
        for text in &self.texts {
            let rows = signature.inputs[text.source()].shape_with_open(1)[0];
            inputs[text.source()] = Input::Text(vec![EXAMPLE_TEXT.into(); rows]);
        }
        for (at, input) in signature.inputs.iter().enumerate() {
            if let Some(source) = input.filled_by {
                inputs[at] = Input::FilledBy(source);
            }
        }
        let mut memory = Share::none(&Budget::unbounded());
        let mut allowance = Allowance { memory: &mut memory, is_due: &|| Ok(()) };
        Ok(self.prepare(inputs, signature, &mut allowance)?.tensors)
    }

    /// True when some input takes text.
    pub fn takes_text(&self) -> bool {
        !self.texts.is_empty()
    }
}
