//! The steps between the wire and the model. Before the run, image files, sound and text become tensors. After the
//! run, hidden states become embeddings, scores become classes, and outputs become results, such as boxes.
//!
//! What belongs here: pure functions of their input and of `model.json`. What does not: I/O, threads, formats of
//! messages (`wire`) and tract (`onnx`).
//!
//! Invariant: memory is taken from the budget before it is allocated, and time limits are checked between two files
//! or texts.

pub mod audio;
pub mod embedding;
pub mod image;
pub mod mapping;
pub mod results;
pub mod scores;
pub mod text;

use crate::error::{Code, RequestError};
use crate::memory::{Budget, Share};
use crate::model::signature::EXAMPLE_TEXT;
use crate::model::{Input, Row, Signature, Tensor};

use self::audio::AudioStream;
use self::image::ImageDecoder;
use self::text::TextEncoder;

/// The limits for the preparation of one request.
pub struct Allowance<'a> {
    /// The request's share of the budget. It pays for the tensors that are made. Temporary memory is taken from the
    /// same budget and given back.
    pub memory: &'a mut Share,
    /// The check that is made before each file or text. It returns an error when the work should stop, for example
    /// after a timeout.
    pub is_due: &'a dyn Fn() -> Result<(), RequestError>,
}

/// Turns the inputs of a request into tensors for the model. This runs on a worker and not on the connection's
/// thread, for three reasons: decoding a photograph takes longer than most inferences, the connection must still
/// answer pings, and the number of workers limits how much is decoded at the same time.
#[derive(Debug, Default)]
pub struct Preprocessor {
    /// One entry for each input, in the signature's order. `None` is for an input that accepts no files.
    decoders: Vec<Option<Decoder>>,
    texts: Vec<TextEncoder>,
}

/// The rule that turns the files of an input into its tensor.
#[derive(Debug)]
pub enum Decoder {
    Image(ImageDecoder),
    Audio(AudioStream),
}

impl Decoder {
    /// Makes the tensor of an input from its files, with one row for each file. It also returns what later steps must
    /// know about the rows.
    fn decode(
        &self,
        files: &[Vec<u8>],
        allowance: &mut Allowance<'_>,
    ) -> Result<(Tensor, Vec<Row>), RequestError> {
        match self {
            Decoder::Image(decoder) => {
                let (tensor, placements) = decoder.decode(files, allowance)?;
                let place = |placement| Row { placement: Some(placement), ..Row::default() };
                Ok((tensor, placements.into_iter().map(place).collect()))
            }
            Decoder::Audio(stream) => Ok((stream.decode(files, allowance)?, Vec::new())),
        }
    }
}

/// The inputs of a request, ready for the engine.
#[derive(Debug)]
pub struct Prepared {
    /// The tensors, one for each input, in the signature's order.
    pub tensors: Vec<Tensor>,
    /// What later steps must know about the rows of the first input that came as image files. It is empty when none
    /// did.
    pub rows: Vec<Row>,
}

impl Preprocessor {
    /// Makes a preprocessor. `decoders` has one entry for each input, in the signature's order.
    pub fn new(decoders: Vec<Option<Decoder>>, texts: Vec<TextEncoder>) -> Preprocessor {
        Preprocessor { decoders, texts }
    }

    /// Returns the rule for sound when the model has a single input and it accepts sound.
    pub fn stream(&self) -> Option<&AudioStream> {
        match self.decoders.as_slice() {
            [Some(Decoder::Audio(stream))] => Some(stream),
            _ => None,
        }
    }

    /// Decodes the inputs that came as files, and makes tokens from the inputs that came as text. Tensors stay
    /// unchanged.
    ///
    /// Errors: a file or text cannot be read or is too large, the request is no longer wanted, or the budget is used
    /// up.
    pub fn prepare(
        &self,
        inputs: Vec<Input>,
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<Prepared, RequestError> {
        let mut tensors = Vec::with_capacity(inputs.len());
        let (mut rows, mut filled) = (Vec::new(), Vec::new());
        for (at, given) in inputs.into_iter().enumerate() {
            // The memory of files and texts is given back when their tensors are made.
            let encoded = if given.files() > 0 { given.memory().min(allowance.memory.bytes()) } else { 0 };
            tensors.push(match given {
                Input::Tensor(tensor) => Some(tensor),
                Input::Files(files) => {
                    let (tensor, known) = self.decode(at, &files, signature, allowance)?;
                    if rows.is_empty() {
                        rows = known;
                    }
                    Some(tensor)
                }
                Input::Text(texts) => {
                    filled.extend(self.encode(at, &texts, signature, allowance)?);
                    None
                }
                // The encoder of the source text makes this tensor.
                Input::FilledBy(_) => None,
            });
            allowance.memory.shrink(encoded);
        }
        for (at, tensor) in filled {
            tensors[at] = Some(tensor);
        }
        let tensors: Option<Vec<Tensor>> = tensors.into_iter().collect();
        let tensors = tensors.ok_or_else(|| {
            RequestError::new(
                Code::InferenceFailed,
                "no tensor was made for an input that is filled from text",
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
            Some(Some(decoder)) => decoder.decode(files, allowance).map_err(within),
            _ => Err(within(RequestError::new(Code::InferenceFailed, "there is no decoder for its files"))),
        }
    }

    /// Makes the tensors of a text. Each comes with the index of its input in the signature.
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

    /// Returns the inputs for a warm-up run: `zeros`, but an example sentence for an input that takes text. With a
    /// sentence, the attention mask is not all zeros.
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

    /// Returns whether any input takes text.
    pub fn takes_text(&self) -> bool {
        !self.texts.is_empty()
    }
}
