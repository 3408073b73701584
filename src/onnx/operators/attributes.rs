//! Attributes of a node, each read as what the standard says it is.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::wrong;

/// A node's attributes.
pub struct Attributes<'a> {
    pub context: &'a ParsingContext<'a>,
    pub node: &'a NodeProto,
}

impl<'a> Attributes<'a> {
    pub fn wrong(&self, cause: impl std::fmt::Display) -> TractError {
        wrong(self.node, cause)
    }

    /// An empty list where there is none.
    pub fn ints(&self, name: &str) -> TractResult<&'a [i64]> {
        Ok(self.node.get_attr_opt_slice::<i64>(name)?.unwrap_or_default())
    }

    /// An empty list where there is none.
    pub fn floats(&self, name: &str) -> TractResult<&'a [f32]> {
        Ok(self.node.get_attr_opt_slice::<f32>(name)?.unwrap_or_default())
    }

    /// An empty list where there is none.
    pub fn strings(&self, name: &str) -> TractResult<Vec<String>> {
        Ok(self.node.get_attr_opt_vec::<String>(name)?.unwrap_or_default())
    }

    pub fn string(&self, name: &str, default: &'a str) -> TractResult<&'a str> {
        Ok(self.node.get_attr_opt::<&str>(name)?.unwrap_or(default))
    }

    pub fn int(&self, name: &str, default: i64) -> TractResult<i64> {
        Ok(self.node.get_attr_opt::<i64>(name)?.unwrap_or(default))
    }

    /// A tensor's numbers; an empty list where there is none.
    pub fn tensor<T: Datum + Copy>(&self, name: &str) -> TractResult<Vec<T>> {
        let Some(proto) = self.node.get_attr_opt::<&tract_onnx::pb::TensorProto>(name)? else {
            return Ok(Vec::new());
        };
        let tensor = self.context.load_tensor(proto)?;
        let tensor = tensor.cast_to::<T>()?;
        Ok(tensor.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
    }

    /// Numbers given as floats, or exactly as a tensor under `<name>_as_tensor`.
    pub fn numbers(&self, name: &str) -> TractResult<Vec<f64>> {
        let (floats, exact) = (self.floats(name)?, self.tensor::<f64>(&format!("{name}_as_tensor"))?);
        if !floats.is_empty() && !exact.is_empty() {
            return Err(self.wrong(format!("both `{name}` and `{name}_as_tensor` are there: expected one")));
        }
        Ok(if exact.is_empty() { floats.iter().map(|value| f64::from(*value)).collect() } else { exact })
    }
}
