//! The copying of elements of any type, strings included: what all operators of this family do in the end.
//!
//! What belongs here: loops that copy. What does not: which element goes where. Elements are copied by their width in
//! bytes, so there is one loop for all types of the same width.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::tract_ndarray::ArrayD;

use super::super::operator::elements;
use super::axes::strides;

/// A copy that works for elements of any type.
pub trait Move {
    /// Fills the output from the elements of the sources. All have the same type.
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()>;
}

/// Makes a tensor of this shape with the type of the first source.
///
/// Errors: the sources have different types.
pub fn moved(shape: &[usize], sources: &[&Tensor], copy: &impl Move) -> TractResult<Tensor> {
    let datum_type = sources[0].datum_type();
    if let Some(other) = sources.iter().find(|source| source.datum_type() != datum_type) {
        return Err(TractError::msg(format!(
            "its inputs are of the types {datum_type:?} and {:?}: expected one type",
            other.datum_type()
        )));
    }
    if datum_type == DatumType::String {
        return boxed::<String>(shape, sources, copy);
    }
    if datum_type == DatumType::TDim {
        return boxed::<TDim>(shape, sources, copy);
    }
    let mut output = Tensor::zero_dt(datum_type, shape)?;
    if output.len() == 0 {
        return Ok(output);
    }
    match datum_type.size_of() {
        1 => chunked::<1>(sources, &mut output, copy)?,
        2 => chunked::<2>(sources, &mut output, copy)?,
        4 => chunked::<4>(sources, &mut output, copy)?,
        8 => chunked::<8>(sources, &mut output, copy)?,
        _ => return Err(TractError::msg(format!("its input is of type {datum_type:?}: that is not served"))),
    }
    Ok(output)
}

/// Elements of `N` bytes.
fn chunked<const N: usize>(sources: &[&Tensor], output: &mut Tensor, copy: &impl Move) -> TractResult<()> {
    fn chunks<const N: usize>(source: &Tensor) -> TractResult<&[[u8; N]]> {
        Ok(source.try_as_plain_ram()?.as_bytes().as_chunks().0)
    }
    let sources: TVec<&[[u8; N]]> =
        sources.iter().map(|source| chunks(source)).collect::<TractResult<_>>()?;
    copy.apply(&sources, output.as_bytes_mut().as_chunks_mut().0)
}

/// Elements that own memory.
fn boxed<T: Datum>(shape: &[usize], sources: &[&Tensor], copy: &impl Move) -> TractResult<Tensor> {
    let mut output = vec![T::default(); shape.iter().product()];
    let sources: TVec<&[T]> =
        sources.iter().map(|source| elements::<T>(source)).collect::<TractResult<_>>()?;
    copy.apply(&sources, &mut output)?;
    Ok(ArrayD::from_shape_vec(shape, output)?.into_tensor())
}

/// The place of an element that is not in the input: it gets the fill value.
pub const FILL: usize = usize::MAX;

/// The places along an axis of the input, for each element along an axis of the output.
#[derive(Debug, Clone)]
pub enum Places {
    /// `length` places from `start` on, each `step` after the one before.
    Run { start: usize, step: isize, length: usize },
    /// Any places, or [`FILL`].
    List(Vec<usize>),
}

impl Places {
    /// All places of an axis.
    pub fn all(length: usize) -> Places {
        Places::Run { start: 0, step: 1, length }
    }

    /// The number of places.
    pub fn len(&self) -> usize {
        match self {
            Places::Run { length, .. } => *length,
            Places::List(places) => places.len(),
        }
    }

    fn each(&self, mut visit: impl FnMut(usize)) {
        match self {
            Places::Run { start, step, length } => {
                (0..*length).for_each(|at| visit(start.wrapping_add_signed(step * at as isize)));
            }
            Places::List(places) => places.iter().for_each(|place| visit(*place)),
        }
    }
}

/// An axis of the output.
#[derive(Debug, Clone)]
pub struct Axis {
    /// The distance between two places in the input, in elements.
    pub stride: usize,
    /// The places in the input.
    pub places: Places,
}

/// The axes of an output that has the axes of the input, with these places.
pub fn along(shape: &[usize], places: impl IntoIterator<Item = Places>) -> Vec<Axis> {
    strides(shape).into_iter().zip(places).map(|(stride, places)| Axis { stride, places }).collect()
}

/// An output whose element at `[i, j, ...]` is the input's at the sum of each axis' place times its stride.
struct Mapped {
    axes: Vec<Axis>,
    /// Places of the last axis that follow each other are copied at once: the first one and their number. Empty where that
    /// would not be faster.
    runs: Vec<(usize, usize)>,
    /// The first element that is read, and how many are copied at once.
    base: usize,
    block: usize,
}

/// Places of an axis as runs of neighbours, or of places that are filled. Empty: most of them are too short.
fn runs(axis: &Axis, block: usize) -> Vec<(usize, usize)> {
    let Axis { stride, places: Places::List(places) } = axis else { return Vec::new() };
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((FILL, count)) if *place == FILL => *count += 1,
            Some((first, count)) if *first != FILL && *place == *first + *count => *count += 1,
            _ => runs.push((*place, 1)),
        }
    }
    let are_long = *stride == block && runs.len() * 4 <= places.len();
    if are_long { runs } else { Vec::new() }
}

/// Makes a tensor of this shape from the elements of `source` at the places of `axes`, the outermost first. The lengths of
/// the axes multiply to the number of elements. `fill` is the element for [`FILL`].
pub fn mapped(
    shape: &[usize],
    source: &Tensor,
    mut axes: Vec<Axis>,
    fill: Option<&Tensor>,
) -> TractResult<Tensor> {
    let (mut base, mut block) = (0, 1);
    while let Some(Axis { stride, places: Places::Run { start, step, length } }) = axes.last() {
        if *length != 1 && (*stride != block || *step != 1) {
            break;
        }
        base += start * stride;
        block *= length;
        axes.pop();
    }
    let mut sources: TVec<&Tensor> = tvec![source];
    sources.extend(fill);
    let runs = axes.last().map(|axis| runs(axis, block)).unwrap_or_default();
    moved(shape, &sources, &Mapped { axes, runs, base, block })
}

impl Move for Mapped {
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        if !output.is_empty() {
            let fill = sources.get(1).and_then(|fill| fill.first());
            Walk { source: sources[0], fill, block: self.block, runs: &self.runs }
                .fill(&self.axes, self.base, output);
        }
        Ok(())
    }
}

struct Walk<'a, T> {
    source: &'a [T],
    fill: Option<&'a T>,
    block: usize,
    runs: &'a [(usize, usize)],
}

impl<T: Clone> Walk<'_, T> {
    /// Fills the part of the output below `axes`. `base` is the place that the outer axes give.
    fn fill(&self, axes: &[Axis], base: usize, output: &mut [T]) {
        match axes {
            [] => output.clone_from_slice(&self.source[base..base + self.block]),
            [_] if !self.runs.is_empty() => {
                let mut rest = output;
                for (place, count) in self.runs {
                    let (part, after) = rest.split_at_mut(count * self.block);
                    rest = after;
                    if *place != FILL {
                        part.clone_from_slice(&self.source[base + place * self.block..][..part.len()]);
                    } else if let Some(fill) = self.fill {
                        part.fill(fill.clone());
                    }
                }
            }
            [Axis { stride, places: Places::List(places) }] if self.block == 1 => {
                for (element, place) in output.iter_mut().zip(places) {
                    if *place != FILL {
                        *element = self.source[base + place * stride].clone();
                    } else if let Some(fill) = self.fill {
                        *element = fill.clone();
                    }
                }
            }
            [Axis { stride, places: Places::Run { start, step, .. } }] if self.block == 1 => {
                let (mut at, step) = (base + start * stride, step * *stride as isize);
                for element in output {
                    *element = self.source[at].clone();
                    at = at.wrapping_add_signed(step);
                }
            }
            [Axis { stride, places }, inner @ ..] => {
                let length = output.len() / places.len();
                let (mut begin, mut before) = (0, FILL);
                places.each(|place| {
                    let (done, rest) = output.split_at_mut(begin);
                    let part = &mut rest[..length];
                    if place == FILL {
                        self.fill.iter().for_each(|fill| part.fill((*fill).clone()));
                    } else if place == before {
                        // A part that is repeated is copied from the output.
                        part.clone_from_slice(&done[begin - length..]);
                    } else {
                        self.fill(inner, base + place * stride, part);
                    }
                    (begin, before) = (begin + length, place);
                });
            }
        }
    }
}

/// An output whose block number `i` is the input's block number `places[i]`.
struct Picked<'a> {
    places: &'a [usize],
    block: usize,
}

/// Makes a tensor of this shape from blocks of `block` elements of `source`: the output's block number `i` is the source's
/// block number `places[i]`. Every place must be in the source.
pub fn picked(shape: &[usize], source: &Tensor, places: &[usize], block: usize) -> TractResult<Tensor> {
    moved(shape, &[source], &Picked { places, block })
}

impl Move for Picked<'_> {
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        let source = sources[0];
        match self.block {
            0 => {}
            1 => {
                for (element, place) in output.iter_mut().zip(self.places) {
                    *element = source[*place].clone();
                }
            }
            block => {
                for (part, place) in output.chunks_exact_mut(block).zip(self.places) {
                    part.clone_from_slice(&source[place * block..][..block]);
                }
            }
        }
        Ok(())
    }
}

/// The input with blocks of `block` elements replaced by those of the updates.
struct Replaced<'a> {
    places: &'a [usize],
    block: usize,
}

/// A copy of `source` in which block number `places[i]` is block number `i` of `updates`. A later block replaces an earlier
/// one. Every place must be in the source.
pub fn replaced(source: &Tensor, updates: &Tensor, places: &[usize], block: usize) -> TractResult<Tensor> {
    moved(source.shape(), &[source, updates], &Replaced { places, block })
}

impl Move for Replaced<'_> {
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        output.clone_from_slice(sources[0]);
        if self.block > 0 {
            for (update, place) in sources[1].chunks_exact(self.block).zip(self.places) {
                output[place * self.block..][..self.block].clone_from_slice(update);
            }
        }
        Ok(())
    }
}

/// Several tensors one after the other along an axis.
struct Joined {
    /// For each source, the number of elements that it gives in a row.
    widths: TVec<usize>,
}

/// Makes a tensor of this shape from tensors that are joined along `axis`.
pub fn joined(shape: &[usize], sources: &[&Tensor], axis: usize) -> TractResult<Tensor> {
    let width = |source: &&Tensor| source.shape()[axis..].iter().product();
    moved(shape, sources, &Joined { widths: sources.iter().map(width).collect() })
}

impl Move for Joined {
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        let width: usize = self.widths.iter().sum();
        if width == 0 {
            return Ok(());
        }
        for (at, row) in output.chunks_exact_mut(width).enumerate() {
            let mut rest = row;
            for (source, width) in sources.iter().zip(&self.widths) {
                let (part, after) = rest.split_at_mut(*width);
                part.clone_from_slice(&source[at * width..][..*width]);
                rest = after;
            }
        }
        Ok(())
    }
}
