//! Between the wire and the model: image files and sound become tensors, scores become classes. Pure
//! functions of their input and of what `model.json` says.

pub mod audio;
pub mod image;
pub mod scores;

use crate::model::{Elements, Signature, Tensor, TensorMetadata};
use crate::wire::{Code, RequestError};

use self::audio::AudioStream;
use self::image::ImageDecoder;

/// Turns what the wire took into what the model takes. Runs on a worker, not on the connection's
/// thread: decoding a photograph takes longer than most inferences, a conversation must answer its
/// pings meanwhile, and with a worker each the memory for pixels is bounded by the workers.
#[derive(Debug, Default)]
pub struct Preprocessor {
    /// One an input, in the signature's order.
    decoders: Vec<Option<Decoder>>,
}

/// How an input's files become its tensor.
#[derive(Debug)]
pub enum Decoder {
    Image(ImageDecoder),
    Audio(AudioStream),
}

impl Decoder {
    /// A row a file.
    fn decode(&self, files: &[Vec<u8>], input: &TensorMetadata) -> Result<Tensor, RequestError> {
        match self {
            Decoder::Image(decoder) => {
                let rows = decoder.decode(files)?;
                let mut shape = input.shape_with_open(1);
                shape[0] = files.len();
                Tensor::new(shape, rows).map_err(|error| RequestError::new(Code::InvalidRequest, error))
            }
            Decoder::Audio(stream) => stream.decode(files),
        }
    }
}

impl Preprocessor {
    pub fn new(decoders: Vec<Option<Decoder>>) -> Preprocessor {
        Preprocessor { decoders }
    }

    /// The stream of sound that a model's single input is.
    pub fn stream(&self) -> Option<&AudioStream> {
        match self.decoders.as_slice() {
            [Some(Decoder::Audio(stream))] => Some(stream),
            _ => None,
        }
    }

    /// Decodes the inputs that came as files; the others pass untouched.
    pub fn prepare(&self, inputs: Vec<Tensor>, signature: &Signature) -> Result<Vec<Tensor>, RequestError> {
        let pairs = inputs.into_iter().zip(&self.decoders).zip(&signature.inputs);
        pairs
            .map(|((tensor, decoder), input)| match (decoder, tensor.elements()) {
                (Some(decoder), Elements::Bytes(files)) => decoder.decode(files, input).map_err(|error| {
                    RequestError::new(error.code, format!("input `{}`, {}", input.name, error.message))
                }),
                _ => Ok(tensor),
            })
            .collect()
    }
}
