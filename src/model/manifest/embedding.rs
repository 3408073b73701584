//! The result kind "embedding": one vector per text, made from the vectors of its tokens.

use serde::Deserialize;

/// How the vectors of a text's tokens become one vector: `[rows, tokens, width]` becomes `[rows, width]`. Only tokens
/// with 1 in the attention mask take part. `outputs[].pooling` of `model.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean of the tokens' vectors.
    Mean,
    /// The first token's vector.
    Cls,
    /// The largest value at each place of the vectors.
    Max,
}

/// How each vector along the last axis is scaled. `outputs[].normalize` of `model.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// To Euclidean length 1.
    L2,
}
