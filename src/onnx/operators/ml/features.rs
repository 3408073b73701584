//! The steps before a model in a scikit-learn pipeline: `Scaler`, `Imputer`, `Binarizer`, `Normalizer`.
//!
//! tract has a `Normalizer`, but it divides by other norms than onnxruntime.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::invalid;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built};

/// One of the four operators. The last axis of its input holds the features.
#[derive(Debug)]
struct Features {
    name: &'static str,
    change: Change,
}

/// What happens to the features.
#[derive(Debug)]
enum Change {
    /// (x - offset) * scale. Both have one number per feature, or one for all.
    Scale { offset: Vec<f32>, scale: Vec<f32> },
    /// A value that equals `missing` (NaN equals NaN) is replaced. `with` has one number per feature, or one for all.
    Fill { missing: f64, with: Vec<f64> },
    /// 1 above the threshold, else 0.
    Threshold(f32),
    /// Each row divided by its norm.
    Norm(Norm),
}

/// The norm of a row.
#[derive(Debug, Clone, Copy)]
enum Norm {
    /// The largest value (not the largest absolute value), as in onnxruntime.
    Max,
    /// The sum of the absolute values.
    L1,
    /// The Euclidean length.
    L2,
}

/// Builds a `Scaler` from its node.
pub fn scaler(attributes: &Attributes) -> Built {
    let (offset, scale) = (attributes.floats("offset")?.to_vec(), attributes.floats("scale")?.to_vec());
    if offset.is_empty() || scale.is_empty() {
        return Err(attributes.wrong("expected numbers in both `offset` and `scale`"));
    }
    built(Features { name: "Scaler", change: Change::Scale { offset, scale } })
}

/// Builds an `Imputer` from its node.
pub fn imputer(attributes: &Attributes) -> Built {
    let (floats, ints) =
        (attributes.floats("imputed_value_floats")?, attributes.ints("imputed_value_int64s")?);
    let change = match (floats.is_empty(), ints.is_empty()) {
        (false, true) => Change::Fill {
            missing: attributes.node.get_attr_opt::<f32>("replaced_value_float")?.unwrap_or(0.0).into(),
            with: floats.iter().map(|value| f64::from(*value)).collect(),
        },
        (true, false) => Change::Fill {
            missing: attributes.int("replaced_value_int64", 0)? as f64,
            with: ints.iter().map(|value| *value as f64).collect(),
        },
        _ => {
            return Err(attributes.wrong("expected one of `imputed_value_floats` and `imputed_value_int64s`"));
        }
    };
    built(Features { name: "Imputer", change })
}

/// Builds a `Binarizer` from its node.
pub fn binarizer(attributes: &Attributes) -> Built {
    let threshold = attributes.node.get_attr_opt::<f32>("threshold")?.unwrap_or(0.0);
    built(Features { name: "Binarizer", change: Change::Threshold(threshold) })
}

/// Builds a `Normalizer` from its node.
pub fn normalizer(attributes: &Attributes) -> Built {
    let norm = match attributes.string("norm", "MAX")? {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => return Err(attributes.wrong(format!("`norm` is {other}: expected MAX, L1 or L2"))),
    };
    built(Features { name: "Normalizer", change: Change::Norm(norm) })
}

impl Features {
    /// Checks that there is a number for each of so many features. The error says what is wrong.
    fn check(&self, features: usize) -> Result<(), String> {
        let counts = match &self.change {
            Change::Scale { offset, scale } => vec![offset.len(), scale.len()],
            Change::Fill { with, .. } => vec![with.len()],
            Change::Threshold(_) | Change::Norm(_) => vec![],
        };
        match counts.into_iter().find(|count| *count != 1 && *count != features) {
            Some(count) => Err(format!(
                "`{}` has {count} numbers for {features} features: expected one per feature, or one for all",
                self.name
            )),
            None => Ok(()),
        }
    }
}

impl Operator for Features {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        if let Some(features) = input.shape.last().and_then(|length| length.to_usize().ok()) {
            self.check(features).map_err(TractError::msg)?;
        }
        let datum_type = match &self.change {
            // These keep the datatype of the input.
            Change::Fill { .. } | Change::Threshold(_) => input.datum_type,
            Change::Scale { .. } | Change::Norm(_) => f32::datum_type(),
        };
        Ok(tvec![Kind::new(datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let width = input.shape().last().copied().unwrap_or(1);
        self.check(width).map_err(invalid)?;
        let width = width.max(1);
        let output = match &self.change {
            Change::Scale { offset, scale } => on_rows::<f32>(input, width, |row| {
                for ((value, offset), scale) in row.iter_mut().zip(each(offset)).zip(each(scale)) {
                    *value = (*value - offset) * scale;
                }
            })?,
            Change::Threshold(threshold) => on_rows::<f32>(input, width, |row| {
                row.iter_mut().for_each(|value| *value = f32::from(u8::from(*value > *threshold)));
            })?,
            Change::Fill { missing, with } => on_rows::<f64>(input, width, |row| {
                for (value, with) in row.iter_mut().zip(each(with)) {
                    if *value == *missing || value.is_nan() && missing.is_nan() {
                        *value = *with;
                    }
                }
            })?,
            Change::Norm(norm) => on_rows::<f32>(input, width, |row| norm.apply(row))?,
        };
        let datum_type = match self.change {
            Change::Fill { .. } | Change::Threshold(_) => input.datum_type(),
            Change::Scale { .. } | Change::Norm(_) => f32::datum_type(),
        };
        Ok(tvec![output.cast_to_dt(datum_type)?.into_owned()])
    }
}

/// The numbers for the features in order. A single number is repeated.
fn each<T>(numbers: &[T]) -> impl Iterator<Item = &T> {
    numbers.iter().cycle()
}

/// Casts the input to `T` and changes each row of `width` features.
fn on_rows<T: Datum + Copy>(
    input: &Tensor,
    width: usize,
    change: impl FnMut(&mut [T]),
) -> TractResult<Tensor> {
    let mut output = input.cast_to::<T>()?.into_owned();
    output.try_as_plain_ram_mut()?.as_slice_mut::<T>()?.chunks_mut(width).for_each(change);
    Ok(output)
}

impl Norm {
    /// Divides a row by its norm. A row with norm 0 is unchanged.
    fn apply(self, row: &mut [f32]) {
        match self {
            Norm::Max => divide(row, row.iter().copied().fold(f32::MIN, f32::max)),
            Norm::L1 => divide(row, row.iter().map(|value| value.abs()).sum()),
            Norm::L2 => {
                let sum: f32 = row.iter().map(|value| value * value).sum();
                if sum != 0.0 {
                    row.iter_mut().for_each(|value| {
                        let magnitude = (*value * *value / sum).sqrt();
                        *value = if *value < 0.0 { -magnitude } else { magnitude };
                    });
                }
            }
        }
    }
}

fn divide(row: &mut [f32], by: f32) {
    if by != 0.0 {
        row.iter_mut().for_each(|value| *value /= by);
    }
}
