//! Operators of com.microsoft with weights of 2, 4 or 8 bits in blocks that have one scale each: MatMulNBits and
//! GatherBlockQuantized. They are what tools for language models write.
//!
//! tract has both, but it rounds their scales to FP16. MatMulNBits is computed in FP32 with weights that are unpacked once;
//! `accuracy_level` is the least accuracy, so FP32 is right for all of its values.

use std::sync::Arc;

use tract_onnx::prelude::tract_ndarray::{ArrayView2, ArrayViewMut2};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::super::narrow::unpack;
use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::product::multiply;
use super::steps::{floats, integers};
use super::{Built, built};

/// Builds `MatMulNBits`.
pub fn matmul(attributes: &Attributes) -> Built {
    let size = |name: &str| match attributes.int(name, 0)? {
        size @ 1..=0x7fff_ffff => Ok(size as usize),
        other => Err(attributes.wrong(format!("`{name}` is {other}: expected 1 or more"))),
    };
    let bits = bits(attributes, &[2, 4, 8])?;
    if attributes.flag("weight_prepacked", false)? {
        return Err(attributes.wrong("`weight_prepacked` is not 0: expected weights that are not rearranged"));
    }
    built(MatMul { inner: size("K")?, columns: size("N")?, block: size("block_size")?, bits, weights: None })
}

fn bits(attributes: &Attributes, supported: &[i64]) -> TractResult<u32> {
    let bits = attributes.int("bits", 4)?;
    if !supported.contains(&bits) {
        return Err(attributes.wrong(format!("`bits` is {bits}: expected one of {supported:?}")));
    }
    Ok(bits as u32)
}

#[derive(Debug, Clone)]
struct MatMul {
    /// The attribute `K`.
    inner: usize,
    /// The attribute `N`.
    columns: usize,
    block: usize,
    bits: u32,
    /// The weights in rows of `columns`, when they are constant.
    weights: Option<Arc<Vec<f32>>>,
}

impl MatMul {
    /// The number of blocks of a column.
    fn blocks(&self) -> usize {
        self.inner.div_ceil(self.block)
    }

    /// The zero point of each block.
    fn zeros(&self, zero: Option<&Tensor>) -> TractResult<TVec<f32>> {
        let count = self.columns * self.blocks();
        let Some(zero) = zero else { return Ok(TVec::from_elem((1_u32 << (self.bits - 1)) as f32, count)) };
        if zero.datum_type() != DatumType::U8 {
            return floats(zero);
        }
        // The zero points of a column begin at a new byte.
        let bytes = elements::<u8>(zero)?;
        let width = self.blocks().div_ceil(8 / self.bits as usize);
        let column = |bytes| unpack(bytes, self.bits).take(self.blocks()).map(f32::from);
        Ok(bytes.chunks(width).flat_map(column).collect())
    }

    /// The weights in rows of `columns`.
    fn unpacked(&self, inputs: &Inputs<Tensor>) -> TractResult<Vec<f32>> {
        let packed = elements::<u8>(inputs.required(1, "B")?)?;
        let (scales, zeros) = (floats(inputs.required(2, "scales")?)?, self.zeros(inputs.optional(3))?);
        let blocks: Option<TVec<i32>> = inputs.optional(4).map(integers).transpose()?;
        let per_column = self.blocks() * self.block.div_ceil(8 / self.bits as usize);
        let count = self.columns * self.blocks();
        for (name, length, expected) in [
            ("B", packed.len(), self.columns * per_column),
            ("scales", scales.len(), count),
            ("zero_points", zeros.len(), count),
        ] {
            if length != expected {
                return Err(TractError::msg(format!("`{name}` has {length} elements: expected {expected}")));
            }
        }
        let mut weights = vec![0.0; self.inner * self.columns];
        for (column, bytes) in packed.chunks(per_column).enumerate() {
            for (k, integer) in unpack(bytes, self.bits).take(self.inner).enumerate() {
                let block = match &blocks {
                    Some(blocks) => blocks.get(k).and_then(|block| usize::try_from(*block).ok()),
                    None => Some(k / self.block),
                };
                let block = block
                    .filter(|block| *block < self.blocks())
                    .ok_or_else(|| TractError::msg(format!("`g_idx` has no index of a block at {k}")))?;
                let at = column * self.blocks() + block;
                weights[k * self.columns + column] = (f32::from(integer) - zeros[at]) * scales[at];
            }
        }
        Ok(weights)
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (a, b) = (inputs.required(0, "A")?, inputs.required(1, "B")?);
        if b.datum_type != DatumType::U8 {
            return Err(TractError::msg(format!("`B` is of type {:?}: expected UINT8", b.datum_type)));
        }
        let [stack @ .., inner] = &a.shape[..] else {
            return Err(TractError::msg("`A` is a scalar: expected a matrix"));
        };
        if inner.to_i64().is_ok_and(|inner| inner != self.inner as i64) {
            return Err(TractError::msg(format!(
                "a row of `A` has {inner} elements: expected {}",
                self.inner
            )));
        }
        Ok(tvec![Kind::new(a.datum_type, stack.iter().cloned().chain([self.columns.to_dim()]))])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        let weights = inputs.0.iter().enumerate().filter(|(at, _)| (1..5).contains(at));
        if weights.filter_map(|(_, kind)| *kind).any(|kind| kind.value.is_none()) {
            return Ok(None);
        }
        let values =
            Inputs(inputs.0.iter().map(|kind| kind.and_then(|kind| kind.value.as_deref())).collect());
        let weights = Some(Arc::new(self.unpacked(&values)?));
        Ok(Some(Arc::new(MatMul { weights, ..self.clone() })))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let a = inputs.required(0, "A")?;
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None => Arc::new(self.unpacked(inputs)?),
        };
        let numbers = floats(a)?;
        let rows = numbers.len() / self.inner;
        let mut made = match inputs.optional(5) {
            Some(bias) => floats(bias)?.repeat(rows),
            None => vec![0.0; rows * self.columns],
        };
        multiply(
            ArrayView2::from_shape((rows, self.inner), &numbers)?,
            ArrayView2::from_shape((self.inner, self.columns), &weights)?,
            ArrayViewMut2::from_shape((rows, self.columns), &mut made)?,
        );
        let mut shape: TVec<usize> = a.shape().into();
        if let Some(last) = shape.last_mut() {
            *last = self.columns;
        }
        let made = Tensor::from_shape(&shape, &made)?;
        Ok(tvec![made.cast_to_dt(a.datum_type())?.into_owned()])
    }
}

/// Builds `GatherBlockQuantized`.
pub fn gather(attributes: &Attributes) -> Built {
    let block = attributes.int("block_size", 128)?;
    if block < 16 || block.count_ones() != 1 {
        return Err(attributes
            .wrong(format!("`block_size` is {block}: expected 16, 32, 64, or a higher power of two")));
    }
    if attributes.int("gather_axis", 0)? != 0 {
        return Err(attributes.wrong("only rows can be gathered: expected `gather_axis` 0"));
    }
    let axis = attributes.int("quantize_axis", 1)?;
    built(Gather { block: block as usize, bits: bits(attributes, &[4, 8])?, axis })
}

/// Takes rows of a table whose last axis is quantized in blocks.
#[derive(Debug)]
struct Gather {
    block: usize,
    bits: u32,
    /// The attribute `quantize_axis`.
    axis: i64,
}

impl Gather {
    /// The number of integers in an element of the table.
    fn packed(&self) -> usize {
        8 / self.bits as usize
    }
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "GatherBlockQuantized"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (table, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let scales = inputs.required(2, "scales")?;
        if table.datum_type != DatumType::U8 {
            return Err(TractError::msg(format!(
                "`data` is of type {:?}: expected UINT8, with two integers of 4 bits or one of 8 bits in each element",
                table.datum_type
            )));
        }
        let rank = table.rank() as i64;
        if rank < 2 || (self.axis != rank - 1 && self.axis != -1) {
            return Err(TractError::msg(format!(
                "`quantize_axis` is {} and `data` has {rank} axes: expected the last of two or more axes",
                self.axis
            )));
        }
        let width = table.shape[table.rank() - 1].clone() * self.packed();
        let blocks = width.clone().divceil(self.block);
        if scales.rank() != table.rank() || scales.shape.last() != Some(&blocks) {
            return Err(TractError::msg(format!(
                "`scales` has the shape {:?}: expected {} axes, the last of length {blocks}",
                scales.shape,
                table.rank()
            )));
        }
        let mut shape = indices.shape.clone();
        shape.extend(table.shape[1..table.rank() - 1].iter().cloned());
        shape.push(width);
        Ok(tvec![Kind::new(scales.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (table, indices) = (inputs.required(0, "data")?, inputs.required(1, "indices")?);
        let (bytes, scale) = (elements::<u8>(table)?, inputs.required(2, "scales")?);
        let scales = floats(scale)?;
        let zeros = inputs.optional(3).map(elements::<u8>).transpose()?;
        let [rows, inner @ .., width] = table.shape() else {
            return Err(TractError::msg("`data` has one axis: expected two or more"));
        };
        let lines: usize = inner.iter().product();
        let (blocks, default) =
            ((width * self.packed()).div_ceil(self.block), (1_u32 << (self.bits - 1)) as f32);
        let zero_width = blocks.div_ceil(self.packed());
        if scales.len() != rows * lines * blocks
            || zeros.is_some_and(|zeros| zeros.len() != rows * lines * zero_width)
        {
            return Err(TractError::msg("`scales` or `zero_points` do not fit the shape of `data`"));
        }
        let mut made = Vec::new();
        for index in ints(indices)? {
            let row = if index < 0 { index + *rows as i64 } else { index };
            let row = usize::try_from(row).ok().filter(|row| row < rows);
            let row = row.ok_or_else(|| {
                TractError::msg(format!("the index {index} is not in a table of {rows} rows"))
            })?;
            for line in row * lines..(row + 1) * lines {
                let zeros: Vec<f32> = match zeros {
                    Some(zeros) => unpack(&zeros[line * zero_width..(line + 1) * zero_width], self.bits)
                        .map(f32::from)
                        .collect(),
                    None => vec![default; blocks],
                };
                let scales = &scales[line * blocks..(line + 1) * blocks];
                let integers = unpack(&bytes[line * width..(line + 1) * width], self.bits);
                made.extend(integers.enumerate().map(|(at, integer)| {
                    (f32::from(integer) - zeros[at / self.block]) * scales[at / self.block]
                }));
            }
        }
        let mut shape: TVec<usize> = indices.shape().into();
        shape.extend(inner.iter().copied().chain([width * self.packed()]));
        let made = Tensor::from_shape(&shape, &made)?;
        Ok(tvec![made.cast_to_dt(scale.datum_type())?.into_owned()])
    }
}
