//! Operators on categories: `OneHotEncoder` and `CategoryMapper`.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::{Built, built};

/// The column of each category.
#[derive(Debug)]
enum Columns {
    Numbers(HashMap<i64, usize>),
    Words(HashMap<String, usize>),
}

/// Replaces each element by a row of zeros with a single one, in the column of its category.
#[derive(Debug)]
struct OneHot {
    columns: Columns,
    /// The number of categories.
    width: usize,
    /// What to do with an element of no category: a row of zeros when true, else an error.
    zeros: bool,
}

/// Builds a `OneHotEncoder` from its node.
pub fn one_hot(attributes: &Attributes) -> Built {
    let (numbers, words) = (attributes.ints("cats_int64s")?, attributes.strings("cats_strings")?);
    let width = numbers.len().max(words.len());
    let columns = match (numbers.is_empty(), words.is_empty()) {
        (false, true) => {
            Columns::Numbers(numbers.iter().enumerate().map(|(at, number)| (*number, at)).collect())
        }
        (true, false) => Columns::Words(words.into_iter().enumerate().map(|(at, word)| (word, at)).collect()),
        _ => return Err(attributes.wrong("expected one of `cats_int64s` and `cats_strings`")),
    };
    let different = match &columns {
        Columns::Numbers(all) => all.len(),
        Columns::Words(all) => all.len(),
    };
    if different != width {
        return Err(attributes.wrong("a category is listed twice: expected each once"));
    }
    built(OneHot { columns, width, zeros: attributes.flag("zeros", true)? })
}

/// A number without its fraction, as the key of a category. `None` for NaN and for what no INT64 can be.
fn whole(value: f64) -> Option<i64> {
    let value = value.trunc();
    // 2^63 is the smallest double that is too large.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    fits.then_some(value as i64)
}

impl OneHot {
    /// The column of each element.
    fn places(&self, input: &Tensor) -> TractResult<Vec<Option<usize>>> {
        Ok(match (&self.columns, input.datum_type()) {
            (Columns::Words(columns), DatumType::String) => {
                elements::<String>(input)?.iter().map(|word| columns.get(word).copied()).collect()
            }
            (Columns::Numbers(columns), DatumType::F32 | DatumType::F64) => {
                let input = input.cast_to::<f64>()?;
                let numbers = elements::<f64>(&input)?.iter();
                numbers.map(|number| columns.get(&whole(*number)?).copied()).collect()
            }
            (Columns::Numbers(columns), _) => {
                let input = input.cast_to::<i64>()?;
                elements::<i64>(&input)?.iter().map(|number| columns.get(number).copied()).collect()
            }
            (Columns::Words(_), other) => return Err(wrong_type(other, "strings")),
        })
    }
}

fn wrong_type(given: DatumType, expected: &str) -> TractError {
    TractError::msg(format!("the input is of type {given:?}: expected {expected}"))
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        match (&self.columns, input.datum_type) {
            (Columns::Words(_), DatumType::String) => {}
            (Columns::Words(_), other) => {
                return Err(wrong_type(other, "strings, because it has `cats_strings`"));
            }
            (Columns::Numbers(_), DatumType::F32 | DatumType::F64 | DatumType::I32 | DatumType::I64) => {}
            (Columns::Numbers(_), other) => {
                return Err(wrong_type(other, "INT64, INT32, FP32 or FP64, because it has `cats_int64s`"));
            }
        }
        let shape = input.shape.iter().cloned().chain([self.width.into()]);
        Ok(tvec![Kind::new(f32::datum_type(), shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let places = self.places(input)?;
        if let (false, Some(at)) = (self.zeros, places.iter().position(Option::is_none)) {
            return Err(invalid(format!(
                "element {at} (counted from 0) of the input of `OneHotEncoder` is none of its {} categories: expected only \
                 these (`zeros` is 0)",
                self.width
            )));
        }
        let mut all = vec![0.0_f32; places.len() * self.width];
        for (row, place) in all.chunks_exact_mut(self.width).zip(places) {
            if let Some(place) = place {
                row[place] = 1.0;
            }
        }
        let shape: TVec<usize> = input.shape().iter().copied().chain([self.width]).collect();
        Ok(tvec![Tensor::from_shape(&shape, &all)?])
    }
}

/// Replaces integers by strings, or strings by integers.
#[derive(Debug)]
struct Mapper {
    words: HashMap<i64, String>,
    numbers: HashMap<String, i64>,
    default_word: String,
    default_number: i64,
}

/// Builds a `CategoryMapper` from its node.
pub fn mapper(attributes: &Attributes) -> Built {
    let (numbers, words) = (attributes.ints("cats_int64s")?, attributes.strings("cats_strings")?);
    if numbers.len() != words.len() {
        return Err(attributes.wrong(format!(
            "`cats_int64s` has {} elements and `cats_strings` {}: expected the same number",
            numbers.len(),
            words.len()
        )));
    }
    // Of equal keys the last counts, as in onnxruntime.
    built(Mapper {
        words: numbers.iter().copied().zip(words.iter().cloned()).collect(),
        numbers: words.into_iter().zip(numbers.iter().copied()).collect(),
        default_word: attributes.string("default_string", "_Unused")?.to_owned(),
        default_number: attributes.int("default_int64", -1)?,
    })
}

impl Operator for Mapper {
    fn name(&self) -> &'static str {
        "CategoryMapper"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        let to = match input.datum_type {
            DatumType::I64 => DatumType::String,
            DatumType::String => DatumType::I64,
            other => return Err(wrong_type(other, "INT64 or strings")),
        };
        Ok(tvec![Kind::new(to, input.shape.clone())])
    }

    fn longest_text(&self) -> usize {
        self.words.values().chain([&self.default_word]).map(String::len).max().unwrap_or(0)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let output = if input.datum_type() == DatumType::String {
            let number = |word: &String| self.numbers.get(word).copied().unwrap_or(self.default_number);
            tensor1(&elements::<String>(input)?.iter().map(number).collect::<Vec<_>>())
        } else {
            let word = |number: &i64| self.words.get(number).unwrap_or(&self.default_word).clone();
            tensor1(&elements::<i64>(input)?.iter().map(word).collect::<Vec<_>>())
        };
        Ok(tvec![output.into_shape(input.shape())?])
    }
}
