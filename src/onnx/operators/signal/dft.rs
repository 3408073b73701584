//! `DFT`: the discrete Fourier transform along one axis. `dft_length` and `axis` may be known only during a run.
//!
//! The last axis has one element (real) or two (complex). An inverse with `onesided` takes half of a spectrum and gives real
//! numbers.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::floats::{expect_float, rounded, wide};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::fourier::{Complex, Fourier};
use super::{Built, built, known, length, single};

/// The operator.
#[derive(Debug)]
struct Dft {
    direction: Direction,
    spectrum: Spectrum,
    /// The axis if it is not an input.
    axis: i64,
    has_axis_input: bool,
}

/// The direction of the transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Inverse,
}

/// How much of the spectrum is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spectrum {
    /// All of it.
    Full,
    /// The first half (`onesided`): that of a real signal has the same numbers in the second.
    Half,
}

impl Spectrum {
    /// Reads `onesided`.
    pub fn read(attributes: &Attributes, default: bool) -> TractResult<Spectrum> {
        Ok(if attributes.flag("onesided", default)? { Spectrum::Half } else { Spectrum::Full })
    }
}

/// Builds a `DFT` from its node.
pub fn dft(attributes: &Attributes) -> Built {
    let has_axis_input = !(1..20).contains(&attributes.version());
    if has_axis_input && attributes.has("axis") {
        return Err(attributes.wrong("`axis` is an attribute: expected an input since version 20"));
    }
    let inverse = attributes.flag("inverse", false)?;
    built(Dft {
        direction: if inverse { Direction::Inverse } else { Direction::Forward },
        spectrum: Spectrum::read(attributes, false)?,
        axis: if has_axis_input { -2 } else { attributes.int("axis", 1)? },
        has_axis_input,
    })
}

impl Dft {
    /// The axis as a number from 0. It is not the last one, which has the parts of complex numbers.
    fn place(&self, axis: i64, rank: usize) -> TractResult<usize> {
        let found = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(found).ok().filter(|found| found + 1 < rank).ok_or_else(|| {
            TractError::msg(format!(
                "its `axis` is {axis}, and its input has {rank} axes: expected one before the last"
            ))
        })
    }

    fn is_real_inverse(&self) -> bool {
        (self.direction, self.spectrum) == (Direction::Inverse, Spectrum::Half)
    }

    /// The number of results along the axis.
    fn results(&self, length: TDim) -> TDim {
        match (self.direction, self.spectrum) {
            (Direction::Forward, Spectrum::Half) => length / 2 + 1,
            _ => length,
        }
    }

    fn compute(&self, inputs: &Inputs<Tensor>) -> TractResult<Tensor> {
        let input = inputs.required(0, "input")?;
        let axis = single(inputs.optional(2).filter(|_| self.has_axis_input), "axis")?;
        let axis = self.place(axis.unwrap_or(self.axis), input.rank())?;
        let shape = input.shape();
        let (own, parts) = (shape[axis], shape[shape.len() - 1]);
        if !(1..=2).contains(&parts) {
            return Err(TractError::msg(format!(
                "its input has {parts} elements along its last axis: expected 1 (real) or 2 (complex)"
            )));
        }
        let count = match single(inputs.optional(1), "dft_length")? {
            Some(count) => length(count, "dft_length")?,
            None if self.is_real_inverse() => 2 * own.saturating_sub(1),
            None => own,
        };
        let results = self.results(count.to_dim()).to_usize()?;
        let made = if self.is_real_inverse() { 1 } else { 2 };
        let mut to_shape: TVec<usize> = shape.into();
        to_shape[axis] = results;
        let last = to_shape.len() - 1;
        to_shape[last] = made;
        let mut output = Tensor::zero::<f64>(&to_shape)?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<f64>()?;
        let signal = wide::<f64>(input)?;
        let signal = elements::<f64>(&signal)?;
        let inner: usize = shape[axis + 1..last].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let fourier = Fourier::new(count);
        let mut line = vec![[0.0; 2]; count];
        for number in 0..outer * inner {
            let (outer, inner_at) = (number / inner, number % inner);
            let place = |at: usize, length: usize| (outer * length + at) * inner + inner_at;
            read_line(&mut line, own, parts, signal, |at| place(at, own));
            self.transform(&fourier, &mut line, own);
            for (at, value) in line[..results].iter().enumerate() {
                let to = place(at, results) * made;
                values[to..to + made].copy_from_slice(&value[..made]);
            }
        }
        rounded(output, input.datum_type())
    }

    fn transform(&self, fourier: &Fourier, line: &mut [Complex], own: usize) {
        if self.direction == Direction::Forward {
            return fourier.transform(line);
        }
        if self.is_real_inverse() {
            complete(line, own);
        }
        fourier.invert(line);
    }
}

/// Reads a signal along an axis. It is cut, or continued with zeros.
pub fn read_line(
    line: &mut [Complex],
    own: usize,
    parts: usize,
    signal: &[f64],
    place: impl Fn(usize) -> usize,
) {
    let count = own.min(line.len());
    for (at, value) in line[..count].iter_mut().enumerate() {
        let from = place(at) * parts;
        *value = [signal[from], if parts == 2 { signal[from + 1] } else { 0.0 }];
    }
    line[count..].fill([0.0; 2]);
}

/// Fills the second half of the spectrum of a real signal from the first. As in NumPy, the imaginary parts of the first and of
/// the middle number do not count.
fn complete(line: &mut [Complex], own: usize) {
    let count = line.len();
    line[own.min(count / 2 + 1).min(count)..].fill([0.0; 2]);
    if let Some(first) = line.first_mut() {
        first[1] = 0.0;
    }
    for at in 1..count.div_ceil(2) {
        let [real, imaginary] = line[at];
        line[count - at] = [real, -imaginary];
    }
    if count.is_multiple_of(2) && count > 0 {
        line[count / 2][1] = 0.0;
    }
}

impl Operator for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        expect_float(input, "input")?;
        if input.rank() < 2 {
            return Err(TractError::msg(format!("its input has {} axes: expected 2 or more", input.rank())));
        }
        let last = input.rank() - 1;
        if let Ok(parts) = input.shape[last].to_usize()
            && !(1..=2).contains(&parts)
        {
            return Err(TractError::msg(format!(
                "its input has {parts} elements along its last axis: expected 1 (real) or 2 (complex)"
            )));
        }
        let axis_input = inputs.optional(2).filter(|_| self.has_axis_input);
        let axis = match axis_input {
            Some(input) => known(Some(input), "axis")?,
            None => Some(self.axis),
        };
        let mut shape = input.shape.clone();
        shape[last] = if self.is_real_inverse() { 1.to_dim() } else { 2.to_dim() };
        let count = known(inputs.optional(1), "dft_length")?;
        let count = count.map(|count| length(count, "dft_length")).transpose()?;
        match (axis, inputs.optional(1), count) {
            (Some(axis), None, _) => {
                let axis = self.place(axis, input.rank())?;
                let own = input.shape[axis].clone();
                let count = if self.is_real_inverse() { (own - 1) * 2 } else { own };
                shape[axis] = self.results(count);
            }
            (Some(axis), Some(_), Some(count)) => {
                shape[self.place(axis, input.rank())?] = self.results(count.to_dim());
            }
            (Some(axis), Some(_), None) => shape[self.place(axis, input.rank())?] = late.length(0),
            // Without a length and in full, all lengths stay.
            (None, None, _) if self.spectrum == Spectrum::Full => {}
            (None, ..) => (0..last).for_each(|at| shape[at] = late.length(at)),
        }
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        Ok(tvec![self.compute(inputs)?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int};
    use super::*;

    fn run(attributes: &[tract_onnx::pb::AttributeProto], inputs: &[Option<Tensor>]) -> Vec<f32> {
        let output = Trial::new(Domain::Onnx, "DFT", attributes).run(inputs).unwrap();
        elements::<f32>(&output[0]).unwrap().iter().map(|value| (value * 1e4).round() / 1e4).collect()
    }

    fn signal() -> Option<Tensor> {
        Some(Tensor::from_shape(&[1, 4, 1], &[1_f32, 2.0, 3.0, 4.0]).unwrap())
    }

    #[test]
    fn full_half_cut_and_continued() {
        assert_eq!(run(&[], &[signal()]), [10.0, 0.0, -2.0, 2.0, -2.0, 0.0, -2.0, -2.0]);
        assert_eq!(run(&[int("onesided", 1)], &[signal()]), [10.0, 0.0, -2.0, 2.0, -2.0, 0.0]);
        let three = Some(tensor0(3_i64));
        assert_eq!(run(&[int("onesided", 1)], &[signal(), three]), [6.0, 0.0, -1.5, 0.866]);
        let six = Some(tensor0(6_i32));
        let all = run(&[], &[signal(), six, Some(tensor0(1_i64))]);
        assert_eq!(all[..4], [10.0, 0.0, -3.5, -4.3301]);
    }

    #[test]
    fn inverses() {
        let spectrum = Some(Tensor::from_shape(&[1, 3, 2], &[10_f32, 0.0, -2.0, 2.0, -2.0, 0.0]).unwrap());
        let real = [int("inverse", 1), int("onesided", 1)];
        assert_eq!(run(&real, std::slice::from_ref(&spectrum)), [1.0, 2.0, 3.0, 4.0]);
        let three = Some(tensor0(3_i64));
        assert_eq!(run(&real, &[spectrum, three]), [2.0, 2.8453, 5.1547]);
        let full = Some(Tensor::from_shape(&[1, 2, 2], &[3_f32, 0.0, -1.0, 0.0]).unwrap());
        assert_eq!(run(&[int("inverse", 1)], &[full]), [1.0, 0.0, 2.0, 0.0]);
    }

    #[test]
    fn old_versions_have_the_axis_as_an_attribute() {
        let input = Some(Tensor::from_shape(&[2, 1, 1], &[1_f32, 3.0]).unwrap());
        let trial = Trial::new(Domain::Onnx, "DFT", &[int("axis", 0)]);
        let output = trial.clone().version(17).run(std::slice::from_ref(&input)).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [4.0, 0.0, -2.0, 0.0]);
        let trial = Trial::new(Domain::Onnx, "DFT", &[]);
        let error = trial.run(&[input, None, Some(tensor0(2_i64))]).unwrap_err();
        assert!(error.to_string().contains("before the last"));
    }
}
