//! `EmbedLayerNormalization` of onnxruntime: the sum of the embeddings of words, positions and segments, normalized along
//! the last axis. onnxruntime's optimizer writes it.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::layer::{Affine, Centering};
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Embed {
    epsilon: f64,
}

/// Builds an `EmbedLayerNormalization` from its node.
pub fn embed(attributes: &Attributes) -> Built {
    let kind = attributes.int("mask_index_type", 0)?;
    if kind > 1 {
        return Err(attributes.wrong(format!("`mask_index_type` is {kind}: expected 0 or 1")));
    }
    built(Embed { epsilon: f64::from(attributes.float("epsilon", 1e-12)?) })
}

/// The inputs by the names of onnxruntime.
const WORD: usize = 2;
const POSITION: usize = 3;
const SEGMENT: usize = 4;
const MASK: usize = 7;
const POSITION_IDS: usize = 8;

impl Operator for Embed {
    fn name(&self) -> &'static str {
        "EmbedLayerNormalization"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (ids, words) = (inputs.required(0, "input_ids")?, inputs.required(WORD, "word_embedding")?);
        expect_float(words, "word_embedding")?;
        if ids.rank() != 2 || words.rank() != 2 {
            return Err(TractError::msg(format!(
                "its input `input_ids` has {} axes and `word_embedding` {}: expected 2 and 2",
                ids.rank(),
                words.rank()
            )));
        }
        let shape = [ids.shape[0].clone(), ids.shape[1].clone(), words.shape[1].clone()];
        let sum = Kind::new(words.datum_type, shape);
        Ok(tvec![sum.clone(), Kind::new(i32::datum_type(), [ids.shape[0].clone()]), sum])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(WORD, "word_embedding")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

impl Embed {
    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let ids = inputs.required(0, "input_ids")?;
        let words = inputs.required(WORD, "word_embedding")?;
        let (batch, length, size) = (ids.shape()[0], ids.shape()[1], words.shape()[1]);
        let shape = [batch, length, size];
        let mut sums = vec![T::zero(); batch * length * size];
        add_rows(&mut sums, words, &ints(ids)?, size)?;
        let positions = match inputs.optional(POSITION_IDS) {
            Some(positions) => ints(positions)?,
            None => (0..length as i64).collect(),
        };
        add_rows(&mut sums, inputs.required(POSITION, "position_embedding")?, &positions, size)?;
        if let (Some(segments), Some(segment)) = (inputs.optional(1), inputs.optional(SEGMENT)) {
            add_rows(&mut sums, segment, &ints(segments)?, size)?;
        }
        let mut output = sums.clone();
        let affine = Affine::<T>::new(inputs.optional(5), inputs.optional(6), &shape)?;
        for row in output.chunks_exact_mut(size.max(1)) {
            Centering::Mean.normalize(row, self.epsilon);
            affine.apply(row, 0)?;
        }
        let datum_type = words.datum_type();
        Ok(tvec![
            rounded(Tensor::from_shape(&shape, &output)?, datum_type)?,
            counts(inputs.optional(MASK), batch, length)?,
            rounded(Tensor::from_shape(&shape, &sums)?, datum_type)?
        ])
    }
}

/// Adds rows of a table. Where there are fewer rows than needed, they repeat: all batches have the same positions.
fn add_rows<T: Real>(sums: &mut [T], table: &Tensor, rows: &[i64], size: usize) -> TractResult<()> {
    let count = table.shape().first().copied().unwrap_or(0);
    if table.rank() != 2 || table.shape()[1] != size || rows.is_empty() != sums.is_empty() {
        return Err(TractError::msg(format!(
            "an embedding has the shape {:?} for {} rows: expected rows of {size} elements",
            table.shape(),
            rows.len()
        )));
    }
    let table = wide::<T>(table)?;
    let table = elements::<T>(&table)?;
    for (sums, row) in sums.chunks_exact_mut(size.max(1)).zip(rows.iter().cycle()) {
        let at = usize::try_from(*row).ok().filter(|at| *at < count);
        let at = at.ok_or_else(|| {
            TractError::msg(format!(
                "there is no row {row} in an embedding: expected 0 to {}",
                count as i64 - 1
            ))
        })?;
        sums.iter_mut().zip(&table[at * size..][..size]).for_each(|(sum, value)| *sum += *value);
    }
    Ok(())
}

/// For each batch: how many elements of the mask are 1. 0 without a mask.
fn counts(mask: Option<&Tensor>, batch: usize, length: usize) -> TractResult<Tensor> {
    let Some(mask) = mask else { return Tensor::zero::<i32>(&[batch]) };
    if mask.shape() != [batch, length] {
        return Err(TractError::msg(format!(
            "its input `mask` has the shape {:?}: expected {:?}",
            mask.shape(),
            [batch, length]
        )));
    }
    let ones = |row: &[i64]| row.iter().filter(|value| **value == 1).count() as i32;
    let mut counts: Vec<i32> = ints(mask)?.chunks_exact(length.max(1)).map(ones).collect();
    counts.resize(batch, 0);
    Ok(tensor1(&counts))
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::Trial;
    use super::*;

    fn run(id: i32) -> TractResult<Vec<Tensor>> {
        let table = |values: [[f32; 2]; 2]| Some(tensor2(&values));
        Trial::new(Domain::Microsoft, "EmbedLayerNormalization", &[]).run(&[
            Some(tensor2(&[[id, 0], [0, 0]])),
            Some(tensor2(&[[0, 0], [1, 1]])),
            table([[1.0, 2.0], [3.0, 5.0]]),
            table([[0.0, 0.0], [1.0, 0.0]]),
            table([[0.0, 0.0], [0.0, 2.0]]),
            Some(tensor1(&[1_f32, 1.0])),
            Some(tensor1(&[0_f32, 1.0])),
            Some(tensor2(&[[1, 0], [1, 1]])),
        ])
    }

    #[test]
    fn words_positions_and_segments_are_added() {
        let outputs = run(1).unwrap();
        assert_eq!(elements::<f32>(&outputs[2]).unwrap(), [3.0, 5.0, 2.0, 2.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(elements::<i32>(&outputs[1]).unwrap(), [1, 2]);
        let found = elements::<f32>(&outputs[0]).unwrap();
        assert!((found[0] + 1.0).abs() < 1e-5 && (found[1] - 2.0).abs() < 1e-5);
    }

    #[test]
    fn a_word_that_does_not_exist_is_an_error() {
        assert!(run(2).unwrap_err().to_string().contains("no row 2"));
    }
}
