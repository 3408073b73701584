//! `Tokenizer` of `com.microsoft`: cuts texts into tokens, one row for each text. scikit-learn's vectorizers are exported
//! with it. It does what onnxruntime does, because no standard describes it.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{
    Inputs, Kind, LateLengths, Operator, kept_text, longest_text, text_tensor, texts,
};
use super::regex::{Regex, Searcher};
use super::{Built, check_text};

/// The first and the last token of a row, if `mark` asks for them.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

/// How texts are cut.
#[derive(Debug)]
enum Cut {
    /// Every character is a token.
    Characters,
    /// Tokens are what is between matches. Each expression cuts the parts that those before it left.
    Separators(Vec<Regex>),
    /// Tokens are the matches.
    Tokens(Regex),
}

#[derive(Debug)]
struct Tokenizer {
    cut: Cut,
    has_marks: bool,
    /// The fewest characters of a token. Shorter ones are left out.
    least: usize,
    /// Fills the rows that are shorter than the longest.
    padding: String,
}

/// Builds a `Tokenizer` from its node.
pub fn tokenizer(attributes: &Attributes) -> Built {
    if !attributes.strings("stopwords")?.is_empty() {
        return Err(attributes.wrong("`stopwords` is not supported: use a StringNormalizer"));
    }
    let compiled = |name: &str, pattern: &str| {
        Regex::new(pattern).map_err(|error| attributes.wrong(format!("`{name}`: {error}")))
    };
    let separators = attributes.strings("separators")?;
    let cut = match (&separators[..], attributes.string("tokenexp", "")?) {
        ([], "") => return Err(attributes.wrong("expected `separators` or `tokenexp`")),
        ([_, ..], token) if !token.is_empty() => {
            return Err(attributes.wrong("expected one of `separators` and `tokenexp`, not both"));
        }
        ([], ".") => Cut::Characters,
        ([only], _) if only.is_empty() => Cut::Characters,
        ([], token) => Cut::Tokens(compiled("tokenexp", token)?),
        (all, _) => {
            let mut separators = Vec::new();
            for pattern in all {
                let separator = compiled("separators", pattern)?;
                if separator.searcher().is_full_match("") {
                    return Err(attributes.wrong(format!(
                        "the separator `{pattern}` matches a text without characters: expected one that needs a character"
                    )));
                }
                separators.push(separator);
            }
            Cut::Separators(separators)
        }
    };
    let least = attributes.int("mincharnum", 0)?;
    let least = usize::try_from(least).ok().filter(|least| *least > 0);
    let least = least.ok_or_else(|| attributes.wrong("`mincharnum`: expected 1 or more"))?;
    if least > 1 && matches!(cut, Cut::Characters) {
        return Err(attributes.wrong("`mincharnum` is above 1, but each character is a token: expected 1"));
    }
    if !attributes.has("pad_value") {
        return Err(attributes.wrong("`pad_value` is missing"));
    }
    let padding = attributes.string("pad_value", "")?.to_owned();
    Ok(Arc::new(Tokenizer { cut, has_marks: attributes.flag("mark", false)?, least, padding }))
}

impl Tokenizer {
    fn searchers(&self) -> Vec<Searcher<'_>> {
        match &self.cut {
            Cut::Characters => Vec::new(),
            Cut::Separators(all) => all.iter().map(Regex::searcher).collect(),
            Cut::Tokens(token) => vec![token.searcher()],
        }
    }

    /// The tokens of a text, without marks.
    fn tokens<'t>(&self, text: &'t str, searchers: &mut [Searcher]) -> Vec<&'t str> {
        let mut tokens = match &self.cut {
            Cut::Characters => {
                let next = |(at, character): (usize, char)| &text[at..at + character.len_utf8()];
                return text.char_indices().map(next).collect();
            }
            Cut::Tokens(_) => {
                let mut tokens = Vec::new();
                for searcher in searchers {
                    each_match(text, searcher, |start, end| tokens.push(&text[start..end]));
                }
                tokens
            }
            Cut::Separators(_) => {
                searchers.iter_mut().fold(vec![text], |parts, searcher| between(&parts, searcher))
            }
        };
        tokens.retain(|token| !token.is_empty() && token.chars().nth(self.least - 1).is_some());
        tokens
    }

    /// The number of tokens of a row, for a text with so many tokens.
    fn width(&self, tokens: usize) -> usize {
        // When no text has a token, there are no marks either.
        if self.has_marks && tokens > 0 { tokens + MARKS.len() } else { tokens }
    }
}

/// Calls `each` with the places of all matches, without empty ones.
fn each_match(text: &str, searcher: &mut Searcher, mut each: impl FnMut(usize, usize)) {
    let mut from = 0;
    while let Some(found) = searcher.find(text, from) {
        if !found.is_empty() {
            each(found.start(), found.end());
            from = found.end();
            continue;
        }
        // The next search begins one character later.
        match text[found.end()..].chars().next() {
            Some(character) => from = found.end() + character.len_utf8(),
            None => return,
        }
    }
}

/// What is between the matches in each part.
fn between<'t>(parts: &[&'t str], searcher: &mut Searcher) -> Vec<&'t str> {
    let mut rest = Vec::new();
    for part in parts {
        let mut from = 0;
        each_match(part, searcher, |start, end| {
            rest.push(&part[from..start]);
            from = end;
        });
        rest.push(&part[from..]);
    }
    rest.retain(|part| !part.is_empty());
    rest
}

impl Operator for Tokenizer {
    fn name(&self) -> &'static str {
        "Tokenizer"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        check_text(input)?;
        if !matches!(input.shape.len(), 1 | 2) {
            return Err(TractError::msg(format!(
                "its input has {} dimensions: expected 1 or 2",
                input.shape.len()
            )));
        }
        let mut shape = input.shape.clone();
        shape.push(late.length(0));
        Ok(tvec![Kind::new(DatumType::String, shape)])
    }

    fn most_bytes(&self, inputs: &Inputs<Tensor>) -> TractResult<u128> {
        /// Below this it is not worth the time to count the tokens.
        const LITTLE: u128 = 1 << 20;
        let input = inputs.single()?;
        let bytes = |width: usize| (input.len() * self.width(width)) as u128 * size_of::<String>() as u128;
        let most = bytes(longest_text(input));
        if most <= LITTLE {
            return Ok(most);
        }
        let mut searchers = self.searchers();
        let counts = texts(input).iter().map(|text| self.tokens(text, &mut searchers).len());
        Ok(bytes(counts.max().unwrap_or(0)))
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, count: u128) -> u128 {
        kept_text(inputs).saturating_add(count.saturating_mul(self.padding.len().max(1) as u128))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let mut searchers = self.searchers();
        let rows: Vec<Vec<&str>> =
            texts(input).iter().map(|text| self.tokens(text, &mut searchers)).collect();
        let width = self.width(rows.iter().map(Vec::len).max().unwrap_or(0));
        let mut all: Vec<String> = Vec::with_capacity(rows.len() * width);
        for row in rows.iter().filter(|_| width > 0) {
            let end = all.len() + width;
            let marks = if self.has_marks { MARKS.map(Some) } else { [None; 2] };
            let tokens = marks[0].into_iter().chain(row.iter().copied()).chain(marks[1]);
            all.extend(tokens.map(str::to_owned));
            all.resize(end, self.padding.clone());
        }
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(width);
        Ok(tvec![text_tensor(&shape, all)?])
    }
}
