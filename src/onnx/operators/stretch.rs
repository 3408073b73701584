//! A tensor that is broadcast to the shape of another one ("unidirectional broadcasting"), such as a scale or a slope.
//!
//! It is repeated only as far as needed: where the same elements follow again and again, it keeps one run of them.

use tract_onnx::prelude::*;

/// A tensor broadcast to a shape, or to the last axes of it: then the same elements repeat for all outer axes.
///
/// Errors: it cannot be broadcast to the shape.
pub fn stretched(tensor: &Tensor, shape: &[usize]) -> TractResult<Tensor> {
    let fail = || {
        TractError::msg(format!(
            "an input has the shape {:?}: expected one that can be broadcast to {shape:?}",
            tensor.shape()
        ))
    };
    let outer = tensor.shape().iter().take_while(|length| **length == 1).count();
    let inner = &tensor.shape()[outer..];
    if inner.len() > shape.len() || tensor.rank() > shape.len().max(outer + inner.len()) {
        return Err(fail());
    }
    let suffix = &shape[shape.len() - inner.len()..];
    if inner.iter().zip(suffix).any(|(own, length)| *own != 1 && own != length) {
        return Err(fail());
    }
    let kept = tensor.clone().into_shape(inner)?;
    if inner == suffix { Ok(kept) } else { kept.broadcast_to_shape(suffix) }
}

/// Elements that repeat along a longer list.
#[derive(Debug, Clone, Copy)]
pub struct Along<'a, T>(&'a [T]);

impl<'a, T: Copy> Along<'a, T> {
    /// These elements again and again.
    pub fn new(elements: &'a [T]) -> Along<'a, T> {
        Along(elements)
    }

    /// Those that belong to `length` elements from `begin` on. `begin` is a multiple of `length`, and one of the number of
    /// elements and `length` is a multiple of the other.
    pub fn part(&self, begin: usize, length: usize) -> Along<'a, T> {
        if self.0.len() <= length { *self } else { Along(&self.0[begin % self.0.len()..][..length]) }
    }

    /// The elements, once.
    pub fn elements(&self) -> &'a [T] {
        self.0
    }

    /// Replaces each value by `join` of it and its element.
    #[inline(always)]
    pub fn pair<U: Copy>(&self, values: &mut [U], join: impl Fn(U, T) -> U) {
        match self.0 {
            [] => {}
            [one] => values.iter_mut().for_each(|value| *value = join(*value, *one)),
            all => {
                for values in values.chunks_mut(all.len()) {
                    values.iter_mut().zip(all).for_each(|(value, one)| *value = join(*value, *one));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_repeat_is_made() {
        let row = tensor1(&[1_f32, 2.0]);
        assert_eq!(stretched(&row, &[3, 2]).unwrap().shape(), [2]);
        assert_eq!(stretched(&tensor0(1_f32), &[3, 2]).unwrap().shape(), [0_usize; 0]);
        let column = row.clone().into_shape(&[2, 1]).unwrap();
        let made = stretched(&column, &[5, 2, 3]).unwrap();
        assert_eq!(
            made.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap(),
            [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        );
        assert!(stretched(&row, &[2, 3]).unwrap_err().to_string().contains("broadcast to [2, 3]"));
    }

    #[test]
    fn parts_of_a_long_list() {
        let all = [1, 2, 3, 4];
        let mut values = [0, 0];
        Along::new(&all).part(6, 2).pair(&mut values, |_, one| one);
        assert_eq!(values, [3, 4]);
        Along::new(&all[..1]).part(6, 2).pair(&mut values, |_, one| one);
        assert_eq!(values, [1, 1]);
    }
}
