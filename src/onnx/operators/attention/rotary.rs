//! `RotaryEmbedding` of `ai.onnx` and of onnxruntime: pairs of elements of each head are rotated by an angle that depends on
//! the position in the sequence.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::standard::count;
use super::{Built, built};

/// The operator.
#[derive(Debug)]
struct Rotary {
    order: Order,
    heads: Option<usize>,
    /// The number of elements of a head that are rotated. 0: all.
    size: usize,
    pairs: Pairs,
}

/// The order of the inputs after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// `ai.onnx`: cosines, sines, and positions that may be left out.
    TablesFirst,
    /// onnxruntime: positions, cosines, sines. One position is that of the first element of a sequence.
    PositionsFirst,
}

/// Which elements are a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// One of the first half and one of the second half.
    Halves,
    /// Neighbours (`interleaved`).
    Neighbours,
}

fn build(attributes: &Attributes, order: Order) -> Built {
    let size = attributes.int("rotary_embedding_dim", 0)?;
    let is_even = usize::try_from(size).ok().filter(|size| size % 2 == 0);
    built(Rotary {
        order,
        heads: if attributes.int("num_heads", 0)? == 0 { None } else { count(attributes, "num_heads")? },
        size: is_even.ok_or_else(|| {
            attributes.wrong(format!("`rotary_embedding_dim` is {size}: expected an even number, 0 or more"))
        })?,
        pairs: if attributes.flag("interleaved", false)? { Pairs::Neighbours } else { Pairs::Halves },
    })
}

/// Builds a `RotaryEmbedding` of `ai.onnx` from its node.
pub fn rotary(attributes: &Attributes) -> Built {
    build(attributes, Order::TablesFirst)
}

/// Builds a `RotaryEmbedding` of onnxruntime from its node.
pub fn microsoft(attributes: &Attributes) -> Built {
    if attributes.flag("is_packed_batching", false)? || attributes.float("scale", 1.0)? != 1.0 {
        return Err(attributes.wrong("`is_packed_batching` must be 0 and `scale` must be 1"));
    }
    build(attributes, Order::PositionsFirst)
}

/// An input as `[batch, heads, length, size]`, and how far apart the vectors of a head are.
struct Layout {
    batch: usize,
    heads: usize,
    length: usize,
    size: usize,
    /// The steps for one batch, head and position.
    steps: [usize; 3],
}

impl Rotary {
    /// The inputs: tables of cosines and sines, and positions.
    fn parts<'a, T>(&self, inputs: &Inputs<'a, T>) -> TractResult<(&'a T, &'a T, Option<&'a T>)> {
        Ok(match self.order {
            Order::TablesFirst => {
                (inputs.required(1, "cos_cache")?, inputs.required(2, "sin_cache")?, inputs.optional(3))
            }
            Order::PositionsFirst => (
                inputs.required(2, "cos_cache")?,
                inputs.required(3, "sin_cache")?,
                Some(inputs.required(1, "position_ids")?),
            ),
        })
    }

    fn layout(&self, shape: &[usize], table: usize) -> TractResult<Layout> {
        match *shape {
            [batch, heads, length, size] => {
                Ok(Layout { batch, heads, length, size, steps: [heads * length * size, length * size, size] })
            }
            [batch, length, hidden] => {
                // Without a number of heads, onnxruntime takes the size of a head from the tables.
                let heads = self.heads.unwrap_or(hidden / (2 * table).max(1)).max(1);
                if hidden % heads != 0 {
                    return Err(TractError::msg(format!(
                        "its input has {hidden} elements along its last axis: expected a multiple of its {heads} heads"
                    )));
                }
                let size = hidden / heads;
                Ok(Layout { batch, heads, length, size, steps: [length * hidden, size, hidden] })
            }
            _ => Err(TractError::msg(format!("its input has {} axes: expected 3 or 4", shape.len()))),
        }
    }

    /// The row of the tables for each batch and position.
    fn rows(&self, layout: &Layout, positions: Option<&Tensor>, table: &Tensor) -> TractResult<Vec<usize>> {
        let count = layout.batch * layout.length;
        let all: usize = table.shape().iter().rev().skip(1).product();
        let Some(positions) = positions else {
            if all != count {
                return Err(TractError::msg(format!(
                    "its tables have the shape {:?}: expected [{}, {}, …], because it has no positions",
                    table.shape(),
                    layout.batch,
                    layout.length
                )));
            }
            return Ok((0..count).collect());
        };
        let mut found = ints(positions)?;
        if self.order == Order::PositionsFirst && positions.len() == 1 && positions.rank() == 1 {
            let first = found[0];
            found = (0..count).map(|at| first.saturating_add((at % layout.length) as i64)).collect();
        }
        if found.len() != count {
            return Err(TractError::msg(format!(
                "its positions have the shape {:?}: expected [{}, {}]",
                positions.shape(),
                layout.batch,
                layout.length
            )));
        }
        let row = |position: i64| {
            // As in NumPy, positions below 0 count from the end.
            let from = if position < 0 { position.saturating_add(all as i64) } else { position };
            usize::try_from(from).ok().filter(|row| *row < all).ok_or_else(|| {
                TractError::msg(format!(
                    "there is no position {position} in its tables: expected 0 to {}",
                    all as i64 - 1
                ))
            })
        };
        found.into_iter().map(row).collect()
    }

    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let (cosines, sines, positions) = self.parts(inputs)?;
        let half = cosines.shape().last().copied().unwrap_or(0);
        let layout = self.layout(input.shape(), half)?;
        let size = if self.size == 0 { layout.size } else { self.size };
        if cosines.shape() != sines.shape() || half * 2 != size || size > layout.size {
            return Err(TractError::msg(format!(
                "its tables have the shapes {:?} and {:?}, and {size} of {} elements of a head are rotated: expected tables \
                 with half as many elements along the last axis",
                cosines.shape(),
                sines.shape(),
                layout.size
            )));
        }
        let rows = self.rows(&layout, positions, cosines)?;
        let (cosines, sines) = (wide::<T>(cosines)?, wide::<T>(sines)?);
        let (cosines, sines) = (elements::<T>(&cosines)?, elements::<T>(&sines)?);
        let mut output = wide::<T>(input)?.into_owned();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        for number in 0..layout.batch * layout.heads * layout.length {
            let at = number % layout.length;
            let head = number / layout.length % layout.heads;
            let batch = number / layout.length / layout.heads;
            let [by_batch, by_head, by_position] = layout.steps;
            let vector = &mut values[batch * by_batch + head * by_head + at * by_position..][..size];
            let row = rows[batch * layout.length + at] * half;
            self.rotate(vector, &cosines[row..][..half], &sines[row..][..half]);
        }
        Ok(tvec![rounded(output, input.datum_type())?])
    }

    fn rotate<T: Real>(&self, vector: &mut [T], cosines: &[T], sines: &[T]) {
        let turn = |a: &mut T, b: &mut T, cosine: T, sine: T| {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        };
        let angles = cosines.iter().zip(sines);
        match self.pairs {
            Pairs::Halves => {
                let (first, second) = vector.split_at_mut(cosines.len());
                let pairs = first.iter_mut().zip(second);
                pairs.zip(angles).for_each(|((a, b), (cosine, sine))| turn(a, b, *cosine, *sine));
            }
            Pairs::Neighbours => {
                for (pair, (cosine, sine)) in vector.chunks_exact_mut(2).zip(angles) {
                    let [a, b] = pair else { continue };
                    turn(a, b, *cosine, *sine);
                }
            }
        }
    }
}

impl Operator for Rotary {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        expect_float(input, "X")?;
        let (cosines, sines, _) = self.parts(inputs)?;
        expect_float(cosines, "cos_cache")?;
        expect_float(sines, "sin_cache")?;
        if !(3..=4).contains(&input.rank()) {
            return Err(TractError::msg(format!("its input has {} axes: expected 3 or 4", input.rank())));
        }
        if input.rank() == 3 && self.heads.is_none() && (self.order == Order::TablesFirst || self.size > 0) {
            return Err(TractError::msg("its input has 3 axes: expected the attribute `num_heads`"));
        }
        if let (Some(Ok(half)), true) = (cosines.shape.last().map(|half| half.to_usize()), self.size > 0)
            && half * 2 != self.size
        {
            return Err(TractError::msg(format!(
                "its tables have {half} elements along the last axis: expected half of `rotary_embedding_dim`, {}",
                self.size
            )));
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "X")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    fn input() -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 1, 4], &[1_f32, 2.0, 3.0, 4.0]).unwrap())
    }

    /// Angles of 0 and 90 degrees at position 0, and of 90 and 0 at position 1.
    fn tables() -> [Option<Tensor>; 2] {
        [Some(tensor2(&[[1_f32, 0.0], [0.0, 1.0]])), Some(tensor2(&[[0_f32, 1.0], [1.0, 0.0]]))]
    }

    #[test]
    fn halves_and_neighbours() {
        let run = |attributes: &[_]| {
            let [cosines, sines] = tables();
            let trial = Trial::new(Domain::Onnx, "RotaryEmbedding", attributes);
            let output = trial.run(&[input(), cosines, sines, Some(tensor2(&[[1_i64]]))]).unwrap();
            elements::<f32>(&output[0]).unwrap().to_vec()
        };
        assert_eq!(run(&[int("num_heads", 1)]), [-3.0, 2.0, 1.0, 4.0]);
        assert_eq!(run(&[int("num_heads", 1), int("interleaved", 1)]), [-2.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn one_position_of_onnxruntime_is_that_of_the_first_element() {
        let [cosines, sines] = tables();
        let input = Tensor::from_shape(&[1, 2, 4], &[1_f32, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
        let trial = Trial::new(Domain::Microsoft, "RotaryEmbedding", &[]);
        let output = trial.run(&[Some(input), Some(tensor1(&[0_i64])), cosines, sines]).unwrap();
        let found = elements::<f32>(&output[0]).unwrap();
        assert_eq!(found, [1.0, -4.0, 3.0, 2.0, -3.0, 2.0, 1.0, 4.0]);
    }

    #[test]
    fn a_position_that_does_not_exist_is_an_error() {
        let [cosines, sines] = tables();
        let trial = Trial::new(Domain::Onnx, "RotaryEmbedding", &[int("num_heads", 1)]);
        let error = trial.run(&[input(), cosines, sines, Some(tensor2(&[[2_i64]]))]).unwrap_err();
        assert!(error.to_string().contains("no position 2"));
    }
}
