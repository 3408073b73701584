//! Scaled dot-product attention of heads that are in memory: what all operators of this family share.
//!
//! Scores are computed for a few queries at a time, so that long sequences do not need a matrix of all scores. The matrix
//! products are those of `ndarray`.

use onnxd_kernels::softmax;
use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};
use tract_onnx::prelude::*;

use super::super::curves::Curves;
use super::super::floats::{Real, largest, sum, wide};
use super::super::operator::elements;

/// The number of queries whose scores are in memory at once.
const QUERIES: usize = 64;

/// Vectors of several heads, `[batch, heads, length, size]`, dense.
#[derive(Debug, Clone)]
pub struct Heads<T> {
    pub values: Vec<T>,
    pub batch: usize,
    pub heads: usize,
    pub length: usize,
    pub size: usize,
}

impl<T: Real> Heads<T> {
    /// Heads with zeros.
    pub fn zero(batch: usize, heads: usize, length: usize, size: usize) -> Heads<T> {
        Heads { values: vec![T::zero(); batch * heads * length * size], batch, heads, length, size }
    }

    /// Reads `[batch, heads, length, size]`, or `[batch, length, heads × size]` with the number of heads. If the number is
    /// given, the heads must be so many.
    pub fn read(tensor: &Tensor, heads: Option<usize>) -> TractResult<Heads<T>> {
        let wide = wide::<T>(tensor)?;
        let values = elements::<T>(&wide)?;
        match (tensor.shape(), heads) {
            (&[batch, heads, length, size], given) if given.is_none_or(|given| given == heads) => {
                Ok(Heads { values: values.to_vec(), batch, heads, length, size })
            }
            (&[batch, length, hidden], Some(heads)) if heads > 0 && hidden % heads == 0 => {
                let mut all = Heads::zero(batch, heads, length, hidden / heads);
                all.fill_columns(values, hidden, 0);
                Ok(all)
            }
            (shape, heads) => Err(TractError::msg(format!(
                "an input has the shape {shape:?} for {heads:?} heads: expected [batch, heads, length, size] or [batch, \
                 length, heads × size]"
            ))),
        }
    }

    /// Takes columns of `[batch, length, columns]`, from the column `first` on.
    pub fn fill_columns(&mut self, values: &[T], columns: usize, first: usize) {
        let (size, length) = (self.size, self.length);
        if size == 0 || length == 0 {
            return;
        }
        for (number, rows) in self.values.chunks_exact_mut(length * size).enumerate() {
            let (batch, head) = (number / self.heads, number % self.heads);
            for (at, row) in rows.chunks_exact_mut(size).enumerate() {
                let from = (batch * length + at) * columns + first + head * size;
                row.copy_from_slice(&values[from..from + size]);
            }
        }
    }

    /// Adds one number to each element of each head, `[heads × size]`.
    pub fn shift(&mut self, bias: &[T]) {
        if self.size == 0 || self.length == 0 {
            return;
        }
        for (number, rows) in self.values.chunks_exact_mut(self.length * self.size).enumerate() {
            let bias = &bias[number % self.heads * self.size..][..self.size];
            for row in rows.chunks_exact_mut(self.size) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += *bias);
            }
        }
    }

    /// These vectors after others of the same heads.
    pub fn after(self, past: &Heads<T>) -> TractResult<Heads<T>> {
        if (past.batch, past.heads, past.size) != (self.batch, self.heads, self.size) {
            return Err(TractError::msg(format!(
                "the past has the shape {:?}: expected {:?} with any length",
                [past.batch, past.heads, past.length, past.size],
                [self.batch, self.heads, self.length, self.size]
            )));
        }
        let mut values = Vec::with_capacity(past.values.len() + self.values.len());
        for number in 0..self.batch * self.heads {
            values.extend_from_slice(past.part(number));
            values.extend_from_slice(self.part(number));
        }
        Ok(Heads { values, length: past.length + self.length, ..self })
    }

    /// The vectors of a head, counted through all batches.
    pub fn part(&self, number: usize) -> &[T] {
        let count = self.length * self.size;
        &self.values[number * count..(number + 1) * count]
    }

    /// One vector of a head, counted through all batches.
    pub fn row(&self, number: usize, at: usize) -> &[T] {
        let begin = (number * self.length + at) * self.size;
        &self.values[begin..begin + self.size]
    }

    /// As a tensor `[batch, heads, length, size]`.
    pub fn tensor(&self) -> TractResult<Tensor> {
        Tensor::from_shape(&[self.batch, self.heads, self.length, self.size], &self.values)
    }

    /// As a tensor `[batch, length, heads × size]`.
    pub fn merged(&self) -> TractResult<Tensor> {
        let shape = [self.batch, self.length, self.heads * self.size];
        let mut tensor = Tensor::zero::<T>(&shape)?;
        let mut plain = tensor.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        if self.size > 0 {
            for (number, row) in values.chunks_exact_mut(self.size).enumerate() {
                let (at, head) = (number / self.heads, number % self.heads);
                let (batch, at) = (at / self.length, at % self.length);
                let from = ((batch * self.heads + head) * self.length + at) * self.size;
                row.copy_from_slice(&self.values[from..from + self.size]);
            }
        }
        Ok(tensor)
    }
}

/// How scores are made from products of queries and keys.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// The factor of the products. `None`: 1 ÷ √size.
    pub scale: Option<f64>,
    /// The largest score, approached by a hyperbolic tangent. 0: none.
    pub softcap: f64,
}

/// A step of the computation whose values can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The products of queries and keys, with their factor.
    Products,
    /// After the soft cap.
    Capped,
    /// After the bias.
    Biased,
    /// After the softmax.
    Probabilities,
}

/// A place for the values of a step, `[batch, heads of queries, queries, keys]`.
#[derive(Debug)]
pub struct Watch<T> {
    /// The step.
    pub step: Step,
    /// The values.
    pub values: Vec<T>,
}

/// The bias of the scores of a query: it is called with the batch, the head and the query, and writes what is added to the
/// score of each key. −∞ masks a key. The values are 0 before.
pub type Bias<'a, T> = &'a dyn Fn([usize; 3], &mut [T]);

/// Attends: for each query, the mean of the values by the softmax of its scores. A query whose keys are all masked has zeros.
///
/// Errors: shapes do not fit.
pub fn attend<T: Curves>(
    queries: &Heads<T>,
    keys: &Heads<T>,
    values: &Heads<T>,
    scoring: Scoring,
    bias: Bias<T>,
    mut watch: Option<&mut Watch<T>>,
) -> TractResult<Heads<T>> {
    check(queries, keys, values)?;
    let mut output = Heads::zero(queries.batch, queries.heads, queries.length, values.size);
    let shared = queries.heads / keys.heads.max(1);
    let scale = T::of(scoring.scale.unwrap_or_else(|| 1.0 / (queries.size as f64).sqrt()));
    let mut scores = vec![T::zero(); QUERIES.min(queries.length) * keys.length];
    let mut biases = vec![T::zero(); keys.length];
    for number in 0..queries.batch * queries.heads {
        let (batch, head) = (number / queries.heads, number % queries.heads);
        let own = batch * keys.heads + head / shared;
        let keys_own = matrix(keys.part(own), keys.length, keys.size)?;
        let values_own = matrix(values.part(own), values.length, values.size)?;
        for first in (0..queries.length).step_by(QUERIES) {
            let count = QUERIES.min(queries.length - first);
            let rows = &queries.part(number)[first * queries.size..][..count * queries.size];
            let scores = &mut scores[..count * keys.length];
            let products = &mut matrix_mut(scores, count, keys.length)?;
            general_mat_mul(scale, &matrix(rows, count, queries.size)?, &keys_own.t(), T::zero(), products);
            let mut seen = watch.as_deref_mut().map(|watch| {
                let begin = (number * queries.length + first) * keys.length;
                (watch.step, &mut watch.values[begin..begin + count * keys.length])
            });
            for row in 0..count {
                let scores = &mut scores[row * keys.length..][..keys.length];
                biases.fill(T::zero());
                bias([batch, head, first + row], &mut biases);
                let seen =
                    seen.as_mut().map(|(step, all)| (*step, &mut all[row * keys.length..][..keys.length]));
                probabilities(scores, &biases, T::of(scoring.softcap), seen);
            }
            let begin = (number * queries.length + first) * values.size;
            let made = &mut output.values[begin..begin + count * values.size];
            let made = &mut matrix_mut(made, count, values.size)?;
            general_mat_mul(T::one(), &matrix(scores, count, keys.length)?, &values_own, T::zero(), made);
        }
    }
    Ok(output)
}

/// The products of queries and keys with a factor, `[batch, heads of queries, queries, keys]`.
pub fn products<T: Real>(queries: &Heads<T>, keys: &Heads<T>, scale: Option<f64>) -> TractResult<Tensor> {
    check(queries, keys, keys)?;
    let scale = T::of(scale.unwrap_or_else(|| 1.0 / (queries.size as f64).sqrt()));
    of_heads(queries, keys, keys.length, |rows, keys, mut to| {
        general_mat_mul(scale, rows, &keys.t(), T::zero(), &mut to);
    })
}

/// The means of values by probabilities, `[batch, heads of queries, queries, size]`.
pub fn mix<T: Real>(probabilities: &Heads<T>, values: &Heads<T>) -> TractResult<Tensor> {
    let fits = probabilities.size == values.length
        && probabilities.batch == values.batch
        && (probabilities.heads == 0 || values.heads > 0 && probabilities.heads.is_multiple_of(values.heads));
    if !fits {
        return Err(TractError::msg(format!(
            "its values have {} heads of {} vectors, for {} heads of queries and {} probabilities: expected values that fit",
            values.heads, values.length, probabilities.heads, probabilities.size
        )));
    }
    of_heads(probabilities, values, values.size, |rows, values, mut to| {
        general_mat_mul(T::one(), rows, values, T::zero(), &mut to);
    })
}

/// What `compute` makes of each head and the head of `others` that belongs to it: a matrix with `columns` columns. Several
/// heads in a row share one of `others`.
fn of_heads<T: Real>(
    heads: &Heads<T>,
    others: &Heads<T>,
    columns: usize,
    compute: impl Fn(&ArrayView2<T>, &ArrayView2<T>, ArrayViewMut2<T>),
) -> TractResult<Tensor> {
    let mut made = Heads::zero(heads.batch, heads.heads, heads.length, columns);
    let shared = heads.heads / others.heads.max(1);
    let count = heads.length * columns;
    for number in 0..heads.batch * heads.heads {
        let other = number / heads.heads * others.heads + number % heads.heads / shared;
        let rows = matrix(heads.part(number), heads.length, heads.size)?;
        let other = matrix(others.part(other), others.length, others.size)?;
        let to = &mut made.values[number * count..(number + 1) * count];
        compute(&rows, &other, matrix_mut(to, heads.length, columns)?);
    }
    made.tensor()
}

fn check<T>(queries: &Heads<T>, keys: &Heads<T>, values: &Heads<T>) -> TractResult<()> {
    let shape = |heads: &Heads<T>| [heads.batch, heads.heads, heads.length, heads.size];
    let fits = queries.size == keys.size
        && queries.batch == keys.batch
        && (keys.batch, keys.heads, keys.length) == (values.batch, values.heads, values.length)
        && (queries.heads == 0 || keys.heads > 0 && queries.heads.is_multiple_of(keys.heads));
    match fits {
        true => Ok(()),
        false => Err(TractError::msg(format!(
            "queries, keys and values have the shapes {:?}, {:?} and {:?} ([batch, heads, length, size]): expected equal \
             batches, sizes of queries and keys, heads and lengths of keys and values, and heads of queries that are a \
             multiple of those of keys",
            shape(queries),
            shape(keys),
            shape(values)
        ))),
    }
}

fn matrix<T>(values: &[T], rows: usize, columns: usize) -> TractResult<ArrayView2<'_, T>> {
    ArrayView2::from_shape((rows, columns), values).map_err(TractError::msg)
}

fn matrix_mut<T>(values: &mut [T], rows: usize, columns: usize) -> TractResult<ArrayViewMut2<'_, T>> {
    ArrayViewMut2::from_shape((rows, columns), values).map_err(TractError::msg)
}

/// Makes probabilities of the products of one query.
fn probabilities<T: Curves>(scores: &mut [T], biases: &[T], cap: T, mut seen: Option<(Step, &mut [T])>) {
    let mut show = |step: Step, scores: &[T]| match &mut seen {
        Some((wanted, to)) if *wanted == step => to.copy_from_slice(scores),
        _ => {}
    };
    show(Step::Products, scores);
    if cap > T::zero() {
        scores.iter_mut().for_each(|score| *score = (*score / cap).tangent() * cap);
    }
    show(Step::Capped, scores);
    scores.iter_mut().zip(biases).for_each(|(score, bias)| *score += *bias);
    show(Step::Biased, scores);
    if biases.iter().all(|bias| *bias == T::neg_infinity()) {
        scores.fill(T::zero());
    } else {
        softmax(scores);
    }
    show(Step::Probabilities, scores);
}

/// The softmax. Scores that are all −∞ give zeros.
pub fn softmax<T: Curves>(scores: &mut [T]) {
    let most = largest(scores).unwrap_or_else(T::zero);
    if most == T::neg_infinity() {
        scores.fill(T::zero());
        return;
    }
    if let Some(scores) = T::singles_mut(scores) {
        return softmax::in_place(scores);
    }
    scores.iter_mut().for_each(|score| *score = (*score - most).power_of_e());
    let factor = T::of(1.0 / sum(scores));
    scores.iter_mut().for_each(|score| *score *= factor);
}

/// A mask, in the form that is added to scores.
#[derive(Debug)]
pub struct Mask<T> {
    values: Vec<T>,
    /// The steps for one batch, head and query; 0 where the mask is the same for all.
    steps: [usize; 3],
    length: usize,
}

impl<T: Real> Mask<T> {
    /// A mask of these values, with the steps for one batch, head and query, and the number of keys.
    pub fn of(values: Vec<T>, steps: [usize; 3], length: usize) -> Mask<T> {
        Mask { values, steps, length }
    }

    /// Reads a mask that is broadcast to `[batch, heads, queries, keys]`. BOOL: true for keys that count. Its last axis may be
    /// shorter than `keys`: then the last keys are masked.
    pub fn read(mask: &Tensor, to: [usize; 4]) -> TractResult<Mask<T>> {
        let shape = mask.shape();
        let [.., keys] = to;
        let length = shape.last().copied().unwrap_or(1);
        let outer = shape.split_last().map_or(&[][..], |(_, outer)| outer);
        let places = to[..3].iter().rev();
        if outer.len() > 3
            || length > keys
            || outer.iter().rev().zip(places).any(|(own, all)| *own != 1 && own != all)
        {
            return Err(TractError::msg(format!(
                "its mask has the shape {shape:?}: expected one that can be broadcast to {to:?}"
            )));
        }
        let mut steps = [0; 3];
        let mut volume = length;
        for (at, own) in outer.iter().rev().enumerate() {
            steps[2 - at] = if *own == 1 { 0 } else { volume };
            volume *= own;
        }
        let values = match mask.datum_type() {
            DatumType::Bool => {
                let one = |counts: &bool| if *counts { T::zero() } else { T::neg_infinity() };
                elements::<bool>(mask)?.iter().map(one).collect()
            }
            _ => elements::<T>(&*wide::<T>(mask)?)?.to_vec(),
        };
        Ok(Mask { values, steps, length })
    }

    /// Adds the mask of a batch, head and query.
    pub fn add(&self, at: [usize; 3], biases: &mut [T]) {
        let begin: usize = at.iter().zip(self.steps).map(|(at, step)| at * step).sum();
        let (masked, rest) = biases.split_at_mut(self.length.min(biases.len()));
        masked.iter_mut().zip(&self.values[begin..]).for_each(|(bias, value)| *bias += *value);
        rest.fill(T::neg_infinity());
    }
}

/// Masks all keys outside of a range.
pub fn keep_only<T: Real>(biases: &mut [T], keys: std::ops::Range<i64>) {
    let count = biases.len() as i64;
    let begin = keys.start.clamp(0, count) as usize;
    let end = (keys.end.clamp(0, count) as usize).max(begin);
    biases[..begin].fill(T::neg_infinity());
    biases[end..].fill(T::neg_infinity());
}
