//! Element types of ONNX files that tract does not have: BFLOAT16, and integers of 2 and 4 bits.
//!
//! - Integers of 2 and 4 bits are unpacked into 8 bits when the file is loaded. `QuantizeLinear`, whose result depends on the
//!   type of its zero point, gets that type as the attribute `output_dtype`.
//! - BFLOAT16 becomes FP32. The graph computes in FP32, and a `Cast` to BFLOAT16 rounds (see `lower`).
//! - Floats of 4, 6 and 8 bits are refused.
//!
//! Inputs and outputs of a model of these types are refused, because the protocol does not have them.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::*;

/// `TensorProto.DataType` of BFLOAT16.
pub(super) const BFLOAT16: i32 = 16;

/// The types that tract does not have, by their number in `TensorProto.DataType`.
const NAMES: &[(i32, &str)] = &[
    (14, "COMPLEX64"),
    (15, "COMPLEX128"),
    (BFLOAT16, "BFLOAT16"),
    (17, "FLOAT8E4M3FN"),
    (18, "FLOAT8E4M3FNUZ"),
    (19, "FLOAT8E5M2"),
    (20, "FLOAT8E5M2FNUZ"),
    (21, "UINT4"),
    (22, "INT4"),
    (23, "FLOAT4E2M1"),
    (24, "FLOAT8E8M0"),
    (25, "UINT2"),
    (26, "INT2"),
    (27, "FLOAT6E2M3"),
    (28, "FLOAT6E3M2"),
];

/// The name of a type that tract does not have.
fn name(number: i32) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The bits of an integer that shares a byte with others, and whether it has a sign.
fn packed(number: i32) -> Option<(u32, bool)> {
    match number {
        21 => Some((4, false)),
        22 => Some((4, true)),
        25 => Some((2, false)),
        26 => Some((2, true)),
        _ => None,
    }
}

/// Prepares a graph and those inside: constants of these types become initializers, and every `QuantizeLinear` with a
/// zero point of 2 or 4 bits names its type.
pub(super) fn prepare(graph: &mut GraphProto) {
    prepare_within(graph, &HashMap::new());
}

/// `outer` has the types of the initializers of the graphs around this one.
fn prepare_within(graph: &mut GraphProto, outer: &HashMap<String, i32>) {
    let is_narrow = |node: &NodeProto| {
        let is_onnx = matches!(node.domain.as_str(), "" | "ai.onnx");
        is_onnx
            && node.op_type == "Constant"
            && value(node).is_some_and(|tensor| name(tensor.data_type).is_some())
    };
    let (constants, others): (Vec<NodeProto>, _) =
        std::mem::take(&mut graph.node).into_iter().partition(is_narrow);
    graph.node = others;
    for node in constants {
        let tensors = node.attribute.into_iter().filter_map(|attribute| attribute.t);
        let name = node.output.into_iter().next().unwrap_or_default();
        graph.initializer.extend(tensors.map(|tensor| TensorProto { name: name.clone(), ..tensor }));
    }
    let mut types = outer.clone();
    types.extend(graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.data_type)));
    for node in &mut graph.node {
        if node.op_type == "QuantizeLinear" && node.domain != "com.microsoft" {
            let zero = node.input.get(2).and_then(|name| types.get(name)).copied();
            let is_named =
                node.attribute.iter().any(|attribute| attribute.name == "output_dtype" && attribute.i != 0);
            if let (Some(number), false) = (zero.filter(|number| packed(*number).is_some()), is_named) {
                node.attribute.retain(|attribute| attribute.name != "output_dtype");
                node.attribute.push(AttributeProto {
                    name: "output_dtype".into(),
                    r#type: AttributeType::Int.into(),
                    i: number.into(),
                    ..Default::default()
                });
            }
        }
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                prepare_within(inner, &types);
            }
        }
    }
}

fn value(node: &NodeProto) -> Option<&TensorProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == "value")
        .and_then(|attribute| attribute.t.as_ref())
}

/// Loads a tensor of the file, as [`ParsingContext::load_tensor`] does, also of a type that tract does not have.
///
/// Errors: the tensor cannot be read, or has floats of 4, 6 or 8 bits.
pub(super) fn load(context: &ParsingContext, tensor: &TensorProto) -> TractResult<Tensor> {
    let Some(name) = name(tensor.data_type) else { return context.load_tensor(tensor) };
    let as_type = |data_type: DataType, dims: Vec<i64>| {
        context.load_tensor(&TensorProto { data_type: data_type.into(), dims, ..tensor.clone() })
    };
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|length| usize::try_from(*length).ok()).collect();
    let shape = shape.ok_or_else(|| TractError::msg(format!("it has the shape {:?}", tensor.dims)))?;
    if tensor.data_type == BFLOAT16 {
        let halves = as_type(DataType::Uint16, tensor.dims.clone())?;
        let wide = halves
            .try_as_plain_ram()?
            .as_slice::<u16>()?
            .iter()
            .map(|bits| f32::from_bits(u32::from(*bits) << 16));
        return Tensor::from_shape(&shape, &wide.collect::<Vec<f32>>());
    }
    let Some((bits, has_sign)) = packed(tensor.data_type) else {
        return Err(TractError::msg(format!(
            "it is of type {name}, which is not supported: export the model with FLOAT, FLOAT16, INT8 or INT4 weights"
        )));
    };
    let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
    let count = count.ok_or_else(|| TractError::msg(format!("it has the shape {shape:?}")))?;
    let bytes = as_type(DataType::Uint8, vec![count.div_ceil(8 / bits as usize) as i64])?;
    let unpacked = unpack(bytes.try_as_plain_ram()?.as_slice::<u8>()?, bits).take(count);
    match has_sign {
        false => Tensor::from_shape(&shape, &unpacked.collect::<Vec<u8>>()),
        true => {
            let shift = 8 - bits;
            let signed = unpacked.map(|integer| ((integer << shift) as i8) >> shift);
            Tensor::from_shape(&shape, &signed.collect::<Vec<i8>>())
        }
    }
}

/// The integers in bytes, those in the low bits first.
pub(super) fn unpack(bytes: &[u8], bits: u32) -> impl Iterator<Item = u8> {
    let mask = ((1_u16 << bits) - 1) as u8;
    bytes.iter().flat_map(move |byte| (0..8 / bits).map(move |at| (byte >> (at * bits)) & mask))
}

/// Checks that an input or output of the model has a type of the protocol. `what` is `input` or `output`.
pub(super) fn check(what: &str, declared: &ValueInfoProto) -> TractResult<()> {
    let value = declared.r#type.as_ref().and_then(|declared| declared.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else { return Ok(()) };
    match name(tensor.elem_type) {
        None => Ok(()),
        Some(name) => Err(TractError::msg(format!(
            "{what} `{}` is of type {name}, which the protocol does not have: put a `Cast` to FLOAT, FLOAT16 or INT8 \
             into the graph",
            declared.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lower::tests::{Model, f, node, node_with};
    use super::*;

    fn initializer(name: &str, number: i32, dims: &[i64], raw: &[u8]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: number,
            dims: dims.to_vec(),
            raw_data: raw.to_vec(),
            ..Default::default()
        }
    }

    /// A model whose only input is `x` of two floats, with initializers.
    fn model(initializers: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Model {
        let mut model = Model::new(&["x: float[2]"], nodes, &["y"]);
        model.0.opset_import[0].version = 21;
        model.0.graph.as_mut().unwrap().initializer = initializers;
        model
    }

    fn one() -> TensorProto {
        initializer("one", 1, &[], &1.0_f32.to_le_bytes())
    }

    #[test]
    fn integers_of_four_bits_are_unpacked() {
        // 3 elements in 2 bytes: 7, -8, -1.
        let weights = initializer("w", 22, &[3], &[0x87, 0x0f]);
        let nodes = vec![
            node("DequantizeLinear", &["w", "one"], &["d"]),
            node("ReduceSum", &["d"], &["s"]),
            node("Add", &["x", "s"], &["y"]),
        ];
        // The sum is -2.
        let outputs = model(vec![weights, one()], nodes).run(&[f(&[2], &[10.0, 20.0])]).unwrap();
        assert_eq!(outputs[0], f(&[2], &[8.0, 18.0]));
    }

    #[test]
    fn the_range_is_that_of_the_zero_point() {
        let zero = initializer("zero", 22, &[], &[0x01]);
        let nodes = vec![
            node("QuantizeLinear", &["x", "one", "zero"], &["q"]),
            node("DequantizeLinear", &["q", "one", "zero"], &["y"]),
        ];
        let outputs = model(vec![zero, one()], nodes).run(&[f(&[2], &[100.0, -100.0])]).unwrap();
        assert_eq!(outputs[0], f(&[2], &[6.0, -9.0]));
    }

    #[test]
    fn bfloat16_is_computed_in_single_precision_and_rounded_by_a_cast() {
        let to = |number| AttributeProto {
            name: "to".into(),
            r#type: AttributeType::Int.into(),
            i: number,
            ..Default::default()
        };
        let half = initializer("half", BFLOAT16, &[], &[0x00, 0x3f]);
        let nodes = vec![
            node_with("Cast", &["x"], &["b"], vec![to(16)]),
            node("Mul", &["b", "half"], &["m"]),
            node_with("Cast", &["m"], &["y"], vec![to(1)]),
        ];
        let outputs = model(vec![half], nodes).run(&[f(&[2], &[257.0, 1.0])]).unwrap();
        assert_eq!(outputs[0], f(&[2], &[128.0, 0.5]), "257 has more digits than BFLOAT16");
    }

    #[test]
    fn other_types_are_refused_with_their_name() {
        let weights = initializer("w", 17, &[2], &[1, 2]);
        let refused =
            model(vec![weights, one()], vec![node("DequantizeLinear", &["w", "one"], &["y"])]).refused();
        assert!(refused.contains("`w`") && refused.contains("FLOAT8E4M3FN"), "{refused}");
    }
}
