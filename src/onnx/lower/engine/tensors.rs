//! Operators that make, cut, join or reshape tensors.

use tract_onnx::pb::TensorProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::AxisOp;
use tract_onnx::tract_hir::ops::array;
use tract_onnx::tract_hir::tract_core::ops::array::{Pad, PadMode, StridedSlice};

use super::site::{Outlets, Site};

/// The input itself.
pub fn identity(site: &mut Site) -> Outlets {
    Ok(tvec![site.inputs[0]])
}

/// `Constant`.
pub fn constant(site: &mut Site) -> Outlets {
    let (context, node) = (site.attributes.context, site.attributes.node);
    let value = if let Some(value) = node.get_attr_opt::<&TensorProto>("value")? {
        context.load_tensor(value)?
    } else if let Some(number) = node.get_attr_opt::<i64>("value_int")? {
        tensor0(number)
    } else if let Some(number) = node.get_attr_opt::<f32>("value_float")? {
        tensor0(number)
    } else if let Some(numbers) = node.get_attr_opt_slice::<i64>("value_ints")? {
        tensor1(numbers)
    } else if let Some(numbers) = node.get_attr_opt_slice::<f32>("value_floats")? {
        tensor1(numbers)
    } else if let Some(text) = node.get_attr_opt::<String>("value_string")? {
        tensor0(text)
    } else if let Some(texts) = node.get_attr_opt_vec::<String>("value_strings")? {
        tensor1(&texts)
    } else {
        return Err(site.attributes.wrong("it has no value"));
    };
    Ok(tvec![site.graph.add_const(site.name, value)?])
}

/// `ConstantOfShape`.
pub fn constant_of_shape(site: &mut Site) -> Outlets {
    let value: &TensorProto = site.attributes.node.get_attr("value")?;
    let value = site.attributes.context.load_tensor(value)?;
    if value.len() != 1 {
        return Err(site.attributes.wrong(format!("`value` has {} elements: expected one", value.len())));
    }
    let scalar = value.into_shape(&[])?;
    site.expand(&array::ConstantOfShape::new(scalar.into_arc_tensor()))
}

/// `Shape`, of the axes from `start` to `end`. Sizes may have symbols.
pub fn shape(site: &mut Site) -> Outlets {
    let shape = site.shape(site.inputs[0])?;
    let rank = shape.len() as i64;
    let bound = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize;
    let start = bound(site.attributes.int("start", 0)?);
    let end = bound(site.attributes.int("end", rank)?).max(start);
    Ok(tvec![site.graph.add_const(site.name, tensor1(&shape[start..end]))?])
}

/// `Concat`.
pub fn concat(site: &mut Site) -> Outlets {
    let axis = site.attributes.int("axis", 0)?;
    site.expand(&array::Concat::new(axis))
}

/// `Flatten`.
pub fn flatten(site: &mut Site) -> Outlets {
    let axis = site.attributes.int("axis", 1)?;
    site.expand(&array::Flatten::new(axis))
}

/// `Gather`.
pub fn gather(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    let axis = site.axis(site.attributes.int("axis", 0)?, rank)?;
    site.expand(&array::Gather::new(axis as i64))
}

/// `Tile`.
pub fn tile(site: &mut Site) -> Outlets {
    let repeats = site.fact(site.inputs[1])?.shape.volume();
    match repeats == TDim::from(site.fact(site.inputs[0])?.rank()) {
        true => site.expand(&array::Tile),
        false => Err(site.attributes.wrong("`repeats` has not one number for each axis")),
    }
}

/// `Transpose`.
pub fn transpose(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    if !site.attributes.has("perm") {
        return site.expand(&array::PermuteAxes::new(None));
    }
    let axes: TVec<usize> = site
        .attributes
        .ints("perm")?
        .iter()
        .map(|axis| site.axis(*axis, rank))
        .collect::<TractResult<_>>()?;
    match axes.len() == rank && (0..rank).all(|axis| axes.contains(&axis)) {
        true => site.expand(&array::PermuteAxes::new(Some(axes))),
        false => Err(site.attributes.wrong("`perm` does not name each axis once")),
    }
}

/// The axes of `Squeeze` and `Unsqueeze`: an attribute before version 13, then an input. Each must be there once.
fn axes(site: &Site, rank: impl Fn(usize) -> usize) -> TractResult<Vec<usize>> {
    let axes = match site.inputs.get(1) {
        Some(axes) => site.ints(*axes)?,
        None => site.attributes.ints("axes")?.to_vec(),
    };
    let rank = rank(axes.len());
    let axes: Vec<usize> = axes.iter().map(|axis| site.axis(*axis, rank)).collect::<TractResult<_>>()?;
    match axes.iter().enumerate().any(|(at, axis)| axes[..at].contains(axis)) {
        true => Err(site.attributes.wrong("an axis is named twice")),
        false => Ok(axes),
    }
}

/// `Squeeze`.
pub fn squeeze(site: &mut Site) -> Outlets {
    let shape = site.shape(site.inputs[0])?;
    let axes = axes(site, |_| shape.len())?;
    if let Some(axis) = axes.iter().find(|axis| shape[**axis].to_i64().is_ok_and(|length| length != 1)) {
        return Err(site.attributes.wrong(format!("axis {axis} has the length {}", shape[*axis])));
    }
    site.expand_first(&array::RmDims::new(axes.into_iter().map(|axis| axis as isize).collect()))
}

/// `Unsqueeze`.
pub fn unsqueeze(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    let axes = axes(site, |added| rank + added)?;
    site.expand_first(&array::AddDims::new(axes.into_iter().map(|axis| axis as isize).collect()))
}

/// `Slice`, since version 10.
pub fn slice(site: &mut Site) -> Outlets {
    let (optional_axes_input, optional_steps_input) = (site.position(3), site.position(4));
    site.all(StridedSlice {
        begin_mask: 0,
        end_mask: 0,
        shrink_axis_mask: 0,
        optional_axes_input,
        optional_steps_input,
    })
}

/// `Split`.
pub fn split(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    let axis = site.axis(site.attributes.int("axis", 0)?, rank)?;
    let parts = match site.inputs.get(1) {
        Some(parts) => Some(site.ints(*parts)?),
        None => {
            site.attributes.has("split").then(|| site.attributes.ints("split")).transpose()?.map(Into::into)
        }
    };
    let count = site.attributes.node.output.len();
    let parts = parts.map(|parts| parts.into_iter().map(|part| part as usize).collect::<Vec<_>>());
    if parts.as_ref().is_some_and(|parts| parts.len() != count) {
        return Err(site.attributes.wrong(format!("it has {count} outputs, and another number of parts")));
    }
    site.expand_first(&array::Split::new(axis as isize, count, parts))
}

/// `Pad` with a constant.
pub fn pad(site: &mut Site) -> Outlets {
    let rank = site.fact(site.inputs[0])?.rank();
    if site.attributes.context.onnx_operator_set_version < 2 {
        return Err(site.attributes.wrong("version 1 of it is not supported"));
    }
    let (given, axes) = match site.optional(1) {
        Some(pads) => (site.ints(pads)?, site.optional(3).map(|axes| site.ints(axes)).transpose()?),
        None => (site.attributes.ints("pads")?.to_vec(), None),
    };
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if given.len() != 2 * axes.len() {
        return Err(site.attributes.wrong(format!(
            "`pads` has {} numbers for {} axes",
            given.len(),
            axes.len()
        )));
    }
    let mut pads = vec![(0, 0); rank];
    let (before, after) = given.split_at(axes.len());
    for (axis, pad) in axes.iter().zip(before.iter().zip(after)) {
        pads[site.axis(*axis, rank)?] = (*pad.0 as usize, *pad.1 as usize);
    }
    let value = match site.optional(2) {
        Some(value) => site.fact(value)?.konst.clone().filter(|value| value.rank() == 0),
        None => Some(tensor0(site.attributes.float("value", 0.0)?).into_arc_tensor()),
    };
    let value = value.ok_or_else(|| TractError::msg("its `constant_value` is no constant number"))?;
    Ok(tvec![site.on(Pad { mode: PadMode::Constant(value), pads }, &site.inputs[..1])?])
}

/// `DepthToSpace`: blocks of channels become blocks of rows and columns.
pub fn depth_to_space(site: &mut Site) -> Outlets {
    let shape = site.shape(site.inputs[0])?;
    let block = site.attributes.int("blocksize", 0)?;
    let [_, channels, height, width] = &shape[..] else {
        return Err(site.attributes.wrong(format!("its input has {} axes: expected 4", shape.len())));
    };
    let depth = channels.to_i64()?;
    if block < 1 || depth % (block * block) != 0 {
        return Err(site
            .attributes
            .wrong(format!("{depth} channels cannot be split into blocks of {block}")));
    }
    let (block, depth) = (TDim::from(block), TDim::from(depth / (block * block)));
    let (split, moves) = match site.attributes.string("mode", "DCR")? {
        "DCR" => (tvec![block.clone(), block.clone(), depth], [AxisOp::Move(2, 5), AxisOp::Move(1, 3)]),
        "CRD" => (tvec![depth, block.clone(), block.clone()], [AxisOp::Move(3, 5), AxisOp::Move(2, 3)]),
        other => return Err(site.attributes.wrong(format!("`mode` is `{other}`"))),
    };
    let [first, second] = moves;
    let joined = tvec![height.clone() * &block, width.clone() * &block];
    let apart = tvec![height.clone(), block.clone(), width.clone(), block];
    let mut result = site.inputs[0];
    let steps = [
        AxisOp::Reshape(1, tvec![channels.clone()], split),
        first,
        second,
        AxisOp::Reshape(2, apart, joined),
    ];
    for (at, step) in steps.into_iter().enumerate() {
        result = site.part(&at.to_string(), step, &[result])?;
    }
    Ok(tvec![result])
}
