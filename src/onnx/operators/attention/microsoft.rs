//! `Attention` and `MultiHeadAttention` of onnxruntime, which its optimizer writes for transformers.
//!
//! They follow onnxruntime: a masked key gets `mask_filter_value` added to its score. Caches that the caller shares
//! (`past_present_share_buffer`), rotation inside the operator (`do_rotary`) and packed inputs are refused.

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::core::{Heads, Mask, Scoring, attend, keep_only};
use super::standard::count;
use super::{Built, built};

/// The attributes that both operators have.
#[derive(Debug)]
struct Common {
    heads: usize,
    scoring: Scoring,
    filter: f64,
    order: Order,
}

/// Which keys a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Any,
    /// Only those up to its own place (`unidirectional`).
    Causal,
}

impl Common {
    fn read(attributes: &Attributes) -> TractResult<Common> {
        let heads = count(attributes, "num_heads")?;
        let heads = heads.ok_or_else(|| attributes.wrong("the attribute `num_heads` is missing"))?;
        let scale = attributes.float("scale", 0.0)?;
        for name in ["do_rotary", "past_present_share_buffer"] {
            if attributes.flag(name, false)? {
                return Err(attributes.wrong(format!("`{name}` must be 0")));
            }
        }
        Ok(Common {
            heads,
            scoring: Scoring { scale: (scale != 0.0).then_some(f64::from(scale)), softcap: 0.0 },
            filter: f64::from(attributes.float("mask_filter_value", -10000.0)?),
            order: if attributes.flag("unidirectional", false)? { Order::Causal } else { Order::Any },
        })
    }

    /// Computes the attention, with a mask of keys and a bias.
    fn attend<T: Curves>(
        &self,
        [q, k, v]: [&Heads<T>; 3],
        mask: Option<&Tensor>,
        bias: Option<&Tensor>,
        past: usize,
    ) -> TractResult<Heads<T>> {
        let mask = mask.map(|mask| self.key_mask::<T>(mask, [q.batch, q.length, k.length])).transpose()?;
        let bias =
            bias.map(|bias| Mask::<T>::read(bias, [q.batch, q.heads, q.length, k.length])).transpose()?;
        if self.order == Order::Causal && past + q.length != k.length {
            return Err(TractError::msg(format!(
                "`unidirectional` is 1, and it has {} queries and {} keys: expected as many queries as new keys",
                q.length, k.length
            )));
        }
        let all = |at: [usize; 3], biases: &mut [T]| {
            for mask in [&mask, &bias].into_iter().flatten() {
                mask.add(at, biases);
            }
            if self.order == Order::Causal {
                keep_only(biases, 0..(past + at[2] + 1) as i64);
            }
        };
        attend(q, k, v, self.scoring, &all, None)
    }

    /// A mask of keys: the number of keys of each batch, `[batch]`; their ends and then their begins, `[2 × batch]`; or 1 for
    /// each key that counts, `[batch, keys]` or `[batch, queries, keys]`.
    fn key_mask<T: Curves>(&self, mask: &Tensor, [batch, queries, keys]: [usize; 3]) -> TractResult<Mask<T>> {
        let values = ints(mask)?;
        let one = |counts: bool| if counts { T::zero() } else { T::of(self.filter) };
        let rows = |begin: &dyn Fn(usize) -> i64| -> Vec<T> {
            let row = |batch| (0..keys as i64).map(move |key| (batch, key));
            (0..batch)
                .flat_map(row)
                .map(|(batch, key)| one((begin(batch)..values[batch]).contains(&key)))
                .collect()
        };
        let each = || values.iter().map(|value| one(*value > 0)).collect();
        match *mask.shape() {
            [count] if count == batch => Ok(Mask::of(rows(&|_| 0), [keys, 0, 0], keys)),
            [count] if count == 2 * batch => Ok(Mask::of(rows(&|at| values[batch + at]), [keys, 0, 0], keys)),
            [a, b] if [a, b] == [batch, keys] => Ok(Mask::of(each(), [keys, 0, 0], keys)),
            [a, b, c] if [a, b, c] == [batch, queries, keys] => {
                Ok(Mask::of(each(), [queries * keys, 0, keys], keys))
            }
            ref shape => Err(TractError::msg(format!(
                "its mask has the shape {shape:?}: expected [{batch}], [{}], [{batch}, {keys}] or [{batch}, {queries}, {keys}]",
                2 * batch
            ))),
        }
    }
}

/// `Attention`.
#[derive(Debug)]
struct Attention {
    common: Common,
    /// The numbers of elements of queries, keys and values of all heads. Empty: a third of the weights each.
    sizes: Vec<usize>,
}

/// Builds an `Attention` of onnxruntime from its node.
pub fn attention(attributes: &Attributes) -> Built {
    let common = Common::read(attributes)?;
    let sizes = attributes.ints("qkv_hidden_sizes")?.iter();
    let sizes: Option<Vec<usize>> = sizes.map(|size| usize::try_from(*size).ok()).collect();
    let fits = |sizes: &Vec<usize>| {
        sizes.is_empty()
            || sizes.len() == 3 && sizes[0] == sizes[1] && sizes.iter().all(|size| size % common.heads == 0)
    };
    let sizes = sizes.filter(fits).ok_or_else(|| {
        attributes.wrong("`qkv_hidden_sizes` must be three multiples of `num_heads`, the first two equal")
    })?;
    built(Attention { common, sizes })
}

impl Attention {
    /// The numbers of elements of queries, keys and values, for so many columns of the weights.
    fn sizes(&self, columns: usize) -> TractResult<[usize; 3]> {
        let sizes = match self.sizes[..] {
            [q, k, v] => [q, k, v],
            _ => [columns / 3; 3],
        };
        match sizes.iter().sum::<usize>() == columns && sizes[0] % self.common.heads == 0 {
            true => Ok(sizes),
            false => Err(TractError::msg(format!(
                "its weights have {columns} columns: expected queries, keys and values of {} heads",
                self.common.heads
            ))),
        }
    }

    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, weights) = (inputs.required(0, "input")?, inputs.required(1, "weights")?);
        let [batch, length, hidden] = [0, 1, 2].map(|at| input.shape()[at]);
        let columns = weights.shape()[1];
        if weights.shape() != [hidden, columns]
            || inputs.optional(2).is_some_and(|bias| bias.len() != columns)
        {
            return Err(TractError::msg(format!(
                "its weights have the shape {:?}: expected {hidden} rows, and a bias with one number for each column",
                weights.shape()
            )));
        }
        let made = projected::<T>(input, weights, inputs.optional(2), batch * length)?;
        let mut first = 0;
        let heads = self.sizes(columns)?.map(|size| {
            let mut heads = Heads::zero(batch, self.common.heads, length, size / self.common.heads);
            heads.fill_columns(&made, columns, first);
            first += size;
            heads
        });
        let [q, mut k, mut v] = heads;
        let mut before = 0;
        if let Some(past) = inputs.optional(4) {
            let halves = halves(past)?;
            before = past.shape()[3];
            k = k.after(&Heads::read(&halves[0], None)?)?;
            v = v.after(&Heads::read(&halves[1], None)?)?;
        }
        let output = self.common.attend([&q, &k, &v], inputs.optional(3), inputs.optional(5), before)?;
        let mut outputs = tvec![rounded(output.merged()?, input.datum_type())?];
        if k.size == v.size {
            let shape = [2, batch, k.heads, k.length, k.size];
            let both: Vec<T> = k.values.iter().chain(&v.values).copied().collect();
            outputs.push(rounded(Tensor::from_shape(&shape, &both)?, input.datum_type())?);
        }
        Ok(outputs)
    }
}

/// The product of the input and the weights, with the bias.
fn projected<T: Curves>(
    input: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    rows: usize,
) -> TractResult<Vec<T>> {
    let (inner, columns) = (weights.shape()[0], weights.shape()[1]);
    let mut made = vec![T::zero(); rows * columns];
    let mut beta = T::zero();
    if let Some(bias) = bias {
        let bias = wide::<T>(bias)?;
        let bias = elements::<T>(&bias)?;
        made.chunks_exact_mut(columns.max(1)).for_each(|row| row.copy_from_slice(bias));
        beta = T::one();
    }
    let (input, weights) = (wide::<T>(input)?, wide::<T>(weights)?);
    let left = ArrayView2::from_shape((rows, inner), elements::<T>(&input)?).map_err(TractError::msg)?;
    let right =
        ArrayView2::from_shape((inner, columns), elements::<T>(&weights)?).map_err(TractError::msg)?;
    let to = &mut ArrayViewMut2::from_shape((rows, columns), &mut made[..]).map_err(TractError::msg)?;
    general_mat_mul(T::one(), &left, &right, beta, to);
    Ok(made)
}

/// The keys and the values of `[2, batch, heads, length, size]`.
fn halves(past: &Tensor) -> TractResult<[Tensor; 2]> {
    match *past.shape() {
        [2, batch, heads, length, size] => {
            let half = |at: usize| past.slice(0, at, at + 1)?.into_shape(&[batch, heads, length, size]);
            Ok([half(0)?, half(1)?])
        }
        ref shape => Err(TractError::msg(format!(
            "its input `past` has the shape {shape:?}: expected [2, batch, heads, length, size]"
        ))),
    }
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, weights) = (inputs.required(0, "input")?, inputs.required(1, "weights")?);
        expect_float(input, "input")?;
        let past = inputs.optional(4);
        if input.rank() != 3 || weights.rank() != 2 || past.is_some_and(|past| past.rank() != 5) {
            return Err(TractError::msg(format!(
                "its input has the shape {:?} and its weights {:?}: expected 3 and 2 axes, and a past with 5",
                input.shape, weights.shape
            )));
        }
        if inputs.optional(6).is_some() {
            return Err(TractError::msg("its input `past_sequence_length` is not supported: expected none"));
        }
        let columns = weights.shape[1].to_usize();
        let columns = columns.map_err(|_| TractError::msg("the number of columns of its weights is open"))?;
        let [_, keys, values] = self.sizes(columns)?;
        let [batch, length] = [0, 1].map(|at| input.shape[at].clone());
        let all = past.map_or_else(|| length.clone(), |past| past.shape[3].clone() + &length);
        let first = Kind::new(input.datum_type, [batch.clone(), length, values.to_dim()]);
        if keys != values {
            return Ok(tvec![first]);
        }
        let heads = self.common.heads;
        let present = [2.to_dim(), batch, heads.to_dim(), all, (keys / heads).to_dim()];
        Ok(tvec![first, Kind::new(input.datum_type, present)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "input")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

/// `MultiHeadAttention`.
#[derive(Debug)]
struct MultiHead {
    common: Common,
}

/// Builds a `MultiHeadAttention` from its node.
pub fn multi_head(attributes: &Attributes) -> Built {
    built(MultiHead { common: Common::read(attributes)? })
}

impl MultiHead {
    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let [q, k, v] = [(0, "query"), (1, "key"), (2, "value")].map(|(at, name)| inputs.required(at, name));
        let (query, k, v) = (q?, k?, v?);
        let sizes = [query, k, v].map(|tensor| match *tensor.shape() {
            [_, _, hidden] => hidden,
            ref shape => shape[1] * shape[3],
        });
        let mut biases = match inputs.optional(3) {
            None => [None, None, None],
            Some(bias) if bias.len() == sizes.iter().sum::<usize>() => {
                let mut first = 0;
                let parts = sizes.map(|size| {
                    first += size;
                    bias.slice(0, first - size, first)
                });
                let [a, b, c] = parts;
                [Some(a?), Some(b?), Some(c?)]
            }
            Some(bias) => {
                return Err(TractError::msg(format!(
                    "its bias has {} elements: expected those of queries, keys and values, {sizes:?}",
                    bias.len()
                )));
            }
        };
        let mut read = |tensor: &Tensor, at: usize| -> TractResult<Heads<T>> {
            let mut heads = Heads::<T>::read(tensor, Some(self.common.heads))?;
            if let Some(bias) = biases[at].take() {
                heads.shift(elements::<T>(&*wide::<T>(&bias)?)?);
            }
            Ok(heads)
        };
        let (q, mut new_k, mut new_v) = (read(query, 0)?, read(k, 1)?, read(v, 2)?);
        let mut before = 0;
        if let (Some(past_key), Some(past_value)) = (inputs.optional(6), inputs.optional(7)) {
            before = past_key.shape().get(2).copied().unwrap_or(0);
            new_k = new_k.after(&Heads::read(past_key, None)?)?;
            new_v = new_v.after(&Heads::read(past_value, None)?)?;
        }
        let all = [&q, &new_k, &new_v];
        let output = self.common.attend(all, inputs.optional(4), inputs.optional(5), before)?;
        Ok(tvec![
            rounded(output.merged()?, query.datum_type())?,
            rounded(new_k.tensor()?, query.datum_type())?,
            rounded(new_v.tensor()?, query.datum_type())?
        ])
    }
}

impl Operator for MultiHead {
    fn name(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let query = inputs.required(0, "query")?;
        expect_float(query, "query")?;
        let (Some(key), Some(value)) = (inputs.optional(1), inputs.optional(2)) else {
            return Err(TractError::msg(
                "its keys and values are packed with its queries: expected three inputs",
            ));
        };
        if inputs.optional(6).is_some() != inputs.optional(7).is_some() {
            return Err(TractError::msg(
                "only one of its inputs `past_key` and `past_value` is there: expected both",
            ));
        }
        if inputs.len() > 8 && (8..inputs.len()).any(|at| inputs.optional(at).is_some()) {
            return Err(TractError::msg(
                "its inputs `past_sequence_length` and `cache_indirection` are not supported",
            ));
        }
        if query.rank() != 3 {
            return Err(TractError::msg(format!("its input `query` has {} axes: expected 3", query.rank())));
        }
        let heads = self.common.heads;
        let lengths = |kind: &Kind| -> TractResult<(TDim, TDim)> {
            match &kind.shape[..] {
                [_, length, hidden] => Ok((length.clone(), hidden.clone() / heads)),
                [_, _, length, size] => Ok((length.clone(), size.clone())),
                shape => {
                    Err(TractError::msg(format!("a key or value has {} axes: expected 3 or 4", shape.len())))
                }
            }
        };
        let ((length, key_size), (_, value_size)) = (lengths(key)?, lengths(value)?);
        let length = match inputs.optional(6) {
            None => length,
            Some(past) if past.rank() == 4 => past.shape[2].clone() + length,
            Some(past) => {
                return Err(TractError::msg(format!("its past has {} axes: expected 4", past.rank())));
            }
        };
        let batch = || query.shape[0].clone();
        let hidden = value_size.clone() * heads as i64;
        let present = |size| Kind::new(query.datum_type, [batch(), heads.to_dim(), length.clone(), size]);
        let first = Kind::new(query.datum_type, [batch(), query.shape[1].clone(), hidden]);
        Ok(tvec![first, present(key_size), present(value_size)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "query")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int};
    use super::*;

    fn near(found: &Tensor, expected: &[f32]) {
        let found = elements::<f32>(found).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        }
    }

    #[test]
    fn attention_projects_masks_and_keeps_the_past() {
        // Queries are 0, so the scores are equal; keys are 1; values are the input plus 1.
        let weights = || Some(tensor2(&[[0_f32, 0.0, 1.0]]));
        let bias = || Some(tensor1(&[0_f32, 1.0, 1.0]));
        let input = || Some(Tensor::from_shape(&[1, 2, 1], &[1_f32, 3.0]).unwrap());
        let run = |attributes: &[_], mask: Option<Tensor>, past: Option<Tensor>| {
            let trial = Trial::new(Domain::Microsoft, "Attention", attributes);
            trial.run(&[input(), weights(), bias(), mask, past]).unwrap()
        };
        let one = || int("num_heads", 1);
        near(&run(&[one()], None, None)[0], &[3.0, 3.0]);
        near(&run(&[one(), int("unidirectional", 1)], None, None)[0], &[2.0, 3.0]);
        near(&run(&[one()], Some(tensor1(&[1])), None)[0], &[2.0, 2.0]);
        near(&run(&[one()], Some(tensor1(&[2, 1])), None)[0], &[4.0, 4.0]);
        let filter = float("mask_filter_value", -(3_f32.ln()));
        near(&run(&[one(), filter], Some(tensor2(&[[1, 0]])), None)[0], &[2.5, 2.5]);
        let past = Tensor::from_shape(&[2, 1, 1, 1, 1], &[1_f32, 9.0]).unwrap();
        let outputs = run(&[one()], None, Some(past));
        near(&outputs[0], &[5.0, 5.0]);
        near(&outputs[1], &[1.0, 1.0, 1.0, 9.0, 2.0, 4.0]);
    }

    #[test]
    fn several_heads_of_other_keys() {
        let query = Some(Tensor::from_shape(&[1, 1, 2], &[0_f32, 1.0]).unwrap());
        let key = Some(Tensor::from_shape(&[1, 2, 2], &[0_f32, 0.0, 0.0, 3_f32.ln()]).unwrap());
        let value = Some(Tensor::from_shape(&[1, 2, 2], &[1_f32, 1.0, 3.0, 5.0]).unwrap());
        let bias = Some(tensor1(&[0_f32, 0.0, 0.0, 0.0, 10.0, 0.0]));
        let trial = Trial::new(Domain::Microsoft, "MultiHeadAttention", &[int("num_heads", 2)]);
        let outputs = trial.run(&[query, key, value, bias]).unwrap();
        near(&outputs[0], &[12.0, 4.0]);
        assert_eq!(outputs[1].shape(), [1, 2, 2, 1]);
    }

    #[test]
    fn a_mask_that_does_not_fit_is_an_error() {
        let three = || Some(Tensor::from_shape(&[1, 1, 1], &[1_f32]).unwrap());
        let trial = Trial::new(Domain::Microsoft, "MultiHeadAttention", &[int("num_heads", 1)]);
        let error = trial.run(&[three(), three(), three(), None, Some(tensor1(&[1, 1, 1]))]).unwrap_err();
        assert!(error.to_string().contains("its mask has the shape [3]"));
    }
}
