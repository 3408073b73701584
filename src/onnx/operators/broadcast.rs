//! Broadcasting of ONNX (NumPy's rules) for any number of tensors.
//!
//! The loop over the elements is as few rows as possible: neighbouring axes become one where no operand notices. In a row
//! each operand is a slice or one element, so the inner loops run over slices.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::DimLike;

use super::numbers::filled;
use super::operator::Kind;

/// The shape of a result, for operands whose lengths may be open.
pub fn shape(kinds: &[&Kind]) -> TractResult<TVec<TDim>> {
    let shapes: Vec<&TVec<TDim>> = kinds.iter().map(|kind| &kind.shape).collect();
    let closed = |kind: &&Kind| -> Option<Vec<usize>> {
        kind.shape.iter().map(|length| length.to_usize().ok()).collect()
    };
    if let Some(all) = kinds.iter().map(closed).collect::<Option<Vec<_>>>() {
        let all: Vec<&[usize]> = all.iter().map(|shape| &**shape).collect();
        return Ok(lengths(&all)?.into_iter().map(TDim::from).collect());
    }
    multi_broadcast(&shapes)
}

/// The shape of a result.
///
/// Errors: two lengths of an axis differ, and neither is 1.
pub fn lengths(shapes: &[&[usize]]) -> TractResult<TVec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result: TVec<usize> = std::iter::repeat_n(1, rank).collect();
    for shape in shapes {
        for (to, from) in result[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*to, *from) {
                (_, 1) => {}
                (1, length) => *to = length,
                (a, b) if a == b => {}
                _ => {
                    return Err(TractError::msg(format!(
                        "the shapes {shapes:?} do not fit: the lengths of an axis, counted from the last, must be equal or 1"
                    )));
                }
            }
        }
    }
    Ok(result)
}

/// The rows of a result of `N` operands.
#[derive(Debug)]
struct Rows<const N: usize> {
    /// The axes of the result, where neighbours are one axis if possible. The last one is a row.
    lengths: TVec<usize>,
    /// For each axis: how far apart the elements of each operand are. 0 for an operand that is repeated.
    strides: TVec<[usize; N]>,
}

impl<const N: usize> Rows<N> {
    fn new(result: &[usize], shapes: [&[usize]; N]) -> Rows<N> {
        let mut rows = Rows { lengths: TVec::new(), strides: TVec::new() };
        let mut volumes = [1; N];
        for at in (0..result.len()).rev() {
            let length = result[at];
            let strides = std::array::from_fn(|n| {
                let back = result.len() - at;
                match shapes[n].len().checked_sub(back).map(|axis| shapes[n][axis]) {
                    Some(own) if own != 1 => {
                        let stride = volumes[n];
                        volumes[n] *= own;
                        stride
                    }
                    _ => 0,
                }
            });
            if length != 1 {
                rows.add_before(length, strides);
            }
        }
        if rows.lengths.is_empty() {
            rows.add_before(1, [0; N]);
        }
        rows.lengths.reverse();
        rows.strides.reverse();
        rows
    }

    /// Adds an axis before the others (they are in reversed order), or makes it one with its neighbour.
    fn add_before(&mut self, length: usize, strides: [usize; N]) {
        if let (Some(last), Some(inner)) = (self.lengths.last_mut(), self.strides.last())
            && (0..N).all(|n| strides[n] == inner[n] * *last)
        {
            *last *= length;
            return;
        }
        self.lengths.push(length);
        self.strides.push(strides);
    }

    /// The length of a row.
    fn length(&self) -> usize {
        self.lengths[self.lengths.len() - 1]
    }

    /// For each operand: 0 if its element is the same in a whole row, else 1.
    fn steps(&self) -> [usize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// Calls `each` with where the row begins in each operand, for all rows in order. It is one function for all operators and
    /// datatypes, so that each of them has only the code for a row.
    fn for_each(&self, each: &mut dyn FnMut([usize; N])) {
        let outer = self.lengths.len() - 1;
        if self.lengths.contains(&0) {
            return;
        }
        let mut at: TVec<usize> = std::iter::repeat_n(0, outer).collect();
        let mut begins = [0; N];
        loop {
            each(begins);
            let mut axis = outer;
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                at[axis] += 1;
                (0..N).for_each(|n| begins[n] += self.strides[axis][n]);
                if at[axis] < self.lengths[axis] {
                    break;
                }
                at[axis] = 0;
                (0..N).for_each(|n| begins[n] -= self.strides[axis][n] * self.lengths[axis]);
            }
        }
    }
}

/// A tensor with `join` of each pair of elements.
pub fn pairs<A: Datum, B: Datum, C: Datum + Default + Clone>(
    a: &Tensor,
    b: &Tensor,
    join: impl Fn(&A, &B) -> C,
) -> TractResult<Tensor> {
    let shape = lengths(&[a.shape(), b.shape()])?;
    let rows = Rows::new(&shape, [a.shape(), b.shape()]);
    let (a, b) = (a.try_as_plain_ram()?, b.try_as_plain_ram()?);
    let (a, b) = (a.as_slice::<A>()?, b.as_slice::<B>()?);
    filled::<C>(&shape, |to| {
        let mut chunks = to.chunks_exact_mut(rows.length().max(1));
        let steps = rows.steps();
        rows.for_each(&mut |[at_a, at_b]| {
            let Some(to) = chunks.next() else { return };
            let (a, b) = (&a[at_a..], &b[at_b..]);
            match steps {
                [0, 0] => to.fill(join(&a[0], &b[0])),
                [0, _] => to.iter_mut().zip(b).for_each(|(to, b)| *to = join(&a[0], b)),
                [_, 0] => to.iter_mut().zip(a).for_each(|(to, a)| *to = join(a, &b[0])),
                _ => to.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to = join(a, b)),
            }
        });
        Ok(())
    })
}

/// A tensor whose rows `join` makes of a row of each of two tensors, which can be one element instead.
pub fn joined<T: Datum + Default + Clone>(
    a: &Tensor,
    b: &Tensor,
    mut join: impl FnMut(&[T], &[T], &mut [T]),
) -> TractResult<Tensor> {
    let shape = lengths(&[a.shape(), b.shape()])?;
    let rows = Rows::new(&shape, [a.shape(), b.shape()]);
    let (a, b) = (a.try_as_plain_ram()?, b.try_as_plain_ram()?);
    let (a, b) = (a.as_slice::<T>()?, b.as_slice::<T>()?);
    filled::<T>(&shape, |to| {
        let mut chunks = to.chunks_exact_mut(rows.length().max(1));
        let [count_a, count_b] = rows.steps().map(|step| if step == 0 { 1 } else { rows.length() });
        rows.for_each(&mut |[at_a, at_b]| {
            let Some(to) = chunks.next() else { return };
            join(&a[at_a..at_a + count_a], &b[at_b..at_b + count_b], to);
        });
        Ok(())
    })
}

/// A tensor with the element of `yes` where `condition` is true, and of `no` elsewhere.
pub fn choose<T: Datum + Default + Clone>(
    condition: &Tensor,
    yes: &Tensor,
    no: &Tensor,
) -> TractResult<Tensor> {
    let shape = lengths(&[condition.shape(), yes.shape(), no.shape()])?;
    let rows = Rows::new(&shape, [condition.shape(), yes.shape(), no.shape()]);
    let [c, y, n] = [condition.try_as_plain_ram()?, yes.try_as_plain_ram()?, no.try_as_plain_ram()?];
    let (c, y, n) = (c.as_slice::<bool>()?, y.as_slice::<T>()?, n.as_slice::<T>()?);
    filled::<T>(&shape, |to| {
        let mut chunks = to.chunks_exact_mut(rows.length().max(1));
        let [step_c, step_y, step_n] = rows.steps();
        rows.for_each(&mut |[at_c, at_y, at_n]| {
            let Some(to) = chunks.next() else { return };
            for (at, to) in to.iter_mut().enumerate() {
                let is_yes = c[at_c + at * step_c];
                *to = if is_yes { y[at_y + at * step_y].clone() } else { n[at_n + at * step_n].clone() };
            }
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<i64> = (0..count as i64).collect();
        Tensor::from_shape(shape, &values).unwrap()
    }

    /// Each element of the result by the definition.
    fn slow(a: &[usize], b: &[usize]) -> Vec<i64> {
        let result = lengths(&[a, b]).unwrap();
        let place = |shape: &[usize], mut at: usize| {
            let (mut place, mut volume) = (0, 1);
            for back in 1..=result.len() {
                let length = result[result.len() - back];
                let here = at % length;
                at /= length;
                if let Some(own) = shape.len().checked_sub(back).map(|axis| shape[axis]) {
                    place += if own == 1 { 0 } else { here } * volume;
                    volume *= own;
                }
            }
            place as i64
        };
        let count: usize = result.iter().product();
        (0..count).map(|at| place(a, at) * 1000 + place(b, at)).collect()
    }

    #[test]
    fn pairs_are_those_of_the_definition() {
        let shapes: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[2, 3], &[2, 3]),
            (&[2, 3], &[]),
            (&[2, 3], &[3]),
            (&[2, 1], &[1, 3]),
            (&[2, 3, 1, 2], &[3, 4, 1]),
            (&[1, 1], &[4]),
            (&[3, 1, 2], &[3, 5, 2]),
            (&[2, 2, 3], &[2, 1, 1]),
            (&[1, 0], &[3, 1]),
            (&[0], &[1]),
        ];
        for (a, b) in shapes {
            let joined = pairs::<i64, i64, i64>(&ramp(a), &ramp(b), |a, b| a * 1000 + b).unwrap();
            assert_eq!(
                joined.try_as_plain_ram().unwrap().as_slice::<i64>().unwrap(),
                slow(a, b),
                "{a:?} {b:?}"
            );
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        assert!(lengths(&[&[2, 3], &[2]]).unwrap_err().to_string().contains("do not fit"));
        assert!(lengths(&[&[0], &[2]]).is_err());
    }
}
