//! Between the wire and the model: image files become tensors, scores become classes. Pure
//! functions of their input and of what `model.json` says.

pub mod image;
pub mod scores;

use crate::model::{Elements, Signature, Tensor};
use crate::wire::{Code, RequestError};

use self::image::ImageDecoder;

/// Turns what the wire took into what the model takes. Runs on a worker, not on the connection's
/// thread: decoding a photograph takes longer than most inferences, a conversation must answer its
/// pings meanwhile, and with a worker each the memory for pixels is bounded by the workers.
#[derive(Debug, Default)]
pub struct Preprocessor {
    /// One an input, in the signature's order.
    decoders: Vec<Option<ImageDecoder>>,
}

impl Preprocessor {
    pub fn new(decoders: Vec<Option<ImageDecoder>>) -> Preprocessor {
        Preprocessor { decoders }
    }

    /// Decodes the inputs that came as files; the others pass untouched.
    pub fn prepare(&self, inputs: Vec<Tensor>, signature: &Signature) -> Result<Vec<Tensor>, RequestError> {
        let pairs = inputs.into_iter().zip(&self.decoders).zip(&signature.inputs);
        pairs
            .map(|((tensor, decoder), input)| match (decoder, tensor.elements()) {
                (Some(decoder), Elements::Bytes(files)) => {
                    let rows = decoder.decode(files).map_err(|error| {
                        RequestError::new(error.code, format!("input `{}`, {}", input.name, error.message))
                    })?;
                    let mut shape = input.shape_with_open(1);
                    shape[0] = files.len();
                    Tensor::new(shape, rows).map_err(|error| RequestError::new(Code::InvalidRequest, error))
                }
                _ => Ok(tensor),
            })
            .collect()
    }
}
