//! `FeatureVectorizer`: joins the features of several inputs.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, built};

/// Joins the rows of all inputs. Each input has a width: longer rows are cut, and shorter ones filled with zeros.
#[derive(Debug)]
struct Vectorizer {
    widths: Vec<usize>,
    /// The sum of the widths.
    width: usize,
}

/// Builds a `FeatureVectorizer` from its node.
pub fn vectorizer(attributes: &Attributes) -> Built {
    let given = attributes.ints("inputdimensions")?;
    let widths: Option<Vec<usize>> =
        given.iter().map(|width| usize::try_from(*width).ok().filter(|width| *width > 0)).collect();
    let width =
        widths.as_ref().and_then(|all| all.iter().try_fold(0_usize, |sum, one| sum.checked_add(*one)));
    match (widths, width) {
        (Some(widths), Some(width)) if width > 0 => built(Vectorizer { widths, width }),
        _ => {
            Err(attributes.wrong(format!("`inputdimensions` is {given:?}: expected the width of each input")))
        }
    }
}

impl Operator for Vectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let all = inputs.each()?;
        if all.len() != self.widths.len() {
            return Err(TractError::msg(format!(
                "it has {} inputs, and {} widths in `inputdimensions`: expected the same number",
                all.len(),
                self.widths.len()
            )));
        }
        let mut rows: Option<TDim> = None;
        for input in all {
            if !matches!(input.datum_type, DatumType::F32 | DatumType::F64 | DatumType::I32 | DatumType::I64)
            {
                return Err(TractError::msg(format!(
                    "an input is of type {:?}: expected FP32, FP64, INT32 or INT64",
                    input.datum_type
                )));
            }
            let these = match &input.shape[..] {
                [_] => TDim::from(1),
                [rows, _] => rows.clone(),
                shape => {
                    return Err(TractError::msg(format!(
                        "an input has {} dimensions: expected 1 or 2",
                        shape.len()
                    )));
                }
            };
            match rows.as_ref().map(|rows| (rows.to_i64(), these.to_i64())) {
                Some((Ok(a), Ok(b))) if a != b => {
                    return Err(TractError::msg(format!(
                        "its inputs have {a} and {b} rows: expected the same number"
                    )));
                }
                // A known number says more than an open one.
                Some((Ok(_), _)) => {}
                Some((Err(_), Err(_))) => {}
                _ => rows = Some(these),
            }
        }
        let rows = rows.ok_or_else(|| TractError::msg("it has no inputs: expected one or more"))?;
        Ok(tvec![Kind::new(f32::datum_type(), [rows, self.width.into()])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let all = inputs.each()?;
        let rows_of = |input: &Tensor| match *input.shape() {
            [rows, _] => rows,
            _ => 1,
        };
        let rows = all.first().map_or(0, |input| rows_of(input));
        let mut output = Tensor::zero::<f32>(&[rows, self.width])?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let slots = plain.as_slice_mut::<f32>()?;
        let mut start = 0;
        for (input, width) in all.iter().zip(&self.widths) {
            if rows_of(input) != rows {
                return Err(invalid(format!(
                    "inputs of `FeatureVectorizer` have {rows} and {} rows: expected the same number",
                    rows_of(input)
                )));
            }
            let has = input.shape().last().copied().unwrap_or_default();
            let input = input.cast_to::<f32>()?;
            if has > 0 {
                let given = elements::<f32>(&input)?.chunks_exact(has);
                for (to, from) in slots.chunks_exact_mut(self.width).zip(given) {
                    let count = has.min(*width);
                    to[start..][..count].copy_from_slice(&from[..count]);
                }
            }
            start += width;
        }
        Ok(tvec![output])
    }
}
