//! Reads the attributes of a node with the types that the standard gives them.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::super::tensors::load;
use super::wrong;

/// The attributes of a node.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// The model that is read, for attributes that are tensors.
    pub context: &'a ParsingContext<'a>,
    /// The node that has the attributes.
    pub node: &'a NodeProto,
}

impl<'a> Attributes<'a> {
    /// An error about the attributes; see [`wrong`].
    pub fn wrong(&self, cause: impl std::fmt::Display) -> TractError {
        wrong(self.node, cause)
    }

    /// The version of the node's domain that the file imports. 0 when it imports none.
    pub fn version(&self) -> i64 {
        let ours = |domain: &str| if domain == "ai.onnx" { String::new() } else { domain.to_owned() };
        let imports = &self.context.model.opset_import;
        let import = imports.iter().find(|import| ours(&import.domain) == ours(&self.node.domain));
        import.map_or(0, |import| import.version)
    }

    /// True when the node has the attribute.
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|attribute| attribute.name == name)
    }

    /// A list of integers; empty when the attribute is absent.
    pub fn ints(&self, name: &str) -> TractResult<&'a [i64]> {
        Ok(self.node.get_attr_opt_slice::<i64>(name)?.unwrap_or_default())
    }

    /// A list of floats; empty when the attribute is absent.
    pub fn floats(&self, name: &str) -> TractResult<&'a [f32]> {
        Ok(self.node.get_attr_opt_slice::<f32>(name)?.unwrap_or_default())
    }

    /// A list of strings; empty when the attribute is absent.
    pub fn strings(&self, name: &str) -> TractResult<Vec<String>> {
        Ok(self.node.get_attr_opt_vec::<String>(name)?.unwrap_or_default())
    }

    /// A string, or `default` when the attribute is absent.
    pub fn string(&self, name: &str, default: &'a str) -> TractResult<&'a str> {
        Ok(self.node.get_attr_opt::<&str>(name)?.unwrap_or(default))
    }

    /// An integer, or `default` when the attribute is absent.
    pub fn int(&self, name: &str, default: i64) -> TractResult<i64> {
        Ok(self.node.get_attr_opt::<i64>(name)?.unwrap_or(default))
    }

    /// A float, or `default` when the attribute is absent.
    pub fn float(&self, name: &str, default: f32) -> TractResult<f32> {
        Ok(self.node.get_attr_opt::<f32>(name)?.unwrap_or(default))
    }

    /// A flag, or `default` when the attribute is absent.
    ///
    /// Errors: it is neither 0 nor 1. The standard gives other numbers no meaning, and programs read them differently.
    pub fn flag(&self, name: &str, default: bool) -> TractResult<bool> {
        match self.int(name, i64::from(default))? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(format!("`{name}` is {other}: expected 0 or 1"))),
        }
    }

    /// The numbers of a tensor, flat and cast to `T`; empty when the attribute is absent.
    pub fn tensor<T: Datum + Copy>(&self, name: &str) -> TractResult<Vec<T>> {
        let Some(proto) = self.node.get_attr_opt::<&tract_onnx::pb::TensorProto>(name)? else {
            return Ok(Vec::new());
        };
        let tensor = load(self.context, proto)?;
        let tensor = tensor.cast_to::<T>()?;
        Ok(tensor.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
    }

    /// Numbers from the list of floats `<name>`, or from the tensor `<name>_as_tensor`, which can have double precision.
    /// Empty when both are absent.
    pub fn numbers(&self, name: &str) -> TractResult<Vec<f64>> {
        let (floats, exact) = (self.floats(name)?, self.tensor::<f64>(&format!("{name}_as_tensor"))?);
        if !floats.is_empty() && !exact.is_empty() {
            return Err(self.wrong(format!("both `{name}` and `{name}_as_tensor` are there: expected one")));
        }
        Ok(if exact.is_empty() { floats.iter().map(|value| f64::from(*value)).collect() } else { exact })
    }
}

/// The datatype with this number in ONNX. `None` for one that is not served.
pub fn type_numbered(number: i64) -> Option<DatumType> {
    Some(match number {
        1 => DatumType::F32,
        2 => DatumType::U8,
        3 => DatumType::I8,
        4 => DatumType::U16,
        5 => DatumType::I16,
        6 => DatumType::I32,
        7 => DatumType::I64,
        8 => DatumType::String,
        9 => DatumType::Bool,
        10 => DatumType::F16,
        11 => DatumType::F64,
        12 => DatumType::U32,
        13 => DatumType::U64,
        _ => return None,
    })
}
