//! Sparse tensors in the file become dense when it is loaded: no operator takes a sparse tensor.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{GraphProto, NodeProto, SparseTensorProto};
use tract_onnx::prelude::*;

use super::tensors;

/// The most bytes of a dense tensor. A few numbers in the file can stand for a tensor of any size.
const MOST_BYTES: usize = 2 << 30;

/// Makes each `Constant` with a sparse value a sparse initializer of its graph, also in the graphs inside.
pub(super) fn constants_to_initializers(graph: &mut GraphProto) {
    let is_sparse = |node: &NodeProto| {
        let is_onnx = matches!(node.domain.as_str(), "" | "ai.onnx");
        is_onnx && node.op_type == "Constant" && node.attribute.iter().any(|one| one.sparse_tensor.is_some())
    };
    let (constants, others): (Vec<NodeProto>, _) =
        std::mem::take(&mut graph.node).into_iter().partition(is_sparse);
    graph.node = others;
    for node in constants {
        let name = node.output.into_iter().next().unwrap_or_default();
        for mut sparse in node.attribute.into_iter().filter_map(|attribute| attribute.sparse_tensor) {
            sparse.values.get_or_insert_default().name.clone_from(&name);
            graph.sparse_initializer.push(sparse);
        }
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    for inner in attributes.flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs)) {
        constants_to_initializers(inner);
    }
}

/// The sparse initializers of a graph: their names, and their values as dense tensors.
pub(super) fn tensors(
    graph: &GraphProto,
    context: &ParsingContext,
) -> TractResult<Vec<(String, Arc<Tensor>)>> {
    let one = |sparse: &SparseTensorProto| {
        let name = sparse.values.as_ref().map(|values| values.name.clone()).unwrap_or_default();
        let value = dense(sparse, context)
            .map_err(|error| error.context(format!("the sparse tensor `{name}` cannot be read")))?;
        Ok((name, value.into_arc_tensor()))
    };
    graph.sparse_initializer.iter().map(one).collect()
}

/// The dense tensor with these values; all other elements are zero.
fn dense(sparse: &SparseTensorProto, context: &ParsingContext) -> TractResult<Tensor> {
    let missing = |what: &str| TractError::msg(format!("it has no {what}"));
    let values = tensors::load(context, sparse.values.as_ref().ok_or_else(|| missing("values"))?)?;
    let indices = tensors::load(context, sparse.indices.as_ref().ok_or_else(|| missing("indices"))?)?;
    if !values.datum_type().is_copy() {
        return Err(TractError::msg(format!("it is of {:?}: expected numbers", values.datum_type())));
    }
    let size = values.datum_type().size_of();
    let shape: Option<Vec<usize>> = sparse.dims.iter().map(|length| usize::try_from(*length).ok()).collect();
    let shape = shape.ok_or_else(|| TractError::msg(format!("its shape is {:?}", sparse.dims)))?;
    let bytes = shape.iter().try_fold(size, |bytes, length| bytes.checked_mul(*length));
    if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
        return Err(TractError::msg(format!("its shape {shape:?} has more than {MOST_BYTES} bytes")));
    }
    let mut dense = Tensor::zero_dt(values.datum_type(), &shape)?;
    let places = places(&indices, values.len(), &shape)?;
    let (from, to) = (values.as_bytes(), dense.as_bytes_mut());
    for (value, place) in places.into_iter().enumerate() {
        to[place * size..][..size].copy_from_slice(&from[value * size..][..size]);
    }
    Ok(dense)
}

/// The places of `count` values in the dense tensor. `indices` has one number for each, or one for each axis.
fn places(indices: &Tensor, count: usize, shape: &[usize]) -> TractResult<Vec<usize>> {
    let rank = shape.len();
    let is_flat = indices.shape() == [count];
    if !is_flat && indices.shape() != [count, rank] {
        return Err(TractError::msg(format!(
            "its indices have the shape {:?}: expected [{count}] or [{count}, {rank}]",
            indices.shape()
        )));
    }
    let cast = indices.cast_to::<i64>()?;
    let plain = cast.try_as_plain_ram()?;
    let numbers = plain.as_slice::<i64>()?;
    let total: usize = shape.iter().product();
    let within = |index: i64, end: usize| {
        let index = usize::try_from(index).ok().filter(|index| *index < end);
        index.ok_or_else(|| TractError::msg("an index is outside of its shape"))
    };
    if is_flat {
        return numbers.iter().map(|index| within(*index, total)).collect();
    }
    let place = |index: &[i64]| {
        let axes = index.iter().zip(shape);
        axes.clone().try_fold(0, |place, (index, length)| Ok(place * length + within(*index, *length)?))
    };
    if rank == 0 { Ok(vec![0; count]) } else { numbers.chunks_exact(rank).map(place).collect() }
}
