//! Operators that look values up in a list: `ArrayFeatureExtractor` by index, `LabelEncoder` by key.

use std::collections::HashMap;

use tract_onnx::pb::TensorProto;
use tract_onnx::prelude::*;

use super::super::super::tensors::load;
use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built};

/// Takes from each row of its first input the values at the indices in its second input.
#[derive(Debug)]
struct Extractor;

/// Builds an `ArrayFeatureExtractor` from its node.
pub fn extractor(_: &Attributes) -> Built {
    built(Extractor)
}

impl Operator for Extractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (data, places) = (inputs.required(0, "X")?, inputs.required(1, "Y")?);
        let mut shape = data.shape.clone();
        if shape.is_empty() {
            return Err(TractError::msg("its data is a scalar: expected one dimension or more"));
        }
        let count: TDim = places.shape.iter().product();
        // A list is one row.
        if shape.len() == 1 {
            shape.insert(0, 1.into());
        }
        if let Some(last) = shape.last_mut() {
            *last = count;
        }
        Ok(tvec![Kind::new(data.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let data = inputs.required(0, "X")?;
        let places = inputs.required(1, "Y")?.cast_to::<i64>()?;
        let places = places.try_as_plain_ram()?;
        let width = data.shape().last().copied().unwrap_or(0);
        let places: Vec<usize> = places
            .as_slice::<i64>()?
            .iter()
            .map(|place| {
                let found = usize::try_from(*place).ok().filter(|place| *place < width);
                found.ok_or_else(|| {
                    invalid(format!("index {place} in a row of {width} values: expected 0 to {width} less 1"))
                })
            })
            .collect::<TractResult<_>>()?;
        let mut shape: TVec<usize> = data.shape().into();
        if shape.len() == 1 {
            shape.insert(0, 1);
        }
        if let Some(last) = shape.last_mut() {
            *last = places.len();
        }
        Ok(tvec![
            match data.datum_type() {
                DatumType::F32 => taken::<f32>(data, width, &places)?,
                DatumType::F64 => taken::<f64>(data, width, &places)?,
                DatumType::I32 => taken::<i32>(data, width, &places)?,
                DatumType::I64 => taken::<i64>(data, width, &places)?,
                DatumType::TDim => taken::<TDim>(data, width, &places)?,
                DatumType::String => taken::<String>(data, width, &places)?,
                other => {
                    return Err(TractError::msg(format!(
                        "its data is of type {other:?}: expected numbers or strings"
                    )));
                }
            }
            .into_shape(&shape)?
        ])
    }
}

/// The values at `places` of each row of `width` values, flat.
fn taken<T: Datum>(data: &Tensor, width: usize, places: &[usize]) -> TractResult<Tensor> {
    let data = data.try_as_plain_ram()?;
    let rows = data.as_slice::<T>()?.chunks_exact(width.max(1));
    let all: Vec<T> = rows.flat_map(|row| places.iter().map(|place| row[*place].clone())).collect();
    Ok(tensor1(&all))
}

/// Replaces each key by its value, and everything else by a default.
#[derive(Debug)]
struct Encoder {
    /// The index of each key's value.
    places: HashMap<Key, usize>,
    values: Words,
    /// One value.
    default: Words,
    /// The datatype of the keys.
    takes: DatumType,
    /// The datatype of the values: integers of `values_tensor` keep theirs.
    gives: DatumType,
}

/// A key that can be hashed.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Number(i64),
    /// The bits of a double. All NaN are one key, and so are 0 and -0.
    Float(u64),
    Word(String),
}

/// A list of keys or values, all of one type.
#[derive(Debug)]
enum Words {
    Numbers(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Strings(Vec<String>),
}

impl Words {
    fn len(&self) -> usize {
        match self {
            Words::Numbers(all) => all.len(),
            Words::Floats(all) => all.len(),
            Words::Doubles(all) => all.len(),
            Words::Strings(all) => all.len(),
        }
    }

    fn datum_type(&self) -> DatumType {
        match self {
            Words::Numbers(_) => DatumType::I64,
            Words::Floats(_) => DatumType::F32,
            Words::Doubles(_) => DatumType::F64,
            Words::Strings(_) => DatumType::String,
        }
    }

    /// The bytes of the longest string.
    fn longest_text(&self) -> usize {
        match self {
            Words::Strings(all) => all.iter().map(String::len).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn keys(&self) -> Vec<Key> {
        match self {
            Words::Numbers(all) => all.iter().map(|value| Key::Number(*value)).collect(),
            Words::Floats(all) => all.iter().map(|value| float(f64::from(*value))).collect(),
            Words::Doubles(all) => all.iter().map(|value| float(*value)).collect(),
            Words::Strings(all) => all.iter().map(|word| Key::Word(word.clone())).collect(),
        }
    }

    /// Reads a list. Its attribute's name depends on its type: `<prefix>_int64s`, `_floats`, `_strings` or `_tensor`.
    /// `None` when all are absent.
    fn read(attributes: &Attributes, prefix: &str) -> TractResult<Option<Words>> {
        let name = |kind: &str| format!("{prefix}_{kind}");
        let kinds = ["int64s", "floats", "strings", "tensor"].map(name);
        if kinds.iter().filter(|kind| attributes.has(kind)).count() > 1 {
            return Err(attributes.wrong(format!("expected one of {}, not several", kinds.join(", "))));
        }
        let (numbers, floats) = (attributes.ints(&kinds[0])?, attributes.floats(&kinds[1])?);
        let strings = attributes.strings(&kinds[2])?;
        Ok(if !numbers.is_empty() {
            Some(Words::Numbers(numbers.to_vec()))
        } else if !floats.is_empty() {
            Some(Words::Floats(floats.to_vec()))
        } else if !strings.is_empty() {
            Some(Words::Strings(strings))
        } else {
            Words::of_tensor(attributes, &kinds[3])?
        })
    }

    fn of_tensor(attributes: &Attributes, name: &str) -> TractResult<Option<Words>> {
        let Some(proto) = attributes.node.get_attr_opt::<&TensorProto>(name)? else {
            return Ok(None);
        };
        let tensor = load(attributes.context, proto)?;
        Words::of(&tensor).map(Some)
    }

    fn of(tensor: &Tensor) -> TractResult<Words> {
        Ok(match tensor.datum_type() {
            DatumType::F32 => Words::Floats(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()),
            DatumType::F64 => Words::Doubles(tensor.try_as_plain_ram()?.as_slice::<f64>()?.to_vec()),
            DatumType::String => Words::Strings(tensor.try_as_plain_ram()?.as_slice::<String>()?.to_vec()),
            _ => {
                let tensor = tensor.cast_to::<i64>()?;
                Words::Numbers(tensor.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
            }
        })
    }

    /// The values at these places, and the default where there is no place.
    fn picked(&self, default: &Words, places: &[Option<usize>]) -> TractResult<Tensor> {
        fn pick<T: Datum>(values: &[T], default: &[T], places: &[Option<usize>]) -> Option<Tensor> {
            let one =
                |place: &Option<usize>| place.map_or(default.first(), |place| values.get(place)).cloned();
            Some(tensor1(&places.iter().map(one).collect::<Option<Vec<T>>>()?))
        }
        let picked = match (self, default) {
            (Words::Numbers(values), Words::Numbers(default)) => pick(values, default, places),
            (Words::Floats(values), Words::Floats(default)) => pick(values, default, places),
            (Words::Doubles(values), Words::Doubles(default)) => pick(values, default, places),
            (Words::Strings(values), Words::Strings(default)) => pick(values, default, places),
            _ => None,
        };
        picked.ok_or_else(|| {
            TractError::msg("the default and the values have different datatypes: expected the same")
        })
    }
}

/// The key of a float.
fn float(value: f64) -> Key {
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    Key::Float(value.to_bits())
}

/// Builds a `LabelEncoder` from its node.
pub fn encoder(attributes: &Attributes) -> Built {
    let (keys, values) = (Words::read(attributes, "keys")?, Words::read(attributes, "values")?);
    let (Some(keys), Some(values)) = (keys, values) else {
        return Err(attributes.wrong("expected `keys_` and `values_` (ai.onnx.ml 2 or later)"));
    };
    if keys.len() != values.len() {
        return Err(attributes.wrong(format!(
            "it has {} keys and {} values: expected the same number",
            keys.len(),
            values.len()
        )));
    }
    let default = match (Words::of_tensor(attributes, "default_tensor")?, &values) {
        (Some(default), _) => default,
        (None, Words::Numbers(_)) => Words::Numbers(vec![attributes.int("default_int64", -1)?]),
        (None, Words::Floats(_)) => {
            Words::Floats(vec![attributes.node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0)])
        }
        (None, Words::Doubles(_)) => Words::Doubles(vec![-0.0]),
        (None, Words::Strings(_)) => {
            Words::Strings(vec![attributes.string("default_string", "_Unused")?.to_owned()])
        }
    };
    let takes = keys.datum_type();
    let type_of = |name: &str| -> TractResult<Option<DatumType>> {
        let tensor = attributes.node.get_attr_opt::<&TensorProto>(name)?;
        tensor.map(|tensor| Ok(load(attributes.context, tensor)?.datum_type())).transpose()
    };
    let gives = type_of("values_tensor")?.unwrap_or(values.datum_type());
    if let Some(other) = type_of("default_tensor")?.filter(|other| *other != gives) {
        return Err(
            attributes.wrong(format!("`default_tensor` is of type {other:?}, and the values are {gives:?}"))
        );
    }
    let mut places = HashMap::new();
    for (at, key) in keys.keys().into_iter().enumerate() {
        // Of equal keys the first counts.
        places.entry(key).or_insert(at);
    }
    built(Encoder { places, values, default, takes, gives })
}

impl Operator for Encoder {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        let word = DatumType::String;
        if (input.datum_type == word) != (self.takes == word) {
            return Err(TractError::msg(format!(
                "the input is of type {:?}, but the keys are {:?}",
                input.datum_type, self.takes
            )));
        }
        Ok(tvec![Kind::new(self.gives, input.shape.clone())])
    }

    fn longest_text(&self) -> usize {
        self.values.longest_text().max(self.default.longest_text())
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let original = inputs.single()?;
        let input = original.cast_to_dt(self.takes)?;
        let keys = Words::of(&input)?.keys();
        let places: Vec<Option<usize>> = keys.iter().map(|key| self.places.get(key).copied()).collect();
        let picked = self.values.picked(&self.default, &places)?.into_shape(original.shape())?;
        Ok(tvec![picked.cast_to_dt(self.gives)?.into_owned()])
    }
}
