//! Inputs for trial runs of a session: they have the shapes that it admits, and values that most models take.

use super::Session;
use super::runner::Item;
use crate::model::signature::EXAMPLE_TEXT;
use crate::model::{Elements, Tensor, TensorMetadata};

/// The values of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// 0, false, and empty strings.
    Zeros,
    /// 1, true, and the text `1`.
    Ones,
    /// 0, 1, 2, 3, 0, 1 and so on; a sentence as text.
    Ramp,
    /// Floats from −1 to 1, integers from 0 to 3, and these integers as text; the same in each run.
    Random,
}

impl Fill {
    /// All kinds of values, in the order in which they are tried.
    pub const ALL: [Fill; 4] = [Fill::Zeros, Fill::Ones, Fill::Ramp, Fill::Random];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fill::Zeros => "zeros",
            Fill::Ones => "ones",
            Fill::Ramp => "the numbers 0 to 3 in turn",
            Fill::Random => "small random numbers",
        }
    }
}

impl Session {
    /// The number of families of plans. Each admits other shapes.
    pub fn families(&self) -> usize {
        self.families.len()
    }

    /// Whether a family has open dimensions.
    pub fn is_open(&self, family: usize) -> bool {
        let admitted = &self.families[family].admitted;
        admitted.iter().flat_map(|input| &input.shape).any(|dim| dim.fixed().is_none())
    }

    /// Returns a sample for a family of plans: all inputs and states. An open dimension of an input has `length` entries.
    ///
    /// Errors: a tensor would be larger than a request may bring.
    pub fn sample(&self, family: usize, fill: Fill, length: usize) -> Result<Item, String> {
        let tensor = |input: &TensorMetadata| filled(self.zeros_of(input, length)?, fill);
        Ok(Item {
            tensors: self.families[family].admitted.iter().map(tensor).collect::<Result<_, _>>()?,
            states: self.states.iter().map(|state| self.zeros_of(state, 1)).collect::<Result<_, _>>()?,
        })
    }
}

/// Replaces the values of a tensor.
fn filled(tensor: Tensor, fill: Fill) -> Result<Tensor, String> {
    if fill == Fill::Zeros {
        return Ok(tensor);
    }
    let shape = tensor.shape().to_vec();
    let mut elements = tensor.into_elements();
    macro_rules! floats {
        ($values:expr, $of:expr) => {
            $values.iter_mut().enumerate().for_each(|(at, value)| *value = $of(float(fill, at)))
        };
    }
    macro_rules! integers {
        ($values:expr) => {
            $values.iter_mut().enumerate().for_each(|(at, value)| *value = integer(fill, at).into())
        };
    }
    match &mut elements {
        Elements::Fp16(values) => floats!(values, half::f16::from_f32),
        Elements::Fp32(values) => floats!(values, |value: f32| value),
        Elements::Fp64(values) => floats!(values, f64::from),
        Elements::Uint8(values) => integers!(values),
        Elements::Uint16(values) => integers!(values),
        Elements::Uint32(values) => integers!(values),
        Elements::Uint64(values) => integers!(values),
        Elements::Int8(values) => {
            values.iter_mut().enumerate().for_each(|(at, value)| *value = integer(fill, at) as i8)
        }
        Elements::Int16(values) => integers!(values),
        Elements::Int32(values) => integers!(values),
        Elements::Int64(values) => integers!(values),
        Elements::Bool(values) => {
            values.iter_mut().enumerate().for_each(|(at, value)| *value = integer(fill, at) % 2 == 1);
        }
        Elements::Bytes(values) => {
            values.iter_mut().enumerate().for_each(|(at, value)| *value = text(fill, at).into_bytes());
        }
    }
    Tensor::new(shape, elements)
}

fn float(fill: Fill, at: usize) -> f32 {
    match fill {
        Fill::Random => mixed(at) as f32 / f32::from(u16::MAX) * 2.0 - 1.0,
        _ => f32::from(integer(fill, at)),
    }
}

fn text(fill: Fill, at: usize) -> String {
    match fill {
        Fill::Ramp => EXAMPLE_TEXT.to_owned(),
        _ => integer(fill, at).to_string(),
    }
}

fn integer(fill: Fill, at: usize) -> u8 {
    match fill {
        Fill::Zeros => 0,
        Fill::Ones => 1,
        Fill::Ramp => (at % 4) as u8,
        Fill::Random => (mixed(at) % 4) as u8,
    }
}

/// Sixteen bits that look random, from a place in a tensor.
fn mixed(at: usize) -> u16 {
    ((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u16
}
