//! Operators that make tensors from lengths and values: `ConstantOfShape`, `Range`, `EyeLike`, `OneHot`, `Trilu`.

use std::sync::Arc;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::ToDim;

use super::super::super::tensors;
use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints, longest_text};
use super::Built;
use super::axes::{Ints, axis_of, invalid, late, lengths_of};
use super::moves::{Axis, Move, Places, mapped, moved};

/// A tensor of equal elements.
#[derive(Debug)]
struct ConstantOfShape {
    value: Tensor,
}

/// Builds a `ConstantOfShape` from its node.
pub fn constant_of_shape(attributes: &Attributes) -> Built {
    let value = match attributes.node.get_attr_opt::<&TensorProto>("value")? {
        Some(value) => tensors::load(attributes.context, value)?,
        None => tensor0(0_f32),
    };
    match value.len() {
        1 => Ok(Arc::new(ConstantOfShape { value })),
        other => Err(attributes.wrong(format!("`value` has {other} elements: expected 1"))),
    }
}

/// Without a `value` the elements are FP32, but tract makes FP64.
pub fn has_value(attributes: &Attributes, _: &Inputs<Kind>) -> Result<(), String> {
    let value = attributes.node.get_attr_opt::<&TensorProto>("value").map_err(|error| error.to_string())?;
    match value {
        Some(value) if value.data_type == DataType::String as i32 => Err("its `value` is text".into()),
        Some(_) => Ok(()),
        None => Err("it has no `value`".into()),
    }
}

impl Operator for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late_lengths: &LateLengths) -> TractResult<TVec<Kind>> {
        let shape = Ints::input("input", 0);
        let count = shape.count(inputs)?.ok_or_else(|| TractError::msg("`input` is missing"))?;
        let lengths = shape.sizes(inputs)?.unwrap_or_else(|| late(late_lengths, 0, count));
        Ok(tvec![Kind::new(self.value.datum_type(), lengths)])
    }

    fn longest_text(&self) -> usize {
        longest_text(&self.value)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let shape = lengths_of("input", &Ints::input("input", 0).required(inputs)?)?;
        let axes = shape.iter().map(|length| Axis { stride: 0, places: Places::all(*length) });
        Ok(tvec![mapped(&shape, &self.value, axes.collect(), None)?])
    }
}

/// Numbers in equal steps.
#[derive(Debug)]
struct Range;

/// Builds a `Range` from its node.
pub fn range(attributes: &Attributes) -> Built {
    // It says in which precision FP16 is computed. All is computed in FP64 here.
    match attributes.int("stash_type", 1)? {
        1 => Ok(Arc::new(Range)),
        other => Err(attributes.wrong(format!("`stash_type` is {other}: expected 1"))),
    }
}

/// The number of elements of a range.
fn count(start: &Tensor, limit: &Tensor, step: &Tensor) -> TractResult<usize> {
    for (name, input) in [("start", start), ("limit", limit), ("delta", step)] {
        if input.len() != 1 || input.datum_type() != start.datum_type() {
            return Err(TractError::msg(format!(
                "`{name}` is {:?} {:?}: expected one number of the type of `start`",
                input.datum_type(),
                input.shape()
            )));
        }
    }
    let count = if start.datum_type().is_integer() {
        let (start, limit, step) = (ints(start)?[0], ints(limit)?[0], ints(step)?[0]);
        let (distance, step) = (i128::from(limit) - i128::from(start), i128::from(step));
        if step == 0 {
            return Err(invalid("`delta` is 0: expected another number"));
        }
        let whole = distance / step;
        whole + i128::from(whole >= 0 && distance % step != 0 && (distance > 0) == (step > 0))
    } else {
        let number = |input: &Tensor| input.cast_to_scalar::<f64>();
        let count = ((number(limit)? - number(start)?) / number(step)?).ceil();
        if count.is_nan() || count >= 1e18 {
            return Err(invalid("the range has no end"));
        }
        count as i128
    };
    Ok(count.max(0) as usize)
}

impl Operator for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let all = [inputs.required(0, "start")?, inputs.required(1, "limit")?, inputs.required(2, "delta")?];
        let length = match &all.map(|kind| kind.value.clone()) {
            [Some(start), Some(limit), Some(step)] => count(start, limit, step)?.to_dim(),
            _ => late.length(0),
        };
        Ok(tvec![Kind::new(all[0].datum_type, [length])])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (start, limit) = (inputs.required(0, "start")?, inputs.required(1, "limit")?);
        let step = inputs.required(2, "delta")?;
        let count = count(start, limit, step)?;
        let datum_type = start.datum_type();
        if datum_type.is_integer() {
            let (start, step) = (ints(start)?[0], ints(step)?[0]);
            let all: Vec<i64> =
                (0..count as i64).map(|at| start.wrapping_add(at.wrapping_mul(step))).collect();
            return Ok(tvec![tensor1(&all).cast_to_dt(datum_type)?.into_owned()]);
        }
        let (start, step) = (start.cast_to_scalar::<f64>()?, step.cast_to_scalar::<f64>()?);
        let all: Vec<f64> = (0..count).map(|at| start + at as f64 * step).collect();
        Ok(tvec![tensor1(&all).cast_to_dt(datum_type)?.into_owned()])
    }
}

/// The form of `Range` that tract serves: to a size with symbols, in steps above 0.
pub fn symbolic_range(_: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let known = |at: usize| inputs.optional(at).and_then(|kind| kind.ints().ok().flatten()?.first().copied());
    let has_symbols = |at: usize| inputs.optional(at).is_some_and(|kind| kind.sizes.is_some());
    match has_symbols(1) && (has_symbols(0) || known(0).is_some()) && known(2).is_some_and(|step| step > 0) {
        true => Ok(()),
        false => Err("the engine serves only a range to a size with symbols".into()),
    }
}

/// Ones on a diagonal.
#[derive(Debug)]
struct EyeLike {
    datum_type: Option<DatumType>,
    diagonal: i64,
}

/// Builds an `EyeLike` from its node.
pub fn eye_like(attributes: &Attributes) -> Built {
    let datum_type = attributes.node.get_attr_opt::<DatumType>("dtype")?;
    Ok(Arc::new(EyeLike { datum_type, diagonal: attributes.int("k", 0)? }))
}

impl Operator for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        if input.rank() != 2 {
            return Err(TractError::msg(format!("its input has {} axes: expected 2", input.rank())));
        }
        Ok(tvec![Kind::new(self.datum_type.unwrap_or(input.datum_type), input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let datum_type = self.datum_type.unwrap_or(input.datum_type());
        let [rows, columns] = input.shape()[..] else {
            return Err(TractError::msg(format!("its input has {} axes: expected 2", input.rank())));
        };
        let mut ones = Tensor::zero::<u8>(&[rows, columns])?;
        let mut plain = ones.try_as_plain_ram_mut()?;
        for (row, ones) in plain.as_slice_mut::<u8>()?.chunks_exact_mut(columns.max(1)).enumerate() {
            let column = usize::try_from((row as i64).saturating_add(self.diagonal)).ok();
            if let Some(one) = column.and_then(|column| ones.get_mut(column)) {
                *one = 1;
            }
        }
        Ok(tvec![ones.cast_to_dt(datum_type)?.into_owned()])
    }
}

/// An axis of which one element is "on", by an index.
#[derive(Debug)]
struct OneHot {
    axis: i64,
}

/// Builds a `OneHot` from its node.
pub fn one_hot(attributes: &Attributes) -> Built {
    Ok(Arc::new(OneHot { axis: attributes.int("axis", -1)? }))
}

/// The depth, which is one number of any type. By the standard a float becomes an INT64: its fraction is cut off.
fn depth_of(depth: &Tensor) -> TractResult<i64> {
    let wrong = || invalid(format!("`depth` is {depth:?}: expected one number, 0 or more"));
    if depth.len() != 1 {
        return Err(wrong());
    }
    let number = elements::<f64>(&*depth.cast_to::<f64>()?)?.first().ok_or_else(wrong)?.trunc();
    if !(0.0..=1e18).contains(&number) {
        return Err(wrong());
    }
    Ok(number as i64)
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (indices, depth) = (inputs.required(0, "indices")?, inputs.required(1, "depth")?);
        let values = inputs.required(2, "values")?;
        let axis = axis_of(self.axis, indices.rank() + 1)?;
        let length = match &depth.value {
            Some(depth) => depth_of(depth)?.to_dim(),
            None => late.length(0),
        };
        let mut shape = indices.shape.clone();
        shape.insert(axis, length);
        Ok(tvec![Kind::new(values.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (indices, depth) = (inputs.required(0, "indices")?, inputs.required(1, "depth")?);
        let values = inputs.required(2, "values")?;
        if values.len() != 2 {
            return Err(TractError::msg(format!("`values` has {} elements: expected 2", values.len())));
        }
        let axis = axis_of(self.axis, indices.rank() + 1)?;
        let depth = depth_of(depth)? as usize;
        let indices_cast = indices.cast_to::<i64>()?;
        let mut shape: TVec<usize> = indices.shape().into();
        shape.insert(axis, depth);
        let copy = Hot {
            indices: elements::<i64>(&indices_cast)?,
            depth,
            inner: indices.shape()[axis..].iter().product(),
        };
        Ok(tvec![moved(&shape, &[values], &copy)?])
    }
}

struct Hot<'a> {
    indices: &'a [i64],
    depth: usize,
    /// The number of indices inside the new axis.
    inner: usize,
}

impl Move for Hot<'_> {
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        if output.is_empty() {
            return Ok(());
        }
        let [off, on] = sources[0] else { return Err(TractError::msg("`values` has not 2 elements")) };
        output.fill(off.clone());
        let depth = self.depth as i64;
        for (at, index) in self.indices.iter().enumerate() {
            // An index out of range turns nothing on.
            if (-depth..depth).contains(index) {
                let place = if *index < 0 { index + depth } else { *index } as usize;
                output[(at / self.inner * self.depth + place) * self.inner + at % self.inner] = on.clone();
            }
        }
        Ok(())
    }
}

/// Keeps one side of a diagonal; the other side becomes 0.
#[derive(Debug)]
struct Trilu {
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Upper,
    Lower,
}

/// Builds a `Trilu` from its node.
pub fn trilu(attributes: &Attributes) -> Built {
    let side = if attributes.flag("upper", true)? { Side::Upper } else { Side::Lower };
    Ok(Arc::new(Trilu { side }))
}

impl Operator for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        match input.rank() {
            0 | 1 => Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank()))),
            _ => Ok(tvec![Kind::new(input.datum_type, input.shape.clone())]),
        }
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let [.., rows, columns] = input.shape()[..] else {
            return Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank())));
        };
        let diagonal = match inputs.optional(1) {
            Some(k) => {
                ints(k)?.first().copied().ok_or_else(|| TractError::msg("`k` is empty: expected a number"))?
            }
            None => 0,
        };
        Ok(tvec![moved(input.shape(), &[input], &Triangle { rows, columns, diagonal, side: self.side })?])
    }
}

struct Triangle {
    rows: usize,
    columns: usize,
    diagonal: i64,
    side: Side,
}

impl Move for Triangle {
    /// The output holds zeros at first.
    fn apply<T: Clone>(&self, sources: &[&[T]], output: &mut [T]) -> TractResult<()> {
        if output.is_empty() {
            return Ok(());
        }
        let columns = self.columns as i64;
        let rows = output.chunks_exact_mut(self.columns).zip(sources[0].chunks_exact(self.columns));
        for (at, (output, input)) in rows.enumerate() {
            let on_diagonal = ((at % self.rows) as i64).saturating_add(self.diagonal);
            let kept = match self.side {
                Side::Upper => on_diagonal.clamp(0, columns) as usize..self.columns,
                Side::Lower => 0..on_diagonal.saturating_add(1).clamp(0, columns) as usize,
            };
            output[kept.clone()].clone_from_slice(&input[kept]);
        }
        Ok(())
    }
}
