//! `TfIdfVectorizer`: counts n-grams, and weighs the counts.
//!
//! A weight belongs to an n-gram, as the standard says and onnxruntime does. The reference evaluator takes it as the weight
//! of a column instead, which is another one when `ngram_indexes` is not in order.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, ints, texts};
use super::{Built, check_text};

/// What the counts become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The counts.
    Tf,
    /// The weight of what is there.
    Idf,
    /// The counts times the weights.
    TfIdf,
}

/// The items of the n-grams, numbered.
#[derive(Debug)]
enum Pool {
    Ints(HashMap<i64, u32>),
    Texts(HashMap<String, u32>),
}

/// One n-gram.
#[derive(Debug, Clone, Copy)]
struct Gram {
    /// Its column in the output.
    column: usize,
    weight: f32,
}

/// The n-grams as a tree. Node 0 is its root; a path from there is the beginning of an n-gram.
#[derive(Debug, Default)]
struct Tree {
    /// From a node and the number of an item to the next node.
    next: HashMap<(u32, u32), u32>,
    /// For each node: the n-gram that ends there.
    ends: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Vectorizer {
    mode: Mode,
    pool: Pool,
    tree: Tree,
    grams: Vec<Gram>,
    /// The number of columns of the output.
    width: usize,
    min_length: usize,
    max_length: usize,
    max_skips: usize,
}

/// Builds a `TfIdfVectorizer` from its node.
pub fn vectorizer(attributes: &Attributes) -> Built {
    let positive = |name: &str, least: i64| -> TractResult<usize> {
        let value = attributes.int(name, i64::MIN)?;
        let fits = usize::try_from(value).ok().filter(|_| value >= least);
        fits.ok_or_else(|| attributes.wrong(format!("`{name}`: expected {least} or more")))
    };
    let (min_length, max_length) = (positive("min_gram_length", 1)?, positive("max_gram_length", 1)?);
    if min_length > max_length {
        return Err(attributes.wrong(format!(
            "`min_gram_length` is {min_length} and `max_gram_length` is {max_length}: expected a maximum that is not less"
        )));
    }
    let mode = match attributes.string("mode", "")? {
        "TF" => Mode::Tf,
        "IDF" => Mode::Idf,
        "TFIDF" => Mode::TfIdf,
        other => return Err(attributes.wrong(format!("`mode` is `{other}`: expected TF, IDF or TFIDF"))),
    };
    let (pool, items) = pool(attributes)?;
    let columns = columns(attributes)?;
    let width = columns.iter().max().map_or(0, |last| last + 1);
    let weights = attributes.floats("weights")?;
    if !weights.is_empty() && weights.len() != columns.len() {
        return Err(attributes.wrong(format!(
            "it has {} `weights` and {} `ngram_indexes`: expected as many",
            weights.len(),
            columns.len()
        )));
    }
    let gram = |(at, column): (usize, &usize)| Gram {
        column: *column,
        weight: weights.get(at).copied().unwrap_or(1.0),
    };
    let grams: Vec<Gram> = columns.iter().enumerate().map(gram).collect();
    let tree = tree(attributes, &items, grams.len(), min_length..=max_length)?;
    let max_skips = positive("max_skip_count", 0)?;
    Ok(Arc::new(Vectorizer { mode, pool, tree, grams, width, min_length, max_length, max_skips }))
}

/// The numbers of the items in the pool, and the pool as these numbers.
fn pool(attributes: &Attributes) -> TractResult<(Pool, Vec<u32>)> {
    fn numbered<T: std::hash::Hash + Eq>(all: impl IntoIterator<Item = T>) -> (HashMap<T, u32>, Vec<u32>) {
        let mut numbers = HashMap::new();
        let mut items = Vec::new();
        for item in all {
            let next = numbers.len() as u32;
            items.push(*numbers.entry(item).or_insert(next));
        }
        (numbers, items)
    }
    let (ints, texts) = (attributes.ints("pool_int64s")?, attributes.strings("pool_strings")?);
    match (ints.is_empty(), texts.is_empty()) {
        (false, true) => {
            let (numbers, items) = numbered(ints.iter().copied());
            Ok((Pool::Ints(numbers), items))
        }
        (true, false) => {
            let (numbers, items) = numbered(texts);
            Ok((Pool::Texts(numbers), items))
        }
        _ => Err(attributes.wrong("expected one of `pool_int64s` and `pool_strings`")),
    }
}

/// The columns of the n-grams.
fn columns(attributes: &Attributes) -> TractResult<Vec<usize>> {
    /// An output row of more numbers is not a model that anybody made.
    const MOST: i64 = 1 << 26;
    let indexes = attributes.ints("ngram_indexes")?;
    let column = |index: &i64| usize::try_from(*index).ok().filter(|_| *index < MOST);
    let columns: Option<Vec<usize>> = indexes.iter().map(column).collect();
    columns.filter(|columns| !columns.is_empty()).ok_or_else(|| {
        attributes.wrong(format!("`ngram_indexes`: expected one or more columns from 0 to {MOST}"))
    })
}

/// The tree of the n-grams with these lengths. `count` is the number of all n-grams.
fn tree(
    attributes: &Attributes,
    items: &[u32],
    count: usize,
    lengths: std::ops::RangeInclusive<usize>,
) -> TractResult<Tree> {
    let starts = attributes.ints("ngram_counts")?;
    let wrong = || {
        attributes.wrong(format!(
            "`ngram_counts` is {starts:?}: expected the places in the pool of {} items where the n-grams of each length begin",
            items.len()
        ))
    };
    let place = |start: &i64| usize::try_from(*start).ok().filter(|start| *start <= items.len());
    let mut starts: Vec<usize> = starts.iter().map(place).collect::<Option<_>>().ok_or_else(wrong)?;
    if starts.is_empty() {
        return Err(wrong());
    }
    starts.push(items.len());
    let mut tree = Tree { ends: vec![None], ..Tree::default() };
    let mut next = 0;
    for (at, ends) in starts.windows(2).enumerate() {
        let length = at + 1;
        let part = items.get(ends[0]..ends[1]).ok_or_else(wrong)?;
        if part.len() % length != 0 {
            return Err(wrong());
        }
        for gram in part.chunks_exact(length) {
            if lengths.contains(&length) && !tree.add(gram, next) {
                return Err(attributes.wrong(format!("its n-gram {next} (counted from 0) is there twice")));
            }
            next += 1;
        }
    }
    match next == count {
        true => Ok(tree),
        false => {
            Err(attributes
                .wrong(format!("it has {next} n-grams and {count} `ngram_indexes`: expected as many")))
        }
    }
}

impl Tree {
    /// Adds an n-gram. False if it is already there.
    fn add(&mut self, gram: &[u32], number: usize) -> bool {
        let mut node = 0;
        for item in gram {
            let new = self.ends.len() as u32;
            node = *self.next.entry((node, *item)).or_insert(new);
            if node == new {
                self.ends.push(None);
            }
        }
        self.ends[node as usize].replace(number).is_none()
    }
}

impl Vectorizer {
    /// The number of each item of the input; `None` for one that is in no n-gram.
    fn numbered(&self, input: &Tensor) -> TractResult<Vec<Option<u32>>> {
        Ok(match &self.pool {
            Pool::Ints(numbers) => ints(input)?.iter().map(|item| numbers.get(item).copied()).collect(),
            Pool::Texts(numbers) => texts(input).iter().map(|item| numbers.get(item).copied()).collect(),
        })
    }

    /// Counts the n-grams of a row.
    fn count(&self, row: &[Option<u32>], counts: &mut [u32]) {
        let mut least = self.min_length;
        for step in 1..=self.max_skips.saturating_add(1) {
            for start in 0..row.len() {
                // No n-gram that is long enough begins here or later.
                if start + step.saturating_mul(least - 1) >= row.len() {
                    break;
                }
                self.count_from(row[start..].iter().step_by(step), least, counts);
            }
            // Skips make no other 1-grams, so these are counted only once.
            least = least.max(2);
            if least > self.max_length || step >= row.len() {
                break;
            }
        }
    }

    /// Counts the n-grams of `least` or more items that begin with the first of these.
    fn count_from<'r>(&self, items: impl Iterator<Item = &'r Option<u32>>, least: usize, counts: &mut [u32]) {
        let mut node = 0;
        for (before, item) in items.take(self.max_length).enumerate() {
            let Some(next) = item.and_then(|item| self.tree.next.get(&(node, item))) else { return };
            node = *next;
            if let Some(gram) = self.tree.ends[node as usize].filter(|_| before + 1 >= least) {
                counts[gram] += 1;
            }
        }
    }
}

impl Operator for Vectorizer {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        match (&self.pool, input.datum_type) {
            (Pool::Texts(_), _) => check_text(input)?,
            (Pool::Ints(_), DatumType::I32 | DatumType::I64) => {}
            (Pool::Ints(_), other) => {
                return Err(TractError::msg(format!(
                    "its input is of type {other:?}: expected INT32 or INT64"
                )));
            }
        }
        let width = TDim::from(self.width);
        let shape = match &input.shape[..] {
            [_] => tvec![width],
            [rows, _] => tvec![rows.clone(), width],
            _ => {
                return Err(TractError::msg(format!(
                    "its input has {} dimensions: expected 1, or 2 with a row for each text",
                    input.shape.len()
                )));
            }
        };
        Ok(tvec![Kind::new(f32::datum_type(), shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let (rows, length, shape) = match *input.shape() {
            [length] => (1, length, tvec![self.width]),
            [rows, length] => (rows, length, tvec![rows, self.width]),
            _ => return Err(invalid("its input has a wrong number of dimensions: expected 1 or 2")),
        };
        let items = self.numbered(input)?;
        let mut output = vec![0_f32; rows * self.width];
        let mut counts = vec![0_u32; self.grams.len()];
        for (at, row) in output.chunks_exact_mut(self.width).enumerate() {
            counts.fill(0);
            self.count(&items[at * length..(at + 1) * length], &mut counts);
            for (gram, count) in self.grams.iter().zip(&counts).filter(|(_, count)| **count > 0) {
                row[gram.column] += match self.mode {
                    Mode::Tf => *count as f32,
                    Mode::Idf => gram.weight,
                    Mode::TfIdf => *count as f32 * gram.weight,
                };
            }
        }
        Ok(tvec![Tensor::from_shape(&shape, &output)?])
    }
}
