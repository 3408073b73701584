//! Operators on text: what scikit-learn's vectorizers become, and the string operators of ONNX.
//!
//! They follow the text of the ONNX standard. Where it is silent they follow onnxruntime, because exported pipelines were
//! compared with it. Upper and lower case are those of Unicode in full (`ß` is `SS` in upper case), as in the reference
//! evaluator and in scikit-learn itself; onnxruntime changes single characters only.
//!
//! What belongs here: cutting, joining, comparing and counting text. What does not: moving it (`tensors`), and tables of
//! words (`ml`).

mod full_match;
mod normalizer;
mod regex;
mod split;
#[cfg(test)]
mod tests;
mod tfidf;
mod tokenizer;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::entry::Entry;
use super::operator::{Kind, Operator};

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("StringNormalizer", &["case_change_action", "is_case_sensitive", "locale", "stopwords"])
        .own(normalizer::normalizer),
    Entry::onnx("StringConcat", &[]).own(split::concat),
    Entry::onnx("StringSplit", &["delimiter", "maxsplit"]).own(split::split),
    Entry::onnx("RegexFullMatch", &["pattern"]).own(full_match::full_match),
    Entry::onnx(
        "TfIdfVectorizer",
        &[
            "max_gram_length",
            "max_skip_count",
            "min_gram_length",
            "mode",
            "ngram_counts",
            "ngram_indexes",
            "pool_int64s",
            "pool_strings",
            "weights",
        ],
    )
    .own(tfidf::vectorizer),
    Entry::microsoft(
        "Tokenizer",
        &["mark", "mincharnum", "pad_value", "separators", "stopwords", "tokenexp"],
    )
    .own(tokenizer::tokenizer),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

/// Checks that an input holds text.
fn check_text(input: &Kind) -> TractResult<()> {
    match input.datum_type {
        DatumType::String => Ok(()),
        other => Err(TractError::msg(format!("its input is of type {other:?}: expected text"))),
    }
}
