//! Operators that change the order of elements by axes: `Transpose`, `DepthToSpace`, `SpaceToDepth`.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, kept_text};
use super::Built;
use super::axes::{axes_of, dims, lengths, strides};
use super::moves::{Axis, Places, mapped};

/// A tensor of this shape with the axes of `input`, seen as a tensor of the shape `view`, in another order.
fn permuted(input: &Tensor, view: &[usize], order: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    let strides = strides(view);
    let axes = order.iter().map(|axis| Axis { stride: strides[*axis], places: Places::all(view[*axis]) });
    mapped(shape, input, axes.collect(), None)
}

/// Changes the order of the axes.
#[derive(Debug)]
struct Transpose {
    order: Option<Vec<i64>>,
}

/// Builds a `Transpose` from its node.
pub fn transpose(attributes: &Attributes) -> Built {
    let order = attributes.has("perm").then(|| attributes.ints("perm")).transpose()?;
    Ok(Arc::new(Transpose { order: order.map(<[i64]>::to_vec) }))
}

impl Transpose {
    fn order(&self, rank: usize) -> TractResult<Vec<usize>> {
        let Some(order) = &self.order else { return Ok((0..rank).rev().collect()) };
        if order.len() != rank {
            return Err(TractError::msg(format!("`perm` is {order:?} for an input of {rank} axes")));
        }
        axes_of(order, rank)
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn keeps_symbols(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        let shape = self.order(input.rank())?.into_iter().map(|axis| input.shape[axis].clone());
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let order = self.order(input.rank())?;
        let shape: TVec<usize> = order.iter().map(|axis| input.shape()[*axis]).collect();
        Ok(tvec![permuted(input, input.shape(), &order, &shape)?])
    }
}

/// Moves blocks of an image into channels, or channels into blocks.
#[derive(Debug)]
struct Blocks {
    direction: Direction,
    block: usize,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    DepthToSpace,
    SpaceToDepth,
}

/// Which of the two is the outer axis of the channels.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// The place in the block (`DCR`).
    Block,
    /// The channel (`CRD`).
    Channel,
}

/// Builds a `DepthToSpace` from its node.
pub fn depth_to_space(attributes: &Attributes) -> Built {
    blocks(attributes, Direction::DepthToSpace)
}

/// Builds a `SpaceToDepth` from its node.
pub fn space_to_depth(attributes: &Attributes) -> Built {
    blocks(attributes, Direction::SpaceToDepth)
}

fn blocks(attributes: &Attributes, direction: Direction) -> Built {
    let block = attributes.int("blocksize", 0)?;
    let block = usize::try_from(block).ok().filter(|block| (1..=1 << 15).contains(block));
    let block = block
        .ok_or_else(|| attributes.wrong("`blocksize` is missing or not possible: expected 1 or more"))?;
    let order = match attributes.string("mode", "DCR")? {
        "DCR" => Order::Block,
        "CRD" => Order::Channel,
        other => return Err(attributes.wrong(format!("`mode` is {other}: expected DCR or CRD"))),
    };
    Ok(Arc::new(Blocks { direction, block, order }))
}

impl Blocks {
    fn shape(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let [n, c, h, w] = shape else {
            return Err(TractError::msg(format!("an input with {} axes: expected 4", shape.len())));
        };
        let block = self.block;
        let divided = |length: &TDim, by: usize| match length.to_usize() {
            Ok(length) if !length.is_multiple_of(by) => Err(TractError::msg(format!(
                "an axis of the length {length} cannot be divided into blocks of {by}"
            ))),
            _ => Ok(length.clone() / by),
        };
        Ok(match self.direction {
            Direction::DepthToSpace => {
                tvec![n.clone(), divided(c, block * block)?, h.clone() * block, w.clone() * block]
            }
            Direction::SpaceToDepth => {
                tvec![n.clone(), c.clone() * (block * block), divided(h, block)?, divided(w, block)?]
            }
        })
    }
}

impl Operator for Blocks {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::DepthToSpace => "DepthToSpace",
            Direction::SpaceToDepth => "SpaceToDepth",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        Ok(tvec![Kind::new(input.datum_type, self.shape(&input.shape)?)])
    }

    fn most_text(&self, inputs: &Inputs<Tensor>, _: u128) -> u128 {
        kept_text(inputs)
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, b) = (inputs.single()?, self.block);
        let shape = lengths(&self.shape(&dims(input.shape()))?)?;
        let (from, to) = (input.shape(), &shape);
        let output = match (self.direction, self.order) {
            (Direction::DepthToSpace, Order::Block) => {
                permuted(input, &[from[0], b, b, to[1], from[2], from[3]], &[0, 3, 4, 1, 5, 2], &shape)
            }
            (Direction::DepthToSpace, Order::Channel) => {
                permuted(input, &[from[0], to[1], b, b, from[2], from[3]], &[0, 1, 4, 2, 5, 3], &shape)
            }
            (Direction::SpaceToDepth, Order::Block) => {
                permuted(input, &[from[0], from[1], to[2], b, to[3], b], &[0, 3, 5, 1, 2, 4], &shape)
            }
            (Direction::SpaceToDepth, Order::Channel) => {
                permuted(input, &[from[0], from[1], to[2], b, to[3], b], &[0, 1, 3, 5, 2, 4], &shape)
            }
        };
        Ok(tvec![output?])
    }
}
