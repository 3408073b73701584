//! `StringConcat` and `StringSplit`. Texts are cut as Python's `str.split` does, which is what the standard refers to.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::ToDim;

use super::super::attributes::Attributes;
use super::super::broadcast::{self, pairs};
use super::super::operator::{
    Inputs, Kind, LateLengths, Operator, kept_text, text_bytes, text_tensor, texts,
};
use super::{Built, check_text};

#[derive(Debug)]
struct Concat;

/// Builds a `StringConcat` from its node.
pub fn concat(_: &Attributes) -> Built {
    Ok(Arc::new(Concat))
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (x, y) = (inputs.required(0, "X")?, inputs.required(1, "Y")?);
        check_text(x)?;
        check_text(y)?;
        Ok(tvec![Kind::new(DatumType::String, broadcast::shape(&[x, y])?)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, count: u128) -> u128 {
        // Every text of an input is in the same number of results.
        let repeated = |input: &Tensor| text_bytes(input) as u128 * (count / input.len().max(1) as u128);
        inputs.0.iter().flatten().map(|input| repeated(input)).sum()
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (x, y) = (inputs.required(0, "X")?, inputs.required(1, "Y")?);
        Ok(tvec![pairs::<String, String, String>(x, y, |x, y| [x.as_str(), y].concat())?])
    }
}

#[derive(Debug)]
struct Split {
    /// `None`: white space of any length.
    delimiter: Option<String>,
    /// The most cuts of one text.
    most: usize,
}

/// Builds a `StringSplit` from its node.
pub fn split(attributes: &Attributes) -> Built {
    let delimiter = attributes.string("delimiter", "")?;
    // A negative number is no limit.
    let most = usize::try_from(attributes.int("maxsplit", -1)?).unwrap_or(usize::MAX);
    Ok(Arc::new(Split { delimiter: (!delimiter.is_empty()).then(|| delimiter.to_owned()), most }))
}

impl Split {
    /// The parts of a text.
    fn parts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        match &self.delimiter {
            Some(delimiter) => text.splitn(self.most.saturating_add(1), delimiter.as_str()).collect(),
            None => words(text, self.most),
        }
    }
}

/// The words of a text. After `most` cuts the rest is one part, with the white space at its end.
fn words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = if words.len() < most { rest.find(is_space) } else { None };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after.trim_start_matches(is_space);
    }
    words
}

/// White space as Python defines it: that of Unicode, and four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        check_text(input)?;
        let mut shape = input.shape.clone();
        shape.push(match &input.value {
            Some(value) => texts(value).iter().map(|text| self.parts(text).len()).max().unwrap_or(0).to_dim(),
            None => late.length(0),
        });
        Ok(tvec![Kind::new(DatumType::String, shape), Kind::new(i64::datum_type(), input.shape.clone())])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let parts: Vec<Vec<&str>> = texts(input).iter().map(|text| self.parts(text)).collect();
        let width = parts.iter().map(Vec::len).max().unwrap_or(0);
        // Shorter lists end with empty texts.
        let padded = |parts: &Vec<&str>| -> Vec<String> {
            (0..width).map(|at| parts.get(at).map_or_else(String::new, ToString::to_string)).collect()
        };
        let all: Vec<String> = parts.iter().flat_map(padded).collect();
        let counts: Vec<i64> = parts.iter().map(|parts| parts.len() as i64).collect();
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(width);
        Ok(tvec![text_tensor(&shape, all)?, Tensor::from_shape(input.shape(), &counts)?])
    }
}
