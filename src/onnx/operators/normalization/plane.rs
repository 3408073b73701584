//! `InstanceNormalization`, `GroupNormalization` and `MeanVarianceNormalization`: the elements of a channel, of a group of
//! channels, or along any axes are normalized.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::axes::axis;
use super::super::floats::{Real, expect_float, rounded, sum, sum_of_squares, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::layer::Centering;
use super::{Built, built, expect_per_channel};

/// `InstanceNormalization` and `GroupNormalization`.
#[derive(Debug)]
struct Plane {
    name: &'static str,
    epsilon: f64,
    groups: Groups,
}

/// Which channels are normalized together, and what the scale and the bias belong to.
#[derive(Debug, Clone, Copy)]
enum Groups {
    /// Each channel alone.
    Channels,
    /// So many groups. `GroupNormalization` 18 has one scale for each group.
    Scaled(usize),
    /// This number of groups, and one scale for each channel.
    Count(usize),
}

/// Builds an `InstanceNormalization` from its node.
pub fn instance(attributes: &Attributes) -> Built {
    let epsilon = f64::from(attributes.float("epsilon", 1e-5)?);
    built(Plane { name: "InstanceNormalization", epsilon, groups: Groups::Channels })
}

/// Builds a `GroupNormalization` from its node.
pub fn group(attributes: &Attributes) -> Built {
    let (count, stash) = (attributes.int("num_groups", 0)?, attributes.int("stash_type", 1)?);
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| attributes.wrong("`num_groups` must be there and be 1 or more"))?;
    if stash != 1 {
        return Err(attributes.wrong(format!("`stash_type` is {stash}: expected 1 (FP32)")));
    }
    let is_old = (1..21).contains(&attributes.version());
    let groups = if is_old { Groups::Scaled(count) } else { Groups::Count(count) };
    let epsilon = f64::from(attributes.float("epsilon", 1e-5)?);
    built(Plane { name: "GroupNormalization", epsilon, groups })
}

impl Plane {
    /// The number of groups of so many channels, and the number of elements of the scale.
    fn counts(&self, channels: usize) -> TractResult<(usize, usize)> {
        let (groups, scales) = match self.groups {
            Groups::Channels => (channels, channels),
            Groups::Scaled(count) => (count, count),
            Groups::Count(count) => (count, channels),
        };
        if groups > 0 && !channels.is_multiple_of(groups) {
            return Err(TractError::msg(format!(
                "its input has {channels} channels: expected a multiple of `num_groups`, {groups}"
            )));
        }
        Ok((groups, scales))
    }

    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let channels = input.shape()[1];
        let (groups, scales) = self.counts(channels)?;
        let scale = wide::<T>(inputs.required(1, "scale")?)?;
        let bias = wide::<T>(inputs.required(2, "bias")?)?;
        let (scale, bias) = (elements::<T>(&scale)?, elements::<T>(&bias)?);
        if scale.len() != scales || bias.len() != scales {
            return Err(TractError::msg(format!(
                "its scale has {} elements and its bias {}: expected {scales} each",
                scale.len(),
                bias.len()
            )));
        }
        let plane: usize = input.shape()[2..].iter().product();
        let mut output = wide::<T>(input)?.into_owned();
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<T>()?;
        let group = plane * channels / groups.max(1);
        for row in values.chunks_exact_mut(group.max(1)) {
            Centering::Mean.normalize(row, self.epsilon);
        }
        for (number, values) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            let own = number % channels.max(1) * scales / channels.max(1);
            values.iter_mut().for_each(|value| *value = *value * scale[own] + bias[own]);
        }
        Ok(tvec![rounded(output, input.datum_type())?])
    }
}

impl Operator for Plane {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        expect_float(input, "X")?;
        if input.rank() < 2 {
            return Err(TractError::msg(format!(
                "its input has {} axes: expected 2 or more, [batch, channels, …]",
                input.rank()
            )));
        }
        if let Ok(channels) = input.shape[1].to_usize() {
            self.counts(channels)?;
        }
        for (at, name) in [(1, "scale"), (2, "bias")] {
            expect_per_channel(inputs.required(at, name)?, name)?;
        }
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.required(0, "X")?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            _ => self.compute::<f32>(inputs),
        }
    }
}

/// `MeanVarianceNormalization`.
#[derive(Debug)]
struct MeanVariance {
    axes: Vec<i64>,
}

/// Builds a `MeanVarianceNormalization` from its node.
pub fn mean_variance(attributes: &Attributes) -> Built {
    let axes = if attributes.has("axes") { attributes.ints("axes")?.to_vec() } else { vec![0, 2, 3] };
    built(MeanVariance { axes })
}

impl Operator for MeanVariance {
    fn name(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        expect_float(input, "X")?;
        self.reduced(input.rank())?;
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        match inputs.single()?.datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs.single()?),
            _ => self.compute::<f32>(inputs.single()?),
        }
    }
}

impl MeanVariance {
    /// For each axis: whether it is one of `axes`.
    fn reduced(&self, rank: usize) -> TractResult<Vec<bool>> {
        let mut reduced = vec![false; rank];
        for one in &self.axes {
            reduced[axis(*one, rank)?] = true;
        }
        Ok(reduced)
    }

    fn compute<T: Real>(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        // The axes that are kept come first. Then a row is all that is normalized together.
        let reduced = self.reduced(input.rank())?;
        let part =
            |wanted: bool| (0..input.rank()).filter(|axis| reduced[*axis] == wanted).collect::<Vec<_>>();
        let (kept, inner) = (part(false), part(true));
        let length: usize = inner.iter().map(|axis| input.shape()[*axis]).product();
        let order: Vec<usize> = kept.into_iter().chain(inner).collect();
        let mut moved = wide::<T>(input)?.into_owned().permute_axes(&order)?;
        let mut plain = moved.try_as_plain_ram_mut()?;
        plain.as_slice_mut::<T>()?.chunks_exact_mut(length.max(1)).for_each(deviations);
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| back[*from] = to);
        Ok(tvec![rounded(moved.permute_axes(&back)?, input.datum_type())?])
    }
}

/// Replaces each element by its distance from the mean in standard deviations. The standard adds 1e-9 to the standard
/// deviation, and not to the variance.
fn deviations<T: Real>(row: &mut [T]) {
    let count = row.len() as f64;
    let mean = T::of(sum(row) / count);
    row.iter_mut().for_each(|value| *value = *value - mean);
    let factor = T::of(1.0 / ((sum_of_squares(row) / count).sqrt() + 1e-9));
    row.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, float, int, ints};
    use super::*;

    fn near(found: &Tensor, expected: &[f32]) {
        let found = elements::<f32>(found).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        }
    }

    fn input() -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 4, 2], &[1_f32, 3.0, 5.0, 7.0, 0.0, 2.0, 0.0, 2.0]).unwrap())
    }

    #[test]
    fn channels_and_groups() {
        let four = |values: [f32; 4]| Some(tensor1(&values));
        let zero = float("epsilon", 0.0);
        let trial = Trial::new(Domain::Onnx, "InstanceNormalization", std::slice::from_ref(&zero));
        let output = trial.run(&[input(), four([1.0, 2.0, 3.0, 4.0]), four([0.0, 0.0, 0.0, 1.0])]).unwrap();
        near(&output[0], &[-1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -3.0, 5.0]);
        let trial = Trial::new(Domain::Onnx, "GroupNormalization", &[int("num_groups", 2), zero]);
        let output = trial.run(&[input(), four([1.0, 1.0, 2.0, 3.0]), four([0.0; 4])]).unwrap();
        near(&output[0], &[-1.341_640_8, -0.447_213_6, 0.447_213_6, 1.341_640_8, -2.0, 2.0, -3.0, 3.0]);
        // Before version 21, a group has one scale.
        let two = |a, b| Some(tensor1(&[a, b]));
        let output = trial.clone().version(18).run(&[input(), two(1_f32, 2.0), two(0_f32, 1.0)]).unwrap();
        near(&output[0], &[-1.341_640_8, -0.447_213_6, 0.447_213_6, 1.341_640_8, -1.0, 3.0, -1.0, 3.0]);
        assert!(trial.run(&[input(), two(1_f32, 2.0), two(0_f32, 1.0)]).is_err());
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_an_error() {
        let trial = Trial::new(Domain::Onnx, "GroupNormalization", &[int("num_groups", 3)]);
        let error =
            trial.run(&[input(), Some(tensor1(&[1_f32; 4])), Some(tensor1(&[1_f32; 4]))]).unwrap_err();
        assert!(error.to_string().contains("multiple of `num_groups`"));
    }

    #[test]
    fn any_axes() {
        let trial = Trial::new(Domain::Onnx, "MeanVarianceNormalization", &[ints("axes", &[0, -1])]);
        let output = trial.run(&[input()]).unwrap();
        near(&output[0], &[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
    }
}
