//! `Attention` of `ai.onnx`, versions 23 to 25.
//!
//! It follows the standard, with two differences: everything is computed in FP32 (FP64 for FP64) and FP16 is rounded once;
//! a `softmax_precision` above that of the inputs changes nothing that can be seen, and one below is refused.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::curves::Curves;
use super::super::floats::{expect_float, rounded};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, ints};
use super::core::{Heads, Mask, Scoring, Step, Watch, attend, keep_only};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Attention {
    scoring: Scoring,
    query_heads: Option<usize>,
    key_heads: Option<usize>,
    visible: Visible,
    step: Step,
    column: Column,
    /// Whether the node names each of its outputs.
    named: [bool; 4],
}

/// What a mask with one column says of several keys. Version 23 broadcasts it, and version 24 masks all keys but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    OfEachKey,
    OfTheFirstKey,
}

/// Which keys a query sees, by their distance from it. `None`: any.
#[derive(Debug, Clone, Copy)]
struct Visible {
    before: Option<i64>,
    after: Option<i64>,
}

/// Builds an `Attention` from its node.
pub fn attention(attributes: &Attributes) -> Built {
    let cap = attributes.float("softcap", 0.0)?;
    let scale = scale(attributes)?;
    let step = match attributes.int("qk_matmul_output_mode", 0)? {
        0 => Step::Products,
        1 => Step::Capped,
        2 => Step::Biased,
        3 => Step::Probabilities,
        other => return Err(attributes.wrong(format!("`qk_matmul_output_mode` is {other}: expected 0 to 3"))),
    };
    let precision = attributes.int("softmax_precision", 1)?;
    if ![1, 10, 11].contains(&precision) {
        return Err(attributes.wrong(format!(
            "`softmax_precision` is {precision}: expected 1 (FP32), 10 (FP16) or 11 (FP64)"
        )));
    }
    let outputs = &attributes.node.output;
    built(Attention {
        scoring: Scoring { scale, softcap: f64::from(cap) },
        query_heads: count(attributes, "q_num_heads")?,
        key_heads: count(attributes, "kv_num_heads")?,
        visible: Visible {
            before: window(attributes, "left_window_size")?,
            after: match attributes.flag("is_causal", false)? {
                true => Some(0),
                false => window(attributes, "right_window_size")?,
            },
        },
        step,
        column: if attributes.version() < 24 { Column::OfEachKey } else { Column::OfTheFirstKey },
        named: std::array::from_fn(|at| at == 0 || outputs.get(at).is_some_and(|name| !name.is_empty())),
    })
}

/// The attribute `scale`. `None` when it is absent.
///
/// Errors: it is negative. The standard takes its root.
pub fn scale(attributes: &Attributes) -> TractResult<Option<f64>> {
    if !attributes.has("scale") {
        return Ok(None);
    }
    match attributes.float("scale", 1.0)? {
        scale if scale >= 0.0 => Ok(Some(scale.into())),
        scale => Err(attributes.wrong(format!("`scale` is {scale}: expected 0 or more"))),
    }
}

/// A number of heads.
pub fn count(attributes: &Attributes, name: &str) -> TractResult<Option<usize>> {
    if !attributes.has(name) {
        return Ok(None);
    }
    let value = attributes.int(name, 0)?;
    let found = usize::try_from(value).ok().filter(|count| *count > 0);
    found.map(Some).ok_or_else(|| attributes.wrong(format!("`{name}` is {value}: expected 1 or more")))
}

fn window(attributes: &Attributes, name: &str) -> TractResult<Option<i64>> {
    match attributes.int(name, -1)? {
        -1 => Ok(None),
        size if size >= 0 => Ok(Some(size)),
        size => Err(attributes.wrong(format!("`{name}` is {size}: expected -1 or more"))),
    }
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let [q, k, v] = [(0, "Q"), (1, "K"), (2, "V")].map(|(at, name)| inputs.required(at, name));
        let (q, k, v) = (q?, k?, v?);
        for (kind, name) in [(q, "Q"), (k, "K"), (v, "V")] {
            expect_float(kind, name)?;
        }
        if inputs.optional(4).is_some() != inputs.optional(5).is_some() {
            return Err(TractError::msg(
                "only one of its inputs `past_key` and `past_value` is there: expected both",
            ));
        }
        if inputs.optional(4).is_some() && inputs.optional(6).is_some() {
            return Err(TractError::msg(
                "it has a past and `nonpad_kv_seqlen`: expected not more than one of them",
            ));
        }
        let [q_shape, k_shape, v_shape] = self.shapes([q, k, v])?;
        let mut keys = k_shape[2].clone();
        if let Some(past) = inputs.optional(4) {
            let length = past.shape.get(2).filter(|_| past.rank() == 4);
            keys = length.ok_or_else(|| TractError::msg("its input `past_key` must have 4 axes"))?.clone()
                + keys;
        }
        let y = if q.rank() == 4 {
            Kind::new(q.datum_type, [&q_shape[0], &q_shape[1], &q_shape[2], &v_shape[3]].map(TDim::clone))
        } else {
            let hidden = v_shape[3].clone() * &q_shape[1];
            Kind::new(q.datum_type, [q_shape[0].clone(), q_shape[2].clone(), hidden])
        };
        let present = |of: &Kind, shape: &[TDim; 4]| {
            let [batch, heads, _, size] = shape.clone();
            Kind::new(of.datum_type, [batch, heads, keys.clone(), size])
        };
        let [batch, heads, queries, _] = q_shape.clone();
        let qk = Kind::new(q.datum_type, [batch, heads, queries, keys.clone()]);
        let all = [y, present(k, &k_shape), present(v, &v_shape), qk];
        Ok(all
            .into_iter()
            .zip(self.named)
            .map(|(kind, named)| if named { kind } else { unnamed() })
            .collect())
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "Q")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

/// An output that the node does not name is not made.
fn unnamed() -> Kind {
    Kind::new(f32::datum_type(), [0.to_dim()])
}

impl Attention {
    /// The shapes of the queries, keys and values as `[batch, heads, length, size]`.
    fn shapes(&self, kinds: [&Kind; 3]) -> TractResult<[[TDim; 4]; 3]> {
        let heads = [self.query_heads, self.key_heads, self.key_heads];
        let mut shapes = Vec::new();
        for (kind, heads) in kinds.iter().zip(heads) {
            shapes.push(match (&kind.shape[..], heads) {
                ([batch, own, length, size], given) => {
                    if let (Ok(own), Some(given)) = (own.to_usize(), given)
                        && own != given
                    {
                        return Err(TractError::msg(format!(
                            "an input has {own} heads, and its attributes say {given}: expected the same number"
                        )));
                    }
                    [batch, own, length, size].map(TDim::clone)
                }
                ([batch, length, hidden], Some(heads)) => {
                    if let Ok(hidden) = hidden.to_usize()
                        && hidden % heads != 0
                    {
                        return Err(TractError::msg(format!(
                            "an input has {hidden} elements along its last axis: expected a multiple of its {heads} heads"
                        )));
                    }
                    [batch.clone(), heads.to_dim(), length.clone(), hidden.clone() / heads]
                }
                (shape, _) => {
                    return Err(TractError::msg(format!(
                        "an input has {} axes: expected 4, or 3 with the attributes `q_num_heads` and `kv_num_heads`",
                        shape.len()
                    )));
                }
            });
        }
        shapes.try_into().map_err(|_| TractError::msg("expected three inputs"))
    }

    fn compute<T: Curves>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let query = inputs.required(0, "Q")?;
        let q = Heads::<T>::read(query, self.query_heads)?;
        let mut k = Heads::<T>::read(inputs.required(1, "K")?, self.key_heads)?;
        let mut v = Heads::<T>::read(inputs.required(2, "V")?, self.key_heads)?;
        let mut past = 0;
        if let (Some(past_key), Some(past_value)) = (inputs.optional(4), inputs.optional(5)) {
            past = past_key.shape().get(2).copied().unwrap_or(0);
            k = k.after(&Heads::read(past_key, None)?)?;
            v = v.after(&Heads::read(past_value, None)?)?;
        }
        let mask = inputs.optional(3).map(|mask| {
            let to = [q.batch, q.heads, q.length, k.length];
            match (mask.shape(), self.column) {
                ([outer @ .., 1], Column::OfEachKey) => {
                    Mask::<T>::read(&mask.broadcast_to_shape(&[outer, &[k.length]].concat())?, to)
                }
                _ => Mask::<T>::read(mask, to),
            }
        });
        let mask = mask.transpose()?;
        let valid = inputs.optional(6).map(ints).transpose()?;
        if let Some(valid) = &valid
            && valid.len() != q.batch
        {
            return Err(TractError::msg(format!(
                "its input `nonpad_kv_seqlen` has {} elements: expected those of the batch, {}",
                valid.len(),
                q.batch
            )));
        }
        let bias = |at: [usize; 3], biases: &mut [T]| {
            if let Some(mask) = &mask {
                mask.add(at, biases);
            }
            let count = valid.as_ref().map(|valid| valid[at[0]]);
            let offset = count.map_or(past as i64, |count| count.saturating_sub(q.length as i64));
            let position = offset.saturating_add(at[2] as i64);
            let begin = self.visible.before.map_or(0, |before| position.saturating_sub(before));
            let end =
                self.visible.after.map_or(i64::MAX, |after| position.saturating_add(after).saturating_add(1));
            keep_only(biases, begin..end.min(count.unwrap_or(i64::MAX)));
        };
        let mut watch = self.named[3].then(|| {
            let count = q.batch * q.heads * q.length * k.length;
            Watch { step: self.step, values: vec![T::zero(); count] }
        });
        let y = attend(&q, &k, &v, self.scoring, &bias, watch.as_mut())?;
        let y = if query.rank() == 4 { y.tensor()? } else { y.merged()? };
        let empty = || Tensor::zero::<f32>(&[0]);
        let [_, key, value, _] = self.named;
        let datum_type = |at| inputs.required(at, "input").map(Tensor::datum_type);
        Ok(tvec![
            rounded(y, query.datum_type())?,
            if key { rounded(k.tensor()?, datum_type(1)?)? } else { empty()? },
            if value { rounded(v.tensor()?, datum_type(2)?)? } else { empty()? },
            match watch {
                Some(watch) => {
                    let shape = [q.batch, q.heads, q.length, k.length];
                    rounded(Tensor::from_shape(&shape, &watch.values)?, query.datum_type())?
                }
                None => empty()?,
            }
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, float, int};
    use super::*;

    fn four(values: &[f32], shape: [usize; 4]) -> Option<Tensor> {
        Some(Tensor::from_shape(&shape, values).unwrap())
    }

    fn near(found: &Tensor, expected: &[f32]) {
        let found = elements::<f32>(found).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }

    /// One head of two queries and keys of one element; the values are 1 and 3.
    fn inputs() -> [Option<Tensor>; 3] {
        [
            four(&[1.0, 0.0], [1, 1, 2, 1]),
            four(&[3_f32.ln(), 0.0], [1, 1, 2, 1]),
            four(&[1.0, 3.0], [1, 1, 2, 1]),
        ]
    }

    #[test]
    fn the_mean_of_values_and_the_causal_mask() {
        let [q, k, v] = inputs();
        let output = Trial::new(Domain::Onnx, "Attention", &[]).run(&[q, k, v]).unwrap();
        near(&output[0], &[1.5, 2.0]);
        let [q, k, v] = inputs();
        let output = Trial::new(Domain::Onnx, "Attention", &[int("is_causal", 1)]).run(&[q, k, v]).unwrap();
        near(&output[0], &[1.0, 2.0]);
    }

    #[test]
    fn a_query_without_keys_has_zeros() {
        let [q, k, v] = inputs();
        let mask = Tensor::from_shape(&[2, 2], &[false, false, true, true]).unwrap();
        let trial = Trial::new(Domain::Onnx, "Attention", &[int("qk_matmul_output_mode", 3)]).outputs(4);
        let output = trial.run(&[q, k, v, Some(mask)]).unwrap();
        near(&output[0], &[0.0, 2.0]);
        near(&output[3], &[0.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn a_short_mask_masks_the_last_keys_and_a_past_comes_first() {
        let [q, k, v] = inputs();
        let (past_key, past_value) = (four(&[0.0], [1, 1, 1, 1]), four(&[7.0], [1, 1, 1, 1]));
        let mask = tensor1(&[0_f32, f32::NEG_INFINITY]);
        let trial = Trial::new(Domain::Onnx, "Attention", &[]).outputs(3);
        let output = trial.run(&[q, k, v, Some(mask), past_key, past_value]).unwrap();
        near(&output[0], &[7.0, 7.0]);
        near(&output[2], &[7.0, 1.0, 3.0]);
    }

    #[test]
    fn steps_are_watched_and_scores_capped() {
        let [q, k, v] = inputs();
        let attributes = [int("qk_matmul_output_mode", 1), float("softcap", 0.5), float("scale", 2.0)];
        let trial = Trial::new(Domain::Onnx, "Attention", &attributes).outputs(4);
        let output = trial.run(&[q, k, v]).unwrap();
        near(&output[3], &[0.5 * (4.0 * 3_f32.ln()).tanh(), 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_mask_with_one_column_is_of_each_key_until_version_23() {
        let mask = || Some(Tensor::from_shape(&[2, 1], &[0_f32, 1.0]).unwrap());
        let run = |version: i64| {
            let [q, k, v] = inputs();
            Trial::new(Domain::Onnx, "Attention", &[])
                .version(version)
                .run(&[q, k, v, mask()])
                .unwrap()
                .remove(0)
        };
        let [q, k, v] = inputs();
        let without = Trial::new(Domain::Onnx, "Attention", &[]).run(&[q, k, v]).unwrap().remove(0);
        assert_eq!(run(23), without);
        near(&run(24), &[1.0, 1.0]);
    }

    #[test]
    fn a_negative_scale_is_an_error_because_its_root_is_taken() {
        let [q, k, v] = inputs();
        let error =
            Trial::new(Domain::Onnx, "Attention", &[float("scale", -1.0)]).run(&[q, k, v]).unwrap_err();
        assert!(error.to_string().contains("`scale` is -1: expected 0 or more"), "{error}");
    }

    #[test]
    fn heads_share_keys_and_windows_count_from_the_end_of_the_valid_keys() {
        // Two heads of queries, one of keys, three keys of which two are valid.
        let q = Tensor::from_shape(&[1, 1, 2], &[0_f32, 0.0]).unwrap();
        let kv = Tensor::from_shape(&[1, 3, 1], &[1_f32, 3.0, 100.0]).unwrap();
        let heads = [int("q_num_heads", 2), int("kv_num_heads", 1)];
        let valid = Some(tensor1(&[2_i64]));
        let trial = Trial::new(Domain::Onnx, "Attention", &heads);
        let inputs = [Some(q), Some(kv.clone()), Some(kv), None, None, None, valid];
        near(&trial.run(&inputs).unwrap()[0], &[2.0, 2.0]);
        let [a, b] = heads;
        let trial = Trial::new(Domain::Onnx, "Attention", &[a, b, int("left_window_size", 0)]);
        near(&trial.run(&inputs).unwrap()[0], &[3.0, 3.0]);
    }

    #[test]
    fn wrong_nodes_are_errors() {
        let [q, k, _] = inputs();
        let v = four(&[1.0; 3], [1, 1, 3, 1]);
        let error = Trial::new(Domain::Onnx, "Attention", &[]).run(&[q, k, v]).unwrap_err();
        assert!(error.to_string().contains("expected equal"));
        let q = || Some(Tensor::from_shape(&[1, 1, 3], &[1_f32; 3]).unwrap());
        let error = Trial::new(Domain::Onnx, "Attention", &[]).run(&[q(), q(), q()]).unwrap_err();
        assert!(error.to_string().contains("for None heads"));
        let [q4, k4, v4] = inputs();
        let error =
            Trial::new(Domain::Onnx, "Attention", &[int("q_num_heads", 3)]).run(&[q4, k4, v4]).unwrap_err();
        assert!(error.to_string().contains("for Some(3) heads"));
        let two = [int("q_num_heads", 2), int("kv_num_heads", 2)];
        assert!(Trial::new(Domain::Onnx, "Attention", &two).run(&[q(), q(), q()]).is_err());
    }
}
