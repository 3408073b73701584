//! Turns the vectors of a text's tokens into one vector for the text: pooling over the sequence, then scaling to
//! length 1.
//!
//! What belongs here: pooling and normalisation. What does not: tokens (`text`) and scores (`scores`). The worker
//! does this directly after the run, because the mask is one of the inputs of the run. Invariant: the datatype of an
//! output does not change.

use half::f16;

use crate::error::show_shape;
use crate::error::{Code, RequestError};
use crate::model::manifest::{Normalize, Pooling};
use crate::model::{Elements, Tensor};

/// The pooling and normalisation of a model's outputs.
#[derive(Debug, Default)]
pub struct Embeddings {
    mask: Mask,
    /// One entry for each output, in the signature's order.
    outputs: Vec<Embedding>,
}

/// The pooling and normalisation of one output. `None` leaves the output as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedding {
    /// How the vectors of the tokens become one vector.
    pub pooling: Option<Pooling>,
    /// How a vector is scaled; L2 gives it the Euclidean length 1.
    pub normalize: Option<Normalize>,
}

/// The source that says which tokens belong to the text and which are padding.
#[derive(Debug, Clone, Copy, Default)]
pub enum Mask {
    /// There is no mask: all tokens belong to the text.
    #[default]
    Absent,
    /// The input with this index is 0 for a padding token.
    Input(usize),
    /// The input with the index `input` holds token ids; the id `id` is padding.
    Filling { input: usize, id: u32 },
}

impl Embeddings {
    /// Makes the steps for a model. `outputs` has one entry for each output, in the signature's order.
    pub fn new(mask: Mask, outputs: Vec<Embedding>) -> Embeddings {
        Embeddings { mask, outputs }
    }

    /// Pools and normalises the outputs of a run on `inputs`. Pooling turns `[rows, tokens, hidden]` into `[rows,
    /// hidden]`; normalisation keeps the shape. Other outputs stay unchanged.
    ///
    /// Errors: an output that must be pooled has other dimensions, no floats, or another number of tokens than the
    /// mask.
    pub fn finish(&self, inputs: &[Tensor], outputs: Vec<Tensor>) -> Result<Vec<Tensor>, RequestError> {
        let embeddings = self.outputs.iter().copied().chain(std::iter::repeat(Embedding::default()));
        let pairs = outputs.into_iter().zip(embeddings);
        pairs.map(|(tensor, embedding)| self.finish_one(inputs, tensor, embedding)).collect()
    }

    fn finish_one(
        &self,
        inputs: &[Tensor],
        tensor: Tensor,
        embedding: Embedding,
    ) -> Result<Tensor, RequestError> {
        if embedding.pooling.is_none() && embedding.normalize.is_none() {
            return Ok(tensor);
        }
        let shape = tensor.shape().to_vec();
        let mut vectors = Vectors::of(tensor)?;
        let mut shape = shape;
        if let Some(pooling) = embedding.pooling {
            let [rows, length, hidden] = shape[..] else {
                return Err(failed(format!(
                    "{} cannot be pooled: expected 3 dimensions",
                    show_shape(&shape)
                )));
            };
            let mask = self.mask.read(inputs, rows * length)?;
            vectors.values = pool(&vectors.values, &mask, length, hidden, pooling);
            shape = vec![rows, hidden];
        }
        if embedding.normalize == Some(Normalize::L2) {
            let size = shape.last().copied().unwrap_or(1).max(1);
            vectors.values.chunks_mut(size).for_each(to_length_one);
        }
        Tensor::new(shape, vectors.into_elements()).map_err(failed)
    }
}

impl Mask {
    /// Returns one flag for each token, row by row. It is true when the token belongs to the text.
    fn read(self, inputs: &[Tensor], tokens: usize) -> Result<Vec<bool>, RequestError> {
        let flags: Vec<bool> = match self {
            Mask::Absent => vec![true; tokens],
            Mask::Input(input) => differing(inputs[input].elements(), 0),
            Mask::Filling { input, id } => differing(inputs[input].elements(), id),
        };
        if flags.len() != tokens {
            return Err(failed(format!("the mask has {} tokens, but the output {tokens}", flags.len())));
        }
        Ok(flags)
    }
}

/// Returns for each element whether it differs from `from`. Elements of types that are neither masks nor token ids
/// always count as different.
fn differing(elements: &Elements, from: u32) -> Vec<bool> {
    match elements {
        Elements::Int64(v) => v.iter().map(|x| *x != i64::from(from)).collect(),
        Elements::Int32(v) => v.iter().map(|x| i64::from(*x) != i64::from(from)).collect(),
        Elements::Fp32(v) => v.iter().map(|x| *x != from as f32).collect(),
        Elements::Bool(v) => v.iter().map(|x| u32::from(*x) != from).collect(),
        other => vec![true; other.len()],
    }
}

/// Pools each row of `[length, hidden]` to `[hidden]`. A row without any token of the text becomes zeros.
fn pool(values: &[f64], mask: &[bool], length: usize, hidden: usize, pooling: Pooling) -> Vec<f64> {
    let mut pooled = Vec::with_capacity(mask.len() / length.max(1) * hidden);
    for (row, mask) in values.chunks(length.max(1) * hidden.max(1)).zip(mask.chunks(length.max(1))) {
        let mut tokens =
            row.chunks(hidden.max(1)).zip(mask).filter(|(_, counts)| **counts).map(|(token, _)| token);
        let mut vector = tokens.next().map_or_else(|| vec![0.0; hidden], <[f64]>::to_vec);
        let mut count = 1.0;
        match pooling {
            Pooling::Cls => {}
            Pooling::Max => {
                tokens.for_each(|token| {
                    vector.iter_mut().zip(token).for_each(|(most, value)| *most = most.max(*value))
                });
            }
            Pooling::Mean => {
                for token in tokens {
                    vector.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                    count += 1.0;
                }
                vector.iter_mut().for_each(|sum| *sum /= count);
            }
        }
        pooled.extend(vector);
    }
    pooled
}

/// Divides a vector by its Euclidean length. A vector of zeros stays zero.
fn to_length_one(vector: &mut [f64]) {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length.max(1e-12));
}

/// The numbers of a tensor as FP64, so that sums are exact enough, and the function that converts them back.
struct Vectors {
    values: Vec<f64>,
    narrow: fn(Vec<f64>) -> Elements,
}

impl Vectors {
    fn of(tensor: Tensor) -> Result<Vectors, RequestError> {
        Ok(match tensor.into_elements() {
            Elements::Fp32(v) => Vectors {
                values: v.into_iter().map(f64::from).collect(),
                narrow: |v| Elements::Fp32(v.into_iter().map(|x| x as f32).collect()),
            },
            Elements::Fp16(v) => Vectors {
                values: v.into_iter().map(f64::from).collect(),
                narrow: |v| Elements::Fp16(v.into_iter().map(f16::from_f64).collect()),
            },
            Elements::Fp64(values) => Vectors { values, narrow: Elements::Fp64 },
            other => return Err(failed(format!("{} cannot be pooled: expected floats", other.datatype()))),
        })
    }

    fn into_elements(self) -> Elements {
        (self.narrow)(self.values)
    }
}

fn failed(message: String) -> RequestError {
    RequestError::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs two texts of two tokens with two numbers each. The last token of the second text is padding.
    fn run(pooling: Pooling, normalize: Option<Normalize>, mask: Mask) -> Vec<f32> {
        let hidden = Elements::Fp32(vec![1.0, 2.0, 3.0, 6.0, 3.0, 4.0, 100.0, -100.0]);
        let output = Tensor::new(vec![2, 2, 2], hidden).unwrap();
        let ids = Tensor::new(vec![2, 2], Elements::Int64(vec![7, 8, 9, 5])).unwrap();
        let flags = Tensor::new(vec![2, 2], Elements::Int64(vec![1, 1, 1, 0])).unwrap();
        let embeddings = Embeddings::new(mask, vec![Embedding { pooling: Some(pooling), normalize }]);
        let pooled = embeddings.finish(&[ids, flags], vec![output]).unwrap().remove(0);
        assert_eq!(pooled.shape(), [2, 2]);
        let Elements::Fp32(values) = pooled.into_elements() else { panic!() };
        values
    }

    #[test]
    fn padding_is_not_pooled_with_either_kind_of_mask() {
        for mask in [Mask::Input(1), Mask::Filling { input: 0, id: 5 }] {
            assert_eq!(run(Pooling::Mean, None, mask), [2.0, 4.0, 3.0, 4.0]);
            assert_eq!(run(Pooling::Max, None, mask), [3.0, 6.0, 3.0, 4.0]);
            assert_eq!(run(Pooling::Cls, None, mask), [1.0, 2.0, 3.0, 4.0]);
        }
        assert_eq!(run(Pooling::Mean, None, Mask::Absent), [2.0, 4.0, 51.5, -48.0]);
    }

    #[test]
    fn a_normalised_vector_has_length_one_and_zeros_stay_zeros() {
        let values = run(Pooling::Mean, Some(Normalize::L2), Mask::Input(1));
        assert_eq!(values[2..], [0.6, 0.8]);
        let mut zeros = [0.0, 0.0];
        to_length_one(&mut zeros);
        assert_eq!(zeros, [0.0, 0.0]);
    }
}
