//! Which scale belongs to which element of a tensor: one for all, one for each index of an axis, or one for each block
//! along an axis.

use std::ops::Range;

use tract_onnx::prelude::*;

/// How scales are spread over a tensor of the shape outer × length × inner.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spread {
    /// One scale for all elements.
    Tensor,
    /// One scale for each index of the axis.
    Axis,
    /// One scale for so many elements that follow each other along the axis.
    Block(usize),
}

/// Which scale belongs to which element.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    outer: usize,
    length: usize,
    inner: usize,
    spread: Spread,
}

impl Grid {
    /// The scales of this shape for a tensor of this shape. `block` is the attribute `block_size`; 0 means no blocks.
    ///
    /// Errors: the scales do not fit the tensor.
    pub fn new(shape: &[usize], scales: &[usize], axis: i64, block: i64) -> TractResult<Grid> {
        let all = Grid { outer: 1, length: 1, inner: shape.iter().product(), spread: Spread::Tensor };
        let block = usize::try_from(block)
            .map_err(|_| TractError::msg(format!("block_size is {block}: expected 0 or more")))?;
        if scales.iter().product::<usize>() == 1 && (block == 0 || scales.len() != shape.len()) {
            return Ok(all);
        }
        let rank = shape.len() as i64;
        let at = if axis < 0 { axis + rank } else { axis };
        if !(0..rank).contains(&at) {
            return Err(TractError::msg(format!("axis is {axis}, but the input has {rank} axes")));
        }
        let at = at as usize;
        let spread = if block == 0 { Spread::Axis } else { Spread::Block(block) };
        let fits = match spread {
            Spread::Block(block) => {
                scales.len() == shape.len()
                    && scales.iter().zip(shape).enumerate().all(|(axis, (scales, length))| {
                        *scales == if axis == at { length.div_ceil(block) } else { *length }
                    })
            }
            _ => scales == [shape[at]],
        };
        if !fits {
            return Err(TractError::msg(format!(
                "the scales have the shape {scales:?}, which does not fit the input {shape:?} with axis {axis} and \
                 block_size {block}"
            )));
        }
        let (outer, inner) = (shape[..at].iter().product(), shape[at + 1..].iter().product());
        Ok(Grid { outer, length: shape[at], inner, spread })
    }

    /// Calls `each` with ranges of elements, and the range of their scales: one scale for all of them, or one for each.
    pub fn runs(&self, mut each: impl FnMut(Range<usize>, Range<usize>)) {
        let Grid { outer, length, inner, spread } = *self;
        match spread {
            Spread::Tensor => each(0..inner, 0..1),
            Spread::Axis if inner == 1 => {
                for at in 0..outer {
                    each(at * length..(at + 1) * length, 0..length);
                }
            }
            Spread::Axis => {
                for at in 0..outer * length {
                    each(at * inner..(at + 1) * inner, at % length..at % length + 1);
                }
            }
            Spread::Block(block) => {
                let blocks = length.div_ceil(block);
                for at in 0..outer * length {
                    let row = at / length * blocks + at % length / block;
                    each(at * inner..(at + 1) * inner, row * inner..(row + 1) * inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale_of_each(shape: &[usize], scales: &[usize], axis: i64, block: i64) -> Vec<usize> {
        let mut all = vec![usize::MAX; shape.iter().product()];
        Grid::new(shape, scales, axis, block).unwrap().runs(|elements, scales| {
            for (at, element) in elements.enumerate() {
                all[element] = if scales.len() == 1 { scales.start } else { scales.start + at };
            }
        });
        all
    }

    #[test]
    fn every_element_has_its_scale() {
        assert_eq!(scale_of_each(&[2, 2], &[], 1, 0), [0; 4]);
        assert_eq!(scale_of_each(&[2, 3], &[3], -1, 0), [0, 1, 2, 0, 1, 2]);
        assert_eq!(scale_of_each(&[2, 1, 2], &[2], 0, 0), [0, 0, 1, 1]);
        assert_eq!(scale_of_each(&[1, 3], &[1, 2], 1, 2), [0, 0, 1]);
        assert_eq!(scale_of_each(&[3, 2], &[2, 2], 0, 2), [0, 1, 0, 1, 2, 3]);
    }

    #[test]
    fn scales_that_do_not_fit_are_errors() {
        assert!(Grid::new(&[2, 3], &[2], 1, 0).is_err());
        assert!(Grid::new(&[2, 3], &[3], 2, 0).is_err());
        assert!(Grid::new(&[2, 3], &[2, 3], 1, 2).is_err());
        assert!(Grid::new(&[2, 3], &[2, 2], 1, -1).is_err());
        assert!(Grid::new(&[], &[2], 0, 0).is_err());
    }
}
