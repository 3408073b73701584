//! `StringNormalizer`: leaves out stop words and changes upper and lower case.
//!
//! The reference evaluator also removes accents, drops empty texts, and looks for stop words inside the texts. The standard
//! says none of this, and onnxruntime does not do it.

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, kept_text, text_tensor, texts};
use super::{Built, check_text};

/// The languages whose letters have other cases than in the rest of Unicode.
const OTHER_CASES: &[&str] = &["tr", "az", "lt"];

/// The change of upper and lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Keep,
    Lower,
    Upper,
}

#[derive(Debug)]
struct Normalizer {
    case: Case,
    /// In lower case, unless `is_case_sensitive`.
    stop_words: HashSet<String>,
    is_case_sensitive: bool,
}

/// Builds a `StringNormalizer` from its node.
pub fn normalizer(attributes: &Attributes) -> Built {
    let case = match attributes.string("case_change_action", "NONE")? {
        "NONE" => Case::Keep,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => {
            let message = format!("`case_change_action` is `{other}`: expected NONE, LOWER or UPPER");
            return Err(attributes.wrong(message));
        }
    };
    let locale = attributes.string("locale", "en_US")?;
    let language = locale.split(['_', '-', '.', '@']).next().unwrap_or_default().to_lowercase();
    if OTHER_CASES.contains(&&*language) {
        return Err(attributes.wrong(format!(
            "`locale` is `{locale}`: the upper and lower case of this language is not supported; use another locale, if \
             the texts have none of its special letters"
        )));
    }
    let is_case_sensitive = attributes.flag("is_case_sensitive", false)?;
    let word = |word: String| if is_case_sensitive { word } else { word.to_lowercase() };
    let stop_words = attributes.strings("stopwords")?.into_iter().map(word).collect();
    Ok(Arc::new(Normalizer { case, stop_words, is_case_sensitive }))
}

impl Normalizer {
    fn is_stop_word(&self, text: &str) -> bool {
        match self.is_case_sensitive {
            true => self.stop_words.contains(text),
            false => !self.stop_words.is_empty() && self.stop_words.contains(&text.to_lowercase()),
        }
    }
}

impl Operator for Normalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        check_text(input)?;
        let wrong =
            || TractError::msg(format!("its input has the shape {:?}: expected [C] or [1, C]", input.shape));
        match &input.shape[..] {
            [_] => {}
            [rows, _] if rows.to_usize().map_or(true, |rows| rows == 1) => {}
            _ => return Err(wrong()),
        }
        let mut shape = input.shape.clone();
        if shape.len() == 2 {
            shape[0] = 1.into();
        }
        if !self.stop_words.is_empty()
            && let Some(last) = shape.last_mut()
        {
            *last = match &input.value {
                Some(value) => kept(texts(value).iter().filter(|text| !self.is_stop_word(text)).count()),
                None => late.length(0),
            };
        }
        Ok(tvec![Kind::new(DatumType::String, shape)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        // A character of 2 bytes can become three of 2 bytes in upper case.
        3 * kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        if input.rank() == 2 && input.shape()[0] != 1 {
            return Err(invalid(format!(
                "its input has the shape {:?}: expected [C] or [1, C]",
                input.shape()
            )));
        }
        let changed = |text: &String| match self.case {
            Case::Keep => text.clone(),
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
        };
        let mut all: Vec<String> =
            texts(input).iter().filter(|text| !self.is_stop_word(text)).map(changed).collect();
        if all.is_empty() && !self.stop_words.is_empty() {
            all.push(String::new());
        }
        let mut shape: TVec<usize> = input.shape().into();
        if let Some(last) = shape.last_mut() {
            *last = all.len();
        }
        Ok(tvec![text_tensor(&shape, all)?])
    }
}

/// The length of the output. If no text is left, it is one empty text.
fn kept(count: usize) -> TDim {
    count.max(1).to_dim()
}
