//! `LinearAttention`: for each head a matrix that grows by each key and value, and that each query reads.
//!
//! It is computed step by step, as the standard defines it, in FP32. `chunk_size` is a hint, and does not change the result.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{expect_float, rounded};
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::core::Heads;
use super::standard::count;
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Linear {
    query_heads: usize,
    key_heads: usize,
    scale: f32,
    gate: Gate,
    update: Update,
}

/// Whether the matrix decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Decay,
}

/// What is added to the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    /// The value.
    Value,
    /// The difference of the value from what the matrix has for the key.
    Delta,
}

/// Builds a `LinearAttention` from its node.
pub fn linear(attributes: &Attributes) -> Built {
    let heads = |name: &str| {
        count(attributes, name)?.ok_or_else(|| attributes.wrong(format!("the attribute `{name}` is missing")))
    };
    let (query_heads, key_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if query_heads % key_heads != 0 {
        return Err(attributes.wrong(format!(
            "`q_num_heads` is {query_heads} and `kv_num_heads` {key_heads}: expected a multiple of the second"
        )));
    }
    let (gate, update) = match attributes.string("update_rule", "gated_delta")? {
        "linear" => (Gate::Open, Update::Value),
        "gated" => (Gate::Decay, Update::Value),
        "delta" => (Gate::Open, Update::Delta),
        "gated_delta" => (Gate::Decay, Update::Delta),
        other => {
            return Err(attributes.wrong(format!(
                "`update_rule` is `{other}`: expected `linear`, `gated`, `delta` or `gated_delta`"
            )));
        }
    };
    built(Linear { query_heads, key_heads, scale: attributes.float("scale", 0.0)?, gate, update })
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let names = [(0, "query"), (1, "key"), (2, "value")];
        for (at, name) in names {
            let input = inputs.required(at, name)?;
            expect_float(input, name)?;
            if input.rank() != 3 {
                return Err(TractError::msg(format!(
                    "its input `{name}` has {} axes: expected 3",
                    input.rank()
                )));
            }
        }
        let expected = [(4, "decay", self.gate == Gate::Decay), (5, "beta", self.update == Update::Delta)];
        for (at, name, wanted) in expected {
            if inputs.optional(at).is_some() != wanted {
                return Err(TractError::msg(format!(
                    "its `update_rule` {} the input `{name}`",
                    if wanted { "needs" } else { "does not take" }
                )));
            }
        }
        let (query, value) = (inputs.required(0, "query")?, inputs.required(2, "value")?);
        let (key_size, value_size) =
            (query.shape[2].clone() / self.query_heads, value.shape[2].clone() / self.key_heads);
        let hidden = value_size.clone() * self.query_heads as i64;
        let state = inputs.optional(3).map_or(query.datum_type, |state| state.datum_type);
        Ok(tvec![
            Kind::new(query.datum_type, [query.shape[0].clone(), query.shape[1].clone(), hidden]),
            Kind::new(state, [query.shape[0].clone(), self.key_heads.to_dim(), key_size, value_size])
        ])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let query = inputs.required(0, "query")?;
        let q = Heads::<f32>::read(query, Some(self.query_heads))?;
        let k = Heads::<f32>::read(inputs.required(1, "key")?, Some(self.key_heads))?;
        let v = Heads::<f32>::read(inputs.required(2, "value")?, Some(self.key_heads))?;
        let decay =
            inputs.optional(4).map(|decay| Heads::<f32>::read(decay, Some(self.key_heads))).transpose()?;
        let shared = inputs.optional(5).filter(|beta| beta.shape().last() == Some(&1)).map(|_| 1);
        let beta = inputs.optional(5);
        let beta =
            beta.map(|beta| Heads::<f32>::read(beta, Some(shared.unwrap_or(self.key_heads)))).transpose()?;
        let mut state = match inputs.optional(3) {
            Some(state) => Heads::<f32>::read(state, None)?,
            None => Heads::zero(k.batch, k.heads, k.size, v.size),
        };
        check(&q, &k, &v, decay.as_ref(), beta.as_ref(), &state)?;
        let mut output = Heads::<f32>::zero(q.batch, q.heads, q.length, v.size);
        let scale = if self.scale == 0.0 { 1.0 / (k.size as f32).sqrt() } else { self.scale };
        let group = self.query_heads / self.key_heads;
        let cells = k.size * v.size;
        let mut change = vec![0.0; v.size];
        for number in 0..k.batch * k.heads {
            let matrix = &mut state.values[number * cells..(number + 1) * cells];
            for at in 0..k.length {
                let key = k.row(number, at);
                if let Some(decay) = &decay {
                    fade(matrix, decay.row(number, at), v.size);
                }
                change.copy_from_slice(v.row(number, at));
                if let Some(beta) = &beta {
                    let part = if beta.heads == k.heads { number } else { number / k.heads };
                    correct(&mut change, matrix, key, beta.row(part, at)[0]);
                }
                add_product(matrix, key, &change);
                for head in number * group..(number + 1) * group {
                    let begin = (head * q.length + at) * v.size;
                    read(&mut output.values[begin..begin + v.size], matrix, q.row(head, at), scale);
                }
            }
        }
        let state_type = inputs.optional(3).map_or(query.datum_type(), Tensor::datum_type);
        Ok(tvec![rounded(output.merged()?, query.datum_type())?, rounded(state.tensor()?, state_type)?])
    }
}

fn check(
    q: &Heads<f32>,
    k: &Heads<f32>,
    v: &Heads<f32>,
    decay: Option<&Heads<f32>>,
    beta: Option<&Heads<f32>>,
    state: &Heads<f32>,
) -> TractResult<()> {
    let steps = |heads: &Heads<f32>| (heads.batch, heads.length) == (k.batch, k.length);
    let fits = steps(q)
        && steps(v)
        && q.size == k.size
        && decay.is_none_or(|decay| steps(decay) && (decay.size == 1 || decay.size == k.size))
        && beta.is_none_or(|beta| steps(beta) && beta.size == 1)
        && (state.batch, state.heads, state.length, state.size) == (k.batch, k.heads, k.size, v.size);
    match fits {
        true => Ok(()),
        false => Err(TractError::msg(format!(
            "its inputs do not fit: expected queries, keys and values of one batch and length, a decay with 1 or {} elements \
             for each of {} heads, a beta with one, and a state of {:?}",
            k.size,
            k.heads,
            [k.batch, k.heads, k.size, v.size]
        ))),
    }
}

/// Multiplies the rows of a matrix by e to the power of the decay: one for all rows, or one for each.
fn fade(matrix: &mut [f32], decay: &[f32], columns: usize) {
    for (row, decay) in matrix.chunks_exact_mut(columns.max(1)).zip(decay.iter().cycle()) {
        let factor = decay.exp();
        row.iter_mut().for_each(|cell| *cell *= factor);
    }
}

/// Subtracts what the matrix has for a key from a value, and multiplies the difference by `beta`.
fn correct(value: &mut [f32], matrix: &[f32], key: &[f32], beta: f32) {
    for (row, key) in matrix.chunks_exact(value.len().max(1)).zip(key) {
        value.iter_mut().zip(row).for_each(|(value, cell)| *value -= cell * key);
    }
    value.iter_mut().for_each(|value| *value *= beta);
}

/// Adds the outer product of a key and a value.
fn add_product(matrix: &mut [f32], key: &[f32], value: &[f32]) {
    for (row, key) in matrix.chunks_exact_mut(value.len().max(1)).zip(key) {
        row.iter_mut().zip(value).for_each(|(cell, value)| *cell += key * value);
    }
}

/// The product of a query and the matrix.
fn read(to: &mut [f32], matrix: &[f32], query: &[f32], scale: f32) {
    for (row, query) in matrix.chunks_exact(to.len().max(1)).zip(query) {
        to.iter_mut().zip(row).for_each(|(to, cell)| *to += cell * query);
    }
    to.iter_mut().for_each(|to| *to *= scale);
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, float, int, string};
    use super::*;

    fn three(values: &[f32]) -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, values.len(), 1], values).unwrap())
    }

    fn run(rule: &str, inputs: &[Option<Tensor>]) -> TractResult<Vec<Tensor>> {
        let one = |name| int(name, 1);
        let attributes =
            [one("q_num_heads"), one("kv_num_heads"), float("scale", 1.0), string("update_rule", rule)];
        Trial::new(Domain::Onnx, "LinearAttention", &attributes).run(inputs)
    }

    #[test]
    fn the_rules() {
        let (q, k, v) = (three(&[1.0, 2.0]), three(&[1.0, 3.0]), three(&[5.0, 7.0]));
        let outputs = run("linear", &[q.clone(), k.clone(), v.clone()]).unwrap();
        assert_eq!(elements::<f32>(&outputs[0]).unwrap(), [5.0, 52.0]);
        assert_eq!(elements::<f32>(&outputs[1]).unwrap(), [26.0]);
        let half = three(&[0.5_f32.ln(), 0.5_f32.ln()]);
        let outputs = run("gated", &[q.clone(), k.clone(), v.clone(), None, half.clone()]).unwrap();
        assert_eq!(elements::<f32>(&outputs[1]).unwrap(), [23.5]);
        let beta = three(&[1.0, 0.5]);
        let outputs = run("delta", &[q.clone(), k.clone(), v.clone(), None, None, beta.clone()]).unwrap();
        assert_eq!(elements::<f32>(&outputs[1]).unwrap(), [5.0 + 3.0 * 0.5 * (7.0 - 15.0)]);
        let state = Some(Tensor::from_shape(&[1, 1, 1, 1], &[2_f32]).unwrap());
        let outputs = run("gated_delta", &[q, k, v, state, half, beta]).unwrap();
        assert_eq!(elements::<f32>(&outputs[1]).unwrap(), [2.5 + 3.0 * 0.5 * (7.0 - 7.5)]);
    }

    #[test]
    fn a_rule_without_its_inputs_is_an_error() {
        let error = run("gated", &[three(&[1.0]), three(&[1.0]), three(&[1.0, 2.0])]).unwrap_err();
        assert!(error.to_string().contains("do not fit"));
    }
}
