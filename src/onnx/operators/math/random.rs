//! Random numbers: `RandomNormal`, `RandomUniform`, the two with `Like`, `Bernoulli`, `Multinomial`.
//!
//! The standard does not say which generator makes the numbers, so only their distribution is that of other runtimes. With
//! a `seed` every run makes the same numbers; without one each run makes others.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::{Attributes, type_numbered};
use super::super::numbers::filled;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::cast::converted;
use super::{Built, Elements, own_name};

/// A generator of random numbers (SplitMix64).
struct Generator(u64);

impl Generator {
    fn new(seed: Option<f32>) -> Generator {
        // The keys of a hasher of the standard library are random.
        Generator(
            seed.map_or_else(|| RandomState::new().build_hasher().finish(), |seed| seed.to_bits().into()),
        )
    }

    /// A number of all 64-bit numbers.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number with mean 0 and standard deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// How numbers are distributed.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    /// With a mean and a standard deviation.
    Normal(f64, f64),
    /// From the first number to below the second.
    Uniform(f64, f64),
    /// 1 with the probability in the input, else 0.
    Bernoulli,
}

/// An operator with one random number for each element.
#[derive(Debug)]
struct Random {
    name: &'static str,
    distribution: Distribution,
    /// The type of the result. `None`: that of the input.
    to: Option<DatumType>,
    /// The shape of the result. `None`: that of the input.
    shape: Option<Vec<usize>>,
    seed: Option<f32>,
}

/// The datatype in the attribute `dtype`.
fn result_type(attributes: &Attributes) -> TractResult<Option<DatumType>> {
    if !attributes.has("dtype") {
        return Ok(None);
    }
    let number = attributes.int("dtype", 0)?;
    let found = type_numbered(number).filter(|to| *to != DatumType::String);
    found
        .map(Some)
        .ok_or_else(|| attributes.wrong(format!("`dtype` is {number}: expected a type of numbers")))
}

fn seed(attributes: &Attributes) -> TractResult<Option<f32>> {
    if attributes.has("seed") { Ok(Some(attributes.float("seed", 0.0)?)) } else { Ok(None) }
}

/// Builds a `RandomNormal`, `RandomUniform`, `RandomNormalLike`, `RandomUniformLike` or `Bernoulli`.
pub fn random(attributes: &Attributes) -> Built {
    let name = own_name(attributes)?;
    let number = |name: &str, default: f32| attributes.float(name, default).map(f64::from);
    let distribution = match name {
        "Bernoulli" => Distribution::Bernoulli,
        "RandomNormal" | "RandomNormalLike" => {
            Distribution::Normal(number("mean", 0.0)?, number("scale", 1.0)?)
        }
        _ => Distribution::Uniform(number("low", 0.0)?, number("high", 1.0)?),
    };
    let mut to = result_type(attributes)?;
    let has_input = name.ends_with("Like") || name == "Bernoulli";
    let shape = if has_input {
        None
    } else {
        to = to.or(Some(DatumType::F32));
        let lengths = attributes.ints("shape")?.iter().map(|length| usize::try_from(*length));
        let lengths: Result<Vec<usize>, _> = lengths.collect();
        Some(lengths.map_err(|_| attributes.wrong("`shape` has a negative length: expected 0 or more"))?)
    };
    Ok(Arc::new(Random { name, distribution, to, shape, seed: seed(attributes)? }))
}

impl Operator for Random {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_random(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        if let Some(shape) = &self.shape {
            let lengths = shape.iter().map(|length| TDim::from(*length));
            return Ok(tvec![Kind::new(self.to.unwrap_or(DatumType::F32), lengths)]);
        }
        let input = inputs.single()?;
        let to = self.to.unwrap_or(input.datum_type);
        if !matches!(self.distribution, Distribution::Bernoulli) {
            Elements::Floats.check(to)?;
        } else {
            Elements::Floats.check(input.datum_type)?;
        }
        Ok(tvec![Kind::new(to, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let mut generator = Generator::new(self.seed);
        let input = inputs.optional(0);
        let shape = self.shape.as_deref().or(input.map(Tensor::shape)).unwrap_or_default();
        let made = match self.distribution {
            Distribution::Bernoulli => {
                let input = converted(inputs.single()?, DatumType::F64)?;
                let mut output = input.clone();
                let mut plain = output.try_as_plain_ram_mut()?;
                for x in plain.as_slice_mut::<f64>()? {
                    *x = f64::from(u8::from(generator.uniform() < *x));
                }
                output
            }
            Distribution::Normal(mean, deviation) => filled::<f64>(shape, |to| {
                to.iter_mut().for_each(|x| *x = mean + deviation * generator.normal());
                Ok(())
            })?,
            Distribution::Uniform(low, high) => filled::<f64>(shape, |to| {
                to.iter_mut().for_each(|x| *x = low + (high - low) * generator.uniform());
                Ok(())
            })?,
        };
        let to = self.to.or(input.map(Tensor::datum_type)).unwrap_or(DatumType::F32);
        Ok(tvec![converted(&made, to)?])
    }
}

/// `Multinomial`: classes drawn by their logarithmic probabilities.
#[derive(Debug)]
struct Multinomial {
    to: DatumType,
    count: usize,
    seed: Option<f32>,
}

/// Builds a `Multinomial`.
pub fn multinomial(attributes: &Attributes) -> Built {
    let to = result_type(attributes)?.unwrap_or(DatumType::I32);
    let count = attributes.int("sample_size", 1)?;
    let count = usize::try_from(count)
        .map_err(|_| attributes.wrong(format!("`sample_size` is {count}: expected 0 or more")))?;
    if !matches!(to, DatumType::I32 | DatumType::I64) {
        return Err(attributes.wrong(format!("`dtype` is {to:?}: expected INT32 or INT64")));
    }
    Ok(Arc::new(Multinomial { to, count, seed: seed(attributes)? }))
}

impl Operator for Multinomial {
    fn name(&self) -> &'static str {
        "Multinomial"
    }

    fn is_random(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        Elements::Floats.check(input.datum_type)?;
        match &input.shape[..] {
            [rows, _] => Ok(tvec![Kind::new(self.to, [rows.clone(), self.count.into()])]),
            _ => Err(TractError::msg(format!("its input has {} axes: expected 2", input.rank()))),
        }
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = converted(inputs.single()?, DatumType::F64)?;
        let (rows, classes) = (input.shape()[0], input.shape()[1]);
        if classes == 0 && rows * self.count != 0 {
            return Err(TractError::msg("its input has no classes: expected at least one"));
        }
        let mut generator = Generator::new(self.seed);
        let mut drawn = Vec::with_capacity(rows * self.count);
        for row in elements::<f64>(&input)?.chunks_exact(classes.max(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            let sums: Vec<f64> = row
                .iter()
                .map(|x| {
                    sum += (x - largest).exp();
                    sum
                })
                .collect();
            for _ in 0..self.count {
                let point = generator.uniform() * sum;
                drawn.push(sums.partition_point(|sum| *sum <= point).min(classes - 1) as i64);
            }
        }
        let drawn = Tensor::from_shape(&[rows, self.count], &drawn)?;
        Ok(tvec![converted(&drawn, self.to)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_mean_and_deviation_that_are_asked_for() {
        let mut generator = Generator::new(Some(1.0));
        let normal: Vec<f64> = (0..100_000).map(|_| generator.normal()).collect();
        let mean = normal.iter().sum::<f64>() / 1e5;
        let square = normal.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.02, "{mean} {square}");
        let uniform: Vec<f64> = (0..100_000).map(|_| generator.uniform()).collect();
        let mean = uniform.iter().sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.01 && uniform.iter().all(|x| (0.0..1.0).contains(x)), "{mean}");
    }

    #[test]
    fn a_seed_makes_the_numbers_the_same() {
        assert_eq!(Generator::new(Some(2.5)).bits(), Generator::new(Some(2.5)).bits());
        assert_ne!(Generator::new(Some(2.5)).bits(), Generator::new(Some(3.5)).bits());
        assert_ne!(Generator::new(None).bits(), Generator::new(None).bits());
    }
}
