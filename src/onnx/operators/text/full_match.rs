//! `RegexFullMatch`: whether a regular expression matches a whole text.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, texts};
use super::regex::Regex;
use super::{Built, check_text};

#[derive(Debug)]
struct FullMatch {
    pattern: Regex,
}

/// Builds a `RegexFullMatch` from its node.
pub fn full_match(attributes: &Attributes) -> Built {
    let pattern = attributes.string("pattern", "")?;
    let pattern = Regex::new(pattern).map_err(|error| attributes.wrong(format!("`pattern`: {error}")))?;
    Ok(Arc::new(FullMatch { pattern }))
}

impl Operator for FullMatch {
    fn name(&self) -> &'static str {
        "RegexFullMatch"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        check_text(input)?;
        Ok(tvec![Kind::new(bool::datum_type(), input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let mut searcher = self.pattern.searcher();
        let matches: Vec<bool> = texts(input).iter().map(|text| searcher.is_full_match(text)).collect();
        Ok(tvec![Tensor::from_shape(input.shape(), &matches)?])
    }
}
