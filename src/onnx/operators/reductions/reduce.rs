//! The reductions with any number of axes: `ReduceSum`, `ReduceMean`, `ReduceMax`, `ReduceMin`, `ReduceProd`, `ReduceL1`,
//! `ReduceL2`, `ReduceLogSum`, `ReduceLogSumExp` and `ReduceSumSquare`.
//!
//! FP16 is computed in FP32. `ReduceMean`, `ReduceL2`, `ReduceLogSum` and `ReduceLogSumExp` of integers are computed in
//! FP64 and rounded toward 0. Sums and products of integers wrap. The maximum and the minimum of numbers with a NaN are NaN.

use std::sync::Arc;

use onnxd_kernels::reduce;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::{Split, axes};
use super::super::math::converted;
use super::super::numbers::{Number, filled, mapped, on_floats, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::fold::Fold;

/// What is computed of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

impl How {
    fn named(name: &str) -> Option<(&'static str, How)> {
        Some(match name {
            "ReduceSum" => ("ReduceSum", How::Sum),
            "ReduceMean" => ("ReduceMean", How::Mean),
            "ReduceMax" => ("ReduceMax", How::Max),
            "ReduceMin" => ("ReduceMin", How::Min),
            "ReduceProd" => ("ReduceProd", How::Prod),
            "ReduceL1" => ("ReduceL1", How::L1),
            "ReduceL2" => ("ReduceL2", How::L2),
            "ReduceLogSum" => ("ReduceLogSum", How::LogSum),
            "ReduceLogSumExp" => ("ReduceLogSumExp", How::LogSumExp),
            "ReduceSumSquare" => ("ReduceSumSquare", How::SumSquare),
            _ => return None,
        })
    }

    /// True when the result of integers is computed in floating point.
    fn is_real(self) -> bool {
        matches!(self, How::Mean | How::L2 | How::LogSum | How::LogSumExp)
    }
}

/// One of the reductions.
#[derive(Debug)]
struct Reduction {
    name: &'static str,
    how: How,
    /// The axes of the attribute. Since version 13 or 18 they are an input.
    axes: Option<Vec<i64>>,
    keeps_axes: bool,
    /// What no axes mean.
    without_axes: WithoutAxes,
}

/// What a list of axes without elements means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutAxes {
    /// All axes are reduced.
    All,
    /// No axis is reduced, but the function of a single element is applied.
    None,
}

/// Builds a reduction from its node.
pub fn reduction(attributes: &Attributes) -> TractResult<Arc<dyn Operator>> {
    let named = How::named(&attributes.node.op_type);
    let (name, how) = named.ok_or_else(|| attributes.wrong("it is no reduction"))?;
    let axes = if attributes.has("axes") { Some(attributes.ints("axes")?.to_vec()) } else { None };
    let without_axes =
        if attributes.flag("noop_with_empty_axes", false)? { WithoutAxes::None } else { WithoutAxes::All };
    let keeps_axes = attributes.flag("keepdims", true)?;
    Ok(Arc::new(Reduction { name, how, axes, keeps_axes, without_axes }))
}

/// What is known about the axes before the run.
enum Known {
    /// These, in ascending order.
    Axes(Vec<usize>),
    /// Only their number.
    Count(usize),
}

impl Reduction {
    /// The axes that are reduced. `listed` are those of the input.
    fn reduced(&self, listed: Option<&[i64]>, rank: usize) -> TractResult<Vec<usize>> {
        let listed = listed.or(self.axes.as_deref()).unwrap_or_default();
        match (listed.is_empty(), self.without_axes) {
            (true, WithoutAxes::All) => Ok((0..rank).collect()),
            _ => axes(listed, rank),
        }
    }

    fn known(&self, inputs: &Inputs<Kind>, rank: usize) -> TractResult<Known> {
        let Some(listed) = inputs.optional(1) else { return Ok(Known::Axes(self.reduced(None, rank)?)) };
        if let Some(values) = listed.ints()? {
            return Ok(Known::Axes(self.reduced(Some(&values), rank)?));
        }
        match (listed.count(), self.without_axes) {
            (Some(0), _) => Ok(Known::Axes(self.reduced(Some(&[]), rank)?)),
            (Some(count), _) if count <= rank => Ok(Known::Count(count)),
            (Some(count), _) => Err(TractError::msg(format!("there are {count} axes for {rank} axes"))),
            // Without axes all axes would be reduced, so the lengths do not follow from the number of axes.
            (None, _) if self.keeps_axes => Ok(Known::Count(rank)),
            (None, _) => {
                Err(TractError::msg("the number of `axes` is open: expected a fixed number, or `keepdims` 1"))
            }
        }
    }

    fn takes(&self, datum_type: DatumType) -> TractResult<()> {
        let is_extreme = matches!(self.how, How::Max | How::Min);
        let is_number = datum_type.is_number() && !datum_type.is_quantized();
        if is_number || is_extreme && datum_type == DatumType::Bool {
            return Ok(());
        }
        let expected = if is_extreme { "numbers or BOOL" } else { "numbers" };
        Err(TractError::msg(format!("its input is of type {datum_type:?}: expected {expected}")))
    }
}

impl Operator for Reduction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "data")?;
        self.takes(input.datum_type)?;
        let shape: TVec<TDim> = match self.known(inputs, input.rank())? {
            Known::Axes(reduced) => {
                let lengths = input.shape.iter().enumerate();
                let is_left = |at: &usize| !reduced.contains(at);
                if self.keeps_axes {
                    lengths.map(|(at, length)| if is_left(&at) { length.clone() } else { 1.into() }).collect()
                } else {
                    lengths.filter(|(at, _)| is_left(at)).map(|(_, length)| length.clone()).collect()
                }
            }
            Known::Count(_) if self.keeps_axes => {
                let one = TDim::from(1);
                let lengths = input.shape.iter().enumerate();
                lengths
                    .map(|(at, length)| if *length == one { one.clone() } else { late.length(at) })
                    .collect()
            }
            Known::Count(count) => (0..input.rank() - count).map(|at| late.length(at)).collect(),
        };
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let listed = inputs.optional(1).map(ints).transpose()?;
        let rank = inputs.required(0, "data")?.rank();
        let reduced = self.reduced(listed.as_deref(), rank)?;
        let input = inputs.required(0, "data")?;
        let mut output = self.of_any(input, &reduced)?;
        for axis in reduced.iter().rev().filter(|_| !self.keeps_axes) {
            output.remove_axis(*axis)?;
        }
        Ok(tvec![output])
    }
}

impl Reduction {
    /// Reduces a tensor of any datatype but FP16, and keeps the axes.
    fn of_any(&self, input: &Tensor, reduced: &[usize]) -> TractResult<Tensor> {
        let datum_type = input.datum_type();
        if datum_type == DatumType::Bool {
            let numbers = mapped::<bool, u8>(input, |is_true| u8::from(*is_true))?;
            let mut result = self.of_any(&numbers, reduced)?;
            if numbers.len() == 0 {
                // No maximum is below false, and no minimum above true.
                result = mapped::<u8, u8>(&result, |_| u8::from(self.how == How::Min))?;
            }
            return mapped::<u8, bool>(&result, |number| *number != 0);
        }
        if self.how.is_real() && datum_type.is_integer() {
            let wide = converted(input, DatumType::F64)?;
            return converted(&self.of_any(&wide, reduced)?, datum_type);
        }
        let (shape, input, split) = arranged(input, reduced)?;
        if datum_type == DatumType::F32
            && let Some(results) = single(self.how, elements::<f32>(&input)?, split)
        {
            return Tensor::from_shape(&shape, &results);
        }
        if self.how.is_real() {
            on_floats!(datum_type, T => {
                let results = real(self.how, elements::<T>(&input)?, split);
                filled::<T>(&shape, |to| { to.copy_from_slice(&results); Ok(()) })
            })
        } else {
            on_numbers!(datum_type, T => {
                let results = plain(self.how, elements::<T>(&input)?, split);
                filled::<T>(&shape, |to| { to.copy_from_slice(&results); Ok(()) })
            })
        }
    }
}

/// The shape with the reduced axes as 1, and the tensor in an order in which the reduced axes are neighbours.
fn arranged<'a>(
    input: &'a Tensor,
    reduced: &[usize],
) -> TractResult<(Vec<usize>, std::borrow::Cow<'a, Tensor>, Split)> {
    use std::borrow::Cow;
    let shape = input.shape();
    let result = (0..shape.len()).map(|at| if reduced.contains(&at) { 1 } else { shape[at] }).collect();
    // Axes of length 1 do not matter.
    let long: Vec<usize> = reduced.iter().copied().filter(|at| shape[*at] != 1).collect();
    let volume = |axes: &[usize]| axes.iter().map(|at| shape[*at]).product::<usize>();
    let (Some(first), Some(last)) = (long.first().copied(), long.last().copied()) else {
        return Ok((result, Cow::Borrowed(input), Split { outer: input.len(), length: 1, inner: 1 }));
    };
    let between = (first..=last).filter(|at| shape[*at] != 1).count();
    if between == long.len() {
        let (outer, inner) = (shape[..first].iter().product(), shape[last + 1..].iter().product());
        return Ok((result, Cow::Borrowed(input), Split { outer, length: volume(&long), inner }));
    }
    let left: Vec<usize> = (0..shape.len()).filter(|at| !long.contains(at)).collect();
    let (outer, length) = (volume(&left), volume(&long));
    let order: Vec<usize> = left.into_iter().chain(long).collect();
    let turned = input.clone().permute_axes(&order)?;
    Ok((result, Cow::Owned(turned), Split { outer, length, inner: 1 }))
}

/// The reductions of FP32 that are kernels.
fn single(how: How, numbers: &[f32], split: Split) -> Option<Vec<f32>> {
    let reduction = match how {
        How::Sum | How::Mean | How::LogSum => reduce::Reduction::Sum,
        How::L2 | How::SumSquare => reduce::Reduction::SumOfSquares,
        How::L1 => reduce::Reduction::SumOfMagnitudes,
        How::Max => reduce::Reduction::Largest,
        How::Min => reduce::Reduction::Smallest,
        How::Prod | How::LogSumExp => return None,
    };
    let mut results = reduce::reduce(reduction, numbers, split.outer, split.length, split.inner);
    for result in &mut results {
        *result = match how {
            How::Mean => *result / split.length as f32,
            How::L2 => result.sqrt(),
            How::LogSum => result.ln(),
            _ => *result,
        };
    }
    Some(results)
}

/// The reductions whose results have the type of the elements.
fn plain<T: Number>(how: How, elements: &[T], split: Split) -> Vec<T> {
    let (zero, plus) = (T::ZERO, T::plus as fn(T, T) -> T);
    match how {
        How::Max => Fold { empty: T::LEAST, step: T::larger, merge: T::larger }.over(elements, split),
        How::Min => Fold { empty: T::GREATEST, step: T::smaller, merge: T::smaller }.over(elements, split),
        How::Prod => Fold { empty: T::ONE, step: T::times, merge: T::times }.over(elements, split),
        How::L1 => {
            let step = |sum: T, one: T| sum.plus(one.magnitude());
            Fold { empty: zero, step, merge: plus }.over(elements, split)
        }
        How::SumSquare => {
            let step = |sum: T, one: T| sum.plus(one.times(one));
            Fold { empty: zero, step, merge: plus }.over(elements, split)
        }
        _ => Fold { empty: zero, step: |sum: T, one: T| sum.plus(one), merge: plus }.over(elements, split),
    }
}

/// The reductions whose results are real numbers.
fn real<T: Number>(how: How, elements: &[T], split: Split) -> Vec<T> {
    let finish = |mut results: Vec<T>, last: &dyn Fn(f64) -> f64| {
        results.iter_mut().for_each(|result| *result = T::of_f64(last(result.to_f64())));
        results
    };
    match how {
        How::Mean => finish(plain(How::Sum, elements, split), &|sum| sum / split.length as f64),
        How::L2 => finish(plain(How::SumSquare, elements, split), &f64::sqrt),
        How::LogSum => finish(plain(How::Sum, elements, split), &f64::ln),
        _ => log_sum_exp(elements, split),
    }
}

/// log(Σ exp(x)). The largest element is subtracted first, so that no `exp` overflows.
fn log_sum_exp<T: Number>(elements: &[T], split: Split) -> Vec<T> {
    let mut shifts = plain(How::Max, elements, split);
    // A difference of infinities would be NaN.
    shifts.iter_mut().filter(|shift| shift.to_f64().is_infinite()).for_each(|shift| *shift = T::ZERO);
    let mut parts = vec![T::ZERO; elements.len()];
    let plane = (split.length * split.inner).max(1);
    for (outer, (to, from)) in parts.chunks_mut(plane).zip(elements.chunks(plane)).enumerate() {
        let shifts = &shifts[outer * split.inner..][..split.inner];
        for (to, from) in to.chunks_mut(split.inner).zip(from.chunks(split.inner)) {
            for ((to, from), shift) in to.iter_mut().zip(from).zip(shifts) {
                *to = T::of_f64(from.minus(*shift).to_f64().exp());
            }
        }
    }
    let mut sums = plain(How::Sum, &parts, split);
    for (sum, shift) in sums.iter_mut().zip(&shifts) {
        *sum = T::of_f64(sum.to_f64().ln() + shift.to_f64());
    }
    sums
}
