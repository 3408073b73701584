//! Reads the tensors of an ONNX file.
//!
//! tract does it, but it looks for UINT32 and UINT64 in fields in which the standard does not store them, and gives such a
//! tensor a signed type. What does not belong here: which tensors are read (`source`), and types that tract does not have
//! (`narrow`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::prelude::*;

use super::narrow;

/// Reads a tensor.
///
/// Errors: its type is not supported, or its values are not there or do not fit its shape.
pub(super) fn load(context: &ParsingContext, proto: &TensorProto) -> TractResult<Tensor> {
    let is_inside = proto.raw_data.is_empty() && proto.data_location != Some(DataLocation::External as i32);
    let is = |datatype: DataType| proto.data_type == datatype as i32;
    if !is_inside || !is(DataType::Uint32) && !is(DataType::Uint64) {
        return narrow::load(context, proto);
    }
    let shape: Result<Vec<usize>, _> = proto.dims.iter().map(|length| usize::try_from(*length)).collect();
    let shape =
        shape.map_err(|_| TractError::msg(format!("its shape {:?} has a negative length", proto.dims)))?;
    let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
    if count != Some(proto.uint64_data.len()) {
        return Err(TractError::msg(format!(
            "it has {} values for the shape {shape:?}",
            proto.uint64_data.len()
        )));
    }
    if is(DataType::Uint64) {
        return Tensor::from_shape(&shape, &proto.uint64_data);
    }
    let narrow = |value: &u64| {
        u32::try_from(*value).map_err(|_| TractError::msg(format!("{value} does not fit the type UINT32")))
    };
    let values: Vec<u32> = proto.uint64_data.iter().map(narrow).collect::<TractResult<_>>()?;
    Tensor::from_shape(&shape, &values)
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_hir::internal::InferenceModel;

    use super::*;

    fn loaded(datatype: DataType, dims: &[i64], values: &[u64]) -> TractResult<Tensor> {
        let framework = tract_onnx::Onnx::default();
        let context = ParsingContext {
            onnx_operator_set_version: 21,
            framework: &framework,
            model: &Default::default(),
            parent_graphs: vec![],
            model_dir: None,
            template: InferenceModel::default(),
        };
        let (dims, uint64_data) = (dims.to_vec(), values.to_vec());
        load(&context, &TensorProto { data_type: datatype as i32, dims, uint64_data, ..Default::default() })
    }

    #[test]
    fn unsigned_integers_are_read_from_the_field_of_the_standard() {
        assert_eq!(loaded(DataType::Uint32, &[2], &[1, 4_294_967_295]).unwrap(), tensor1(&[1, u32::MAX]));
        assert_eq!(loaded(DataType::Uint64, &[1], &[u64::MAX]).unwrap(), tensor1(&[u64::MAX]));
        assert_eq!(loaded(DataType::Uint32, &[0], &[]).unwrap().datum_type(), DatumType::U32);
        assert!(loaded(DataType::Uint32, &[1], &[1 << 32]).is_err());
        assert!(loaded(DataType::Uint64, &[2], &[1]).is_err());
    }
}
