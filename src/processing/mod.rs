//! Between the wire and the model: image files, sound and text become tensors, hidden states become embeddings,
//! scores become classes. Pure functions of their input and of what `model.json` says.

pub mod audio;
pub mod embedding;
pub mod image;
pub mod scores;
pub mod text;

use crate::error::RequestError;
use crate::memory::{Budget, Share};
use crate::model::signature::EXAMPLE_TEXT;
use crate::model::{Elements, Signature, Tensor, TensorMetadata};

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
    /// A row a file.
    fn decode(
        &self,
        files: &[Vec<u8>],
        input: &TensorMetadata,
        allowance: &mut Allowance<'_>,
    ) -> Result<Tensor, RequestError> {
        match self {
            Decoder::Image(decoder) => {
                let rows = decoder.decode(files, allowance)?;
                let mut shape = input.shape_with_open(1);
                shape[0] = files.len();
                Tensor::new(shape, rows).map_err(RequestError::invalid)
            }
            Decoder::Audio(stream) => stream.decode(files, allowance),
        }
    }
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

    /// Decodes the inputs that came as files or text; the others pass untouched.
    pub fn prepare(
        &self,
        inputs: Vec<Tensor>,
        signature: &Signature,
        allowance: &mut Allowance<'_>,
    ) -> Result<Vec<Tensor>, RequestError> {
        let pairs = inputs.into_iter().zip(&self.decoders).zip(&signature.inputs);
        let decoded = pairs.map(|((tensor, decoder), input)| match (decoder, tensor.elements()) {
            (Some(decoder), Elements::Bytes(files)) => {
                let held = allowance.memory.bytes();
                let decoded = decoder.decode(files, input, allowance).map_err(|error| {
                    RequestError::new(error.code, format!("input `{}`, {}", input.name, error.message))
                })?;
                // The files are not needed any more.
                allowance.memory.shrink(tensor.memory().min(held));
                Ok(decoded)
            }
            _ => Ok(tensor),
        });
        let mut decoded = decoded.collect::<Result<Vec<Tensor>, RequestError>>()?;
        self.texts.iter().try_for_each(|text| text.fill(&mut decoded, signature, allowance))?;
        Ok(decoded)
    }

    /// What a warm-up runs: `zeros`, and a sentence where text is taken, whose attention mask is not zero.
    pub fn sample(&self, mut zeros: Vec<Tensor>, signature: &Signature) -> Result<Vec<Tensor>, RequestError> {
        for text in &self.texts {
            let rows = signature.inputs[text.source()].shape_with_open(1)[0];
            let texts = Elements::Bytes(vec![EXAMPLE_TEXT.into(); rows]);
            zeros[text.source()] = Tensor::new(vec![rows], texts).map_err(RequestError::invalid)?;
        }
        let mut memory = Share::none(&Budget::unbounded());
        self.prepare(zeros, signature, &mut Allowance { memory: &mut memory, is_due: &|| Ok(()) })
    }

    /// True when some input takes text.
    pub fn takes_text(&self) -> bool {
        !self.texts.is_empty()
    }
}
